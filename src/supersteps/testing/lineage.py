"""Contract: listings, lineage and deletion."""

from __future__ import annotations

import asyncio

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.ids import checkpoint_id
from supersteps.storage.ports import lineage_reader
from supersteps.testing.subject import Subject
from supersteps.testing.writer import REQUEST, Writer, by_hand, content_of, plain, request, shared


class Lineage(Subject):
    """Checkpoints are listed in order; deleting one does not break the lineage."""

    async def test_an_empty_storage_has_nothing(self) -> None:
        storage = self.storage
        assert await storage.list_checkpoints() == []
        assert await storage.list_checkpoint_ids(workflow_id="flow", run_id="run") == []
        assert await storage.load_checkpoint("run-000000") is None
        assert await storage.load_record("run-000000") is None
        assert await storage.list_lineage("run-000000", 10) == []
        assert await storage.get_run("run") is None
        assert await storage.find_waiting_runs("q") == []
        assert await storage.read_journal("run", "run-000000") == []
        assert await storage.read_inbox("run") == []
        assert not await storage.delete_checkpoint("run-000000")
        assert not await storage.delete_run("run")

    async def test_listings_are_in_order_of_time_and_filtered(self) -> None:
        storage = self.storage
        one, two = Writer(storage, "one"), Writer(storage, "two", workflow_id="other")
        await two.commit(timestamp="2025-01-01T00:00:00.000000+00:00")
        await one.commit(timestamp="2025-01-01T00:00:01.000000+00:00")
        await two.commit(timestamp="2025-01-01T00:00:03.000000+00:00")
        await one.commit(timestamp="2025-01-01T00:00:02.000000+00:00")
        await storage.save_checkpoint(by_hand("hand", timestamp="2025-01-01T00:00:01.500000+00:00"))

        for each in (storage, self.reopen()):
            checkpoints = await each.list_checkpoints()
            ids = [c.checkpoint_id for c in checkpoints]
            assert ids == ["two-000000", "one-000000", "hand", "one-000001", "two-000001"]
            assert ids == await each.list_checkpoint_ids()
            assert checkpoints == sorted(checkpoints, key=lambda c: c.timestamp)
            assert await each.list_checkpoint_ids(workflow_id="other") == [
                "two-000000",
                "two-000001",
            ]
            assert await each.list_checkpoint_ids(workflow_id="flow") == [
                "one-000000",
                "hand",
                "one-000001",
            ]
            assert await each.list_checkpoint_ids(workflow_id="flow", run_id="one") == [
                "one-000000",
                "one-000001",
            ]
            assert [c.checkpoint_id for c in await each.list_checkpoints(run_id="one")] == [
                "one-000000",
                "one-000001",
            ]
            assert await each.list_checkpoint_ids(workflow_id="other", run_id="one") == []
            assert await each.list_checkpoint_ids(workflow_id="", run_id="") == []

    async def test_lineage_is_the_chain_of_parents(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        ids = [await writer.commit() for _ in range(4)]
        await writer.move(ids[1])
        ids.append(await writer.commit())

        assert await storage.list_lineage(ids[4], 10) == [
            CheckpointInfo("run", ids[0], 0, None),
            CheckpointInfo("run", ids[1], 1, ids[0]),
            CheckpointInfo("run", ids[4], 4, ids[1]),
        ]
        assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 10)] == ids[:4]
        assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 2)] == ids[2:4]
        assert await storage.list_lineage(ids[3], 0) == []

    async def test_a_lineage_can_be_read_on_the_calling_thread_where_that_is_offered(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        ids = [await writer.commit() for _ in range(3)]
        read = lineage_reader(storage)
        if read is None:
            return  # the lineage is then read when a run is opened

        for wanted, limit in ((ids[2], 10), (ids[1], 10), (ids[2], 2), ("run-000009", 10)):
            assert read(wanted, limit) == await storage.list_lineage(wanted, limit)

    async def test_a_deleted_checkpoint_is_gone(self) -> None:
        storage = self.storage
        await storage.save_checkpoint(by_hand("mine"))
        writer = Writer(storage)
        first, second, third = [await writer.put(n=b"%d" % n) for n in range(3)]

        assert await storage.delete_checkpoint("mine")
        assert await storage.delete_checkpoint(second)
        assert not await storage.delete_checkpoint(second)

        assert await self.reopen().list_checkpoint_ids() == [first, third]
        assert await content_of(storage, third) == {shared("n"): b"2"}
        await writer.commit()  # the run continues

    async def test_what_followed_a_deleted_checkpoint_follows_its_parent(self) -> None:
        writer = Writer(self.storage)
        ids = [await writer.put(n=b"%d" % n) for n in range(4)]
        await writer.move(ids[2])
        ids.append(await writer.put(n=b"4"))

        for unwanted in (ids[1], ids[2]):  # the branches part at the second one
            assert await self.storage.delete_checkpoint(unwanted)

        for storage in (self.storage, self.reopen()):
            assert [info.checkpoint_id for info in await storage.list_lineage(ids[4], 9)] == [
                ids[0],
                ids[4],
            ]
            assert [info.checkpoint_id for info in await storage.list_lineage(ids[3], 9)] == [
                ids[0],
                ids[3],
            ]
            record = await storage.load_record(ids[3])
            assert record is not None
            assert record.header.parent_id == ids[0]
            assert await content_of(storage, ids[4]) == {shared("n"): b"4"}

    async def test_when_the_first_checkpoint_is_deleted_the_lineage_begins_after_it(self) -> None:
        writer = Writer(self.storage)
        ids = [await writer.put(n=b"%d" % n) for n in range(3)]

        assert await self.storage.delete_checkpoint(ids[0])

        for storage in (self.storage, self.reopen()):
            assert await storage.list_lineage(ids[2], 9) == [
                CheckpointInfo("run", ids[1], 1, None),
                CheckpointInfo("run", ids[2], 2, ids[1]),
            ]
        await writer.move(ids[1])
        assert await content_of(self.storage, await writer.commit()) == {shared("n"): b"1"}

    async def test_a_listed_checkpoint_stays_readable_when_the_one_before_it_is_deleted(
        self,
    ) -> None:
        writer = Writer(self.storage)
        first = await writer.put(n=b"1")
        await writer.put(n=b"2")
        _, listed = await self.storage.list_checkpoints()
        await self.storage.delete_checkpoint(first)

        assert listed.shared_state == {"n": 2}

    async def test_deleting_the_head_makes_the_nearest_ancestor_the_head(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first, second, third, fourth = [await writer.put(n=str(n).encode()) for n in range(4)]

        assert await storage.delete_checkpoint(third)
        assert await storage.delete_checkpoint(fourth)

        run = await self.storage.get_run("run")
        assert run is not None
        assert (run.head, run.sequence) == (second, 3)
        await writer.take()
        again = await writer.commit()
        assert again == "run-000004"
        assert plain(await storage.load_record(again)) == {shared("n"): b"1"}
        assert await self.reopen().list_checkpoint_ids() == [first, second, again]

    async def test_deleting_the_last_checkpoint_removes_the_run(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first, second = [await writer.commit() for _ in range(2)]

        assert await storage.delete_checkpoint(second)
        assert await storage.delete_checkpoint(first)

        for each in (storage, self.reopen()):
            assert await each.get_run("run") is None
            assert await each.list_checkpoint_ids() == []

    async def test_deleting_a_run_takes_all_that_belongs_to_it(self) -> None:
        storage = self.storage
        writer, other = Writer(storage), Writer(storage, "run-000000")
        await writer.commit(Changes(puts={request("q"): REQUEST}))
        await writer.commit()
        kept = await other.commit()
        await storage.add_answers("run", [("q", b"1")])
        await storage.append_journal("run", 1, "run-000001", [b"{}"])

        assert await storage.delete_run("run")

        for each in (storage, self.reopen()):
            assert await each.get_run("run") is None
            assert await each.list_checkpoint_ids() == [kept]
        assert not await storage.delete_run("run")

        again = Writer(storage)
        await again.commit(Changes(puts={request("q"): REQUEST}))
        assert await storage.read_inbox("run") == []
        assert await storage.read_journal("run", "run-000000") == []

    async def test_closing_is_not_the_end(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        async with storage:
            await writer.commit()
        await storage.aclose()

        await writer.commit()
        assert len(await storage.list_checkpoints()) == 2

    def test_a_storage_belongs_to_no_event_loop(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        for _ in range(3):
            asyncio.run(writer.commit())

        assert asyncio.run(storage.list_checkpoint_ids()) == [
            checkpoint_id("run", n) for n in range(3)
        ]
