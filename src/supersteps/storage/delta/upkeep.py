"""Deleting, pruning and directly saving checkpoints, in transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from supersteps.checkpoint.chunks import split
from supersteps.checkpoint.parts import ListPart, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id, split_checkpoint_id
from supersteps.storage import rules
from supersteps.storage.delta.chains import read_entries
from supersteps.storage.delta.commits import Commits
from supersteps.storage.delta.entries import INLINE_BYTES, Entry, Stored
from supersteps.storage.delta.parts import OpenList, append, collect
from supersteps.storage.delta.reads import find_row, load_record
from supersteps.storage.delta.rows import (
    Row,
    RunKey,
    bare_header,
    check_row,
    difference_of,
    header_of,
)
from supersteps.storage.delta.saved import SavedRow, open_saved
from supersteps.storage.delta.tables import StoredTables, WritableTables
from supersteps.storage.retention import Pruning, RetentionPolicy, plan_pruning


class Upkeep:
    """Deletes checkpoints and runs, with what only they need.

    Args:
        commits: Changes the runs whose head is deleted.
    """

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    # ----------------------------------------------------------------------------------------- runs

    def prune(self, tables: WritableTables, run_id: str, policy: RetentionPolicy) -> list[str]:
        """Delete the checkpoints of a run that a policy removes; return their ids, oldest first."""
        run, rows, pruning = plan(tables, run_id, policy)
        self._carry_out(tables, run, rows, pruning)
        return pruning.gone

    def remove(self, tables: WritableTables, run_id: str, unwanted: Iterable[str]) -> list[str]:
        """Delete checkpoints of a run; return the ids of those that were there, and not its head.

        For whoever prunes in several transactions.
        """
        stored, run = tables.find_run(run_id), tables.run_key(run_id)
        if stored is None or run is None:
            return []
        rows = _by_id(tables, run)
        gone = [each for each in unwanted if each in rows and each != stored.record.head]
        headers = [header_of(row, run) for row in rows.values()]
        parents = rules.new_parents(headers, frozenset(gone))
        self._carry_out(tables, run, rows, Pruning(gone, parents))
        return gone

    def _carry_out(
        self, tables: WritableTables, run: RunKey, rows: Mapping[str, Row], pruning: Pruning
    ) -> None:
        for child, parent in pruning.parents.items():
            place = split_checkpoint_id(parent) if parent else None
            _build_on(tables, run, rows[child], place[1] if place else None)
        self._remove(tables, run, [rows[gone] for gone in pruning.gone])

    def delete_run(self, tables: WritableTables, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it existed."""
        stored = tables.find_run(run_id)
        if stored is None:
            return False
        run = tables.run_key(run_id)
        assert run is not None
        self._remove(tables, run, list(tables.rows(run.key)))
        tables.delete_run(stored)
        self._commits.heads.forget(run_id)
        return True

    def _remove(self, tables: WritableTables, run: RunKey, rows: Collection[Row]) -> None:
        """Delete rows of a run, on which no retained row is based, and what only they need."""
        gone = _entries(rows, run)
        tables.delete_checkpoints(rows)
        left = list(tables.rows(run.key))
        try:
            for row in left:
                check_row(row, run)
            kept = [entry for row in left for entry in difference_of(row, run).puts.values()]
        except CorruptCheckpointError:
            return  # it hides what is still needed, so keep everything
        collect(tables.of_owner(run.key), run.key, gone, kept)

    # ---------------------------------------------------------------------------------- checkpoints

    def delete_checkpoint(self, tables: WritableTables, unwanted: str) -> bool:
        """Delete a checkpoint, and move its run's head away from it; return whether it existed."""
        found = find_row(tables, unwanted)
        if found is None:
            saved = tables.find_saved(unwanted)
            if saved is not None:
                _delete_saved(tables, saved)
            return saved is not None
        run, row = found
        stored = tables.find_run(run.run_id)
        if (
            stored is not None
            and stored.record.head == unwanted
            and not self._leave_head(tables, run, row)
        ):
            return self.delete_run(tables, run.run_id)
        for child in _intact(tables.rows(run.key), run):
            if child.parent == row.sequence:
                _build_on(tables, run, child, row.parent)
        self._remove(tables, run, [row])
        return True

    def _leave_head(self, tables: WritableTables, run: RunKey, lost: Row) -> bool:
        """Move a run's head to the nearest remaining checkpoint; return False if none is left."""
        rows = {
            checkpoint_id(run.run_id, row.sequence): row
            for row in _intact(tables.rows(run.key), run)
        }
        header = (header_of if _intact([lost], run) else bare_header)(lost, run)
        head = rules.choose_head(header, (header_of(row, run) for row in rows.values()))
        stored = tables.find_run(run.run_id)
        if head is None or stored is None:
            return False
        self._commits.leave_head(tables, stored, run, rows[head.checkpoint_id])
        return True

    def save(self, tables: WritableTables, record: CheckpointRecord, open_list: OpenList) -> None:
        """Store a directly saved checkpoint."""
        header = record.header
        if find_row(tables, header.checkpoint_id) is not None:
            if load_record(tables, header.checkpoint_id, open_list) != record:
                raise rules.id_taken(header.checkpoint_id)
            return
        before = tables.find_saved(header.checkpoint_id)
        if before is not None:
            _delete_saved(tables, before)
        place = split_checkpoint_id(header.checkpoint_id)
        if place is not None:
            tables.outdate_run(place[0])
        key = tables.insert_saved(header)
        entries: dict[PartKey, Entry] = {}
        for part_key, part in record.parts.items():
            if isinstance(part, ListPart):
                entries[part_key] = append(tables, -key, None, list(part))
            elif len(part) <= INLINE_BYTES:
                entries[part_key] = part
            else:
                tree = split(part)
                tables.store_value(-key, tree)
                entries[part_key] = Stored(*tree.root)
        tables.fill_saved(key, header, entries)


def plan(
    tables: StoredTables, run_id: str, policy: RetentionPolicy
) -> tuple[RunKey, dict[str, Row], Pruning]:
    """Return a run, its intact checkpoints, and what a policy removes.

    Raises:
        RunNotFoundError: There is no such run.
    """
    stored = tables.find_run(run_id)
    run = tables.run_key(run_id)
    if stored is None or run is None:
        raise rules.no_such_run(run_id)
    rows = _by_id(tables, run)
    headers = [header_of(row, run) for row in rows.values()]
    return run, rows, plan_pruning(stored.record, headers, policy)


def _by_id(tables: StoredTables, run: RunKey) -> dict[str, Row]:
    """Return the intact checkpoints of a run, in the order of their commits."""
    return {
        checkpoint_id(run.run_id, row.sequence): row for row in _intact(tables.rows(run.key), run)
    }


def _build_on(tables: WritableTables, run: RunKey, row: Row, parent: int | None) -> None:
    """Give a checkpoint a new parent, and make it complete, as its base is about to be deleted."""
    try:
        entries = None if row.whole else read_entries(tables, run, row)
    except CorruptCheckpointError:
        return  # a row on which it is based is damaged, so it is already unreadable
    tables.rewrite_checkpoint(run, row, parent, entries)


def _delete_saved(tables: WritableTables, saved: SavedRow) -> None:
    try:
        gone = list(open_saved(saved)[1].values())
    except CorruptCheckpointError:
        gone = []
    tables.delete_saved(saved.saved)
    collect(tables.of_owner(-saved.saved), -saved.saved, gone, ())


def _entries(rows: Iterable[Row], run: RunKey) -> list[Entry]:
    """Return the entries of rows, as far as they are readable."""
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
