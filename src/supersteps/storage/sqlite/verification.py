"""Reading everything, to learn what is damaged before somebody needs it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from supersteps.errors import CheckpointVersionError, CorruptCheckpointError
from supersteps.storage.delta.inspection import Inspector
from supersteps.storage.delta.rows import Row, RunKey, difference_of, header_of, id_of
from supersteps.storage.rules import Damage
from supersteps.storage.sqlite import checkpoint_rows, run_rows, saved_rows
from supersteps.storage.sqlite.tables import SqliteTables


def verify(db: sqlite3.Connection, run_id: str | None) -> list[Damage]:
    """Return what is damaged: of one run, or of all, of what was saved by hand and of the file itself."""
    inspector = Inspector(SqliteTables(db))
    found: list[Damage] = []
    for run in checkpoint_rows.run_keys(db, run_id=run_id):
        found += _damage_of_run(db, run, inspector)
        where = f"row {run.key} of tables `runs` and `heads`, or what belongs to it"
        found += [
            Damage(what=where, problem=problem, run_id=run.run_id)
            for problem in run_rows.problems_of(db, run.run_id)
        ]
        found += _damage_of_head(db, run)
    if run_id is None:
        found += _damage_of_lost_runs(db)
        found += _damage_of_saved(db, inspector)
        found += [
            Damage(what="the database file", problem=problem)
            for (problem,) in db.execute("PRAGMA integrity_check")
            if problem != "ok"
        ]
    return found


def _damage_of_run(db: sqlite3.Connection, run: RunKey, inspector: Inspector) -> Iterator[Damage]:
    present: set[int] = set()
    for row in checkpoint_rows.read_rows(db, run.key):
        wanted = id_of(row, run)
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


def _damage_of_head(db: sqlite3.Connection, run: RunKey) -> Iterator[Damage]:
    try:
        stored = run_rows.find_run(db, run.run_id)
    except CorruptCheckpointError:
        return  # told of already
    if stored is not None and checkpoint_rows.find_row(db, stored.record.head) is None:
        problem = (
            f"it is gone, but it is the head of run {run.run_id!r}. Restore the database from a backup, or restore the "
            "run to another of its checkpoints."
        )
        yield Damage("a row of table `checkpoints`", problem, run.run_id, stored.record.head)


def _damage_of_lost_runs(db: sqlite3.Connection) -> Iterator[Damage]:
    for key, count in checkpoint_rows.of_no_run(db):
        problem = (
            f"it is gone, but {count} of the rows in table `checkpoints` belong to its run. Restore the database from "
            "a backup."
        )
        yield Damage(f"row {key} of table `runs`", problem)


def _row_problems(
    run: RunKey, row: Row, present: set[int], inspector: Inspector
) -> Iterator[tuple[str, str]]:
    where = f"row {row.checkpoint} of table `checkpoints`"
    if not row.whole and row.parent not in present:
        yield where, "the row that it builds on is missing"
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


def _damage_of_saved(db: sqlite3.Connection, inspector: Inspector) -> Iterator[Damage]:
    for saved in saved_rows.list_saved(db):
        try:
            _header, entries = saved_rows.open_saved(saved)
        except CorruptCheckpointError as error:
            where = f"row {saved.saved} of table `saved`"
            yield Damage(what=where, problem=str(error), checkpoint_id=saved.checkpoint_id)
            continue
        for key, entry in entries.items():
            problem = inspector.problem(entry)
            if problem is not None:
                yield Damage(
                    what=f"part {key!r}", problem=problem, checkpoint_id=saved.checkpoint_id
                )
