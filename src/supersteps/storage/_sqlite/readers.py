"""Connections that read: beside the one that writes, and beside each other."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from supersteps.storage._sqlite.database import Database
from supersteps.storage._sqlite.looking import StillConnection, check_still
from supersteps.storage._workers import Workers

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4


class Readers:
    """Reads on threads of its own, so that a slow disk never stops an event loop.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._workers = Workers("supersteps-sqlite-read", _THREADS)
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._leaked: list[sqlite3.Connection] = []

    async def run(
        self,
        job: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a job on a thread with a connection that sees one state of the database."""
        return await self._workers.run(lambda: self.run_here(job, *args, **kwargs))

    def run_here(
        self,
        job: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a job on the calling thread; it may block."""
        with self._database.errors("read"), self._connection() as db:
            return job(db, *args, **kwargs)

    async def aclose(self) -> None:
        """Wait for what is under way and close the connections that nobody uses."""
        await self._workers.aclose()
        with self._lock:
            idle, self._idle = self._idle, []
        if self._process == os.getpid():
            for db in idle:
                db.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = self._take() or self._database.connect(read_only=True)
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
            if isinstance(db, StillConnection):
                check_still(db, self._database.path)
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            if isinstance(db, StillConnection):
                db.close()  # somebody may write before it is wanted again
            else:
                with self._lock:
                    self._idle.append(db)

    def _take(self) -> sqlite3.Connection | None:
        with self._lock:
            if self._process != os.getpid():
                # A forked child must neither use nor close what the parent opened: closing drops the parent's locks.
                self._leaked += self._idle
                self._idle = []
                self._process = os.getpid()
            return self._idle.pop() if self._idle else None
