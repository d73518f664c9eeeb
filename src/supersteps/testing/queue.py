"""The queue from which workers take runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner, mark_claiming, this_process
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import RunBusyError, RunFencedError, RunNotFoundError
from supersteps.states import WorkflowRunState
from supersteps.storage.claims import MOST_CRASHES, Claim, Claimed, handle_of
from supersteps.storage.ports import DurableStorage
from supersteps.storage.queue import WorkQueue, has_queue
from supersteps.testing.subject import Subject
from supersteps.testing.writer import (
    ELSEWHERE,
    LEASE,
    REQUEST,
    Writer,
    record_of,
    request,
)

WAITING = WorkflowRunState.IDLE_WITH_PENDING_REQUESTS.value
DONE = WorkflowRunState.IDLE.value

# Tells who it is and lives until it is told otherwise.
_CHILD = """
import msgspec
from supersteps.checkpoint.owner import this_process
print(msgspec.json.encode(this_process("h")).decode(), flush=True)
input()
"""


def owner(name: str, of: Owner = ELSEWHERE) -> Owner:
    """Return a worker; of another machine, so that only its lease tells whether it lives."""
    return replace(of, handle=name)


class Queue(Subject):
    """A worker gets runs that are due, in their order, and none that a live owner has."""

    def queue(self, storage: DurableStorage | None = None) -> WorkQueue:
        """Return the storage as one with a queue, or skip the test."""
        self.needs("queue")
        storage = storage or self.storage
        assert has_queue(storage)
        return storage

    async def submit(
        self, run_id: str, workflow_id: str = "flow", changes: Changes | None = None, **entry: Any
    ) -> Writer:
        """Create a run that nobody has, with a place in the queue."""
        writer = Writer(self.storage, run_id, workflow_id)
        place = QueueEntry(**{"ready_at": self.clock.now, **entry})
        await writer.commit(changes, lease_seconds=None, queue=place)
        return writer

    async def claim(
        self,
        limit: int = 100,
        name: str = "w",
        storage: DurableStorage | None = None,
        **wanted: Any,
    ) -> list[str]:
        """Claim runs and return their ids."""
        return [run.run_id for run in (await self.claimed(limit, name, storage, **wanted)).runs]

    async def claimed(
        self,
        limit: int = 100,
        name: str = "w",
        storage: DurableStorage | None = None,
        **wanted: Any,
    ) -> Claimed:
        """Claim runs."""
        worker = wanted.pop("owner", owner(name))
        claim = Claim(owner=worker, limit=limit, **{"workflow_ids": ("flow",), **wanted})
        return await self.queue(storage).claim_runs(claim)

    # ------------------------------------------------------------------------------ what is taken

    async def test_a_submitted_run_is_taken_once_with_an_epoch_and_a_lease_of_its_own(self) -> None:
        self.needs("queue", "clock")
        await self.submit("run")
        found = (await self.claimed()).runs
        run = await record_of(self.storage)
        assert [found[0].run_id, found[0].epoch] == ["run", 2]
        assert run.epoch == 2
        assert run.lease is not None
        assert run.lease.owner.handle == handle_of(owner("w"), "run", 2)
        assert run.lease.expires == self.clock.now + LEASE
        assert await self.claim() == []
        with pytest.raises(RunBusyError):
            await Writer(self.storage).take()

    async def test_only_runs_of_known_workflows_and_served_queues_are_taken(self) -> None:
        self.needs("queue")
        await self.submit("mine")
        await self.submit("foreign", "another")
        await self.submit("elsewhere", queue="slow")
        assert await self.queue().queued_workflows(["default", "slow"]) == ["another", "flow"]
        assert await self.queue().queued_workflows(["slow"]) == ["flow"]
        assert await self.claim() == ["mine"]
        assert await self.queue().queued_workflows(["default"]) == ["another"]
        assert await self.claim(workflow_ids=("another", "flow")) == ["foreign"]
        assert await self.claim(queues=("slow",)) == ["elsewhere"]

    async def test_a_higher_priority_comes_first_then_who_has_waited_longest(self) -> None:
        self.needs("queue")
        now = self.clock.now
        await self.submit("new", ready_at=now - 1)
        await self.submit("old", ready_at=now - 9)
        await self.submit("urgent", ready_at=now, priority=5)
        await self.submit("whenever", ready_at=now - 99, priority=-1)
        assert [await self.claim(1) for _ in range(4)] == [
            ["urgent"],
            ["old"],
            ["new"],
            ["whenever"],
        ]

    async def test_queues_take_turns_however_long_one_is(self) -> None:
        self.needs("queue")
        for number in range(5):
            await self.submit(f"a{number}", queue="a", ready_at=1.0 + number, priority=9)
        await self.submit("b0", queue="b")
        assert await self.claim(3, queues=("a", "b")) == ["a0", "b0", "a1"]
        await self.submit("b1", queue="b")
        assert await self.claim(1, queues=("b", "a")) == ["b1"]

    async def test_a_run_is_not_taken_before_its_time(self) -> None:
        self.needs("queue", "clock")
        await self.submit("run", ready_at=self.clock.now + 60)
        queue = self.queue()
        assert await queue.next_ready_at(["flow"], ["default"]) == self.clock.now + 60
        assert await queue.next_ready_at(["other"], ["default"]) is None
        assert await queue.next_ready_at(["flow"], ["other"]) is None
        assert await self.claim() == []
        self.clock.now += 61
        assert await self.claim() == ["run"]
        assert await queue.next_ready_at(["flow"], ["default"]) is None

    async def test_the_entry_is_stored_with_the_run_and_goes_with_it(self) -> None:
        self.needs("queue")
        await self.submit("run", queue="q", priority=3)
        again = self.queue(self.reopen())
        entry = await again.queue_entry("run")
        assert entry is not None
        assert (entry.queue, entry.priority, entry.is_claimed) == ("q", 3, False)
        await self.storage.delete_run("run")
        assert await again.queue_entry("run") is None
        assert await self.claim(queues=("q",)) == []
        await Writer(self.storage).commit(lease_seconds=None)
        assert await self.queue().queue_entry("run") is None  # another run of the same id
        assert await self.claim(queues=("q", "default")) == []

    async def test_a_run_that_is_driven_by_hand_and_was_let_go_is_left_alone(self) -> None:
        self.needs("queue")
        await Writer(self.storage).commit(lease_seconds=None)
        assert await self.claim() == []
        await self.queue().enqueue("run", QueueEntry(ready_at=self.clock.now))
        assert await self.claim() == ["run"]
        with pytest.raises(RunNotFoundError):
            await self.queue().enqueue("no such run", QueueEntry())

    async def test_of_many_that_claim_at_once_one_gets_the_run(self) -> None:
        self.needs("queue")
        names = [f"run{number}" for number in range(20)]
        for name in names:
            await self.submit(name)
        others = [self.storage, *(self.reopen() for _ in range(3))]
        found = await asyncio.gather(
            *(self.claim(2, f"w{n}", others[n % len(others)]) for n in range(20))
        )
        assert sorted(run_id for runs in found for run_id in runs) == sorted(names)

    # ------------------------------------------------------------------------------ owners that die

    async def test_what_a_live_owner_has_is_not_taken_and_what_a_dead_one_had_is(self) -> None:
        self.needs("queue")
        child = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            worker = msgspec.json.decode(child.stdout.readline(), type=Owner)
            await self.submit("submitted")
            assert await self.claim(owner=owner("a", worker)) == ["submitted"]
            await Writer(self.storage, "by hand").commit(owner=worker)
            assert await self.claim() == []
        finally:
            child.communicate(b"\n")
        if not worker.boot_id:
            return  # the system does not tell who has died
        assert await self.claim(recovers=False) == []
        assert await self.claim(adopts=False) == ["submitted"]
        assert await self.claim() == ["by hand"]
        entry = await self.queue().queue_entry("by hand")
        assert entry is not None
        assert (entry.is_claimed, entry.crashes) == (True, 1)

    async def test_a_lease_of_another_machine_ends_with_its_time(self) -> None:
        self.needs("queue", "clock")
        await self.submit("run")
        assert await self.claim(name="a") == ["run"]
        self.clock.now += LEASE - 1
        assert await self.claim(name="b") == []
        self.clock.now += 2
        assert await self.claim(name="b") == ["run"]
        with pytest.raises(RunFencedError):
            await self.queue().put_back("run", 2, None)

    async def test_a_run_that_kills_its_workers_is_parked_as_failed(self) -> None:
        self.needs("queue", "clock")
        await self.submit("run")
        for _ in range(MOST_CRASHES):
            assert await self.claim() == ["run"]
            self.clock.now += LEASE + 1
        found = await self.claimed()
        assert found.runs == []
        assert [run.run_id for run in found.poisoned] == ["run"]
        run = await record_of(self.storage)
        assert (run.status, run.lease) == (WorkflowRunState.FAILED.value, None)
        assert run.error is not None
        assert run.error.startswith(f"poison: {MOST_CRASHES} workers died")
        assert await self.claim() == []
        writer = Writer(self.storage)
        await writer.take()
        await writer.commit()

    async def test_a_commit_ends_the_count_of_dead_owners(self) -> None:
        self.needs("queue", "clock")
        writer = await self.submit("run")
        for _ in range(2 * MOST_CRASHES):
            (run,) = (await self.claimed()).runs
            writer.epoch = run.epoch
            assert run.lease is not None
            await writer.commit(owner=run.lease.owner)
            self.clock.now += LEASE + 1
        assert await self.claim() == ["run"]

    async def test_in_one_process_a_worker_at_work_keeps_what_it_has_until_the_lease_ends(
        self,
    ) -> None:
        self.needs("queue", "clock")
        await self.submit("run")
        me = this_process("worker")
        mark_claiming("worker", True)
        try:
            assert await self.claim(owner=me) == ["run"]
            assert await self.claim() == []
            self.clock.now += LEASE + 1
            assert await self.claim(owner=me) == ["run"]
            assert await self.claim() == []
        finally:
            mark_claiming("worker", False)
        assert await self.claim() == ["run"]  # its worker has ended

    # --------------------------------------------------------------------------------- giving back

    async def test_a_run_that_is_put_back_is_ready_when_it_is_said_to_be(self) -> None:
        self.needs("queue", "clock")
        queue = self.queue()
        await self.submit("run")
        await self.claim()
        await queue.put_back("run", 2, self.clock.now + 10)
        assert (await record_of(self.storage)).lease is None
        assert await self.claim() == []
        self.clock.now += 11
        assert await self.claim() == ["run"]
        await queue.put_back("run", 3, None)
        assert await queue.next_ready_at(["flow"], ["default"]) is None
        self.clock.now += 1000
        assert await self.claim() == []
        with pytest.raises(RunFencedError):
            await queue.put_back("run", 2, self.clock.now)

    async def test_a_run_that_is_done_is_never_ready(self) -> None:
        self.needs("queue")
        writer = await self.submit("run")
        (run,) = (await self.claimed()).runs
        writer.epoch = run.epoch
        await writer.commit(status=DONE, lease_seconds=None)
        await self.queue().put_back("run", run.epoch, self.clock.now)
        assert await self.claim() == []
        entry = await self.queue().queue_entry("run")
        assert entry is not None
        assert (entry.is_claimed, entry.ready_at) == (False, None)

    async def test_a_claimed_run_that_its_owner_let_go_without_a_word_is_taken_up(self) -> None:
        self.needs("queue")
        writer = await self.submit("run")
        (run,) = (await self.claimed()).runs
        writer.epoch = run.epoch
        await writer.commit(lease_seconds=None)  # and dies before it puts the run back
        assert await self.claim() == ["run"]

    async def test_an_answer_makes_a_waiting_run_ready(self) -> None:
        self.needs("queue")
        queue = self.queue()
        asking = Changes(puts={request("q"): REQUEST, request("p"): REQUEST})
        await self.submit("run", changes=asking, ready_at=None)
        assert await self.claim() == []
        await self.storage.add_answers("run", [("q", b'"yes"')])
        assert await self.claim() == ["run"]
        await queue.put_back("run", 2, None)  # the answer has not been taken yet
        assert await self.claim() == ["run"]
        writer = Writer(self.storage)
        writer.epoch, writer.head, writer.sequence = 3, (await record_of(self.storage)).head, 0
        taken = Changes(deletes=[request("q")])
        await writer.commit(taken, inbox_read=1, status=WAITING, lease_seconds=None)
        await queue.put_back("run", 3, None)
        assert await self.claim() == []

    async def test_a_restored_run_is_ready(self) -> None:
        self.needs("queue", "head")
        writer = await self.submit("run")
        (run,) = (await self.claimed()).runs
        first = writer.head
        assert first is not None
        writer.epoch = run.epoch
        await writer.commit(status=DONE, lease_seconds=None)
        await self.queue().put_back("run", run.epoch, None)
        await writer.take()
        await writer.move(first)
        await self.storage.release("run", writer.epoch)
        assert await self.claim() == ["run"]

    # ------------------------------------------------------------------------------------- limits

    async def test_runs_of_one_workflow_and_of_one_key_are_limited_across_workers(self) -> None:
        self.needs("queue")
        for number in range(3):
            await self.submit(f"ann{number}", concurrency_key="ann", ready_at=1.0 + number)
            await self.submit(f"free{number}", "other", ready_at=10.0 + number)
        both = ("flow", "other")
        limits: dict[str, Any] = {
            "workflow_limits": {"other": 1},
            "key_limit": 2,
            "workflow_ids": both,
        }
        assert await self.claim(name="a", **limits) == ["ann0", "ann1", "free0"]
        assert await self.claim(name="b", storage=self.reopen(), **limits) == []
        await self.queue().put_back("ann0", 2, None)
        assert await self.claim(name="b", storage=self.reopen(), **limits) == ["ann2"]

    # ------------------------------------------------------------------------------------- waiting

    async def test_who_waits_learns_of_what_makes_a_run_ready(self) -> None:
        self.needs("queue")
        queue = self.queue()
        mark = await queue.wait_for_change(None, 30)
        waiting = asyncio.ensure_future(queue.wait_for_change(mark, 30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await self.submit("run")
        async with asyncio.timeout(10):
            mark = await waiting
        assert await self.claim() == ["run"]
        again = self.queue(self.reopen())
        mark = await again.wait_for_change(None, 30)
        await queue.put_back("run", 2, self.clock.now)
        async with asyncio.timeout(10):
            await again.wait_for_change(mark, 30)

    async def test_held_runs_are_listed_with_their_owners(self) -> None:
        self.needs("queue")
        await self.submit("run")
        await Writer(self.storage, "by hand").commit(owner=ELSEWHERE)
        await self.submit("waits")
        await self.claim(1)
        found = {
            run.run_id: run.lease.owner.handle
            for run in await self.queue().held_runs()
            if run.lease is not None
        }
        assert found == {"run": handle_of(owner("w"), "run", 2), "by hand": "h"}
