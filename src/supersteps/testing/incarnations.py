"""Contract: a run recreated under its id is another run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.errors import RunFencedError
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage
from supersteps.testing.subject import Subject
from supersteps.testing.writer import LEASE, REQUEST, Writer, content_of, record_of, request, shared

Attempt = Callable[[DurableStorage, Writer], Awaitable[object]]

_WRITES: dict[str, Attempt] = {
    "commit": lambda storage, old: old.put(n=b"1"),
    "acquire": lambda storage, old: old.take(),
    "renew": lambda storage, old: storage.renew(
        "run", old.epoch, LEASE, incarnation=old.incarnation
    ),
    "release": lambda storage, old: storage.release(
        "run",
        old.epoch,
        status=WorkflowRunState.FAILED.value,
        error="x",
        incarnation=old.incarnation,
    ),
    "move_head": lambda storage, old: storage.move_head(
        "run", old.epoch, "run-000000", incarnation=old.incarnation
    ),
    "append_journal": lambda storage, old: storage.append_journal(
        "run", old.epoch, "run-000000", [b'"old"'], incarnation=old.incarnation
    ),
    "discard_journal": lambda storage, old: storage.discard_journal(
        "run", old.epoch, incarnation=old.incarnation
    ),
    "add_answers": lambda storage, old: storage.add_answers(
        "run", [("q", b'"no"')], incarnation=old.incarnation
    ),
}
"""Every write that a stale handle may try."""


class Incarnations(Subject):
    """Ids and epochs start again with a new run; writes for an earlier one are refused."""

    async def _recreated(self) -> Writer:
        """Delete a run and start an equal one; return the writer of the first."""
        old, new = Writer(self.storage), Writer(self.storage)
        new.incarnation = "another incarnation"
        await old.commit(Changes(puts={request("q"): REQUEST, shared("who"): b'"alice"'}))
        await self.storage.delete_run("run")
        await new.commit(Changes(puts={request("q"): REQUEST, shared("who"): b'"bob"'}))
        await self.storage.append_journal("run", 1, "run-000000", [b'"new"'])
        await self.storage.add_answers("run", [("q", b'"yes"')])
        return old

    async def test_a_run_and_its_checkpoints_tell_which_incarnation_they_are(self) -> None:
        writer = Writer(self.storage)
        saved = await writer.put(n=b"1")
        await writer.put(n=b"2")

        for storage in (self.storage, self.reopen()):
            assert (await record_of(storage)).incarnation == writer.incarnation
            record = await storage.load_record(saved)
            assert record is not None
            assert record.header.incarnation == writer.incarnation
            checkpoint = await storage.load_checkpoint(saved)
            assert checkpoint is not None
            assert checkpoint.incarnation == writer.incarnation

    async def test_whoever_knew_the_run_before_changes_nothing(self) -> None:
        old = await self._recreated()
        before = await record_of(self.storage)

        for name, attempt in _WRITES.items():
            with pytest.raises(RunFencedError, match="started under its id"):
                await attempt(self.storage, old)
            assert await self.storage.get_run("run") == before, name

        assert await self.storage.read_journal("run", "run-000000") == [b'"new"']
        assert [e.value for e in await self.storage.read_inbox("run")] == [b'"yes"']
        assert await self.storage.list_checkpoint_ids() == ["run-000000"]
        assert (await content_of(self.storage, "run-000000"))[shared("who")] == b'"bob"'

    async def test_whoever_knew_it_before_reads_nothing_of_the_new_one(self) -> None:
        old = await self._recreated()
        storage, which = self.storage, old.incarnation

        assert await storage.read_journal("run", "run-000000", incarnation=which) == []
        assert await storage.read_inbox("run", incarnation=which) == []
        which = "another incarnation"
        assert await storage.read_journal("run", "run-000000", incarnation=which) == [b'"new"']
        assert len(await storage.read_inbox("run", incarnation=which)) == 1

    async def test_the_writer_of_the_new_run_goes_on(self) -> None:
        await self._recreated()
        successor = Writer(self.storage)
        await successor.take(which="another incarnation")
        await successor.put(n=b"2")
        assert (await record_of(self.storage)).head == "run-000001"

    async def test_another_process_starts_it_anew(self) -> None:
        self.needs("fence")
        old = Writer(self.storage)
        await old.put(n=b"1")
        await old.put(n=b"2")
        other = self.reopen()
        await other.delete_run("run")
        new = Writer(other)
        new.incarnation = "another incarnation"
        await new.put(m=b"3")
        await new.put(m=b"4")

        with pytest.raises(RunFencedError, match="started under its id"):
            await old.put(n=b"5")
        await new.put(m=b"6")
        assert await content_of(self.storage, "run-000002") == {shared("m"): b"6"}
