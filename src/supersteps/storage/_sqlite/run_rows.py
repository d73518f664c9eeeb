"""Runs in their tables: what seldom changes in `runs`, what every superstep changes in `heads`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from msgspec.structs import asdict

from supersteps._ids import checkpoint_id
from supersteps.checkpoint.owner import Owner
from supersteps.errors import CorruptCheckpointError
from supersteps.storage._sqlite.checkpoint_rows import key_checksum
from supersteps.storage._sqlite.entries import is_intact
from supersteps.storage._statements import load_statements
from supersteps.storage.records import LEASE_SECONDS
from supersteps.storage.runs import InboxEntry, Lease, RunRecord

SQL = load_statements("supersteps.storage._sqlite", "runs.sql")


class _Holder(Owner, frozen=True):
    """What is stored of a lease beside its end: the owner, and how long a lease of his lasts."""

    seconds: float = LEASE_SECONDS


_encode = msgspec.msgpack.Encoder().encode
_decode_holder = msgspec.msgpack.Decoder(_Holder).decode
_encode_json = msgspec.json.Encoder().encode
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode
_NO_NAMES = "[]"
_LAST = 0xFFFFFFFF
"""The highest number of an entry that fits beside its run's key (`run << 32 | number`)."""


class StoredRun(NamedTuple):
    """A run as it was read.

    Attributes:
        key: Its key in the database.
        revision: Changes with every write to the run.
        record: The run.
    """

    key: int
    revision: int
    record: RunRecord


def sequence_of(record: RunRecord) -> int:
    """Return the number of a run's head."""
    return int(record.head[len(record.run_id) + 1 :])


def entries_of(key: int) -> tuple[int, int]:
    """Return the first and the last key that entries of a run's journal or inbox may have."""
    return key << 32, key << 32 | _LAST


def damaged_run(run_id: str, what: str) -> CorruptCheckpointError:
    """Return the error of a row of a run that is not what was saved."""
    return CorruptCheckpointError(
        f"run {run_id!r} is damaged: {what} has been altered. Restore the database from a backup; its checkpoints can "
        "still be loaded one by one, and forked."
    )


def _checksum(record: RunRecord) -> int:
    return crc32(_encode_json(record))


def _run(row: tuple[Any, ...]) -> StoredRun:
    try:
        stored = _unchecked(row[:-1])
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:  # msgspec's own errors are ValueErrors
        raise damaged_run(row[1], f"its row {row[0]} in the tables `runs` and `heads`") from error
    if not is_intact(row[-1], _checksum, stored.record):
        raise damaged_run(row[1], f"its row {row[0]} in the tables `runs` and `heads`")
    return stored


def _unchecked(row: tuple[Any, ...]) -> StoredRun:
    (
        key,
        run_id,
        workflow_id,
        status,
        created_at,
        metadata,
        tags,
        parent_run,
        parent_checkpoint,
        incarnation,
    ) = row[:10]
    (
        head,
        sequence,
        branch,
        epoch,
        revision,
        lease_owner,
        lease_expires,
        updated_at,
        fingerprint,
    ) = row[10:19]
    (error, requests, inbox_read, commit_id) = row[19:]
    record = RunRecord(
        run_id=run_id,
        workflow_id=workflow_id,
        status=status,
        head=checkpoint_id(run_id, head),
        sequence=sequence,
        branch=branch,
        epoch=epoch,
        lease=None if lease_owner is None else _lease(lease_owner, lease_expires),
        created_at=created_at,
        updated_at=updated_at,
        fingerprint=fingerprint,
        error=error,
        requests=() if requests == _NO_NAMES else _decode_names(requests),
        inbox_read=inbox_read,
        commit_id=commit_id,
        metadata=msgspec.json.decode(metadata),
        tags=() if tags == _NO_NAMES else _decode_names(tags),
        parent_run=parent_run,
        parent_checkpoint=parent_checkpoint,
        incarnation=incarnation,
    )
    return StoredRun(key, revision, record)


def _lease(stored: bytes, expires: float) -> Lease:
    fields = asdict(_decode_holder(stored))
    seconds = fields.pop("seconds")
    return Lease(Owner(**fields), expires, seconds)


def find_run(db: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """Return a run, None when there is none with this id."""
    row = db.execute(SQL["find"], (run_id,)).fetchone()
    return None if row is None else _run(row)


def find_waiting_runs(db: sqlite3.Connection, request_id: str) -> list[RunRecord]:
    """Return the runs whose head waits for a request."""
    found = [_run(row).record for row in db.execute(SQL["find_waiting"], (request_id,))]
    return [run for run in found if request_id in run.requests]


def list_runs(
    db: sqlite3.Connection,
    workflow_id: str | None,
    status: str | None,
    tag: str | None,
    limit: int,
    before: RunRecord | None,
) -> tuple[list[RunRecord], list[str]]:
    """Return runs, the newest first, and what is wrong with others; each filter has an index that is in this order."""
    order = "r" if tag is None else "t"
    filters = {
        "t.tag = :tag": tag is not None,
        "r.workflow_id = :workflow_id": workflow_id is not None,
        "r.status = :status": status is not None,
        f"({order}.created_at, {order}.run_id) < (:created_at, :run_id)": before is not None,
    }
    statement = SQL["list"].format(
        source="runs" if tag is None else "run_tags AS t CROSS JOIN runs",
        conditions=" AND ".join(
            [
                *(condition for condition, is_wanted in filters.items() if is_wanted),
                "TRUE" if tag is None else "r.run = t.run",
            ]
        ),
        order=order,
    )
    values = {"tag": tag, "workflow_id": workflow_id, "status": status, "limit": limit}
    if before is not None:
        values |= {"created_at": before.created_at, "run_id": before.run_id}
    found: list[RunRecord] = []
    problems: list[str] = []
    for row in db.execute(statement, values):
        try:
            run = _run(row).record
        except CorruptCheckpointError as error:
            problems.append(str(error))
            continue
        if tag is None or tag in run.tags:
            found.append(run)
    return found, problems


# ------------------------------------------------------------------------------------------------------------ writing


def _changing(record: RunRecord) -> tuple[Any, ...]:
    lease = record.lease
    return (
        sequence_of(record),
        record.sequence,
        record.branch,
        record.epoch,
        None if lease is None else _encode({**asdict(lease.owner), "seconds": lease.seconds}),
        None if lease is None else lease.expires,
        record.updated_at,
        record.fingerprint,
        record.error,
        _encode_json(record.requests).decode() if record.requests else _NO_NAMES,
        record.inbox_read,
        record.commit_id,
        _checksum(record),
    )


_ADVANCE_HEAD = SQL["advance_head"]


def _only_advances(old: RunRecord, new: RunRecord) -> bool:
    """Return whether a run differs from before in nothing but what every commit changes."""
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
        sequence_of(record),
        record.sequence,
        record.branch,
        record.lease.expires,
        record.updated_at,
        record.inbox_read,
        record.commit_id,
        _checksum(record),
    )


def insert_run(db: sqlite3.Connection, record: RunRecord) -> StoredRun:
    """Store a new run."""
    key = db.execute(
        SQL["insert"],
        (
            record.run_id,
            record.workflow_id,
            record.status,
            record.created_at,
            _encode_json(record.metadata),
            _encode_json(record.tags).decode(),
            record.parent_run,
            record.parent_checkpoint,
            record.incarnation,
        ),
    ).lastrowid
    assert key is not None
    checksum = key_checksum(
        key,
        record.run_id,
        record.workflow_id,
        _encode_json(record.metadata),
        record.incarnation,
    )
    db.execute(SQL["seal_key"], (checksum, key))
    db.execute(SQL["insert_head"], (*_changing(record), key, 1))
    db.executemany(
        SQL["insert_tag"], [(tag, record.created_at, record.run_id, key) for tag in record.tags]
    )
    _note_waiting(db, key, record.requests, ())
    return StoredRun(key, 1, record)


def update_run(db: sqlite3.Connection, old: StoredRun, record: RunRecord) -> StoredRun | None:
    """Store a changed run; return None, having done nothing, when somebody has changed it since it was read."""
    if _only_advances(old.record, record):
        done = db.execute(_ADVANCE_HEAD, (*_advancing(record), old.key, old.revision))
    else:
        done = db.execute(SQL["update_head"], (*_changing(record), old.key, old.revision))
    if not done.rowcount:
        return None
    if record.status != old.record.status:
        db.execute(SQL["update_status"], (record.status, old.key))
    if record.requests != old.record.requests:
        _note_waiting(db, old.key, record.requests, old.record.requests)
    return StoredRun(old.key, old.revision + 1, record)


def delete_run(db: sqlite3.Connection, run: StoredRun) -> None:
    """Remove a run, its journal and its inbox; not its checkpoints."""
    record = run.record
    _note_waiting(db, run.key, (), record.requests)
    db.executemany(
        SQL["delete_tag"], [(tag, record.created_at, record.run_id) for tag in record.tags]
    )
    clear_journal(db, run.key)
    db.execute(SQL["delete_inbox"], entries_of(run.key))
    db.execute(SQL["delete_head"], (run.key,))
    db.execute(SQL["delete"], (run.key,))


def _note_waiting(
    db: sqlite3.Connection, key: int, now: Iterable[str], before: Iterable[str]
) -> None:
    now, before = set(now), set(before)
    db.executemany(SQL["delete_waiting"], [(request_id, key) for request_id in before - now])
    db.executemany(SQL["insert_waiting"], [(request_id, key) for request_id in now - before])


# -------------------------------------------------------------------------------------------------- journal and inbox


def read_journal(db: sqlite3.Connection, run: StoredRun) -> list[bytes]:
    """Return the records of finished calls that follow a run's head, in order.

    Raises:
        CorruptCheckpointError: One has been altered, or one before others is gone.
    """
    wanted = sequence_of(run.record)
    records = []
    rows = db.execute(SQL["read_journal"], entries_of(run.key))
    for expected, (entry, head, record, checksum) in enumerate(rows, run.key << 32):
        if entry != expected:
            raise damaged_run(
                run.record.run_id, f"row {expected} of table `journal`, which is gone,"
            )
        if not is_intact(checksum, _journal_checksum, entry, head, record):
            raise damaged_run(run.record.run_id, f"row {entry} of table `journal`")
        if head == wanted:
            records.append(record)
    return records


def is_journalled(db: sqlite3.Connection, run: StoredRun) -> bool:
    """Return whether there are records of finished calls that follow a run's head."""
    place = (*entries_of(run.key), sequence_of(run.record))
    return db.execute(SQL["is_journalled"], place).fetchone() is not None


def _journal_checksum(entry: int, head: int, record: bytes) -> int:
    return crc32(record, crc32(f"{entry} {head}".encode()))


def append_journal(db: sqlite3.Connection, run: StoredRun, records: Iterable[bytes]) -> None:
    """Add records of finished calls that follow a run's head."""
    last = db.execute(SQL["last_journal_entry"], entries_of(run.key)).fetchone()[0]
    first = run.key << 32 if last is None else last + 1
    head = sequence_of(run.record)
    db.executemany(
        SQL["insert_journal"],
        [
            (entry, head, record, _journal_checksum(entry, head, record))
            for entry, record in enumerate(records, first)
        ],
    )


def clear_journal(db: sqlite3.Connection, key: int) -> None:
    """Remove a run's records of finished calls."""
    db.execute(SQL["delete_journal"], entries_of(key))


def read_inbox(db: sqlite3.Connection, key: int) -> list[InboxEntry]:
    """Return what is in a run's inbox, in order.

    Raises:
        CorruptCheckpointError: An entry has been altered.
    """
    entries = []
    for entry, request_id, value, received_at, checksum in db.execute(
        SQL["read_inbox"], entries_of(key)
    ):
        if not is_intact(checksum, _inbox_checksum, entry, request_id, value, received_at):
            raise CorruptCheckpointError(
                f"the answer to request {request_id!r} is damaged: row {entry} of table `inbox` has been altered. "
                "Restore the database from a backup."
            )
        entries.append(InboxEntry(entry & _LAST, request_id, value, received_at))
    return entries


def _inbox_checksum(entry: int, request_id: str, value: bytes, received_at: str) -> int:
    return crc32(value, crc32(f"{entry} {request_id} {received_at}".encode()))


def add_to_inbox(db: sqlite3.Connection, key: int, entries: Iterable[InboxEntry]) -> None:
    """Put entries into a run's inbox."""
    rows = [(key << 32 | e.number, e.request_id, e.value, e.received_at) for e in entries]
    db.executemany(SQL["insert_inbox"], [(*row, _inbox_checksum(*row)) for row in rows])


def clear_inbox(db: sqlite3.Connection, key: int, last: int) -> None:
    """Remove the entries of a run's inbox up to number `last`."""
    db.execute(SQL["delete_inbox"], (key << 32, key << 32 | last))


# --------------------------------------------------------------------------------------------------------- checksums


def seal_records(db: sqlite3.Connection) -> None:
    """Give older runs checksums of what a record holds now; what is damaged stays damaged."""
    for key, run_id in db.execute(SQL["keys"]).fetchall():
        row = db.execute(SQL["find"], (run_id,)).fetchone()
        if row is None:
            continue
        try:
            record = _unchecked(row[:-1]).record
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
        known = asdict(record)
        del known["incarnation"]
        if record.lease is not None:
            known["lease"] = {"owner": record.lease.owner, "expires": record.lease.expires}
        if is_intact(row[-1], lambda fields: crc32(_encode_json(fields)), known):
            db.execute(SQL["seal_head"], (_checksum(record), key))


def seal_all(db: sqlite3.Connection) -> None:
    """Give their checksums to rows that were written before there were any."""
    for key, run_id in db.execute(SQL["keys"]).fetchall():
        row = db.execute(SQL["find"], (run_id,)).fetchone()
        if row is None:
            continue
        record = _unchecked(row[:-1]).record
        checksum = key_checksum(key, run_id, record.workflow_id, row[5], record.incarnation)
        db.execute(SQL["seal_key"], (checksum, key))
        db.execute(SQL["seal_head"], (_checksum(record), key))
        for entry, head, data, _ in db.execute(SQL["read_journal"], entries_of(key)).fetchall():
            db.execute(SQL["seal_journal"], (_journal_checksum(entry, head, data), entry))
        for entry, request_id, value, received_at, _ in db.execute(
            SQL["read_inbox"], entries_of(key)
        ).fetchall():
            db.execute(
                SQL["seal_inbox"], (_inbox_checksum(entry, request_id, value, received_at), entry)
            )


def problems_of(db: sqlite3.Connection, run_id: str) -> list[str]:
    """Return what is wrong with a run's own rows, its journal, its inbox and what finds it."""
    try:
        stored = find_run(db, run_id)
        if stored is None:
            return [f"run {run_id!r} is damaged: its row in table `heads` is missing"]
        read_journal(db, stored)
        read_inbox(db, stored.key)
    except CorruptCheckpointError as error:
        return [str(error)]
    record = stored.record
    tags = {tag for (tag,) in db.execute(SQL["indexed_tags"], (stored.key, run_id))}
    requests = {request_id for (request_id,) in db.execute(SQL["indexed_requests"], (stored.key,))}
    problems = []
    if tags != set(record.tags):
        problems.append(
            f"run {run_id!r} is listed under other tags than its own: table `run_tags` has been altered"
        )
    if requests != set(record.requests):
        problems.append(
            f"run {run_id!r} is found by other requests than its own: table `waiting` has been altered"
        )
    return problems
