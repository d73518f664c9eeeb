"""Runs as rows: their columns, packed, checked, read and searched."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zlib import crc32

import msgspec
from msgspec.structs import asdict, replace

from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import as_text
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id
from supersteps.storage.delta.rows import StoredRun, head_number, is_intact
from supersteps.storage.listings import RunFilter
from supersteps.storage.records import LEASE_SECONDS, Lease, RunRecord


class _Holder(Owner, frozen=True):
    """The stored columns of a lease except its end: the owner and the length."""

    seconds: float = LEASE_SECONDS


_encode = msgspec.msgpack.Encoder().encode
_decode_holder = msgspec.msgpack.Decoder(_Holder).decode
encode_json = msgspec.json.Encoder().encode
decode_names = msgspec.json.Decoder(tuple[str, ...]).decode
NO_NAMES = "[]"
"""Means no tags, or no questions, in rows of every version."""

UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)
"""What `run_of` raises for a damaged row; msgspec's own errors are ValueErrors."""


def damaged_run(
    run_id: str, what: str, problem: str = "has been altered"
) -> CorruptCheckpointError:
    """Return the error for a damaged row of a run."""
    return CorruptCheckpointError(
        f"run {run_id!r} is damaged: {what} {problem}. Restore the database from a backup; "
        "its checkpoints can still be loaded one by one, and forked."
    )


def checksum_of(record: RunRecord) -> int:
    """Return the checksum of a run's row, with the number of its questions."""
    if record.requests:
        record = replace(record, requests=(str(len(record.requests)),))
    return crc32(encode_json(record))


def check_run(run: StoredRun, checksum: object) -> StoredRun:
    """Refuse a run that is not what was saved.

    Raises:
        CorruptCheckpointError: Its checksum does not fit.
    """
    if not is_intact(checksum, checksum_of, run.record):
        raise damaged_row_of_run(run.record.run_id, run.key)
    return run


def damaged_row_of_run(run_id: str, key: object) -> CorruptCheckpointError:
    """Return the error of a run whose row cannot be read."""
    return damaged_run(run_id, f"its row {key} in the tables `runs` and `heads`")


def run_of(row: tuple[Any, ...], requests: tuple[str, ...]) -> StoredRun:
    """Return a run from its row without the checksum, unchecked, and the waiting questions."""
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
    (error, _count, inbox_read, commit_id) = row[19:]
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
        requests=requests,
        inbox_read=inbox_read,
        commit_id=commit_id,
        metadata=msgspec.json.decode(metadata),
        tags=() if tags == NO_NAMES else decode_names(tags),
        parent_run=parent_run,
        parent_checkpoint=parent_checkpoint,
        incarnation=incarnation,
    )
    return StoredRun(key, revision, record)


def _lease(stored: bytes, expires: float) -> Lease:
    fields = asdict(_decode_holder(stored))
    seconds = fields.pop("seconds")
    return Lease(Owner(**fields), expires, seconds)


# ------------------------------------------------------------------------------------------ writing


def fixed_columns(record: RunRecord) -> tuple[Any, ...]:
    """Return the columns of `runs` that are written once, from the id on."""
    return (
        record.run_id,
        record.workflow_id,
        record.status,
        record.created_at,
        encode_json(record.metadata),
        encode_json(record.tags).decode(),
        record.parent_run,
        record.parent_checkpoint,
        record.incarnation,
    )


def pack_holder(lease: Lease) -> bytes:
    """Return what is stored of a lease besides its end."""
    return _encode({**asdict(lease.owner), "seconds": lease.seconds})


def changing_columns(record: RunRecord) -> tuple[Any, ...]:
    """Return the columns of `heads` besides key and revision."""
    lease = record.lease
    return (
        head_number(record),
        record.sequence,
        record.branch,
        record.epoch,
        None if lease is None else pack_holder(lease),
        None if lease is None else lease.expires,
        record.updated_at,
        record.fingerprint,
        record.error,
        str(len(record.requests)) if record.requests else NO_NAMES,
        record.inbox_read,
        record.commit_id,
        checksum_of(record),
    )


def change_of_questions(
    before: tuple[str, ...], now: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Return which questions no longer wait, and which do from now on, in their order."""
    left, known = set(now), set(before)
    kept = tuple(request_id for request_id in before if request_id in left)
    if now[: len(kept)] != kept:
        # A head was moved to where the same ones wait in another order.
        return [*before], [*now]
    ended = [request_id for request_id in before if request_id not in left]
    return ended, [request_id for request_id in now if request_id not in known]


def conditions_of(
    wanted: RunFilter, place: tuple[str, str] | None, parameter: str
) -> tuple[str, dict[str, str]]:
    """Return the conditions of a listing in SQL, and the values of their parameters.

    The statement calls the table of runs `r`, and that of tags, where a tag is wanted, `t`.

    Args:
        wanted: The filter.
        place: When the last run of the page before was created, and its id.
        parameter: How the database's driver writes a parameter, with `{}` for the name.
    """
    order = "r" if wanted.tag is None else "t"
    conditions = (
        ("t.tag =", "tag", wanted.tag),
        ("r.workflow_id =", "workflow_id", wanted.workflow_id),
        ("r.status =", "status", wanted.status),
        (f"{order}.created_at >=", "since", _stored(wanted.since)),
        (f"{order}.created_at <", "until", _stored(wanted.until)),
    )
    values = {name: value for _, name, value in conditions if value is not None}
    texts = [f"{text} {parameter.format(name)}" for text, name, _ in conditions if name in values]
    if place is not None:
        values["created_at"], values["run_id"] = place
        last = f"{parameter.format('created_at')}, {parameter.format('run_id')}"
        texts.append(f"({order}.created_at, {order}.run_id) < ({last})")
    return " AND ".join(texts) or "TRUE", values


def _stored(moment: datetime | None) -> str | None:
    return None if moment is None else as_text(moment)
