"""Rows of directly saved checkpoints, each as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.saved import SavedRow, namesakes, pack_saved

SQL = load_statements("supersteps.storage.sqlite", "saved.sql")


class SavedRows:
    """Reads and writes the rows of directly saved checkpoints."""

    __slots__ = ()

    db: sqlite3.Connection

    def insert_saved(self, header: CheckpointHeader) -> int:
        """Store a directly saved checkpoint, without its entries; return its key."""
        data = msgspec.json.encode(header)
        key = self.db.execute(SQL["insert"], (header.checkpoint_id, data, b"", 0)).lastrowid
        assert key is not None
        return key

    def fill_saved(self, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]) -> None:
        """Store the entries of a directly saved checkpoint."""
        self.db.execute(SQL["update"], (*pack_saved(header, entries), key))

    def has_namesakes(self, run_id: str) -> bool:
        """Return whether a directly saved checkpoint has an id like those of the run."""
        return bool(self.db.execute(SQL["has_namesakes"], namesakes(run_id)).fetchone()[0])

    def outdate_run(self, run_id: str) -> None:
        """Make all caches of a run outdated, because one of its ids was used."""
        self.db.execute(SQL["outdate_run"], (run_id,))

    def find_saved(self, wanted: str) -> SavedRow | None:
        """Return a directly saved checkpoint, unchecked, None if there is none with this id."""
        row = self.db.execute(SQL["read"], (wanted,)).fetchone()
        return None if row is None else SavedRow(*row)

    def saved(self) -> Iterator[SavedRow]:
        """Yield all directly saved checkpoints, unchecked."""
        return map(SavedRow._make, self.db.execute(SQL["list"]))

    def delete_saved(self, key: int) -> None:
        """Delete a directly saved checkpoint."""
        self.db.execute(SQL["delete"], (key,))
