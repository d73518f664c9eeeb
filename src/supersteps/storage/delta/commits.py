"""Changes of runs, each inside a transaction, by the rules of `rules`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import CheckpointRecord, Commit
from supersteps.errors import CheckpointError, RunBusyError
from supersteps.states import WorkflowRunState
from supersteps.storage import rules
from supersteps.storage.delta.chains import read_chain, read_entries
from supersteps.storage.delta.heads import Head, Heads
from supersteps.storage.delta.parts import append
from supersteps.storage.delta.reads import find_row
from supersteps.storage.delta.rows import Row, RunKey, StoredRun, check_row, head_number, header_of
from supersteps.storage.delta.tables import WritableTables
from supersteps.storage.records import InboxEntry, RunRecord, Seen


class Commits:
    """Changes runs.

    Attributes:
        heads: Runs in memory; only the writer may use it.
    """

    def __init__(self) -> None:
        self.heads = Heads()

    # --------------------------------------------------------------------------------------- commit

    def commit(self, tables: WritableTables, commit: Commit) -> int | None:
        """Write a checkpoint and make it the head; return the number of the run's newest answer."""
        run_id = commit.header.run_id
        head = self.heads.get(run_id)
        if head is not None and self._advance(tables, head, commit):
            return tables.newest_answer(head.run)
        stored = tables.find_run(run_id)
        record = rules.apply_commit(stored.record if stored else None, commit, tables.now())
        if record is None:
            return None
        if stored is None:
            run = tables.insert_run(record)
            head = Head(run, _key(run))
            head.has_namesakes = tables.has_namesakes(run_id)
            self._write(tables, head, run, commit)
        else:
            head = self._load(tables, stored)
            self._write(tables, head, _updated(tables.update_run(stored, record)), commit)
        return tables.newest_answer(head.run)

    def _advance(self, tables: WritableTables, head: Head, commit: Commit) -> bool:
        """Commit with the head in memory; return False, without changes, if it may be outdated."""
        try:
            record = rules.apply_commit(head.run.record, commit, tables.now())
        except CheckpointError:
            return False
        run = tables.update_run(head.run, record) if record else None
        if run is None:
            return False
        self._write(tables, head, run, commit)
        return True

    def _load(self, tables: WritableTables, stored: StoredRun) -> Head:
        key = _key(stored)
        row = tables.row(key.key, head_number(stored.record))
        if row is None:
            raise rules.no_such_checkpoint(stored.record.head, stored.record.run_id)
        check_row(row, key)
        head = Head(stored, key, read_chain(tables, key, row))
        head.has_namesakes = tables.has_namesakes(key.run_id)
        return head

    def _write(self, tables: WritableTables, head: Head, run: StoredRun, commit: Commit) -> None:
        """Write what follows the fence: parts, checkpoint, and deletions that the commit causes."""
        header = commit.header
        parent = None if header.parent_id is None else head_number(head.run.record)
        read_before = head.run.record.inbox_read
        try:
            head.run = run
            step = head.begin(commit.changes)
            for tree in step.values:
                tables.store_value(run.key, tree)
            for key, before, items in step.appends:
                step.difference.puts[key] = append(tables, run.key, before, items)
            whole, entries = head.follow(step.difference)
            if head.has_namesakes and tables.find_saved(header.checkpoint_id) is not None:
                raise rules.id_taken(header.checkpoint_id)
            tables.insert_checkpoint(head.key, header, parent, whole, entries)
            if head.is_journalled:
                tables.clear_journal(run.key)
                head.is_journalled = False
            if run.record.inbox_read != read_before:
                tables.clear_inbox(run.key, run.record.inbox_read)
        except BaseException:
            self.heads.forget(header.run_id)  # it is in an intermediate state
            raise
        if header.status == WorkflowRunState.IDLE:
            self.heads.forget(header.run_id)  # it has completed: keep memory free for other runs
        else:
            self.heads.keep(header.run_id, head)

    @staticmethod
    def is_written(tables: WritableTables, commit: Commit) -> bool:
        """Return whether a commit is the head of its run."""
        stored = tables.find_run(commit.header.run_id)
        return stored is not None and rules.is_same_commit(stored.record, commit)

    # ------------------------------------------------------------------------------------ ownership

    def acquire(
        self,
        tables: WritableTables,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        incarnation: str | None,
        seen: Seen | None,
    ) -> RunRecord | RunBusyError:
        """Acquire a run with the next epoch, or return an error: raising it would undo writes."""
        stored, now = self._find(tables, run_id, incarnation), tables.now()
        limited = rules.limit_lease(stored.record, now)
        if limited is not stored.record:
            self._change(tables, stored, limited)
            stored = self._find(tables, run_id, incarnation)
        try:
            return self._change(
                tables, stored, rules.take_run(stored.record, owner, now, lease_seconds, seen)
            )
        except RunBusyError as busy:
            return busy

    def renew(
        self,
        tables: WritableTables,
        run_id: str,
        epoch: int,
        lease_seconds: float,
        incarnation: str | None,
    ) -> None:
        """Renew the lease."""
        stored = self._fence(tables, run_id, epoch, incarnation)
        self._change(tables, stored, rules.renew_lease(stored.record, tables.now(), lease_seconds))

    def release(
        self,
        tables: WritableTables,
        run_id: str,
        epoch: int,
        status: str | None,
        error: str | None,
        incarnation: str | None,
    ) -> None:
        """Release the lease."""
        stored = self._fence(tables, run_id, epoch, incarnation)
        self._change(tables, stored, rules.release_run(stored.record, status, error))

    def _change(self, tables: WritableTables, stored: StoredRun, record: RunRecord) -> RunRecord:
        """Store a run with the same head, which the transaction has just read."""
        run = _updated(tables.update_run(stored, record))
        head = self.heads.get(record.run_id)
        if head is not None:
            if head.run[:2] == stored[:2]:
                head.run = run
            else:
                self.heads.forget(record.run_id)
        return record

    def move_head(
        self,
        tables: WritableTables,
        run_id: str,
        epoch: int,
        checkpoint_id: str,
        incarnation: str | None,
    ) -> RunRecord:
        """Make a checkpoint of the run its head."""
        stored = self._fence(tables, run_id, epoch, incarnation)
        found = find_row(tables, checkpoint_id)
        if found is None or found[0].key != stored.key:
            raise rules.no_such_checkpoint(checkpoint_id, run_id)
        return self.leave_head(tables, stored, *found)

    def leave_head(
        self, tables: WritableTables, stored: StoredRun, key: RunKey, target: Row
    ) -> RunRecord:
        """Make another checkpoint the head of a run."""
        inbox = tables.read_inbox(stored.key)
        header = header_of(target, key)
        # The rule needs only the keys, so large values are not read.
        keys = read_entries(tables, key, target)
        record = CheckpointRecord(header, dict.fromkeys(keys, b""))
        last = inbox[-1].number if inbox else stored.record.inbox_read
        is_journalled = tables.is_journalled(stored)
        run = rules.move_head(stored.record, record, last, is_journalled=is_journalled)
        self.heads.forget(run.run_id)
        _updated(tables.update_run(stored, run))
        tables.clear_journal(stored.key)
        tables.clear_inbox(stored.key, last)
        return run

    def _find(self, tables: WritableTables, run_id: str, incarnation: str | None) -> StoredRun:
        """Return a run: from memory if it is unchanged since then, otherwise from the tables."""
        stored = self._look_up(tables, run_id)
        if stored is None:
            raise rules.no_such_run(run_id)
        rules.check_incarnation(stored.record, incarnation)
        return stored

    def _fence(
        self, tables: WritableTables, run_id: str, epoch: int, incarnation: str | None
    ) -> StoredRun:
        stored = self._look_up(tables, run_id)
        rules.check_epoch(stored.record if stored else None, run_id, epoch, incarnation)
        assert stored is not None
        return stored

    def _look_up(self, tables: WritableTables, run_id: str) -> StoredRun | None:
        head = self.heads.get(run_id)
        if head is not None and tables.is_at_revision(head.run):
            return head.run
        return tables.find_run(run_id)

    # ---------------------------------------------------------------------------- journal and inbox

    def append_journal(
        self,
        tables: WritableTables,
        run_id: str,
        epoch: int,
        head: str,
        records: Sequence[bytes],
        incarnation: str | None,
    ) -> None:
        """Append records of calls. The transaction excludes writers, so the epoch is a fence."""
        stored = self._fence(tables, run_id, epoch, incarnation)
        rules.check_head(stored.record, head)
        tables.append_journal(stored, records)
        remembered = self.heads.get(run_id)
        if remembered is not None:
            remembered.is_journalled = True

    def discard_journal(
        self, tables: WritableTables, run_id: str, epoch: int, incarnation: str | None
    ) -> None:
        """Drop the records that follow the head."""
        tables.clear_journal(self._fence(tables, run_id, epoch, incarnation).key)

    def add_answers(
        self,
        tables: WritableTables,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        incarnation: str | None,
    ) -> list[InboxEntry]:
        """Add answers to the inbox, all or none."""
        stored = self._find(tables, run_id, incarnation)
        entries = rules.accept_answers(stored.record, tables.read_inbox(stored.key), answers)
        tables.add_to_inbox(stored.key, entries)
        return entries


def _key(run: StoredRun) -> RunKey:
    record = run.record
    return RunKey(
        run.key,
        record.run_id,
        record.workflow_id,
        msgspec.json.encode(record.metadata),
        record.incarnation,
    )


def _updated(run: StoredRun | None) -> StoredRun:
    assert run is not None, "a run changed between reading and writing it in one transaction"
    return run
