"""What the rules of `storage/delta` read of a SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from supersteps.storage._statements import load_statements
from supersteps.storage.delta.rows import Row

_SQL = load_statements("supersteps.storage.sqlite", "parts.sql")
_READ_ROW = load_statements("supersteps.storage.sqlite", "checkpoints.sql")["read"]


class SqliteTables:
    """Reads one state of the database; see `delta.tables.Tables`.

    Args:
        db: The database, in a transaction.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def row(self, run: int, sequence: int) -> Row | None:
        row = self._db.execute(_READ_ROW, (run, sequence)).fetchone()
        return None if row is None else Row(*row)

    def chunk(self, hash: bytes) -> bytes | None:
        row = self._db.execute(_SQL["read_chunk"], (hash,)).fetchone()
        return None if row is None else row[0]

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        found: tuple[int | None, int] | None
        found = self._db.execute(_SQL["read_list"], (key,)).fetchone()
        return found

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        return self._db.execute(_SQL["read_items"], (key, begin, end))
