"""Contract: heads and branches."""

from __future__ import annotations

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import CheckpointNotFoundError
from supersteps.states import WorkflowRunState
from supersteps.testing.subject import Subject
from supersteps.testing.writer import REQUEST, Writer, by_hand, plain, record_of, request, shared


class Branches(Subject):
    """Restoring makes an older checkpoint the head and starts a branch; the old one stays."""

    async def test_restoring_starts_a_branch_and_the_old_one_stays_readable(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        ids = [
            await writer.commit(
                Changes(puts={shared("n"): b"%d" % n}, appends={OUTPUTS: [b"%d" % n]})
            )
            for n in range(4)
        ]

        run = await storage.move_head("run", 1, ids[1])
        assert (run.head, run.branch, run.sequence) == (ids[1], 1, 3)
        writer.head, writer.branch = run.head, run.branch
        new = await writer.commit(Changes(appends={OUTPUTS: [b"10"]}))

        for each in (storage, self.reopen()):
            assert new == "run-000004"
            assert plain(await each.load_record(new)) == {
                shared("n"): b"1",
                OUTPUTS: [b"0", b"1", b"10"],
            }
            assert plain(await each.load_record(ids[3])) == {
                shared("n"): b"3",
                OUTPUTS: [b"0", b"1", b"2", b"3"],
            }
            assert [info.checkpoint_id for info in await each.list_lineage(new, 9)] == [
                ids[0],
                ids[1],
                new,
            ]
        assert [c.branch for c in await storage.list_checkpoints()] == [0, 0, 0, 0, 1]

    async def test_a_moved_head_is_durable(self) -> None:
        self.needs("head")
        writer = Writer(self.storage)
        first = await writer.commit(
            Changes(puts={request("q"): REQUEST}), status=WorkflowRunState.IDLE.value
        )
        await writer.commit(Changes(deletes=[request("q")]), status="DONE")
        await writer.move(first)

        run = await record_of(self.reopen())
        assert (run.head, run.branch, run.status, run.requests) == (
            first,
            1,
            WorkflowRunState.IDLE.value,
            ("q",),
        )

    async def test_restoring_to_the_head_itself_keeps_the_branch(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.put(n=b"1")
        head = await writer.put(n=b"2")

        run = await storage.move_head("run", 1, head)

        assert (run.head, run.branch) == (head, 0)
        await writer.put(n=b"3")

    async def test_only_a_checkpoint_of_the_run_can_be_restored(self) -> None:
        storage = self.storage
        await Writer(storage).commit()
        await Writer(storage, "other").commit()
        await storage.save_checkpoint(by_hand("mine"))

        for wrong in ("nowhere", "other-000000", "mine"):
            with pytest.raises(CheckpointNotFoundError, match=wrong):
                await storage.move_head("run", 1, wrong)
        assert (await record_of(storage)).head == "run-000000"

    async def test_a_restored_run_can_come_back(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        first, second = [await writer.put(n=n) for n in (b"1", b"2")]
        await writer.move(first)
        await writer.move(second)

        assert (writer.head, writer.branch) == (second, 2)
        assert plain(await storage.load_record(await writer.put(m=b"3"))) == {
            shared("n"): b"2",
            shared("m"): b"3",
        }
