"""`SqliteTables`: a SQLite database for the rules of `storage/delta`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.rows import StoredRun
from supersteps.storage.sqlite.checkpoint_rows import CheckpointRows
from supersteps.storage.sqlite.parts import PartRows
from supersteps.storage.sqlite.queue_rows import QueueRows
from supersteps.storage.sqlite.saved_rows import SavedRows


class SqliteTables(QueueRows, CheckpointRows, SavedRows, PartRows):
    """Reads and writes in one transaction; see `delta.tables.WritableTables`.

    Args:
        db: The database, in a transaction.
        clock: Returns the present time; needed only to acquire or renew leases.

    Attributes:
        db: The database, for statements that only SQLite has.
    """

    __slots__ = ("db", "now")

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float] = float) -> None:
        self.db = db
        self.now = clock

    def of_owner(self, owner: int) -> Self:
        return self  # all owners share their chunks

    def fetch_values(self, entries: Iterable[Entry], *, leaves: bool = True) -> None:
        """Do nothing: a database in this process is read chunk by chunk."""

    def delete_run(self, run: StoredRun) -> None:
        self.delete_entry(run.key)
        super().delete_run(run)

    def run_problems(self, run_id: str) -> list[str]:
        return self.problems_of_run(run_id) or self.problems_of_entry(run_id)

    def problems(self) -> Iterator[str]:
        for (problem,) in self.db.execute("PRAGMA integrity_check"):
            if problem != "ok":
                yield problem
