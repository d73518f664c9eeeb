"""The fast part of the races, proof that the lab would notice a storage without a fence, and what
races have found.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    CheckpointInfo,
    FailurePolicy,
    InMemoryCheckpointStorage,
    InterruptedCallError,
    ManagedStorage,
    RetentionPolicy,
    RunClosedError,
    StorageError,
    SuperStepCompletedEvent,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    export_run,
    import_run,
)
from supersteps import RequestInfoEvent as Asked
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.storage.answers import refusal
from supersteps.storage.records import InboxEntry
from tests.reliability import races, racing, referee
from tests.reliability.table import Row, Verdict

here = pytest.mark.skipif(races.not_here is not None, reason=str(races.not_here))
SEED = 20261123

each_store = pytest.mark.parametrize("store", races.STORES)


@here
@pytest.mark.slow
@pytest.mark.parametrize(
    ("race", "trials", "met"),
    [
        (races.resume, 5, {"busy", "fenced"}),
        (races.takeover, 5, {"stops", "owns"}),
        (races.answers, 5, {"accepted", "refused"}),
        (races.upkeep, 2, {"deleted", "did"}),
    ],
)
def test_races_are_fair(race: Callable[[int, int], Row], trials: int, met: set[str]) -> None:
    referee.seen.clear()

    row = race(trials, SEED)

    assert row.is_clean, row.details
    assert row.trials == trials
    assert any(referee.seen[word] for word in met), referee.seen


@here
@pytest.mark.slow
@each_store
def test_two_processes_share_a_file(store: str) -> None:
    referee.seen.clear()

    verdict = races.once(partial(races.shared_file_once, seconds=0.6), f"{SEED}", store)

    assert verdict == Verdict()
    assert referee.seen["finished"] >= 6


@here
@pytest.mark.slow
@each_store
@pytest.mark.parametrize("trial", [races.resume_once, races.takeover_once])
def test_the_lab_notices_a_missing_fence(store: str, trial: Callable[..., None]) -> None:
    for number in range(20):
        if races.once(partial(trial, unsafe=True), f"{SEED} {number}", store).doubled:
            return
    pytest.fail("two writers at once go unnoticed")


# ---------------------------------------------------------------------------- what races have found


@pytest.mark.parametrize("store", [*races.STORES, None])
async def test_an_unrepeatable_call_that_began_after_the_run_was_opened_is_not_made_again(
    store: str | None, tmp_path: Path
) -> None:
    begun = asyncio.Event()
    calls: list[int] = []

    @executor(id="start")
    async def start(number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)

    @executor(id="pay")
    async def pay(number: int, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(number)
        begun.set()
        if len(calls) == 1:
            await asyncio.sleep(60)

    async with (
        racing.open_store(str(tmp_path / store))
        if store
        else InMemoryCheckpointStorage() as storage
    ):
        builder = WorkflowBuilder(name="paying").set_start_executor(start).add_edge(start, pay)
        builder.with_failure_policy(pay, FailurePolicy(at_most_once=True)).with_checkpointing(
            storage
        )
        first = builder.build().run_stream(1, run_id="run")
        async for event in first:
            if isinstance(event, SuperStepCompletedEvent):
                break
        second = builder.build().run_stream(1, run_id="run", if_exists="attach")
        await second.send_responses({})  # opens it: it reads the journal
        assert second.checkpoints
        driving = asyncio.create_task(first.wait_for_completion())
        await begun.wait()
        await first.aclose()
        with pytest.raises(RunClosedError):
            await driving

        with pytest.raises(InterruptedCallError):
            await second.wait_for_completion()

    assert calls == [1]


def test_a_new_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as a process does that creates it right now
    end = threading.Timer(0.2, other.execute, ("ROLLBACK",))
    end.start()
    try:
        assert asyncio.run(racing.open_store(str(path)).list_runs()) == []
    finally:
        end.join()
        other.close()


@each_store
@pytest.mark.parametrize("gone", [0, 1, 3])
async def test_a_run_that_is_pruned_meanwhile_is_exported_whole_or_not_at_all(
    store: str, gone: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with racing.open_store(str(tmp_path / store)) as storage:
        await referee.finish(storage, 1, "fine")
        infos = await lineage(storage)
        load = storage.load_record

        async def load_after_pruning(identifier: str) -> CheckpointRecord | None:
            if identifier == infos[gone].checkpoint_id:
                monkeypatch.undo()
                await storage.prune(racing.RUN, RetentionPolicy(keep_last=1))
            return await load(identifier)

        monkeypatch.setattr(storage, "load_record", load_after_pruning)
        with pytest.raises(StorageError, match="export it again"):
            await export_run(storage, racing.RUN, tmp_path / "run")
        assert not list(tmp_path.glob("*run"))

        await export_run(storage, racing.RUN, tmp_path / "run")
        await import_run(InMemoryCheckpointStorage(), tmp_path / "run")


@each_store
async def test_a_head_that_is_pruned_while_the_run_is_opened_is_not_missed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with racing.open_store(str(tmp_path / store)) as storage:
        async for event in racing.build(storage, 1).run_stream(1, run_id=racing.RUN):
            if isinstance(event, SuperStepCompletedEvent):
                break
        load = storage.load_record

        async def load_too_late(identifier: str) -> CheckpointRecord | None:
            monkeypatch.undo()
            await referee.finish(storage, 1, "fine")
            await storage.prune(racing.RUN, RetentionPolicy(keep_last=1))
            return await load(identifier)

        monkeypatch.setattr(storage, "load_record", load_too_late)
        result = await racing.build(storage, 1).run(1, run_id=racing.RUN, if_exists="attach")

    assert result.get_outputs() == ["a1 b1"]


@each_store
async def test_an_answer_that_is_taken_while_another_is_refused_is_said_to_be_there(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with racing.open_store(str(tmp_path / store)) as storage:
        asked = [
            e
            async for e in racing.build(storage).run_stream(1, run_id=racing.RUN)
            if isinstance(e, Asked)
        ]
        await storage.answer(racing.RUN, asked[0].request_id, "fine")
        read = storage.read_inbox

        async def read_too_late(run_id: str) -> list[InboxEntry]:
            monkeypatch.undo()
            await referee.finish(storage, 3, "fine")
            return await read(run_id)

        monkeypatch.setattr(storage, "read_inbox", read_too_late)
        found = await refusal(storage, racing.RUN, asked[0].request_id)

    assert isinstance(found, AlreadyAnsweredError)


async def lineage(storage: ManagedStorage) -> list[CheckpointInfo]:
    run = await storage.get_run(racing.RUN)
    assert run is not None
    return await storage.list_lineage(run.head, 100)
