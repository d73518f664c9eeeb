"""Migrations that SQL cannot do: rows of earlier versions."""

from __future__ import annotations

import sqlite3
from typing import Any
from zlib import crc32

import msgspec
from msgspec.structs import asdict

from supersteps.storage.delta.rows import key_checksum
from supersteps.storage.delta.runs import checksum_of, decode_names, run_of
from supersteps.storage.rules import RunRecord
from supersteps.storage.sqlite import run_rows
from supersteps.storage.sqlite.run_rows import SQL
from supersteps.storage.sqlite.tables import SqliteTables

_CHECKSUMS_SINCE = 2
"""The number of the migration after which rows of runs, journals and inboxes have checksums."""

_INCARNATIONS_SINCE = 3
"""The number of the migration after which runs have incarnations, also in their checksums."""

_WAITING_SINCE = 4
"""The number of the migration after which waiting questions have their own rows."""


def bring_up(db: sqlite3.Connection, version: int) -> None:
    """Update rows, directly after the scripts.

    Args:
        db: The database, in the transaction of the migration.
        version: The number of the schema of the rows.
    """
    if version < _CHECKSUMS_SINCE:
        _seal_all(db)
    elif version < _INCARNATIONS_SINCE:
        _seal_records(db)
    if version < _WAITING_SINCE:
        _move_waiting(db)


def _seal_all(db: sqlite3.Connection) -> None:
    """Add checksums to rows that were written without them."""
    for row in _rows(db):
        key, record = row[0], _record(row)
        checksum = key_checksum(key, row[1], record.workflow_id, row[5], record.incarnation)
        db.execute(SQL["seal_key"], (checksum, key))
        db.execute(SQL["seal_head"], (_checksum(record), key))
        entries = run_rows.entries_of(key)
        for entry, head, data, _ in db.execute(SQL["read_journal"], entries).fetchall():
            checksum = run_rows.journal_checksum(entry, head, data)
            db.execute(SQL["seal_journal"], (checksum, entry))
        for entry, *columns, _ in db.execute(SQL["read_inbox"], entries).fetchall():
            checksum = run_rows.inbox_checksum(entry, *columns)
            db.execute(SQL["seal_inbox"], (checksum, entry))


def _seal_records(db: sqlite3.Connection) -> None:
    """Update older runs' checksums to the present columns; damaged ones stay damaged."""
    for row in _rows(db):
        record = _readable(row)
        if record is None:
            continue
        known = asdict(record)
        del known["incarnation"]
        if record.lease is not None:
            known["lease"] = {"owner": record.lease.owner, "expires": record.lease.expires}
        if crc32(msgspec.json.encode(known)) == row[-1]:
            db.execute(SQL["seal_head"], (_checksum(record), row[0]))


def _move_waiting(db: sqlite3.Connection) -> None:
    """Move waiting questions from `heads` to their own rows; damaged rows stay unchanged."""
    for row in _rows(db):
        record = _readable(row)
        if record is None or not record.requests or _checksum(record) != row[-1]:
            continue
        key = row[0]
        db.execute(SQL["delete_all_waiting"], (key,))
        SqliteTables(db).insert_waiting(key, record.requests)
        count, checksum = str(len(record.requests)), checksum_of(record)
        db.execute(SQL["count_waiting"], (count, checksum, key))


def _rows(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    found = (
        db.execute(SQL["find"], (run_id,)).fetchone()
        for _key, run_id in db.execute(SQL["keys"]).fetchall()
    )
    return [row for row in found if row is not None]


def _readable(row: tuple[Any, ...]) -> RunRecord | None:
    try:
        return _record(row)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _record(row: tuple[Any, ...]) -> RunRecord:
    """Return a run from its row, including its questions."""
    return run_of(row[:-1], decode_names(row[20])).record


def _checksum(record: RunRecord) -> int:
    """Return the checksum that a run's row had while it included the questions."""
    return crc32(msgspec.json.encode(record))
