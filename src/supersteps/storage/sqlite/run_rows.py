"""Rows of runs: `runs` for stable columns, `heads` for those that change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any
from zlib import crc32

from supersteps.errors import CorruptCheckpointError
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.rows import StoredRun, head_number, is_intact, key_checksum
from supersteps.storage.delta.runs import (
    NO_NAMES,
    UNREADABLE,
    change_of_questions,
    changing_columns,
    check_run,
    checksum_of,
    conditions_of,
    damaged_row_of_run,
    damaged_run,
    encode_json,
    fixed_columns,
    run_of,
)
from supersteps.storage.listings import RunFilter
from supersteps.storage.rules import InboxEntry, RunRecord

SQL = load_statements("supersteps.storage.sqlite", "runs.sql")

_LAST = 0xFFFFFFFF
"""The highest number of an entry, which shares its key with the run's (`run << 32 | number`)."""


def entries_of(key: int) -> tuple[int, int]:
    """Return the first and the last key that entries of a run's journal or inbox may have."""
    return key << 32, key << 32 | _LAST


_ADVANCE_HEAD = SQL["advance_head"]


def _only_advances(old: RunRecord, new: RunRecord) -> bool:
    """Return whether only those columns of a run differ that every commit changes."""
    return (
        old.lease is not None
        and new.lease is not None
        and (new.lease.owner is old.lease.owner or new.lease.owner == old.lease.owner)
        and new.lease.seconds == old.lease.seconds
        and new.requests is old.requests
        and new.fingerprint is old.fingerprint
        and new.epoch == old.epoch
        and new.error is None
        and old.error is None
    )


def _advancing(record: RunRecord) -> tuple[Any, ...]:
    assert record.lease is not None
    return (
        head_number(record),
        record.sequence,
        record.branch,
        record.lease.expires,
        record.updated_at,
        record.inbox_read,
        record.commit_id,
        checksum_of(record),
    )


def _waiting_checksum(key: int, number: int, request_id: str) -> int:
    return crc32(f"{key} {number} {request_id}".encode())


def journal_checksum(entry: int, head: int, record: bytes) -> int:
    """Return the checksum of a record of a finished call."""
    return crc32(record, crc32(f"{entry} {head}".encode()))


def inbox_checksum(entry: int, request_id: str, value: bytes, received_at: str) -> int:
    """Return the checksum of an answer."""
    return crc32(value, crc32(f"{entry} {request_id} {received_at}".encode()))


class RunRows:
    """Reads and writes the rows of runs, their journals and their inboxes."""

    __slots__ = ()

    db: sqlite3.Connection

    def _run(self, row: tuple[Any, ...]) -> StoredRun:
        requests = () if row[20] == NO_NAMES else self._read_waiting(row[0], row[1], row[20])
        try:
            stored = run_of(row[:-1], requests)
        except UNREADABLE as error:
            raise damaged_row_of_run(row[1], row[0]) from error
        return check_run(stored, row[-1])

    def find_run(self, run_id: str) -> StoredRun | None:
        """Return a run, None if there is none with this id."""
        row = self.db.execute(SQL["find"], (run_id,)).fetchone()
        return None if row is None else self._run(row)

    def is_at_revision(self, run: StoredRun) -> bool:
        """Return whether a run is unchanged since it was read or written."""
        row = self.db.execute(SQL["revision"], (run.key,)).fetchone()
        return row is not None and row[0] == run.revision

    def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for a request."""
        rows = self.db.execute(SQL["find_waiting"], (request_id,)).fetchall()
        found = [self._run(row).record for row in rows]
        return [run for run in found if request_id in run.requests]

    def find_runs(
        self, wanted: RunFilter, last: RunRecord | None
    ) -> tuple[list[RunRecord], list[str]]:
        """Return the newest runs that match a filter, and the problems of others.

        Each filter has an index with this order.

        Args:
            wanted: The filter.
            last: The run `wanted.before`.
        """
        place = None if last is None else (last.created_at, last.run_id)
        conditions, values = conditions_of(wanted, place, ":{}")
        is_tagged = wanted.tag is not None
        statement = SQL["list"].format(
            source="run_tags AS t CROSS JOIN runs" if is_tagged else "runs",
            conditions=f"r.run = t.run AND {conditions}" if is_tagged else conditions,
            order="t" if is_tagged else "r",
        )
        found: list[RunRecord] = []
        problems: list[str] = []
        with closing(self.db.execute(statement, values)) as rows:
            # Without a limit in SQL: each damaged row would shorten the page.
            for row in rows:
                if len(found) == wanted.limit:
                    break
                try:
                    run = self._run(row).record
                except CorruptCheckpointError as error:
                    problems.append(str(error))
                    continue
                if wanted.tag is None or wanted.tag in run.tags:
                    found.append(run)
        return found, problems

    # ------------------------------------------------------------------------------------- writing

    def insert_run(self, record: RunRecord) -> StoredRun:
        """Store a new run."""
        key = self.db.execute(SQL["insert"], fixed_columns(record)).lastrowid
        assert key is not None
        checksum = key_checksum(
            key,
            record.run_id,
            record.workflow_id,
            encode_json(record.metadata),
            record.incarnation,
        )
        self.db.execute(SQL["seal_key"], (checksum, key))
        self.db.execute(SQL["insert_head"], (*changing_columns(record), key, 1))
        self.db.executemany(
            SQL["insert_tag"], [(tag, record.created_at, record.run_id, key) for tag in record.tags]
        )
        self._note_waiting(key, (), record.requests)
        return StoredRun(key, 1, record)

    def update_run(self, old: StoredRun, record: RunRecord) -> StoredRun | None:
        """Store a changed run; return None, and write nothing, if it is not as it was read."""
        if _only_advances(old.record, record):
            done = self.db.execute(_ADVANCE_HEAD, (*_advancing(record), old.key, old.revision))
        else:
            done = self.db.execute(
                SQL["update_head"], (*changing_columns(record), old.key, old.revision)
            )
        if not done.rowcount:
            return None
        if record.status != old.record.status:
            self.db.execute(SQL["update_status"], (record.status, old.key))
        if record.requests is not old.record.requests:
            self._note_waiting(old.key, old.record.requests, record.requests)
        return StoredRun(old.key, old.revision + 1, record)

    def delete_run(self, run: StoredRun) -> None:
        """Delete a run, its journal and its inbox, but not its checkpoints."""
        record = run.record
        self._note_waiting(run.key, record.requests, ())
        self.db.executemany(
            SQL["delete_tag"], [(tag, record.created_at, record.run_id) for tag in record.tags]
        )
        self.clear_journal(run.key)
        self.db.execute(SQL["delete_inbox"], entries_of(run.key))
        self.db.execute(SQL["delete_head"], (run.key,))
        self.db.execute(SQL["delete"], (run.key,))

    # ------------------------------------------------------------------------------------ questions

    def _read_waiting(self, key: int, run_id: str, count: str) -> tuple[str, ...]:
        """Return the waiting questions of a run's head, in the order in which they were asked.

        Raises:
            CorruptCheckpointError: One has been altered or is missing.
        """
        rows = self.db.execute(SQL["read_waiting"], (key,)).fetchall()
        checksums = [_waiting_checksum(key, number, name) for number, name, _ in rows]
        if str(len(rows)) != count or checksums != [checksum for *_, checksum in rows]:
            raise damaged_run(run_id, "one of its rows in table `waiting`")
        return tuple([name for _, name, _ in rows])

    def _note_waiting(self, key: int, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        """Store which questions wait, given those that did; writes what has changed."""
        ended, asked = change_of_questions(before, now)
        self.db.executemany(SQL["delete_waiting"], [(request_id, key) for request_id in ended])
        if asked:
            self.insert_waiting(key, asked)

    def insert_waiting(self, key: int, asked: Sequence[str]) -> None:
        """Store new waiting questions of a run's head."""
        last = self.db.execute(SQL["last_waiting"], (key,)).fetchone()[0]
        self.db.executemany(
            SQL["insert_waiting"],
            [
                (request_id, key, number, _waiting_checksum(key, number, request_id))
                for number, request_id in enumerate(asked, 0 if last is None else last + 1)
            ],
        )

    # ---------------------------------------------------------------------------- journal and inbox

    def read_journal(self, run: StoredRun) -> list[bytes]:
        """Return the records of finished calls that follow a run's head, in order.

        Raises:
            CorruptCheckpointError: One has been altered, or one before others is missing.
        """
        wanted = head_number(run.record)
        records = []
        rows = self.db.execute(SQL["read_journal"], entries_of(run.key))
        for expected, (entry, head, record, checksum) in enumerate(rows, run.key << 32):
            if entry != expected:
                raise damaged_run(
                    run.record.run_id, f"row {expected} of table `journal`", "is missing"
                )
            if not is_intact(checksum, journal_checksum, entry, head, record):
                raise damaged_run(run.record.run_id, f"row {entry} of table `journal`")
            if head == wanted:
                records.append(record)
        return records

    def is_journalled(self, run: StoredRun) -> bool:
        """Return whether there are records of finished calls that follow a run's head."""
        place = (*entries_of(run.key), head_number(run.record))
        return self.db.execute(SQL["is_journalled"], place).fetchone() is not None

    def append_journal(self, run: StoredRun, records: Iterable[bytes]) -> None:
        """Add records of finished calls that follow a run's head."""
        last = self.db.execute(SQL["last_journal_entry"], entries_of(run.key)).fetchone()[0]
        first = run.key << 32 if last is None else last + 1
        head = head_number(run.record)
        self.db.executemany(
            SQL["insert_journal"],
            [
                (entry, head, record, journal_checksum(entry, head, record))
                for entry, record in enumerate(records, first)
            ],
        )

    def clear_journal(self, key: int) -> None:
        """Delete a run's records of finished calls."""
        self.db.execute(SQL["delete_journal"], entries_of(key))

    def read_inbox(self, key: int) -> list[InboxEntry]:
        """Return the entries of a run's inbox, in order.

        Raises:
            CorruptCheckpointError: An entry has been altered.
        """
        entries = []
        for entry, request_id, value, received_at, checksum in self.db.execute(
            SQL["read_inbox"], entries_of(key)
        ):
            if not is_intact(checksum, inbox_checksum, entry, request_id, value, received_at):
                raise CorruptCheckpointError(
                    f"the answer to request {request_id!r} is damaged: row {entry} of table "
                    "`inbox` has been altered. Restore the database from a backup."
                )
            entries.append(InboxEntry(entry & _LAST, request_id, value, received_at))
        return entries

    def newest_answer(self, run: StoredRun) -> int:
        """Return the number of a run's newest answer, 0 if there is none or no question waits."""
        if not run.record.requests:
            return 0
        newest = self.db.execute(SQL["newest_answer"], entries_of(run.key)).fetchone()[0]
        return 0 if newest is None else int(newest) & _LAST

    def add_to_inbox(self, key: int, entries: Iterable[InboxEntry]) -> None:
        """Add entries to a run's inbox."""
        rows = [(key << 32 | e.number, e.request_id, e.value, e.received_at) for e in entries]
        self.db.executemany(SQL["insert_inbox"], [(*row, inbox_checksum(*row)) for row in rows])

    def clear_inbox(self, key: int, last: int) -> None:
        """Delete the entries of a run's inbox up to number `last`."""
        self.db.execute(SQL["delete_inbox"], (key << 32, key << 32 | last))

    # --------------------------------------------------------------------------- looking for damage

    def problems_of_run(self, run_id: str) -> list[str]:
        """Return the problems of a run's rows, journal, inbox and indexes."""
        try:
            stored = self.find_run(run_id)
            if stored is None:
                return [f"run {run_id!r} is damaged: its row in table `heads` is missing"]
            self.read_journal(stored)
            self.read_inbox(stored.key)
        except CorruptCheckpointError as error:
            return [str(error)]
        record = stored.record
        tags = {tag for (tag,) in self.db.execute(SQL["indexed_tags"], (stored.key, run_id))}
        requests = {
            request_id for (request_id,) in self.db.execute(SQL["indexed_requests"], (stored.key,))
        }
        problems = []
        if tags != set(record.tags):
            problems.append(
                f"run {run_id!r} is listed under tags that are not its own: table `run_tags` has "
                "been altered"
            )
        if requests != set(record.requests):
            problems.append(
                f"run {run_id!r} is found by requests that are not its own: table `waiting` has "
                "been altered"
            )
        return problems
