"""Chains of rows, from a complete row to a checkpoint's; lineages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id
from supersteps.storage.delta.entries import Difference, Entry
from supersteps.storage.delta.rows import (
    Row,
    RunKey,
    check_row,
    damaged_row,
    difference_of,
    is_intact,
    row_checksum,
)
from supersteps.storage.delta.tables import Tables

Chain: TypeAlias = Sequence[tuple[Row, Difference]]
"""A complete row, then those that follow it up to a checkpoint's own, each decoded."""


def read_chain(tables: Tables, run: RunKey, row: Row) -> Chain:
    """Return the rows from which a checkpoint's entries are built.

    Args:
        tables: The tables.
        run: The run.
        row: The checkpoint's row, checked.

    Raises:
        CorruptCheckpointError: One of the rows is damaged or missing.
    """
    chain = [(row, difference_of(row, run))]
    while not row.whole:
        before = None if row.parent is None else tables.row(run.key, row.parent)
        if before is None or before.sequence >= row.sequence:
            raise CorruptCheckpointError(
                f"checkpoint {checkpoint_id(run.run_id, chain[0][0].sequence)!r} of run "
                f"{run.run_id!r} is damaged: the row before {row.checkpoint} in table "
                "`checkpoints`, on which it is based, is missing"
            )
        row = before
        check_row(row, run)
        chain.append((row, difference_of(row, run)))
    return chain[::-1]


def read_entries(tables: Tables, run: RunKey, row: Row) -> dict[PartKey, Entry]:
    """Return the entries of a checkpoint, whose row was checked.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    entries: dict[PartKey, Entry] = {}
    for _row, difference in read_chain(tables, run, row):
        difference.apply(entries)
    return entries


def lineage_of(
    run: RunKey, newest: Row, rows: Iterable[tuple[Any, ...]], limit: int
) -> tuple[list[CheckpointInfo], list[str]]:
    """Return a checkpoint and its ancestors, oldest first, and the damage.

    It ends at the first missing one. The rows are read as one range, from which other branches are
    filtered: on long runs this is many times faster than reading one by one.

    Args:
        run: The run.
        newest: The checkpoint's row, checked.
        rows: Columns of the run's rows from this one on, the newest first: plain tuples, because
            there may be 10,000 of them.
        limit: Maximum number of checkpoints.
    """
    name = run.run_id
    lineage: list[CheckpointInfo] = []
    wanted: int | None = newest.sequence
    wanted_id = checkpoint_id(name, newest.sequence)
    for columns in rows:
        _key, _run, sequence, parent, iteration = columns[:5]
        if len(lineage) == limit or wanted is None or sequence < wanted:
            break
        if sequence == wanted:
            if not is_intact(columns[-1], row_checksum, columns[1:-1]):
                damage = damaged_row(Row._make(columns), run)
                return lineage[::-1], [
                    f"the lineage of {checkpoint_id(name, newest.sequence)!r} breaks off: {damage}"
                ]
            before = None if parent is None else checkpoint_id(name, parent)
            lineage.append(CheckpointInfo(name, wanted_id, iteration, before))
            wanted, wanted_id = parent, before or ""
    return lineage[::-1], []
