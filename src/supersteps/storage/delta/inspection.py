"""Looking at stored values and lists, each piece once, however many checkpoints share it."""

from __future__ import annotations

import sqlite3

from supersteps.checkpoint import chunks
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.delta.entries import Entry, Listed
from supersteps.storage.sqlite import checkpoint_rows, parts
from supersteps.storage.sqlite.checkpoint_rows import Row, RunKey
from supersteps.storage.sqlite.parts import DamagedPartError

_ANCESTORS_TRIED = 1000


class Inspector:
    """Tells what is wrong with what rows refer to, and remembers it.

    Args:
        db: The database, in one state of it.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._chunks: dict[bytes, str | None] = {}
        self._lists: dict[
            int, tuple[int, str]
        ] = {}  # how many elements are intact, and what is wrong with the next

    def problem(self, entry: Entry) -> str | None:
        """Return what is wrong with a value or list, None when nothing is."""
        if isinstance(entry, bytes):
            return None  # the row's own checksum has it
        if not isinstance(entry, Listed):
            return chunks.find_damage(entry.root, parts.chunk_reader(self._db), self._chunks)
        try:
            for key, begin, end in parts.segments(self._db, entry):
                if key not in self._lists:
                    self._lists[key] = parts.count_intact(self._db, key)
                intact, problem = self._lists[key]
                if begin < end and intact < end:
                    return problem
        except DamagedPartError as error:
            return str(error)
        return None

    def is_intact(self, run: RunKey, row: Row) -> bool:
        """Return whether a checkpoint and everything that it refers to can be read."""
        try:
            checkpoint_rows.header_of(row, run)
            entries = checkpoint_rows.read_entries(self._db, run, row)
        except CorruptCheckpointError:
            return False
        return all(self.problem(entry) is None for entry in entries.values())

    def nearest_intact(self, damaged: str) -> str | None:
        """Return the nearest ancestor of a checkpoint that can be read as a whole, None when there is none."""
        found = checkpoint_rows.find_row(self._db, damaged)
        if found is None:
            return None
        run, row = found
        for _ in range(_ANCESTORS_TRIED):
            before = (
                None
                if row.parent is None
                else checkpoint_rows.read_row(self._db, run.key, row.parent)
            )
            if before is None:
                return None
            row = before
            if self.is_intact(run, row):
                return checkpoint_rows.id_of(row, run)
        return None
