"""Contract: leases."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from supersteps.checkpoint.owner import Owner, mark_advancing
from supersteps.errors import RunBusyError
from supersteps.states import WorkflowRunState
from supersteps.testing.subject import Subject
from supersteps.testing.writer import ELSEWHERE, LEASE, Writer, record_of

# # Prints its identity and lives until it reads a line.
_CHILD = """
import msgspec
from supersteps.checkpoint.owner import this_process
print(msgspec.json.encode(this_process("h")).decode(), flush=True)
input()
"""


class Leases(Subject):
    """A lease excludes others exactly while its owner lives and its time lasts."""

    async def test_a_lease_keeps_others_off_until_it_expires(self) -> None:
        self.needs("clock")
        storage = self.storage
        await Writer(storage).commit(owner=ELSEWHERE)
        mine = Writer(storage)

        self.clock.now += LEASE - 1
        with pytest.raises(RunBusyError, match="elsewhere"):
            await mine.take()
        await storage.renew("run", 1, LEASE)
        self.clock.now += LEASE - 1
        with pytest.raises(RunBusyError):
            await mine.take()
        self.clock.now += 2
        await mine.take()

        run = await record_of(storage)
        assert run.epoch == 2
        assert run.lease is not None
        assert (run.lease.owner, run.lease.expires) == (mine.owner, self.clock.now + LEASE)

    async def test_a_lease_lasts_no_longer_than_its_length_from_when_somebody_looks(self) -> None:
        self.needs("clock")
        await Writer(self.storage).commit(owner=ELSEWHERE)
        mine = Writer(self.storage)
        self.clock.now -= 7200  # set back, or slow on this machine; the owner has died

        with pytest.raises(RunBusyError, match="elsewhere"):
            await mine.take()
        self.clock.now += LEASE - 1
        with pytest.raises(RunBusyError):
            await mine.take()
        self.clock.now += 2
        await mine.take()
        assert (await record_of(self.storage)).epoch == 2

    async def test_who_has_looked_need_not_live_until_the_lease_ends(self) -> None:
        self.needs("clock", "head")
        await Writer(self.storage).commit(owner=ELSEWHERE)
        self.clock.now -= 7200
        with pytest.raises(RunBusyError):
            await Writer(self.reopen()).take()
        self.clock.now += LEASE + 1
        await Writer(self.reopen()).take()

    async def test_an_owner_that_lives_keeps_a_lease_that_was_shortened(self) -> None:
        self.needs("clock")
        writer = Writer(self.storage)
        await writer.commit(owner=ELSEWHERE)
        before = self.clock.now
        for moment in (0, 10, 20, 30, 40):
            self.clock.now = before - 7200 + moment  # the reader
            with pytest.raises(RunBusyError):
                await Writer(self.storage).take()
            self.clock.now = before + moment  # the owner, on another machine
            await self.storage.renew("run", 1, LEASE)
        await writer.commit(owner=ELSEWHERE)

    async def test_a_commit_extends_the_lease_or_gives_it_up(self) -> None:
        self.needs("clock")
        writer = Writer(self.storage)
        await writer.commit()
        self.clock.now += 20
        await writer.commit()
        run = await record_of(self.storage)
        assert run.lease is not None
        assert run.lease.expires == self.clock.now + LEASE

        await writer.commit(lease_seconds=None)
        assert (await record_of(self.storage)).lease is None
        await self.storage.renew("run", 1, LEASE)  # a late heartbeat
        assert (await record_of(self.storage)).lease is None

    async def test_a_released_run_can_be_taken_at_once(self) -> None:
        storage = self.storage
        await Writer(storage).commit(owner=ELSEWHERE)
        await storage.release("run", 1, status=WorkflowRunState.FAILED.value, error="boom")
        run = await record_of(storage)
        assert (run.lease, run.status, run.error) == (None, WorkflowRunState.FAILED.value, "boom")

        writer = Writer(storage)
        await writer.take()
        await writer.commit(status=WorkflowRunState.IDLE.value)
        run = await record_of(storage)
        assert (run.status, run.error) == (WorkflowRunState.IDLE.value, None)

    async def test_a_live_process_of_this_machine_keeps_its_run_and_a_dead_one_does_not(
        self,
    ) -> None:
        child = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            owner = msgspec.json.decode(child.stdout.readline(), type=Owner)
            await Writer(self.storage).commit(owner=owner)
            writer = Writer(self.storage)
            with pytest.raises(RunBusyError, match=f"process {child.pid} "):
                await writer.take()
        finally:
            child.communicate(b"\n")
        if not owner.boot_id:
            return  # the system does not report dead processes
        await writer.take()
        assert writer.epoch == 2

    async def test_in_one_process_an_idle_handle_is_superseded_and_a_busy_one_is_not(self) -> None:
        writer = Writer(self.storage)
        await writer.commit()
        mark_advancing(writer.owner.handle, True)
        try:
            self.clock.now += 10 * LEASE
            with pytest.raises(RunBusyError):
                await Writer(self.storage).take()
        finally:
            mark_advancing(writer.owner.handle, False)
        await Writer(self.storage).take()
