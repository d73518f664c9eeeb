"""Reading checkpoints: complete and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CheckpointNotFoundError, CorruptCheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.storage import rules
from supersteps.storage.delta.chains import lineage_of, read_entries
from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.inspection import Inspector
from supersteps.storage.delta.parts import OpenList, read_parts, read_unlike
from supersteps.storage.delta.rows import Row, RunKey, check_row, header_of
from supersteps.storage.delta.saved import open_saved
from supersteps.storage.delta.tables import StoredTables


def find_row(tables: StoredTables, wanted: str) -> tuple[RunKey, Row] | None:
    """Return a checkpoint of a run, unchecked, None if no run has one with this id."""
    place = split_checkpoint_id(wanted)
    run = tables.run_key(place[0]) if place else None
    row = tables.row(run.key, place[1]) if run and place else None
    return (run, row) if run and row else None


def load_record(tables: StoredTables, wanted: str, open_list: OpenList) -> CheckpointRecord | None:
    """Return a checkpoint, None if there is none with this id.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    found = find_row(tables, wanted)
    if found is not None:
        run, row = found
        tables = tables.of_owner(run.key)
        try:
            header = header_of(row, run)
            where = f"checkpoint {wanted!r} of run {run.run_id!r}"
            parts = read_parts(tables, read_entries(tables, run, row), where, open_list)
        except CorruptCheckpointError as error:
            ancestor = Inspector(tables).nearest_intact(run, row)
            raise rules.damaged(f"{error}.", ancestor) from error
        return CheckpointRecord(header, parts)
    saved = tables.find_saved(wanted)
    if saved is None:
        return None
    header, entries = open_saved(saved)
    tables = tables.of_owner(-saved.saved)
    return CheckpointRecord(
        header, read_parts(tables, entries, f"checkpoint {wanted!r}", open_list)
    )


def load_parts(
    tables: StoredTables, listed: CheckpointHeader, open_list: OpenList
) -> Mapping[PartKey, Part]:
    """Return the parts of a checkpoint of a header that was read before.

    Raises:
        CheckpointNotFoundError: It was deleted or replaced in the meantime.
        CorruptCheckpointError: It is damaged.
    """
    record = load_record(tables, listed.checkpoint_id, open_list)
    if record is None or (record.header.run_id, record.header.timestamp) != (
        listed.run_id,
        listed.timestamp,
    ):
        raise CheckpointNotFoundError(
            f"checkpoint {listed.checkpoint_id!r} was {'replaced' if record else 'deleted'} after "
            "it was listed; list the checkpoints again"
        )
    return record.parts


def compare(
    tables: StoredTables, first: CheckpointHeader, second: CheckpointHeader, open_list: OpenList
) -> tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]:
    """Return the parts of two checkpoints; those with the same hash are not read.

    Raises:
        CheckpointNotFoundError: One was deleted in the meantime.
        CorruptCheckpointError: One is damaged.
    """
    (owner, one), (other_owner, other) = _entries_of(tables, first), _entries_of(tables, second)
    where, other_where = (f"checkpoint {h.checkpoint_id!r}" for h in (first, second))
    return (
        read_unlike(tables.of_owner(owner), one, other, where, open_list),
        read_unlike(tables.of_owner(other_owner), other, one, other_where, open_list),
    )


def _entries_of(
    tables: StoredTables, header: CheckpointHeader
) -> tuple[int, Mapping[PartKey, Entry]]:
    """Return the owner of a checkpoint's values, and its entries."""
    found = find_row(tables, header.checkpoint_id)
    if found is not None:
        run, row = found
        check_row(row, run)
        return run.key, read_entries(tables, run, row)
    saved = tables.find_saved(header.checkpoint_id)
    if saved is None:
        raise CheckpointNotFoundError(
            f"checkpoint {header.checkpoint_id!r} was deleted after it was read"
        )
    return -saved.saved, open_saved(saved)[1]


def read_lineage(
    tables: StoredTables, newest: str, limit: int
) -> tuple[list[CheckpointInfo], list[str]]:
    """Return a checkpoint and its ancestors, oldest first, and the damage.

    Raises:
        CorruptCheckpointError: The checkpoint itself is damaged.
    """
    found = find_row(tables, newest)
    if found is None:
        return [], []
    run, row = found
    check_row(row, run)
    return lineage_of(run, row, tables.rows_before(run.key, row.sequence), limit)


# ---------------------------------------------------------------------------------------- listings


def list_headers(
    tables: StoredTables, workflow_id: str | None, run_id: str | None
) -> tuple[list[CheckpointHeader], list[str]]:
    """Return headers of checkpoints, oldest first, and the problems of the others."""
    headers, problems = _headers(_rows(tables, workflow_id, run_id))
    for saved in tables.saved():
        try:
            headers.append(open_saved(saved)[0])
        except CorruptCheckpointError as error:
            problems.append(str(error))
    selected = [header for header in headers if rules.is_selected(header, workflow_id, run_id)]
    return sorted(selected, key=rules.listing_order), problems


def _rows(
    tables: StoredTables, workflow_id: str | None, run_id: str | None
) -> Iterator[tuple[RunKey, Row]]:
    for run in tables.run_keys(workflow_id, run_id):
        for row in tables.rows(run.key):
            yield run, row
    if workflow_id is not None and run_id is None:
        # A run that was resumed by a workflow with another name has checkpoints of both.
        yield from tables.rows_of_renamed(workflow_id)


def headers_of_run(tables: StoredTables, run_id: str) -> tuple[list[CheckpointHeader], list[str]]:
    """Return the headers of a run in the order of its commits, and the problems of others."""
    return _headers(_rows(tables, None, run_id))


def _headers(rows: Iterable[tuple[RunKey, Row]]) -> tuple[list[CheckpointHeader], list[str]]:
    headers: list[CheckpointHeader] = []
    problems: list[str] = []
    for run, row in rows:
        try:
            headers.append(header_of(row, run))
        except CorruptCheckpointError as error:
            problems.append(str(error))
    return headers, problems
