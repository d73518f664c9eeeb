"""Contract: the journal of finished calls."""

from __future__ import annotations

import pytest

from supersteps.errors import RunFencedError
from supersteps.testing.subject import Subject
from supersteps.testing.writer import Writer


class Journal(Subject):
    """Records are returned in order and are void once the head has moved."""

    async def test_records_come_back_in_order(self) -> None:
        head = await Writer(self.storage).commit()
        await self.storage.append_journal("run", 1, head, [b'{"call":1}', b"2"])
        await self.storage.append_journal("run", 1, head, [])
        await self.storage.append_journal("run", 1, head, ['"drei ü"'.encode()])

        assert await self.storage.read_journal("run", head) == [
            b'{"call":1}',
            b"2",
            '"drei ü"'.encode(),
        ]

    async def test_another_process_reads_the_records_and_adds_its_own(self) -> None:
        self.needs("journal")
        head = await Writer(self.storage).commit()
        await self.storage.append_journal("run", 1, head, [b"1"])
        other = self.reopen()
        successor = Writer(other)
        await successor.take()

        await other.append_journal("run", 2, head, [b"2"])

        assert await self.reopen().read_journal("run", head) == [b"1", b"2"]

    async def test_a_commit_voids_the_records(self) -> None:
        writer = Writer(self.storage)
        first = await writer.commit()
        await self.storage.append_journal("run", 1, first, [b"1"])
        second = await writer.commit()

        for storage in (self.storage, self.reopen()):
            assert await storage.read_journal("run", first) == []
            assert await storage.read_journal("run", second) == []
        await self.storage.append_journal("run", 1, second, [b"2"])
        assert await self.storage.read_journal("run", second) == [b"2"]
        assert await self.storage.read_journal("run", first) == []

    async def test_restoring_voids_the_records_also_to_the_head_and_there_and_back(self) -> None:
        writer = Writer(self.storage)
        first, second = await writer.commit(), await writer.commit()
        await self.storage.append_journal("run", 1, second, [b"1"])
        await writer.move(second)
        assert await self.storage.read_journal("run", second) == []

        await self.storage.append_journal("run", 1, second, [b"2"])
        await writer.move(first)
        await writer.move(second)
        for storage in (self.storage, self.reopen()):
            assert await storage.read_journal("run", second) == []
        await self.storage.append_journal("run", 1, second, [b"3"])
        assert await self.storage.read_journal("run", second) == [b"3"]

    async def test_discarded_records_are_gone(self) -> None:
        head = await Writer(self.storage).commit()
        await self.storage.append_journal("run", 1, head, [b"1"])
        await self.storage.discard_journal("run", 1)

        for storage in (self.storage, self.reopen()):
            assert await storage.read_journal("run", head) == []
        await self.storage.append_journal("run", 1, head, [b"2"])
        assert await self.storage.read_journal("run", head) == [b"2"]

    async def test_records_must_follow_the_head(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first = await writer.commit()
        await writer.commit()

        with pytest.raises(RunFencedError, match="'run-000000'"):
            await storage.append_journal("run", 1, first, [b"1"])
        assert await storage.read_journal("run", "run-000001") == []

    async def test_a_lease_does_not_touch_the_records(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        head = await writer.commit()
        await storage.append_journal("run", 1, head, [b"1"])
        await storage.renew("run", 1, 5)
        await storage.append_journal("run", 1, head, [b"2"])
        await storage.release("run", 1, error="a sibling failed")
        await writer.take()
        await storage.append_journal("run", writer.epoch, head, [b"3"])

        assert await storage.read_journal("run", head) == [b"1", b"2", b"3"]
