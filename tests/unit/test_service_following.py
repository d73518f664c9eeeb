"""Following a run that somebody else drives."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supersteps import SuperStepCompletedEvent, WorkflowBuilder, WorkflowContext, executor
from supersteps.service.errors import ReferenceNotFoundError
from supersteps.service.service import Service
from supersteps.service.views import LogEntry
from supersteps.storage import answers
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.records import RunRecord
from supersteps.testing.answers import ask, end, question
from tests.contract.support import SUBJECTS, Writer, open_subject
from tests.unit.support import Upper, asking_workflow, built, counter_workflow, take

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")

OnAll = pytest.mark.parametrize("subject", SUBJECTS)
SOON = 0.001


class Follower:
    """Follows in a task of its own and keeps what it is told."""

    def __init__(self, entries: AsyncIterator[LogEntry]) -> None:
        self.seen: list[LogEntry] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._collect(entries))

    async def _collect(self, entries: AsyncIterator[LogEntry]) -> None:
        async for entry in entries:
            self.seen.append(entry)
            self._more.set()

    async def until(self, count: int) -> None:
        """Wait until it has seen so many."""
        while len(self.seen) < count:
            self._more.clear()
            await self._more.wait()

    async def end(self) -> list[str]:
        """Wait until it has ended, and return the ids of what it saw."""
        await self.task
        return [entry.checkpoint_id for entry in self.seen]

    async def is_waiting(self) -> bool:
        """Whether it goes on looking although there is nothing new."""
        await asyncio.sleep(SOON * 30)
        return not self.task.done()


def ids(*numbers: int) -> list[str]:
    return [f"r-{number:06}" for number in numbers]


@OnAll
async def test_while_another_task_drives_the_run(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        workflow = counter_workflow(storage=storage)
        run = workflow.run_stream(9, run_id="r")
        await take(run, SuperStepCompletedEvent)
        follower = Follower(Service(storage).follow("r", every=SOON))
        await follower.until(1)
        assert follower.seen[0].checkpoint_id == "r-000001"

        await run.wait_for_completion()
        assert await follower.end() == ids(*range(1, 11))
        assert all(entry.ran == ("counter",) for entry in follower.seen)
        assert (follower.seen[-1].status, follower.seen[-1].is_head) == ("IDLE", True)


@OnAll
async def test_a_run_that_has_ended_is_told_of_once(subject: str, tmp_path: Path) -> None:
    async with open_subject(subject, tmp_path) as storage:
        await counter_workflow(storage=storage).run(2, run_id="r")

        assert await Follower(Service(storage).follow("@latest", every=SOON)).end() == ids(3)


async def test_many_checkpoints_between_two_looks() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage, "r")
    await writer.commit()
    follower = Follower(Service(storage).follow("r", every=SOON))
    await follower.until(1)
    for number in range(1, 100):
        await writer.commit(status="IDLE" if number == 99 else "IN_PROGRESS")

    assert await follower.end() == ids(*range(100))


async def test_it_ends_where_only_answers_are_waited_for_and_goes_on_with_one() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = asking_workflow(storage=storage)
    await workflow.run("x", run_id="r")
    service = Service(storage)
    assert await Follower(service.follow("r", every=SOON)).end() == ids(2)

    await answers.answer(storage, "r", "ask-x", "yes")
    follower = Follower(service.follow("r", every=SOON))
    assert await follower.is_waiting()
    await workflow.run_from_checkpoint("r-000002")
    assert await follower.end() == ids(2, 3)
    assert follower.seen[-1].closed == ("ask-x",)


async def test_an_answer_that_is_taken_between_two_reads_does_not_end_it() -> None:
    class Hasty(InMemoryCheckpointStorage):
        async def read_inbox(self, run_id: str, **which: Any) -> Any:
            if writer.sequence == 0:
                await writer.commit(end("q"), inbox_read=1)
                await writer.commit(status="IDLE", lease_seconds=None)
            return await super().read_inbox(run_id, **which)

    storage = Hasty()
    writer = Writer(storage, "r")
    await writer.commit(ask(question("q", {})), status="IDLE_WITH_PENDING_REQUESTS")
    await storage.add_answers("r", [("q", b"1")])

    assert await Follower(Service(storage).follow("r", every=SOON)).end() == ids(0, 1, 2)


async def test_after_a_restore_it_goes_on_with_the_new_branch() -> None:
    storage = InMemoryCheckpointStorage()
    writer = Writer(storage, "r")
    for _ in range(4):
        await writer.commit(lease_seconds=None)
    service = Service(storage)
    follower = Follower(service.follow("r", every=SOON))
    await follower.until(1)

    await service.restore("r@1")
    await follower.until(2)
    await writer.take()
    await writer.commit(iteration_count=2, sequence=4)
    await follower.until(3)
    # In one go: left for an old checkpoint, and two steps further, between two looks.
    await writer.move("r-000000")
    await writer.commit(iteration_count=1)
    await writer.commit(iteration_count=2, status="IDLE", lease_seconds=None)

    assert await follower.end() == ids(3, 1, 4, 5, 6)
    assert [entry.branch for entry in follower.seen] == [0, 0, 1, 2, 2]


async def test_a_failure_has_no_checkpoint_of_its_own() -> None:
    proceed = asyncio.Event()

    @executor
    async def bad(text: str, ctx: WorkflowContext[str]) -> None:
        await proceed.wait()
        raise ValueError("no good")

    up = Upper("up")
    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder().add_edge(up, bad), up, storage=storage)
    run = workflow.run_stream("x", run_id="r")
    await take(run, SuperStepCompletedEvent)
    follower = Follower(Service(storage).follow("r", every=SOON))
    await follower.until(1)
    proceed.set()
    with pytest.raises(ValueError, match="no good"):
        await run.wait_for_completion()

    assert await follower.end() == ids(1, 1)
    assert [entry.status for entry in follower.seen] == ["IN_PROGRESS", "FAILED"]
    assert "no good" in str(follower.seen[-1].error)


async def test_a_cancellation_ends_it() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "r").commit(lease_seconds=None)
    follower = Follower(Service(storage).follow("r", every=SOON))
    await follower.until(1)
    await Service(storage).cancel("r")

    assert await follower.end() == ids(0, 0)
    assert follower.seen[-1].status == "CANCELLED"


async def test_a_deleted_run_is_an_error() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "r").commit(lease_seconds=None)
    follower = Follower(Service(storage).follow("r", every=SOON))
    await follower.until(1)
    await storage.delete_run("r")

    with pytest.raises(ReferenceNotFoundError, match="deleted while it was being followed"):
        await follower.end()
    with pytest.raises(ReferenceNotFoundError):
        await anext(Service(storage).follow("r"))


async def test_the_lineage_is_read_only_when_the_head_has_moved() -> None:
    class Counting(InMemoryCheckpointStorage):
        def __init__(self) -> None:
            super().__init__()
            self.looks = self.reads = 0

        async def get_run(self, run_id: str) -> RunRecord | None:
            self.looks += 1
            return await super().get_run(run_id)

        async def list_lineage(self, checkpoint_id: str, limit: int) -> Any:
            self.reads += 1
            return await super().list_lineage(checkpoint_id, limit)

        async def load_record(self, checkpoint_id: str) -> Any:
            self.reads += 1
            return await super().load_record(checkpoint_id)

    storage = Counting()
    await Writer(storage, "r").commit()
    follower = Follower(Service(storage).follow("r", every=SOON))
    await follower.until(1)
    looks, reads = storage.looks, storage.reads
    while storage.looks <= looks + 3:
        assert await follower.is_waiting()
    assert storage.reads == reads
    follower.task.cancel()


async def test_whoever_has_seen_enough_leaves() -> None:
    storage = InMemoryCheckpointStorage()
    await Writer(storage, "r").commit()
    entries = Service(storage).follow("r", every=SOON)

    async for entry in entries:
        assert entry.step == 0
        break
    await entries.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {asyncio.current_task()}
