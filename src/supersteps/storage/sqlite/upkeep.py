"""Deleting, pruning, saving by hand: what changes checkpoints, each inside a transaction of the writer's."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from supersteps.checkpoint.chunks import split
from supersteps.checkpoint.parts import ListPart, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.storage import rules
from supersteps.storage.delta.chains import read_entries
from supersteps.storage.delta.entries import INLINE_BYTES, Entry, Stored
from supersteps.storage.delta.parts import OpenList
from supersteps.storage.delta.rows import (
    Row,
    RunKey,
    bare_header,
    check_row,
    difference_of,
    header_of,
    id_of,
)
from supersteps.storage.retention import Pruning, RetentionPolicy, plan_pruning
from supersteps.storage.sqlite import checkpoint_rows, run_rows, saved_rows
from supersteps.storage.sqlite.commits import Commits
from supersteps.storage.sqlite.parts import append, collect, store_value
from supersteps.storage.sqlite.reads import load_record
from supersteps.storage.sqlite.saved_rows import SavedRow
from supersteps.storage.sqlite.tables import SqliteTables


class Upkeep:
    """Removes checkpoints and runs with all that only they need.

    Args:
        commits: Changes the runs whose head goes.
    """

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    # ----------------------------------------------------------------------------------------- runs

    def prune(self, db: sqlite3.Connection, run_id: str, policy: RetentionPolicy) -> list[str]:
        """Remove the checkpoints of a run that a policy lets go; return their ids, oldest first."""
        run, rows, pruning = plan(db, run_id, policy)
        for checkpoint_id, parent in pruning.parents.items():
            place = split_checkpoint_id(parent) if parent else None
            _build_on(db, run, rows[checkpoint_id], place[1] if place else None)
        self._remove(db, run, [rows[checkpoint_id] for checkpoint_id in pruning.gone])
        return pruning.gone

    def delete_run(self, db: sqlite3.Connection, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it was there."""
        stored = run_rows.find_run(db, run_id)
        if stored is None:
            return False
        run = checkpoint_rows.run_key(db, run_id)
        assert run is not None
        self._remove(db, run, list(checkpoint_rows.read_rows(db, run.key)))
        run_rows.delete_run(db, stored)
        self._commits.heads.forget(run_id)
        return True

    def _remove(self, db: sqlite3.Connection, run: RunKey, rows: Collection[Row]) -> None:
        """Remove rows of a run, and what only they refer to. Rows that stay must not build on them any more."""
        removed = {row.checkpoint for row in rows}
        gone = _entries(rows, run)
        for checkpoint in removed:
            db.execute(checkpoint_rows.SQL["delete"], (checkpoint,))
        left = list(checkpoint_rows.read_rows(db, run.key))
        try:
            kept = [entry for row in left for entry in difference_of(row, run).puts.values()]
        except CorruptCheckpointError:
            return  # it hides what is still referred to; rather keep too much
        collect(db, run.key, gone, kept)

    # ---------------------------------------------------------------------------------- checkpoints

    def delete_checkpoint(self, db: sqlite3.Connection, unwanted: str) -> bool:
        """Delete a checkpoint, and move its run's head away from it; return whether it was there."""
        found = checkpoint_rows.find_row(db, unwanted)
        if found is None:
            saved = saved_rows.find_saved(db, unwanted)
            if saved is not None:
                _delete_saved(db, saved)
            return saved is not None
        run, row = found
        stored = run_rows.find_run(db, run.run_id)
        if (
            stored is not None
            and stored.record.head == unwanted
            and not self._leave_head(db, run, row)
        ):
            return self.delete_run(db, run.run_id)
        for child in _intact(checkpoint_rows.read_rows(db, run.key), run):
            if child.parent == row.sequence:
                _build_on(db, run, child, row.parent)
        self._remove(db, run, [row])
        return True

    def _leave_head(self, db: sqlite3.Connection, run: RunKey, lost: Row) -> bool:
        """Move the head of a run to the nearest checkpoint that is left; return False when there is none."""
        rows = {
            id_of(row, run): row for row in _intact(checkpoint_rows.read_rows(db, run.key), run)
        }
        header = (header_of if _intact([lost], run) else bare_header)(lost, run)
        head = rules.choose_head(header, (header_of(row, run) for row in rows.values()))
        stored = run_rows.find_run(db, run.run_id)
        if head is None or stored is None:
            return False
        self._commits.leave_head(db, stored, run, rows[head.checkpoint_id])
        return True

    def save(self, db: sqlite3.Connection, record: CheckpointRecord, open_list: OpenList) -> None:
        """Store a checkpoint that was saved by hand."""
        header = record.header
        if checkpoint_rows.find_row(db, header.checkpoint_id) is not None:
            if load_record(db, header.checkpoint_id, open_list) != record:
                raise rules.id_taken(header.checkpoint_id)
            return
        before = saved_rows.find_saved(db, header.checkpoint_id)
        if before is not None:
            _delete_saved(db, before)
        place = split_checkpoint_id(header.checkpoint_id)
        if place is not None:
            saved_rows.outdate_run(db, place[0])
        key = saved_rows.insert_saved(db, header)
        entries: dict[PartKey, Entry] = {}
        for part_key, part in record.parts.items():
            if isinstance(part, ListPart):
                entries[part_key] = append(db, -key, None, list(part))
            elif len(part) <= INLINE_BYTES:
                entries[part_key] = part
            else:
                tree = split(part)
                store_value(db, -key, tree)
                entries[part_key] = Stored(*tree.root)
        saved_rows.fill_saved(db, key, header, entries)


def plan(
    db: sqlite3.Connection, run_id: str, policy: RetentionPolicy
) -> tuple[RunKey, dict[str, Row], Pruning]:
    """Return a run, its intact checkpoints, and what a policy does to them.

    Raises:
        RunNotFoundError: There is no such run.
    """
    stored = run_rows.find_run(db, run_id)
    run = checkpoint_rows.run_key(db, run_id)
    if stored is None or run is None:
        raise rules.no_such_run(run_id)
    rows = {id_of(row, run): row for row in _intact(checkpoint_rows.read_rows(db, run.key), run)}
    headers = [header_of(row, run) for row in rows.values()]
    return run, rows, plan_pruning(stored.record, headers, policy)


def _build_on(db: sqlite3.Connection, run: RunKey, row: Row, parent: int | None) -> None:
    """Have a checkpoint follow another one, and build on none: the one that it has built on is about to go."""
    try:
        entries = None if row.whole else read_entries(SqliteTables(db), run, row)
    except CorruptCheckpointError:
        return  # one that it builds on is damaged, so it cannot be read any more as it is
    checkpoint_rows.rewrite_checkpoint(db, run, row, parent, entries)


def _delete_saved(db: sqlite3.Connection, saved: SavedRow) -> None:
    try:
        gone = list(saved_rows.open_saved(saved)[1].values())
    except CorruptCheckpointError:
        gone = []
    db.execute(saved_rows.SQL["delete"], (saved.saved,))
    collect(db, -saved.saved, gone, ())


def _entries(rows: Iterable[Row], run: RunKey) -> list[Entry]:
    """Return what rows refer to, as far as they can be read."""
    return [entry for row in _intact(rows, run) for entry in difference_of(row, run).puts.values()]


def _intact(rows: Iterable[Row], run: RunKey) -> list[Row]:
    intact = []
    for row in rows:
        try:
            check_row(row, run)
        except CorruptCheckpointError:
            continue
        intact.append(row)
    return intact
