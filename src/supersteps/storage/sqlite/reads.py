"""Checkpoints as they are handed out: complete, checked, and with a word on the way out when one is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.errors import CheckpointNotFoundError, CorruptCheckpointError
from supersteps.storage import rules
from supersteps.storage.delta.chains import read_entries
from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.inspection import Inspector
from supersteps.storage.delta.parts import OpenList, read_parts, read_unlike
from supersteps.storage.delta.rows import Row, RunKey, header_of
from supersteps.storage.sqlite import checkpoint_rows, saved_rows
from supersteps.storage.sqlite.tables import SqliteTables


def load_record(
    db: sqlite3.Connection, wanted: str, open_list: OpenList
) -> CheckpointRecord | None:
    """Return a checkpoint, None when there is none with this id.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    tables = SqliteTables(db)
    found = checkpoint_rows.find_row(db, wanted)
    if found is not None:
        run, row = found
        try:
            header = header_of(row, run)
            where = f"checkpoint {wanted!r} of run {run.run_id!r}"
            parts = read_parts(tables, read_entries(tables, run, row), where, open_list)
        except CorruptCheckpointError as error:
            ancestor = Inspector(tables).nearest_intact(run, row)
            raise rules.damaged(f"{error}.", ancestor) from error
        return CheckpointRecord(header, parts)
    saved = saved_rows.find_saved(db, wanted)
    if saved is None:
        return None
    header, entries = saved_rows.open_saved(saved)
    return CheckpointRecord(
        header, read_parts(tables, entries, f"checkpoint {wanted!r}", open_list)
    )


def load_parts(
    db: sqlite3.Connection, listed: CheckpointHeader, open_list: OpenList
) -> Mapping[PartKey, Part]:
    """Return the parts of a checkpoint whose header was read before.

    Raises:
        CheckpointNotFoundError: It has been deleted or replaced since.
        CorruptCheckpointError: It is damaged.
    """
    record = load_record(db, listed.checkpoint_id, open_list)
    if record is None or (record.header.run_id, record.header.timestamp) != (
        listed.run_id,
        listed.timestamp,
    ):
        raise CheckpointNotFoundError(
            f"checkpoint {listed.checkpoint_id!r} was {'replaced' if record else 'deleted'} after it was listed; "
            "list the checkpoints again"
        )
    return record.parts


def compare(
    db: sqlite3.Connection, first: CheckpointHeader, second: CheckpointHeader, open_list: OpenList
) -> tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]:
    """Return the parts of two checkpoints; those that are stored under the same hash are not read.

    Raises:
        CheckpointNotFoundError: One has been deleted since.
        CorruptCheckpointError: One is damaged.
    """
    one, other = _entries_of(db, first), _entries_of(db, second)
    tables = SqliteTables(db)
    return (
        read_unlike(tables, one, other, f"checkpoint {first.checkpoint_id!r}", open_list),
        read_unlike(tables, other, one, f"checkpoint {second.checkpoint_id!r}", open_list),
    )


def _entries_of(db: sqlite3.Connection, header: CheckpointHeader) -> Mapping[PartKey, Entry]:
    found = checkpoint_rows.find_row(db, header.checkpoint_id)
    if found is not None:
        run, row = found
        return read_entries(SqliteTables(db), run, row)
    saved = saved_rows.find_saved(db, header.checkpoint_id)
    if saved is None:
        raise CheckpointNotFoundError(
            f"checkpoint {header.checkpoint_id!r} was deleted after it was read"
        )
    return saved_rows.open_saved(saved)[1]


# ----------------------------------------------------------------------------------------- listings


def list_headers(
    db: sqlite3.Connection, workflow_id: str | None, run_id: str | None
) -> tuple[list[CheckpointHeader], list[str]]:
    """Return the headers of checkpoints, oldest first, and what is wrong with those that are not in it."""
    headers, problems = _headers(_rows(db, workflow_id, run_id))
    for saved in saved_rows.list_saved(db):
        try:
            headers.append(saved_rows.open_saved(saved)[0])
        except CorruptCheckpointError as error:
            problems.append(str(error))
    selected = [header for header in headers if rules.is_selected(header, workflow_id, run_id)]
    return sorted(selected, key=rules.listing_order), problems


def _rows(
    db: sqlite3.Connection, workflow_id: str | None, run_id: str | None
) -> Iterator[tuple[RunKey, Row]]:
    for run in checkpoint_rows.run_keys(db, workflow_id, run_id):
        for row in checkpoint_rows.read_rows(db, run.key):
            yield run, row
    if workflow_id is not None and run_id is None:
        # A run that was resumed by a workflow of another name has checkpoints of both.
        yield from checkpoint_rows.rows_of_renamed(db, workflow_id)


def headers_of_run(db: sqlite3.Connection, run_id: str) -> tuple[list[CheckpointHeader], list[str]]:
    """Return the headers of a run's checkpoints in the order of their commits, and what is wrong with others."""
    return _headers(_rows(db, None, run_id))


def _headers(rows: Iterable[tuple[RunKey, Row]]) -> tuple[list[CheckpointHeader], list[str]]:
    headers: list[CheckpointHeader] = []
    problems: list[str] = []
    for run, row in rows:
        try:
            headers.append(header_of(row, run))
        except CorruptCheckpointError as error:
            problems.append(str(error))
    return headers, problems
