"""Damage of stored values and lists, each read only once."""

from __future__ import annotations

from supersteps.checkpoint import chunks
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import checkpoint_id
from supersteps.storage.delta.chains import read_entries
from supersteps.storage.delta.entries import Entry, Listed
from supersteps.storage.delta.parts import DamagedPartError, count_intact, segments
from supersteps.storage.delta.rows import Row, RunKey, header_of
from supersteps.storage.delta.tables import Tables

_ANCESTORS_TRIED = 1000


class Inspector:
    """Finds damage in the values and lists of rows, and remembers it.

    Args:
        tables: One state of the database.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._chunks: dict[bytes, str | None] = {}
        # For each list, the number of intact elements and the problem of the next one.
        self._lists: dict[int, tuple[int, str]] = {}

    def problem(self, entry: Entry) -> str | None:
        """Return the problem of a value or list, None if it is intact."""
        if isinstance(entry, bytes):
            return None  # the row's own checksum includes it
        if not isinstance(entry, Listed):
            return chunks.find_damage(entry.root, self._tables.chunk, self._chunks)
        try:
            for key, begin, end in segments(self._tables, entry):
                if key not in self._lists:
                    self._lists[key] = count_intact(self._tables, key)
                intact, problem = self._lists[key]
                if begin < end and intact < end:
                    return problem
        except DamagedPartError as error:
            return str(error)
        return None

    def is_intact(self, run: RunKey, row: Row) -> bool:
        """Return whether a checkpoint and everything that it refers to can be read."""
        try:
            header_of(row, run)
            entries = read_entries(self._tables, run, row)
        except CorruptCheckpointError:
            return False
        return all(self.problem(entry) is None for entry in entries.values())

    def nearest_intact(self, run: RunKey, damaged: Row) -> str | None:
        """Return the nearest ancestor of a checkpoint that is completely readable, if any."""
        row = damaged
        for _ in range(_ANCESTORS_TRIED):
            before = None if row.parent is None else self._tables.row(run.key, row.parent)
            if before is None:
                return None
            row = before
            if self.is_intact(run, row):
                return checkpoint_id(run.run_id, row.sequence)
        return None
