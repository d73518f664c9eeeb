"""Contract: listing, pruning and verifying runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import RunNotFoundError
from supersteps.states import WorkflowRunState
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing.subject import Subject
from supersteps.testing.writer import (
    ASK,
    EVERYTHING,
    REQUEST,
    Writer,
    by_hand,
    content_of,
    record_of,
    request,
    shared,
)


class Retention(Subject):
    """Runs are listed, pruned and verified; what remains is consistent."""

    async def test_runs_are_listed_newest_first_and_filtered(self) -> None:
        storage = self.managed()
        for number in range(5):
            writer = Writer(
                storage, f"run {number}", workflow_id="even" if number % 2 == 0 else "odd"
            )
            when = f"2025-01-0{number + 1}T00:00:00.000000+00:00"
            await writer.commit(
                timestamp=when,
                status="DONE" if number == 3 else WorkflowRunState.IDLE.value,
                tags=(f"t{number}", "all"),
            )
        await storage.save_checkpoint(by_hand("mine"))

        async def names(**filters: Any) -> list[str]:
            return [run.run_id for run in await storage.list_runs(**filters)]

        assert await names() == ["run 4", "run 3", "run 2", "run 1", "run 0"]
        assert await names(limit=2) == ["run 4", "run 3"]
        assert await names(limit=2, before="run 3") == ["run 2", "run 1"]
        assert await names(before="run 0") == []
        assert await names(workflow_id="even") == ["run 4", "run 2", "run 0"]
        assert await names(workflow_id="even", before="run 2") == ["run 0"]
        assert await names(status="DONE") == ["run 3"]
        if "head" not in self.missing():  # a plain storage cannot store tags
            assert await names(tag="t1") == ["run 1"]
            assert await names(tag="all", limit=1) == ["run 4"]
        assert await names(workflow_id="nobody") == []
        third = datetime(2025, 1, 3, tzinfo=UTC)
        east = timezone(timedelta(hours=14))
        assert await names(since=third) == ["run 4", "run 3", "run 2"]
        assert await names(until=third.astimezone(east)) == ["run 1", "run 0"]
        assert await names(since=third, until=third + timedelta(days=1)) == ["run 2"]
        assert await names(since=third, before="run 4", limit=1) == ["run 3"]
        assert await names(since=third, workflow_id="even", status=WorkflowRunState.IDLE) == [
            "run 4",
            "run 2",
        ]
        with pytest.raises(ValueError, match="time zone"):
            await names(since=datetime(2025, 1, 3))
        with pytest.raises(ValueError, match="limit"):
            await names(limit=-1)
        with pytest.raises(RunNotFoundError):
            await names(before="nobody")

    async def test_headers_of_all_branches_are_listed_in_order(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = [await writer.commit() for _ in range(3)]
        await writer.move(ids[0])
        ids.append(await writer.commit(metadata={"a": 1}))

        headers = await storage.list_headers("run")
        assert [(h.checkpoint_id, h.branch, h.parent_id) for h in headers] == [
            (ids[0], 0, None),
            (ids[1], 0, ids[0]),
            (ids[2], 0, ids[1]),
            (ids[3], 1, ids[0]),
        ]
        assert headers[3].metadata == {"a": 1}
        assert await storage.list_headers("nowhere") == []

    async def test_pruning_keeps_what_the_policy_says_and_the_lineage_whole(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = [
            await writer.commit(
                Changes(puts={shared("n"): b"%d" % n}, appends={OUTPUTS: [b"%d" % n]})
            )
            for n in range(10)
        ]

        policy = RetentionPolicy(keep_last=2, keep_steps=4)
        kept = [ids[n] for n in (0, 4, 8, 9)]
        going = [i for i in ids if i not in kept]
        assert await storage.prune("run", policy, dry_run=True) == going
        assert await storage.list_checkpoint_ids() == ids
        assert await storage.prune("run", policy) == going
        assert await storage.prune("run", policy) == []

        for each in (storage, self.managed(self.reopen())):
            assert await each.list_checkpoint_ids() == kept
            assert [info.checkpoint_id for info in await each.list_lineage(ids[9], 99)] == kept
            for n in (0, 4, 8, 9):
                outputs = [b"%d" % m for m in range(n + 1)]
                assert await content_of(each, ids[n]) == {shared("n"): b"%d" % n, OUTPUTS: outputs}
            assert await each.load_record(ids[5]) is None
            assert await each.verify() == []
        assert await content_of(storage, await writer.commit()) == {
            shared("n"): b"9",
            OUTPUTS: [b"%d" % m for m in range(10)],
        }

    async def test_pruning_keeps_the_head_branch_points_and_waiting_checkpoints(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = [await writer.commit() for _ in range(2)]
        ids.append(
            await writer.commit(ASK, status=WorkflowRunState.IDLE_WITH_PENDING_REQUESTS.value)
        )
        ids += [await writer.commit() for _ in range(2)]
        await writer.move(ids[1])
        ids += [await writer.commit() for _ in range(3)]
        await writer.move(ids[5])

        assert await storage.prune("run", RetentionPolicy(keep_last=1)) == [
            ids[0],
            ids[3],
            ids[4],
            ids[6],
        ]

        lineages = [
            [info.checkpoint_id for info in await storage.list_lineage(tip, 9)]
            for tip in (ids[2], ids[7])
        ]
        assert lineages == [[ids[1], ids[2]], [ids[1], ids[5], ids[7]]]
        run = await record_of(storage)
        assert (run.head, run.sequence) == (ids[5], 7)
        assert await storage.prune("run", RetentionPolicy(keep_last=1, waiting_too=True)) == [
            ids[2]
        ]

    async def test_pruning_by_age(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = [
            await writer.commit(timestamp=f"2025-01-0{n + 1}T00:00:00.000000+00:00")
            for n in range(3)
        ]
        young = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="microseconds")
        ids += [await writer.commit(timestamp=young), await writer.commit(timestamp=young)]

        assert await storage.prune("run", RetentionPolicy(keep_for=timedelta(hours=1))) == ids[:3]

    async def test_pruning_disturbs_neither_owner_nor_journal_nor_inbox(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        for _ in range(4):
            head = await writer.commit(ASK)
        await storage.append_journal("run", 1, head, [b"1"])
        answers = await storage.add_answers("run", [("a", b"1")])
        before = await record_of(storage)

        await storage.prune("run", RetentionPolicy(keep_last=1))

        assert await storage.get_run("run") == before
        assert await storage.read_journal("run", head) == [b"1"]
        assert await storage.read_inbox("run") == answers
        await writer.commit()

    async def test_a_run_that_is_not_there_cannot_be_pruned(self) -> None:
        with pytest.raises(RunNotFoundError, match="nowhere"):
            await self.managed().prune("nowhere", RetentionPolicy(keep_last=1))

    async def test_pruned_numbers_are_not_given_again(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        ids = [await writer.commit() for _ in range(3)]
        await storage.delete_checkpoint(ids[2])
        successor = Writer(self.reopen())
        await successor.take()

        if "head" in self.missing():
            return  # it cannot know about deleted checkpoints
        assert await successor.commit() == "run-000003"

    async def test_an_intact_storage_has_no_damage(self) -> None:
        storage = self.managed()
        assert await storage.verify() == []
        writer = Writer(storage)
        first = await writer.commit(Changes(puts=dict(EVERYTHING), appends={OUTPUTS: [b"1"]}))
        await writer.commit(Changes(appends={OUTPUTS: [b"2"]}))
        await writer.move(first)
        await writer.commit(Changes(deletes=[OUTPUTS]))
        await storage.save_checkpoint(by_hand("mine"))
        await storage.append_journal("run", 1, "run-000002", [b"1"])
        await storage.add_answers("run", [("q", b"1")])

        assert await storage.verify() == []
        assert await storage.verify("run") == []
        assert await storage.verify("nowhere") == []

    async def test_vacuum_takes_nothing_that_counts(self) -> None:
        storage = self.managed()
        writer = Writer(storage)
        for n in range(4):
            head = await writer.commit(
                Changes(puts={request("q"): REQUEST, shared("n"): b"%d" % n})
            )
        await storage.save_checkpoint(by_hand("mine"))
        await storage.append_journal("run", 1, head, [b"1"])
        answers = await storage.add_answers("run", [("q", b"1")])
        await storage.delete_checkpoint("run-000001")
        await Writer(storage, "other").commit()
        await storage.delete_run("other")

        await storage.vacuum()

        for each in (storage, self.reopen()):
            found = await each.list_checkpoint_ids()
            assert found == ["run-000000", "run-000002", "run-000003", "mine"]
        assert await content_of(storage, head) == {request("q"): REQUEST, shared("n"): b"3"}
        assert await storage.read_journal("run", head) == [b"1"]
        assert await storage.read_inbox("run") == answers
        await writer.commit()
