"""Reading everything, to learn what is damaged before somebody needs it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from supersteps.checkpoint import chunks
from supersteps.errors import CheckpointVersionError, CorruptCheckpointError
from supersteps.storage._sqlite import checkpoint_rows, parts
from supersteps.storage._sqlite.checkpoint_rows import Row, RunKey
from supersteps.storage._sqlite.entries import Entry, Listed, Stored
from supersteps.storage._sqlite.parts import DamagedPartError
from supersteps.storage._sqlite.reading import nearest_intact
from supersteps.storage.runs import Damage


def verify(db: sqlite3.Connection, run_id: str | None) -> list[Damage]:
    """Return what is damaged: of one run, or of all, of what was saved by hand and of the file itself."""
    found: list[Damage] = []
    if run_id is None:
        found += [
            Damage(what="the database file", problem=problem)
            for (problem,) in db.execute("PRAGMA quick_check")
            if problem != "ok"
        ]
    seen: dict[Entry, str | None] = {}
    for run in checkpoint_rows.run_keys(db, run_id=run_id):
        found += _damage_of_run(db, run, seen)
    if run_id is None:
        found += _damage_of_saved(db, seen)
    return found


def _damage_of_run(db: sqlite3.Connection, run: RunKey, seen: dict[Entry, str | None]) -> Iterator[Damage]:
    present: set[int] = set()
    for row in checkpoint_rows.read_rows(db, run.key):
        wanted = checkpoint_rows.id_of(row, run)
        problems = [*_chain_problems(row, present), *_row_problems(db, run, row, seen)]
        present.add(row.sequence)
        for what, problem in problems:
            yield Damage(
                what=what,
                problem=problem,
                run_id=run.run_id,
                checkpoint_id=wanted,
                intact_ancestor=nearest_intact(db, wanted),
            )


def _chain_problems(row: Row, present: set[int]) -> Iterator[tuple[str, str]]:
    if not row.whole and row.parent not in present:
        yield f"row {row.checkpoint} of table `checkpoints`", "the row that it builds on is missing"


def _row_problems(
    db: sqlite3.Connection, run: RunKey, row: Row, seen: dict[Entry, str | None]
) -> Iterator[tuple[str, str]]:
    try:
        checkpoint_rows.header_of(row, run)
        puts = checkpoint_rows.difference_of(row, run).puts
    except (CorruptCheckpointError, CheckpointVersionError) as error:
        yield f"row {row.checkpoint} of table `checkpoints`", str(error)
        return
    for key, entry in puts.items():
        problem = _problem(db, entry, seen)
        if problem is not None:
            yield f"part {key!r}", problem


def _damage_of_saved(db: sqlite3.Connection, seen: dict[Entry, str | None]) -> Iterator[Damage]:
    for saved in checkpoint_rows.list_saved(db):
        try:
            _header, entries = checkpoint_rows.open_saved(saved)
        except CorruptCheckpointError as error:
            yield Damage(
                what=f"row {saved.saved} of table `saved`", problem=str(error), checkpoint_id=saved.checkpoint_id
            )
            continue
        for key, entry in entries.items():
            problem = _problem(db, entry, seen)
            if problem is not None:
                yield Damage(what=f"part {key!r}", problem=problem, checkpoint_id=saved.checkpoint_id)


def _problem(db: sqlite3.Connection, entry: Entry, seen: dict[Entry, str | None]) -> str | None:
    """Return what is wrong with a value or list, None when nothing is; each is read once."""
    if isinstance(entry, bytes):
        return None  # the row's checksum has it
    if entry not in seen:
        try:
            parts.read_list(db, entry) if isinstance(entry, Listed) else _read(db, entry)
            seen[entry] = None
        except (DamagedPartError, chunks.DamagedChunkError) as error:
            seen[entry] = str(error)
    return seen[entry]


def _read(db: sqlite3.Connection, entry: Stored) -> None:
    parts.read_value(db, entry)
