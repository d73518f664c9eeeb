"""Rows of checkpoints: columns, packing, checksums, headers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from supersteps.checkpoint.record import FORMAT_VERSION, CheckpointHeader, check_version
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id, checkpoint_number
from supersteps.storage.delta.entries import Difference, decode_entries
from supersteps.storage.records import RunRecord


class StoredRun(NamedTuple):
    """A run as read.

    Attributes:
        key: Its key in the database.
        revision: Changes with every write to the run.
        record: The run.
    """

    key: int
    revision: int
    record: RunRecord


class RunKey(NamedTuple):
    """The common columns of all checkpoints of a run.

    Attributes:
        key: The run's key in the database.
        run_id: Its id.
        workflow_id: Its workflow.
        metadata: The user's metadata, as JSON.
        incarnation: Tells it from earlier runs with the same id.
        checksum: The stored checksum, None if they were not read from a row.
    """

    key: int
    run_id: str
    workflow_id: str
    metadata: bytes
    incarnation: str
    checksum: int | None = None


def key_checksum(key: int, run_id: str, workflow_id: str, metadata: bytes, incarnation: str) -> int:
    """Return the checksum of the columns that a run's checkpoints share."""
    start = crc32(f"{key} {run_id} {workflow_id}".encode())
    return crc32(incarnation.encode(), crc32(metadata, start))


class Row(NamedTuple):
    """A checkpoint of a run as stored."""

    checkpoint: int
    run: int
    sequence: int
    parent: int | None
    iteration: int
    whole: int
    workflow_id: str | None
    facts: bytes
    entries: bytes
    checksum: int


class _Facts(msgspec.Struct, frozen=True, array_like=True):
    """The fields of a header that have no column.

    Attributes:
        timestamp: Microseconds since 1970, or text if that would not restore the same text.
        status: The status.
        branch: Number of the branch.
        max_iterations: The limit.
        steps_since_input: Supersteps since the last input.
        metadata: The user's metadata as JSON if they differ from the run's.
        version: The version of the format if it is not `FORMAT_VERSION`.
    """

    timestamp: int | str
    status: str
    branch: int
    max_iterations: int
    steps_since_input: int
    metadata: bytes | None
    version: str | None


_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode
_decode_facts = msgspec.msgpack.Decoder(_Facts).decode
_NO_METADATA = b"{}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


# ---------------------------------------------------------------------------------------- checksums


def is_intact(checksum: object, compute: Callable[..., int], *columns: object) -> bool:
    """Return whether columns match their checksum.

    Damage may have changed the type of any of them.
    """
    try:
        return compute(*columns) == checksum
    except (TypeError, ValueError):
        return False


def row_checksum(row: tuple[Any, ...]) -> int:
    """Return the checksum of a row's columns from the third on."""
    run, sequence, parent, iteration, whole, workflow_id, facts, entries = row
    columns = f"{run} {sequence} {parent} {iteration} {whole} {workflow_id}"
    return crc32(entries, crc32(facts, crc32(columns.encode())))


def pack_row(
    run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, entries: bytes
) -> tuple[int, int, int | None, int, int, str | None, bytes, bytes, int]:
    """Return the columns of a checkpoint's row, in the order of `Row` from the second one on."""
    metadata = _encode_json(header.metadata) if header.metadata else _NO_METADATA
    facts = _Facts(
        _pack_time(header.timestamp),
        header.status,
        header.branch,
        header.max_iterations,
        header.steps_since_input,
        None if metadata == run.metadata else metadata,
        None if header.version == FORMAT_VERSION else header.version,
    )
    workflow_id = None if header.workflow_id == run.workflow_id else header.workflow_id
    row = (
        run.key,
        header.sequence,
        parent,
        header.iteration_count,
        int(whole),
        workflow_id,
        _encode(facts),
        entries,
    )
    return (*row, row_checksum(row))


def head_number(record: RunRecord) -> int:
    """Return the number of a run's head."""
    return checkpoint_number(record.head, record.run_id)


def damaged_row(row: Row, run: RunKey) -> CorruptCheckpointError:
    """Return the error for a damaged row."""
    wanted = checkpoint_id(run.run_id, row.sequence)
    return CorruptCheckpointError(
        f"checkpoint {wanted!r} of run {run.run_id!r} is damaged: its row "
        f"{row.checkpoint} in table `checkpoints` has been altered"
    )


def check_row(row: Row, run: RunKey) -> None:
    """Raise if a row is damaged.

    Raises:
        CorruptCheckpointError: Its checksum does not match.
    """
    if not is_intact(row.checksum, row_checksum, row[1:-1]):
        raise damaged_row(row, run)
    if run.checksum is not None and not is_intact(run.checksum, key_checksum, *run[:5]):
        wanted = checkpoint_id(run.run_id, row.sequence)
        raise CorruptCheckpointError(
            f"checkpoint {wanted!r} of run {run.run_id!r} is damaged: its run's row "
            f"{run.key} in table `runs` has been altered"
        )


def bare_header(row: Row, run: RunKey) -> CheckpointHeader:
    """Return what is known of a row that may be damaged: its position."""
    parent = None if row.parent is None else checkpoint_id(run.run_id, row.parent)
    return CheckpointHeader(
        checkpoint_id=checkpoint_id(run.run_id, row.sequence),
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        parent_id=parent,
        sequence=row.sequence,
        timestamp="",
        incarnation=run.incarnation,
    )


def header_of(row: Row, run: RunKey) -> CheckpointHeader:
    """Return a row's header.

    Raises:
        CorruptCheckpointError: The row is damaged.
        CheckpointVersionError: A newer version of the library wrote it.
    """
    check_row(row, run)
    try:
        facts = _decode_facts(row.facts)
    except msgspec.MsgspecError as error:
        raise damaged_row(row, run) from error
    wanted = checkpoint_id(run.run_id, row.sequence)
    version = facts.version or FORMAT_VERSION
    check_version(version, f"checkpoint {wanted!r}")
    return CheckpointHeader(
        checkpoint_id=wanted,
        run_id=run.run_id,
        workflow_id=row.workflow_id or run.workflow_id,
        parent_id=None if row.parent is None else checkpoint_id(run.run_id, row.parent),
        sequence=row.sequence,
        branch=facts.branch,
        iteration_count=row.iteration,
        max_iterations=facts.max_iterations,
        steps_since_input=facts.steps_since_input,
        timestamp=_unpack_time(facts.timestamp),
        status=facts.status,
        metadata=msgspec.json.decode(run.metadata if facts.metadata is None else facts.metadata),
        version=version,
        incarnation=run.incarnation,
    )


def difference_of(row: Row, run: RunKey) -> Difference:
    """Return the changes of a row, which was checked, to its parent's entries.

    Raises:
        CorruptCheckpointError: The entries cannot be read.
    """
    try:
        return decode_entries(row.entries)
    except msgspec.MsgspecError as error:
        raise damaged_row(row, run) from error


# -------------------------------------------------------------------------------------------- times


_packed_second = ("", 0)


def _pack_time(text: str) -> int | str:
    global _packed_second
    known, packed = _packed_second
    if (
        text[:20] == known
        and len(text) == 32
        and text.endswith("+00:00")
        and text[20:26].isdecimal()
        and text.isascii()
    ):
        return packed + int(text[20:26])
    exact = _pack_any_time(text)
    if isinstance(exact, int):
        _packed_second = text[:20], exact - int(text[20:26])
    return exact


def _pack_any_time(text: str) -> int | str:
    if len(text) != 32 or text[10] != "T" or text[19] != "." or not text.endswith("+00:00"):
        return text  # in a different form than this library writes
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except ValueError:
        return text


def _unpack_time(packed: int | str) -> str:
    if isinstance(packed, str):
        return packed
    return (_EPOCH + packed * _MICROSECOND).isoformat(timespec="microseconds")
