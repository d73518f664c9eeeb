"""The verification of a database: finds all damage."""

from __future__ import annotations

from collections.abc import Iterator

from supersteps.errors import CheckpointVersionError, CorruptCheckpointError
from supersteps.ids import checkpoint_id
from supersteps.storage.delta.inspection import Inspector
from supersteps.storage.delta.reads import find_row
from supersteps.storage.delta.rows import Row, RunKey, difference_of, header_of
from supersteps.storage.delta.saved import open_saved
from supersteps.storage.delta.tables import StoredTables
from supersteps.storage.records import Damage


def verify(tables: StoredTables, run_id: str | None) -> list[Damage]:
    """Return the damage of one run, or of all, of directly saved checkpoints and of the file."""
    inspector = Inspector(tables)
    found: list[Damage] = []
    for run in tables.run_keys(run_id=run_id):
        found += _damage_of_run(tables, run, _for_owner(inspector, tables, run.key))
        where = f"row {run.key} of tables `runs` and `heads`, or what belongs to it"
        found += [
            Damage(what=where, problem=problem, run_id=run.run_id)
            for problem in tables.run_problems(run.run_id)
        ]
        found += _damage_of_head(tables, run)
    if run_id is None:
        found += _damage_of_lost_runs(tables)
        found += _damage_of_saved(tables, inspector)
        found += [Damage("the database file", problem) for problem in tables.problems()]
    return found


def _for_owner(inspector: Inspector, tables: StoredTables, owner: int) -> Inspector:
    """Return an inspector for an owner's values; the same if all owners share their chunks."""
    own = tables.of_owner(owner)
    return inspector if own is tables else Inspector(own)


def _damage_of_run(tables: StoredTables, run: RunKey, inspector: Inspector) -> Iterator[Damage]:
    present: set[int] = set()
    for row in tables.rows(run.key):
        wanted = checkpoint_id(run.run_id, row.sequence)
        problems = list(_row_problems(run, row, present, inspector))
        present.add(row.sequence)
        ancestor = inspector.nearest_intact(run, row) if problems else None
        for what, problem in problems:
            yield Damage(
                what=what,
                problem=problem,
                run_id=run.run_id,
                checkpoint_id=wanted,
                intact_ancestor=ancestor,
            )


def _damage_of_head(tables: StoredTables, run: RunKey) -> Iterator[Damage]:
    try:
        stored = tables.find_run(run.run_id)
    except CorruptCheckpointError:
        return  # already reported
    if stored is not None and find_row(tables, stored.record.head) is None:
        problem = (
            f"it is missing, but it is the head of run {run.run_id!r}. Restore the database from a "
            "backup, or restore the run to another of its checkpoints."
        )
        yield Damage("a row of table `checkpoints`", problem, run.run_id, stored.record.head)


def _damage_of_lost_runs(tables: StoredTables) -> Iterator[Damage]:
    for key, count in tables.lost_runs():
        problem = (
            f"it is missing, but {count} of the rows in table `checkpoints` belong to its run. "
            "Restore the database from a backup."
        )
        yield Damage(f"row {key} of table `runs`", problem)


def _row_problems(
    run: RunKey, row: Row, present: set[int], inspector: Inspector
) -> Iterator[tuple[str, str]]:
    where = f"row {row.checkpoint} of table `checkpoints`"
    if not row.whole and row.parent not in present:
        yield where, "the row on which it is based is missing"
    try:
        header_of(row, run)
        puts = difference_of(row, run).puts
    except (CorruptCheckpointError, CheckpointVersionError) as error:
        yield where, str(error)
        return
    for key, entry in puts.items():
        problem = inspector.problem(entry)
        if problem is not None:
            yield f"part {key!r}", problem


def _damage_of_saved(tables: StoredTables, inspector: Inspector) -> Iterator[Damage]:
    for saved in tables.saved():
        try:
            _header, entries = open_saved(saved)
        except CorruptCheckpointError as error:
            where = f"row {saved.saved} of table `saved`"
            yield Damage(what=where, problem=str(error), checkpoint_id=saved.checkpoint_id)
            continue
        own = _for_owner(inspector, tables, -saved.saved)
        for key, entry in entries.items():
            problem = own.problem(entry)
            if problem is not None:
                yield Damage(
                    what=f"part {key!r}", problem=problem, checkpoint_id=saved.checkpoint_id
                )
