"""Checkpoints of runs in their table, each as what differs from its parent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import FORMAT_VERSION, CheckpointHeader, check_version
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import (
    Difference,
    Entry,
    decode_entries,
    encode_entries,
    is_intact,
)

SQL = load_statements("supersteps.storage.sqlite", "checkpoints.sql")


class RunKey(NamedTuple):
    """What all checkpoints of a run have in common.

    Attributes:
        key: The run's key in the database.
        run_id: Its id.
        workflow_id: Its workflow.
        metadata: The user's remarks, as JSON.
        incarnation: What tells it from earlier runs of the same id.
        checksum: What is stored as their checksum, None where they do not come from their row.
    """

    key: int
    run_id: str
    workflow_id: str
    metadata: bytes
    incarnation: str
    checksum: int | None = None


def key_checksum(key: int, run_id: str, workflow_id: str, metadata: bytes, incarnation: str) -> int:
    """Return the checksum of what checkpoints go by of their run."""
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
    """What a header says and no column does.

    Attributes:
        timestamp: Microseconds since 1970, or text where that would not give back the very same.
        status: The status.
        branch: Number of the branch.
        max_iterations: The limit.
        steps_since_input: Supersteps since the last input.
        metadata: The user's remarks as JSON where they are not the run's.
        version: The format's version where it is not `FORMAT_VERSION`.
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
_INSERT = SQL["insert"]
_NO_METADATA = b"{}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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
        return text  # not as this library writes it: it would come back in another form
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except ValueError:
        return text


def _unpack_time(packed: int | str) -> str:
    if isinstance(packed, str):
        return packed
    return (_EPOCH + packed * _MICROSECOND).isoformat(timespec="microseconds")


def _checksum(row: tuple[Any, ...]) -> int:
    run, sequence, parent, iteration, whole, workflow_id, facts, entries = row
    columns = f"{run} {sequence} {parent} {iteration} {whole} {workflow_id}"
    return crc32(entries, crc32(facts, crc32(columns.encode())))


# ------------------------------------------------------------------------------------------------------- rows of runs


def _row(
    run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, entries: bytes
) -> tuple[int, int, int | None, int, int, str | None, bytes, bytes, int]:
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
    return (*row, _checksum(row))


def insert_checkpoint(
    db: sqlite3.Connection,
    run: RunKey,
    header: CheckpointHeader,
    parent: int | None,
    whole: bool,
    entries: bytes,
) -> None:
    """Store a checkpoint of a run."""
    key, sequence, parent, iteration, is_whole, workflow_id, facts, _, checksum = _row(
        run, header, parent, whole, entries
    )
    # sqlite3 takes numbers, texts and bytearrays as they are. For everything else it looks for an adapter first, which
    # takes about as long as the insertion.
    db.execute(
        _INSERT,
        (
            key,
            sequence,
            parent,
            iteration,
            is_whole,
            bytearray(facts),
            bytearray(entries),
            checksum,
        ),
    )
    if workflow_id is not None:
        db.execute(SQL["rename"], (workflow_id, key, sequence))


def rewrite_checkpoint(
    db: sqlite3.Connection,
    run: RunKey,
    row: Row,
    parent: int | None,
    entries: dict[PartKey, Entry] | None,
) -> None:
    """Give a checkpoint another parent, and make it whole if its entries are given."""
    header = header_of(row, run)
    whole = True if entries is not None else bool(row.whole)
    data = row.entries if entries is None else encode_entries(entries)
    new = _row(run, header, parent, whole, data)
    db.execute(SQL["update"], (*new[2:], row.checkpoint))


def run_key(db: sqlite3.Connection, run_id: str) -> RunKey | None:
    """Return what a run's checkpoints have in common, None when there is no such run."""
    row = db.execute(SQL["run_key"], (run_id,)).fetchone()
    return None if row is None else RunKey(*row)


def run_keys(
    db: sqlite3.Connection, workflow_id: str | None = None, run_id: str | None = None
) -> list[RunKey]:
    """Return runs whose checkpoints may pass the filters; those of a run that was renamed need a closer look."""
    if run_id is not None:
        run = run_key(db, run_id)
        return [run] if run else []
    if workflow_id is None:
        return [RunKey(*row) for row in db.execute(SQL["run_keys"])]
    return [RunKey(*row) for row in db.execute(SQL["run_keys_of_workflow"], (workflow_id,))]


def rows_of_renamed(db: sqlite3.Connection, workflow_id: str) -> Iterator[tuple[RunKey, Row]]:
    """Give the checkpoints that a workflow wrote for runs that had begun under another name."""
    for columns in db.execute(SQL["read_of_other_workflow"], (workflow_id,)).fetchall():
        row = Row(*columns)
        run = RunKey(*db.execute(SQL["run_by_key"], (row.run,)).fetchone())
        if run.workflow_id != workflow_id:
            yield run, row


def of_no_run(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return the keys of runs that are no more, though checkpoints of theirs are there, and how many."""
    return db.execute(SQL["of_no_run"]).fetchall()


def split_id(wanted: str) -> tuple[str, int] | None:
    """Return run and number of a checkpoint by its id; None when it is not an id that a run gives."""
    run_id, _, digits = wanted.rpartition("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        return None
    return (run_id, int(digits)) if checkpoint_id(run_id, int(digits)) == wanted else None


def find_row(db: sqlite3.Connection, wanted: str) -> tuple[RunKey, Row] | None:
    """Return a checkpoint of a run, None when no run has one with this id."""
    place = split_id(wanted)
    run = run_key(db, place[0]) if place else None
    row = read_row(db, run.key, place[1]) if run and place else None
    return (run, row) if run and row else None


def read_row(db: sqlite3.Connection, key: int, sequence: int) -> Row | None:
    """Return a checkpoint of a run, unchecked, None when it is not there."""
    row = db.execute(SQL["read"], (key, sequence)).fetchone()
    return None if row is None else Row(*row)


def read_rows(db: sqlite3.Connection, key: int) -> Iterator[Row]:
    """Give the checkpoints of a run, unchecked, in the order of their commits."""
    return map(Row._make, db.execute(SQL["read_run"], (key,)))


def id_of(row: Row, run: RunKey) -> str:
    """Return the id of a row's checkpoint."""
    return checkpoint_id(run.run_id, row.sequence)


def damaged_row(row: Row, run: RunKey) -> CorruptCheckpointError:
    """Return the error of a row that is not what was saved."""
    return CorruptCheckpointError(
        f"checkpoint {id_of(row, run)!r} of run {run.run_id!r} is damaged: its row {row.checkpoint} in table "
        "`checkpoints` has been altered"
    )


def check_row(row: Row, run: RunKey) -> None:
    """Refuse a row that is not what was saved.

    Raises:
        CorruptCheckpointError: Its checksum does not fit.
    """
    if not is_intact(row.checksum, _checksum, row[1:-1]):
        raise damaged_row(row, run)
    if run.checksum is not None and not is_intact(run.checksum, key_checksum, *run[:5]):
        raise CorruptCheckpointError(
            f"checkpoint {id_of(row, run)!r} of run {run.run_id!r} is damaged: its run's row {run.key} in table `runs` "
            "has been altered"
        )


def bare_header(row: Row, run: RunKey) -> CheckpointHeader:
    """Return what can be told of a row that may be damaged: its place."""
    parent = None if row.parent is None else checkpoint_id(run.run_id, row.parent)
    return CheckpointHeader(
        checkpoint_id=id_of(row, run),
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
        CheckpointVersionError: A newer library wrote it.
    """
    check_row(row, run)
    try:
        facts = _decode_facts(row.facts)
    except msgspec.MsgspecError as error:
        raise damaged_row(row, run) from error
    wanted = id_of(row, run)
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
    """Return what a row adds to its parent's entries.

    Raises:
        CorruptCheckpointError: The row is damaged.
    """
    check_row(row, run)
    try:
        return decode_entries(row.entries)
    except msgspec.MsgspecError as error:
        raise damaged_row(row, run) from error


def read_chain(db: sqlite3.Connection, run: RunKey, row: Row) -> list[tuple[Row, Difference]]:
    """Return what a checkpoint's entries are made of: a whole row, then what follows it up to the checkpoint.

    Raises:
        CorruptCheckpointError: One of the rows is damaged or missing.
    """
    chain = [(row, difference_of(row, run))]
    while not row.whole:
        before = None if row.parent is None else read_row(db, run.key, row.parent)
        if before is None or before.sequence >= row.sequence:
            raise CorruptCheckpointError(
                f"checkpoint {id_of(chain[0][0], run)!r} of run {run.run_id!r} is damaged: the row before "
                f"{row.checkpoint} in table `checkpoints`, which it builds on, is missing"
            )
        row = before
        chain.append((row, difference_of(row, run)))
    return chain[::-1]


def read_entries(db: sqlite3.Connection, run: RunKey, row: Row) -> dict[PartKey, Entry]:
    """Return a checkpoint's entries.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    entries: dict[PartKey, Entry] = {}
    for _row, difference in read_chain(db, run, row):
        difference.apply(entries)
    return entries


def read_lineage(
    db: sqlite3.Connection, newest: str, limit: int
) -> tuple[list[CheckpointInfo], list[str]]:
    """Return a checkpoint and its ancestors, oldest first, up to the first that is missing, and what is damaged.

    Read as one range, from which other branches are left out: on long runs many times faster than one by one.

    Raises:
        CorruptCheckpointError: The checkpoint itself is damaged.
    """
    found = find_row(db, newest)
    if found is None:
        return [], []
    run, row = found
    check_row(row, run)
    name = run.run_id
    lineage: list[CheckpointInfo] = []
    wanted: int | None = row.sequence
    wanted_id = newest
    for columns in db.execute(
        SQL["lineage"], (run.key, row.sequence)
    ):  # plain tuples: this may be 10,000 of them
        sequence, parent = columns[2], columns[3]
        if len(lineage) == limit or wanted is None or sequence < wanted:
            break
        if sequence == wanted:
            if not is_intact(columns[-1], _checksum, columns[1:-1]):
                return lineage[::-1], [
                    f"the lineage of {newest!r} breaks off: {damaged_row(Row(*columns), run)}"
                ]
            before = None if parent is None else checkpoint_id(name, parent)
            lineage.append(CheckpointInfo(name, wanted_id, columns[4], before))
            wanted, wanted_id = parent, before or ""
    return lineage[::-1], []
