"""A run is deleted and another one is started under its id, while somebody holds the first one."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Never

import pytest
from msgspec.structs import replace

from supersteps import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    EncryptedStorage,
    Executor,
    InMemoryCheckpointStorage,
    Keyring,
    ManagedStorage,
    RequestError,
    RunFencedError,
    StorageError,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    export_run,
    handler,
    import_run,
    response_handler,
)
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.storage.files import removal
from tests.contract.support import SUBJECTS, open_subject

RING = Keyring({"k": bytes(32)}, "k")
pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")
each_storage = pytest.mark.parametrize("kind", [*SUBJECTS, "sealed"])


def opened(kind: str, folder: Path) -> ManagedStorage:
    if kind == "sealed":
        return EncryptedStorage(InMemoryCheckpointStorage(), RING)
    return open_subject(kind, folder)


class Shop(Executor):
    """Asks whether somebody may buy."""

    @handler
    async def go(self, who: str, ctx: WorkflowContext[Never, str]) -> None:
        ctx.set_shared_state("customer", who)
        ctx.request_info(f"may {who} buy?", str, request_id="ok")

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        ctx.yield_output(f"{await ctx.get_shared_state('customer')}: {answer}")


def shop(storage: ManagedStorage) -> Workflow:
    builder = WorkflowBuilder(name="shop").set_start_executor(Shop("shop"))
    return builder.with_checkpointing(storage).build()


async def waiting(storage: ManagedStorage, who: str) -> StreamingRun:
    run = shop(storage).run_stream(who, run_id="order-17")
    async for _ in run:
        pass
    return run


async def picture(storage: ManagedStorage) -> Any:
    """Everything that is stored of the run."""
    run = await storage.get_run("order-17")
    assert run is not None
    checkpoint = await storage.load_checkpoint(run.head)
    assert checkpoint is not None
    inbox = await storage.read_inbox("order-17")
    journal = await storage.read_journal("order-17", run.head)
    return run, checkpoint.shared_state, checkpoint.outputs, inbox, journal


async def drive(run: StreamingRun) -> None:
    async for _ in run:
        pass


STEERINGS: dict[str, Callable[[StreamingRun], Any]] = {
    "answer": lambda run: run.send_response("ok", "yes"),
    "take back a question": lambda run: run.cancel_request("ok"),
    "restore": lambda run: run.restore_checkpoint(run.checkpoints[0]),
    "restore the head": lambda run: run.restore_checkpoint(run.checkpoints[-1]),
    "cancel": lambda run: run.cancel(),
}


@each_storage
@pytest.mark.parametrize("how", STEERINGS)
async def test_an_idle_handle_of_the_first_run_does_nothing_to_the_second(
    kind: str, how: str, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path) as storage:
        alice = await waiting(storage, "alice")
        await storage.delete_run("order-17")
        bob = await waiting(storage, "bob")
        before = await picture(storage)

        with pytest.raises((RunFencedError, CheckpointNotFoundError, RequestError)) as caught:
            await STEERINGS[how](alice)
        if kind != "adapter":
            assert caught.type is RunFencedError
        assert await picture(storage) == before

        await bob.send_response("ok", "no")
        assert (await bob.wait_for_completion()).get_outputs() == ["bob: no"]


@each_storage
async def test_a_superstep_of_the_first_run_is_not_committed_into_the_second(
    kind: str, tmp_path: Path
) -> None:
    gates = {"alice": asyncio.Event(), "bob": asyncio.Event()}
    at_work = {"alice": asyncio.Event(), "bob": asyncio.Event()}

    @executor(id="serve")
    async def serve(who: str, ctx: WorkflowContext[Never, str]) -> None:
        at_work[who].set()
        await gates[who].wait()
        ctx.yield_output(f"served {who}")

    async with opened(kind, tmp_path) as storage:
        builder = WorkflowBuilder(name="shop").set_start_executor(serve)
        workflow = builder.with_checkpointing(storage).build()
        alice = asyncio.create_task(workflow.run("alice", run_id="order-17"))
        await at_work["alice"].wait()
        await storage.delete_run("order-17")
        bob = asyncio.create_task(workflow.run("bob", run_id="order-17"))
        await at_work["bob"].wait()

        gates["alice"].set()
        with pytest.raises(RunFencedError, match="started under its id"):
            await alice
        gates["bob"].set()
        assert (await bob).get_outputs() == ["served bob"]


@each_storage
async def test_a_handle_shows_nothing_of_another_run(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as storage:
        alice = await waiting(storage, "alice")
        await storage.delete_run("order-17")
        bob = await waiting(storage, "bob")
        await bob.send_response("ok", "yes")
        await bob.wait_for_completion()

        assert [info async for info in alice.history()] == []
        assert (await alice.wait_for_completion()).get_outputs() == []


@each_storage
async def test_a_checkpoint_of_the_first_run_does_not_resume_the_second(
    kind: str, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path) as storage:
        alice = await waiting(storage, "alice")
        assert alice.latest_checkpoint is not None
        kept = await storage.load_checkpoint(alice.latest_checkpoint.checkpoint_id)
        assert kept is not None
        assert kept.shared_state == {"customer": "alice"}
        await storage.delete_run("order-17")
        await waiting(storage, "bob")
        before = await picture(storage)

        with pytest.raises(CheckpointNotFoundError, match="of another run"):
            await shop(storage).run_from_checkpoint(kept, responses={"ok": "yes"})
        assert await picture(storage) == before


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite", "sealed"])
async def test_a_handle_from_before_an_export_does_not_reach_what_was_imported(
    kind: str, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path) as storage:
        run = await waiting(storage, "alice")
        first = await storage.get_run("order-17")
        await export_run(storage, "order-17", tmp_path / "run.jsonl")
        await storage.delete_run("order-17")
        imported = await import_run(storage, tmp_path / "run.jsonl")

        assert first is not None
        assert imported.incarnation == first.incarnation  # it is the same run
        assert imported.epoch > first.epoch
        with pytest.raises(RunFencedError):
            await run.cancel()
        assert (await storage.get_run("order-17")) == imported
        result = await shop(storage).run_from_checkpoint(imported.head, responses={"ok": "yes"})
        assert result.get_outputs() == ["alice: yes"]


async def test_an_answer_from_outside_goes_to_the_run_that_was_looked_at() -> None:
    class Between(InMemoryCheckpointStorage):
        """Between the look at the question and the answer, the run is made anew."""

        armed = False

        async def read_inbox(self, run_id: str, **which: Any) -> Any:
            if self.armed:
                self.armed = False
                await self.delete_run(run_id)
                await waiting(self, "bob")
            return await super().read_inbox(run_id, **which)

    storage = Between()
    await waiting(storage, "alice")
    storage.armed = True
    with pytest.raises(RunFencedError, match="started under its id"):
        await storage.answer("order-17", "ok", "yes")
    assert await storage.read_inbox("order-17") == []


@pytest.mark.filterwarnings("ignore::supersteps.CorruptCheckpointWarning")
async def test_sealed_records_of_one_run_do_not_open_in_another_of_the_same_id() -> None:
    inside = InMemoryCheckpointStorage()
    storage = EncryptedStorage(inside, RING)

    async def begin(who: str) -> tuple[CheckpointRecord, list[bytes], list[bytes]]:
        run = await waiting(storage, who)
        assert run.latest_checkpoint is not None
        head = run.latest_checkpoint.checkpoint_id
        record = await inside.get_run("order-17")
        assert record is not None
        await storage.append_journal(
            "order-17", record.epoch, head, [who.encode().join([b'"'] * 2)]
        )
        await storage.add_answers("order-17", [("ok", b'"yes"')])
        sealed = await inside.load_record(head)
        assert sealed is not None
        inbox = [entry.value for entry in await inside.read_inbox("order-17")]
        return sealed, await inside.read_journal("order-17", head), inbox

    record, journal, answers = await begin("alice")
    await storage.delete_run("order-17")
    bob, _journal, _answers = await begin("bob")

    kept, run = inside._checkpoints[bob.header.checkpoint_id], inside._runs["order-17"]
    # Whoever can write to the store puts the first run's records in the place of the second's.
    stolen = replace(record.header, incarnation=bob.header.incarnation)
    inside._checkpoints[bob.header.checkpoint_id] = replace(
        kept, header=stolen, parts=type(kept.parts)(record.parts)
    )
    run.journal = journal
    run.inbox = [replace(run.inbox[0], value=answers[0])]

    for attempt in (
        lambda: storage.load_record(bob.header.checkpoint_id),
        lambda: storage.read_journal("order-17", bob.header.checkpoint_id),
        lambda: storage.read_inbox("order-17"),
    ):
        with pytest.raises(CorruptCheckpointError):
            await attempt()


async def test_what_an_interrupted_deletion_left_is_not_the_new_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Never:
        raise StorageError("the process dies")

    async with open_subject("file", tmp_path) as storage:
        folder = tmp_path / "checkpoints"
        alice = await waiting(storage, "alice")
        await alice.send_response("ok", "yes")
        await alice.wait_for_completion()
        with monkeypatch.context() as patch:
            patch.setattr(removal, "_finish_removal", dies)
            with pytest.raises(StorageError, match="dies"):
                await storage.delete_run("order-17")
        assert len([*folder.glob("order-17-*.json")]) == 3
        assert await storage.list_checkpoint_ids() == []
        bob = shop(storage).run_stream("bob", run_id="order-17")
        async for event in bob:
            if isinstance(event, SuperStepCompletedEvent):
                break
        await bob.aclose()
        names = await storage.list_checkpoint_ids()
        assert names == ["order-17-000000", "order-17-000001"]
        assert await storage.load_checkpoint("order-17-000002") is None
        assert len([*folder.glob("order-17-*.json")]) == 2


async def test_a_migrated_database_still_tells_what_was_damaged_before(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "data" / "golden" / "1.0" / "runs.db"
    path = tmp_path / "runs.db"
    path.write_bytes(golden.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE heads SET epoch = 77 WHERE run = (SELECT min(run) FROM runs)")
        db.commit()

    from supersteps import SqliteCheckpointStorage

    async with SqliteCheckpointStorage(path) as storage:
        with pytest.raises(CorruptCheckpointError, match="'golden' is damaged"):
            await storage.get_run("golden")
        assert (await storage.get_run("golden-crashed")) is not None


@each_storage
async def test_an_answer_by_its_question_finds_the_run_that_is_there(
    kind: str, tmp_path: Path
) -> None:
    async with opened(kind, tmp_path) as storage:
        workflow = shop(storage)
        alice = workflow.run_stream("alice", run_id="order-17")
        async for _ in alice:
            pass
        await storage.delete_run("order-17")
        await waiting(storage, "bob")  # another process, as it were

        result = await workflow.send_responses({"ok": "yes"})
        assert result.get_outputs() == ["bob: yes"]


async def test_whoever_waits_for_a_run_is_told_when_another_one_takes_its_place() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = WorkflowBuilder(name="shop").set_start_executor(Stuck("stuck"))
    built = workflow.with_checkpointing(storage).build()
    driving = asyncio.create_task(built.run("alice", run_id="order-17"))
    await STUCK.wait()
    looking = asyncio.create_task(shop(storage).wait("order-17"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await storage.delete_run("order-17")
    await waiting(storage, "bob")

    with pytest.raises(RunFencedError, match="started under its id"):
        await looking
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


STUCK = asyncio.Event()


class Stuck(Executor):
    @handler
    async def go(self, who: str, ctx: WorkflowContext[Never, str]) -> None:
        STUCK.set()
        await asyncio.Event().wait()
