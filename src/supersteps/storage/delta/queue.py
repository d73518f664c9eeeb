"""The queue of storages that use SQL: `Commits` that maintain it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast

from msgspec.structs import replace

from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import Commit
from supersteps.storage import claims, rules
from supersteps.storage.claims import Candidate, Claim, Claimed, Judge, Outcome
from supersteps.storage.delta.commits import Commits
from supersteps.storage.delta.rows import Row, RunKey, StoredRun
from supersteps.storage.delta.tables import WritableTables
from supersteps.storage.records import InboxEntry, RunRecord


class QueueTables(WritableTables, Protocol):
    """All tables, and that of the queue."""

    def find_entry(self, run: StoredRun) -> QueueEntry | None:
        """Return a run's place in the queue, None where it has none."""
        ...

    def put_entry(self, run: StoredRun, entry: QueueEntry) -> None:
        """Give a run its place in the queue, or another one."""
        ...

    def held(self) -> Iterable[Candidate]:
        """Give the runs that have a lease, and those that are claimed."""
        ...

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        """Give the runs of a workflow that may be taken from a queue, in their order."""
        ...

    def claimed(self) -> Iterable[tuple[str, str | None]]:
        """Give the workflow and the concurrency key of each run that is claimed."""
        ...


class QueuedCommits(Commits):
    """Changes runs, and their places in the queue with them.

    All tables that it is given are `QueueTables`.
    """

    # ------------------------------------------------------------- what changes a place by the way

    def submit(self, tables: QueueTables, commit: Commit) -> int | None:
        """Create a run that has a place in the queue."""
        newest = self.commit(tables, commit)
        stored = self._look_up(tables, commit.header.run_id)
        if commit.queue is not None and stored is not None:
            tables.put_entry(stored, commit.queue)
        return newest

    def leave_head(
        self, tables: WritableTables, stored: StoredRun, key: RunKey, target: Row
    ) -> RunRecord:
        """Make another checkpoint the head of a run."""
        run = super().leave_head(tables, stored, key, target)
        self._make_ready(cast(QueueTables, tables), stored)
        return run

    def add_answers(
        self,
        tables: WritableTables,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        incarnation: str | None,
    ) -> list[InboxEntry]:
        """Put answers into the inbox, all or none."""
        entries = super().add_answers(tables, run_id, answers, incarnation)
        stored = self._find(tables, run_id, incarnation)
        self._make_ready(cast(QueueTables, tables), stored)
        return entries

    @staticmethod
    def _make_ready(tables: QueueTables, stored: StoredRun) -> None:
        entry = tables.find_entry(stored)
        if entry is not None and (ready := claims.made_ready(entry, tables.now())) is not entry:
            tables.put_entry(stored, ready)

    # --------------------------------------------------------------------------------- for workers

    def claim_runs(self, tables: QueueTables, claim: Claim) -> Claimed:
        """Take runs for a worker."""
        return claims.claim_runs(_Shelf(self, tables), claim, tables.now())

    def change_place(self, tables: QueueTables, run_id: str, judge: Judge) -> Outcome | None:
        """Have the present state of a run judged, and store the outcome."""
        stored = self._look_up(tables, run_id)
        if stored is None:
            return None
        entry = tables.find_entry(stored)
        outcome = judge(stored.record, entry)
        if outcome is None:
            return None
        if outcome.run is not stored.record:
            self._change(tables, stored, outcome.run)
        if outcome.entry is not None and outcome.entry != entry:
            tables.put_entry(stored, outcome.entry)
        return outcome

    def put_back(
        self,
        tables: QueueTables,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        incarnation: str | None,
    ) -> None:
        """Give a claimed run back."""
        stored = self._fence(tables, run_id, epoch, incarnation)
        record = stored.record
        if record.lease is not None:
            record = self._change(tables, stored, rules.release_run(record, None, None))
        entry = tables.find_entry(stored)
        if entry is not None:
            answers = rules.unread_entries(record, tables.read_inbox(stored.key))
            entry = claims.put_back(
                record, entry, ready_at, is_answered=bool(answers), now=tables.now()
            )
            tables.put_entry(stored, entry)

    def enqueue(
        self, tables: QueueTables, run_id: str, entry: QueueEntry, incarnation: str | None
    ) -> None:
        """Give a run its place in the queue."""
        stored = self._find(tables, run_id, incarnation)
        tables.put_entry(stored, replace(entry, is_claimed=False))


class _Shelf:
    """The runs in their tables, as a claim looks at them in its transaction."""

    def __init__(self, commits: QueuedCommits, tables: QueueTables) -> None:
        self._commits = commits
        self._tables = tables
        self.held = tables.held
        self.due = tables.due
        self.claimed = tables.claimed

    def change(self, run_id: str, judge: Judge) -> Outcome | None:
        return self._commits.change_place(self._tables, run_id, judge)
