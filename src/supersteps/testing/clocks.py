"""Contract: wrong clocks."""

from __future__ import annotations

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.errors import RunBusyError, RunFencedError
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing.subject import Subject
from supersteps.testing.writer import ELSEWHERE, LEASE, Writer, content_of, record_of, shared


class Clocks(Subject):
    """Order comes from numbers and parents, ownership from epochs; clocks change neither."""

    async def test_timestamps_that_go_back_reorder_nothing(self) -> None:
        writer = Writer(self.storage)
        ids = await _backwards(writer, 4)

        for storage in (self.storage, self.reopen()):
            run = await record_of(storage)
            assert (run.head, run.sequence) == (ids[3], 3)
            assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 9)] == ids
            assert set(await storage.list_checkpoint_ids()) == set(ids)
        successor = Writer(self.reopen())
        await successor.take()
        assert successor.head == ids[3]
        assert await content_of(successor.storage, await successor.commit()) == {shared("n"): b"3"}

    async def test_timestamps_that_stand_still_keep_the_order_of_commits(self) -> None:
        writer = Writer(self.storage)
        ids = [await writer.commit(timestamp="2025-01-01T00:00:00.000000+00:00") for n in range(12)]

        assert await self.reopen().list_checkpoint_ids() == ids

    async def test_deleting_the_head_goes_back_by_numbers(self) -> None:
        writer = Writer(self.storage)
        ids = await _backwards(writer, 3)

        await self.storage.delete_checkpoint(ids[2])

        assert (await record_of(self.storage)).head == ids[1]

    async def test_headers_come_in_the_order_of_commits(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = await _backwards(writer, 4)

        assert [header.checkpoint_id for header in await storage.list_headers("run")] == ids
        assert await storage.prune("run", RetentionPolicy(keep_last=2)) == ids[:2]

    async def test_a_clock_that_goes_back_takes_no_run_away(self) -> None:
        self.needs("clock")
        writer = Writer(self.storage)
        await writer.commit(owner=ELSEWHERE)
        self.clock.now -= 1000 * LEASE

        await self.storage.renew("run", 1, LEASE)
        await writer.commit(owner=ELSEWHERE)
        with pytest.raises(RunBusyError):
            await Writer(self.storage).take()

    async def test_a_clock_that_leaps_ahead_lets_two_try_and_one_succeed(self) -> None:
        self.needs("clock")
        writer = Writer(self.storage)
        await writer.commit(owner=ELSEWHERE)
        self.clock.now += 1000 * LEASE
        other = Writer(self.storage)
        await other.take()

        with pytest.raises(RunFencedError):
            await writer.put(n=b"0")
        head = await other.put(n=b"1")
        assert (await record_of(self.storage)).head == head


async def _backwards(writer: Writer, count: int) -> list[str]:
    """Commit with decreasing timestamps."""
    return [
        await writer.commit(
            Changes(puts={shared("n"): b"%d" % n}),
            timestamp=f"2025-01-01T00:00:0{9 - n}.000000+00:00",
        )
        for n in range(count)
    ]
