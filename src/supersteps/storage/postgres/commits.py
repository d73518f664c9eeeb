"""Commits on the strength of what is remembered of a run: one statement, no reading."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from supersteps._process_fork import forkable_rlock
from supersteps.checkpoint.record import Commit
from supersteps.errors import CheckpointError
from supersteps.states import WorkflowRunState
from supersteps.storage import rules
from supersteps.storage.delta.commits import Commits
from supersteps.storage.delta.entries import Listed
from supersteps.storage.delta.heads import Head, Heads, Step
from supersteps.storage.delta.parts import item_rows
from supersteps.storage.delta.rows import StoredRun, head_number, pack_row
from supersteps.storage.delta.runs import change_of_questions, changing_columns
from supersteps.storage.delta.tables import WritableTables
from supersteps.storage.postgres.connections import bigints, statements
from supersteps.storage.postgres.stored_tables import run_checksum, waiting_checksum
from supersteps.storage.records import RunRecord


class Advance(NamedTuple):
    """A commit of a run that is remembered.

    Attributes:
        head: The run's head, as it is after the commit.
        statement: What makes it, or finds no row where the run is not as remembered.
        values: The statement's values.
    """

    head: Head
    statement: str
    values: dict[str, Any]


class _SharedHeads(Heads):
    """Heads that several threads use. Whoever commits takes a head out, and puts it back after."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = forkable_rlock()

    def get(self, run_id: str) -> Head | None:
        with self._lock:
            return super().get(run_id)

    def take(self, run_id: str) -> Head | None:
        """Return a run's head and forget it."""
        with self._lock:
            head = super().get(run_id)
            self.forget(run_id)
            return head

    def keep(self, run_id: str, head: Head) -> None:
        with self._lock:
            super().keep(run_id, head)

    def forget(self, run_id: str) -> None:
        with self._lock:
            super().forget(run_id)

    def clear(self) -> None:
        with self._lock:
            super().clear()


class PostgresCommits(Commits):
    """Changes runs, several at once on threads of their own.

    Args:
        schema: The schema of the tables.
        clock: The time by which leases expire, None for the server's.
    """

    heads: _SharedHeads

    def __init__(self, schema: str, clock: Callable[[], float] | None) -> None:
        super().__init__()
        self.heads = _SharedHeads()
        self._schema = schema
        self._clock = clock

    def restart(self) -> None:
        """Forget all heads, in a forked child."""
        self.heads = _SharedHeads()

    def commit(self, tables: WritableTables, commit: Commit) -> int | None:
        """Write a checkpoint in a transaction that reads the run first."""
        self.heads.forget(commit.header.run_id)
        return super().commit(tables, commit)

    def _look_up(self, tables: WritableTables, run_id: str) -> StoredRun | None:
        return tables.find_run(run_id)  # which locks it

    def advance(self, commit: Commit) -> Advance | None:
        """Return a commit as one statement, None where the run has to be read for it.

        The head is not remembered until `done` says that the commit was made.
        """
        head = self.heads.take(commit.header.run_id)
        if head is None or head.has_namesakes:
            return None
        now = 0.0 if self._clock is None else self._clock()
        try:
            record = rules.apply_commit(head.run.record, commit, now)
        except CheckpointError:
            return None  # what is remembered may be outdated: let the database refuse
        if record is None:
            return None
        step = head.begin(commit.changes)
        if not all(isinstance(append.before, Listed) for append in step.appends):
            return None  # a list begins, whose key the database gives
        return self._advance_by(head, record, commit, step)

    def _advance_by(self, head: Head, record: RunRecord, commit: Commit, step: Step) -> Advance:
        before, header = head.run.record, commit.header
        blocks = ["fence", "checkpoint"]
        values: dict[str, Any] = {"run": head.run.key, "revision": head.run.revision}
        self._put_run(values, record, None if record.lease is None else record.lease.seconds)
        if record.status != before.status:
            blocks.append("status")
            values["status"] = record.status
        if step.values:
            blocks.append("chunks")
            pieces = {hash: data for tree in step.values for hash, data in tree.new_chunks()}
            values |= {"hashes": list(pieces), "pieces": list(pieces.values())}
        if step.appends:
            blocks.append("items")
            values |= _items(step)
        if record.requests is not before.requests:
            ended, asked = change_of_questions(before.requests, record.requests)
            checksums = [waiting_checksum(head.run.key, request_id) for request_id in asked]
            blocks += ["ended"] * bool(ended) + ["asked"] * bool(asked)
            values |= {"ended": ended, "asked": asked, "asked_checksums": bigints(checksums)}
        if head.is_journalled:
            blocks.append("journal")
        if record.inbox_read != before.inbox_read:
            blocks.append("inbox")
        blocks.append("newest_answer" if record.requests else "result")
        parent = head_number(before)
        whole, entries = head.follow(step.difference)
        row = pack_row(head.key, header, parent, whole, entries)
        names = ("parent", "iteration", "whole", "workflow_id", "facts", "entries", "row_checksum")
        values |= dict(zip(names, row[2:], strict=True))
        head.run = StoredRun(head.run.key, head.run.revision + 1, record)
        return Advance(head, _statement(self._schema, tuple(blocks)), values)

    def done(self, commit: Commit, advance: Advance) -> None:
        """Remember a run's head after its commit was made."""
        advance.head.is_journalled = False
        if commit.header.status != WorkflowRunState.IDLE:  # else it is done
            self.heads.keep(commit.header.run_id, advance.head)

    def _put_run(
        self, values: dict[str, Any], record: RunRecord, lease_seconds: float | None
    ) -> None:
        columns = changing_columns(record)
        (values["head"], values["sequence"], values["branch"], values["epoch"]) = columns[:4]
        values["lease_owner"] = columns[4]
        values["now"] = None if self._clock is None else self._clock()
        values["lease_seconds"] = lease_seconds
        (values["updated_at"], values["fingerprint"]) = columns[6:8]
        (values["requests"], values["inbox_read"], values["commit_id"]) = columns[9:12]
        values["checksum"] = run_checksum(record)


def _items(step: Step) -> dict[str, Any]:
    """Return the values of new list elements, and put the lists' new views into the difference."""
    lists: list[int] = []
    positions: list[int] = []
    items: list[bytes] = []
    checksums: list[int] = []
    for key, before, added in step.appends:
        assert isinstance(before, Listed)
        for position, item, checksum in item_rows(added, before.length):
            lists.append(before.list)
            positions.append(position)
            items.append(item)
            checksums.append(checksum)
        step.difference.puts[key] = Listed(before.list, before.length + len(added))
    return {
        "lists": bigints(lists),
        "positions": bigints(positions),
        "items": items,
        "checksums": bigints(checksums),
    }


@cache
def _statement(schema: str, blocks: tuple[str, ...]) -> str:
    sql = statements("commits.sql", schema)
    return "\n".join(sql[name] for name in blocks)
