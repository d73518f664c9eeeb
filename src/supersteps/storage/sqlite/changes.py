"""Whether anybody has written to a database, by a cheap look."""

from __future__ import annotations

import sqlite3
import threading
import time

from supersteps._process_fork import READS, keep_forever, register
from supersteps.storage.sqlite.database import Database
from supersteps.storage.sqlite.read_only import StillConnection


class Changes:
    """Asks SQLite for the version of the data, on a connection of its own.

    It is asked on the caller's thread, since what it reads is in memory, not on the disk.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._db: sqlite3.Connection | None = None
        self._opened = 0
        self._lock = threading.Lock()
        self._is_stopped = False
        register(self, READS)

    def look(self) -> tuple[int, int]:
        """Return a value that changes whenever a transaction was committed."""
        with self._lock, self._database.errors("read"):
            if self._db is None:
                self._db = self._database.connect(read_only=True)
                self._opened += 1
            if isinstance(self._db, StillConnection):
                return self._opened, 0
            return self._opened, self._db.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        """Close the connection; the next look opens another one."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def __del__(self) -> None:
        self._close()

    def before_fork(self, until: float) -> None:
        """Close the connection, and block new ones until the process has forked."""
        self._is_stopped = self._lock.acquire(timeout=max(0.0, until - time.monotonic()))
        if self._is_stopped:
            self._close()

    def after_fork(self, *, in_child: bool) -> None:
        """Continue in the parent; start afresh in the child."""
        if not in_child:
            if self._is_stopped:
                self._lock.release()
            return
        if self._db is not None:
            self._database.bar()
            keep_forever(self._db)
            self._db = None
        self._lock = threading.Lock()
