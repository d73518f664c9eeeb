"""Contract: one writer per run."""

from __future__ import annotations

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.errors import RunExistsError, RunFencedError, RunNotFoundError
from supersteps.states import WorkflowRunState
from supersteps.storage.records import Seen
from supersteps.testing.subject import Subject
from supersteps.testing.writer import (
    LEASE,
    REQUEST,
    Writer,
    by_hand,
    content_of,
    plain,
    record_of,
    request,
    shared,
)


class Ownership(Subject):
    """A commit must follow the head under the current epoch; a fenced writer changes nothing."""

    async def test_what_was_saved_is_there_when_it_is_opened_again(self) -> None:
        self.needs("durability")
        writer = Writer(self.storage)
        saved = await writer.put(n=b"1")
        await self.storage.save_checkpoint(by_hand("mine"))

        assert await self.reopen().list_checkpoint_ids() == [
            saved,
            "mine",
        ]  # nothing was closed
        await self.close()
        storage = self.reopen()
        assert await content_of(storage, saved) == {shared("n"): b"1"}
        run = await record_of(storage)
        assert (run.head, run.sequence, run.workflow_id) == (saved, 0, "flow")

    async def test_the_first_commit_creates_the_run(self) -> None:
        writer = Writer(self.storage)
        await writer.commit(
            Changes(puts={request("q"): REQUEST}),
            metadata={"who": "me"},
            tags=("a", "b"),
            fingerprint="f",
            status=WorkflowRunState.IDLE.value,
        )

        run = await record_of(self.storage)
        assert (run.run_id, run.workflow_id, run.head, run.sequence, run.branch) == (
            "run",
            "flow",
            "run-000000",
            0,
            0,
        )
        assert (run.epoch, run.status, run.fingerprint, run.requests) == (
            1,
            WorkflowRunState.IDLE.value,
            "f",
            ("q",),
        )
        assert (run.metadata, run.tags) == ({"who": "me"}, ("a", "b"))
        assert run.created_at == run.updated_at == "2025-01-01T00:00:00.000000+00:00"
        assert run.lease is not None
        assert run.lease.owner == writer.owner
        if "clock" not in self.missing():
            assert run.lease.expires == self.clock.now + LEASE

    async def test_another_process_sees_the_same_run(self) -> None:
        self.needs("head")
        writer = Writer(self.storage)
        await writer.commit(metadata={"who": "me"}, tags=("a",))
        await writer.commit(Changes(puts={request("q"): REQUEST}))
        await self.storage.release("run", 1, status=WorkflowRunState.FAILED.value, error="boom")

        assert await self.reopen().get_run("run") == await self.storage.get_run("run")

    async def test_a_new_process_goes_on_where_the_old_one_stopped(self) -> None:
        writer = Writer(self.storage)
        await writer.commit(Changes(puts={shared("n"): b"1"}), metadata={"who": "me"})
        await writer.commit(
            Changes(puts={request("q"): REQUEST}),
            status=WorkflowRunState.IDLE.value,
            metadata={"who": "me"},
        )

        other = self.reopen()
        run = await record_of(other)

        assert (run.run_id, run.workflow_id, run.head, run.sequence) == (
            "run",
            "flow",
            "run-000001",
            1,
        )
        assert (run.status, run.requests, run.metadata) == (
            WorkflowRunState.IDLE.value,
            ("q",),
            {"who": "me"},
        )
        assert [r.run_id for r in await other.find_waiting_runs("q")] == ["run"]
        successor = Writer(other)
        await successor.take()
        await successor.commit()
        assert await other.list_checkpoint_ids() == ["run-000000", "run-000001", "run-000002"]
        assert plain(await other.load_record("run-000002"))[shared("n")] == b"1"

    async def test_a_run_is_created_once(self) -> None:
        await Writer(self.storage).put(n=b"1")

        for storage in (self.storage, self.reopen()):
            with pytest.raises(RunExistsError, match="'run'"):
                await Writer(storage).put(n=b"2")

        assert plain(await self.storage.load_record("run-000000")) == {shared("n"): b"1"}

    async def test_the_same_commit_again_is_a_success(self) -> None:
        writer = Writer(self.storage)
        first = writer.next(Changes(appends={OUTPUTS: [b"1"]}))
        await self.storage.commit(first)
        await self.storage.commit(first)
        writer.head, writer.sequence = "run-000000", 0
        second = writer.next(Changes(appends={OUTPUTS: [b"2"]}))
        await self.storage.commit(second)
        await self.storage.commit(second)

        assert plain(await self.reopen().load_record("run-000001")) == {OUTPUTS: [b"1", b"2"]}
        assert (await record_of(self.storage)).sequence == 1

    async def test_a_commit_whose_reply_was_lost_is_recognised_after_a_takeover(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        commit = writer.next()
        await storage.commit(commit)
        await Writer(storage).take()

        await storage.commit(commit)

        writer.head, writer.sequence = "run-000000", 0
        with pytest.raises(RunFencedError):
            await writer.commit()

    async def test_a_commit_must_follow_the_head(self) -> None:
        writer = Writer(self.storage)
        first = await writer.put(n=b"1")
        twin = Writer(self.storage)
        twin.head, twin.sequence = first, 0
        await writer.put(n=b"2")

        with pytest.raises(RunFencedError, match="'run-000001'"):
            await twin.put(n=b"3")  # the same number with other content
        with pytest.raises(RunFencedError):
            await self.storage.commit(writer.next(sequence=1, checkpoint_id="run-000001"))

        assert await self.storage.list_checkpoint_ids() == ["run-000000", "run-000001"]
        assert plain(await self.storage.load_record("run-000001")) == {shared("n"): b"2"}
        await writer.put(n=b"4")

    async def test_numbers_may_be_left_out(self) -> None:
        writer = Writer(self.storage)
        await writer.put(n=b"1")
        await writer.commit(sequence=5, checkpoint_id="run-000005")
        await writer.commit()

        assert await self.reopen().list_checkpoint_ids() == [
            "run-000000",
            "run-000005",
            "run-000006",
        ]
        assert (await record_of(self.storage)).sequence == 6

    async def test_a_checkpoint_has_the_id_of_its_run_and_number(self) -> None:
        storage = self.storage
        with pytest.raises(ValueError, match="mine"):
            await storage.commit(Writer(storage).next(checkpoint_id="mine"))
        assert await storage.list_checkpoint_ids() == []

    async def test_requests_open_and_close(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        await writer.commit(Changes(puts={request("a"): REQUEST, request("b"): REQUEST}))
        await writer.commit(
            Changes(puts={request("c"): REQUEST, request("a"): REQUEST}, deletes=[request("b")])
        )
        assert (await record_of(storage)).requests == ("a", "c")
        assert [run.run_id for run in await storage.find_waiting_runs("c")] == ["run"]
        assert await storage.find_waiting_runs("b") == []

        await writer.commit(Changes(puts={request("a"): REQUEST}, deletes=[request("a")]))
        assert (await record_of(storage)).requests == ("c", "a")

    async def test_whoever_was_fenced_changes_nothing(self) -> None:
        storage = self.storage
        old = Writer(storage)
        await old.commit(Changes(puts={request("q"): REQUEST}))
        await storage.append_journal("run", 1, "run-000000", [b'"old"'])
        new = Writer(storage)
        await new.take()
        before = await record_of(storage)
        assert before.epoch == 2

        for attempt in (
            lambda: old.put(n=b"1"),
            lambda: storage.renew("run", 1, LEASE),
            lambda: storage.release("run", 1, status=WorkflowRunState.FAILED.value, error="x"),
            lambda: storage.move_head("run", 1, "run-000000"),
            lambda: storage.append_journal("run", 1, "run-000000", [b'"more"']),
            lambda: storage.discard_journal("run", 1),
        ):
            with pytest.raises(RunFencedError, match="'run'"):
                await attempt()

        assert await storage.get_run("run") == before
        assert await storage.read_journal("run", "run-000000") == [b'"old"']
        assert await storage.list_checkpoint_ids() == ["run-000000"]
        await new.put(n=b"2")

    async def test_a_run_that_has_moved_on_since_it_was_seen_is_not_taken(self) -> None:
        storage, writer = self.storage, Writer(self.storage)
        await writer.put(n=b"1")
        first = await record_of(storage)

        async def refuse(seen: Seen) -> None:
            before = await record_of(storage)
            with pytest.raises(RunFencedError, match="'run'"):
                await storage.acquire("run", this_process("another"), LEASE, seen=seen)
            assert await record_of(storage) == before

        await writer.put(n=b"2")
        await refuse(Seen(first.head, first.commit_id))
        await writer.move(first.head)  # its id is the same, and yet others have been at work
        await refuse(Seen(first.head, first.commit_id))
        now = await record_of(storage)
        await storage.release("run", writer.epoch, status=WorkflowRunState.CANCELLED.value)
        await refuse(Seen(now.head, now.commit_id))

        seen = Seen(now.head, now.commit_id, is_cancelled=True)
        taken = await storage.acquire("run", this_process("another"), LEASE, seen=seen)
        assert taken.epoch == now.epoch + 1

    async def test_a_takeover_in_another_process_fences(self) -> None:
        self.needs("fence")
        old = Writer(self.storage)
        await old.put(n=b"1")
        await old.put(n=b"2")
        new = Writer(self.reopen())
        await new.take()
        await new.put(n=b"3")

        with pytest.raises(RunFencedError):
            await old.put(n=b"4")
        await old.take()
        await old.put(m=b"5")

        assert plain(await self.storage.load_record("run-000003")) == {
            shared("n"): b"3",
            shared("m"): b"5",
        }

    async def test_a_run_that_is_not_there(self) -> None:
        storage = self.storage
        writer = Writer(storage)
        for attempt in (
            lambda: storage.acquire("run", writer.owner, LEASE),
            lambda: storage.renew("run", 1, LEASE),
            lambda: storage.release("run", 1),
            lambda: storage.move_head("run", 1, "x"),
            lambda: storage.append_journal("run", 1, "x", [b"1"]),
            lambda: storage.discard_journal("run", 1),
            lambda: storage.add_answers("run", [("q", b"1")]),
            lambda: storage.commit(
                writer.next(parent_id="run-000000", sequence=1, checkpoint_id="run-000001")
            ),
        ):
            with pytest.raises(RunNotFoundError, match="'run'"):
                await attempt()
        assert await storage.list_checkpoint_ids() == []
