"""Runs in their tables: what seldom changes in `runs`, what every superstep changes in `heads`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from supersteps._ids import checkpoint_id
from supersteps.checkpoint.owner import Owner
from supersteps.storage._statements import load_statements
from supersteps.storage.runs import InboxEntry, Lease, RunRecord

SQL = load_statements("supersteps.storage._sqlite", "runs.sql")

_encode_owner = msgspec.msgpack.Encoder().encode
_decode_owner = msgspec.msgpack.Decoder(Owner).decode
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


def _run(row: tuple[Any, ...]) -> StoredRun:
    (key, run_id, workflow_id, status, created_at, metadata, tags, parent_run, parent_checkpoint) = row[:9]
    (head, sequence, branch, epoch, revision, lease_owner, lease_expires, updated_at, fingerprint) = row[9:18]
    (error, requests, inbox_read, commit_id) = row[18:]
    record = RunRecord(
        run_id=run_id,
        workflow_id=workflow_id,
        status=status,
        head=checkpoint_id(run_id, head),
        sequence=sequence,
        branch=branch,
        epoch=epoch,
        lease=None if lease_owner is None else Lease(_decode_owner(lease_owner), lease_expires),
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
    )
    return StoredRun(key, revision, record)


def find_run(db: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """Return a run, None when there is none with this id."""
    row = db.execute(SQL["find"], (run_id,)).fetchone()
    return None if row is None else _run(row)


def find_waiting_runs(db: sqlite3.Connection, request_id: str) -> list[RunRecord]:
    """Return the runs whose head waits for a request."""
    return [_run(row).record for row in db.execute(SQL["find_waiting"], (request_id,))]


def list_runs(
    db: sqlite3.Connection,
    workflow_id: str | None,
    status: str | None,
    tag: str | None,
    limit: int,
    before: RunRecord | None,
) -> list[RunRecord]:
    """Return runs, the newest first; each filter has an index that is in this order."""
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
    return [_run(row).record for row in db.execute(statement, values)]


# ------------------------------------------------------------------------------------------------------------ writing


def _changing(record: RunRecord) -> tuple[Any, ...]:
    lease = record.lease
    return (
        sequence_of(record),
        record.sequence,
        record.branch,
        record.epoch,
        None if lease is None else _encode_owner(lease.owner),
        None if lease is None else lease.expires,
        record.updated_at,
        record.fingerprint,
        record.error,
        _encode_json(record.requests).decode() if record.requests else _NO_NAMES,
        record.inbox_read,
        record.commit_id,
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
        ),
    ).lastrowid
    assert key is not None
    db.execute(SQL["insert_head"], (*_changing(record), key, 1))
    db.executemany(SQL["insert_tag"], [(tag, record.created_at, record.run_id, key) for tag in record.tags])
    _note_waiting(db, key, record.requests, ())
    return StoredRun(key, 1, record)


def update_run(db: sqlite3.Connection, old: StoredRun, record: RunRecord) -> StoredRun | None:
    """Store a changed run; return None, having done nothing, when somebody has changed it since it was read."""
    if not db.execute(SQL["update_head"], (*_changing(record), old.key, old.revision)).rowcount:
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
    db.executemany(SQL["delete_tag"], [(tag, record.created_at, record.run_id) for tag in record.tags])
    clear_journal(db, run.key)
    db.execute(SQL["delete_inbox"], entries_of(run.key))
    db.execute(SQL["delete_head"], (run.key,))
    db.execute(SQL["delete"], (run.key,))


def _note_waiting(db: sqlite3.Connection, key: int, now: Iterable[str], before: Iterable[str]) -> None:
    now, before = set(now), set(before)
    db.executemany(SQL["delete_waiting"], [(request_id, key) for request_id in before - now])
    db.executemany(SQL["insert_waiting"], [(request_id, key) for request_id in now - before])


# -------------------------------------------------------------------------------------------------- journal and inbox


def read_journal(db: sqlite3.Connection, run: StoredRun) -> list[bytes]:
    """Return the records of finished calls that follow a run's head, in order."""
    return [record for (record,) in db.execute(SQL["read_journal"], (*entries_of(run.key), sequence_of(run.record)))]


def append_journal(db: sqlite3.Connection, run: StoredRun, records: Iterable[bytes]) -> None:
    """Add records of finished calls that follow a run's head."""
    last = db.execute(SQL["last_journal_entry"], entries_of(run.key)).fetchone()[0]
    first = run.key << 32 if last is None else last + 1
    head = sequence_of(run.record)
    db.executemany(SQL["insert_journal"], [(entry, head, record) for entry, record in enumerate(records, first)])


def clear_journal(db: sqlite3.Connection, key: int) -> None:
    """Remove a run's records of finished calls."""
    db.execute(SQL["delete_journal"], entries_of(key))


def read_inbox(db: sqlite3.Connection, key: int) -> list[InboxEntry]:
    """Return what is in a run's inbox, in order."""
    return [InboxEntry(*row) for row in db.execute(SQL["read_inbox"], entries_of(key))]


def add_to_inbox(db: sqlite3.Connection, key: int, entries: Iterable[InboxEntry]) -> None:
    """Put entries into a run's inbox."""
    db.executemany(SQL["insert_inbox"], [(key << 32 | e.number, e.request_id, e.value, e.received_at) for e in entries])


def clear_inbox(db: sqlite3.Connection, key: int, last: int) -> None:
    """Remove the entries of a run's inbox up to number `last`."""
    db.execute(SQL["delete_inbox"], (key << 32, key << 32 | last))
