"""Connections that read, concurrently with the one that writes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from supersteps._process_fork import READS, keep_forever, register
from supersteps.storage._workers import Workers
from supersteps.storage.sqlite.database import Database
from supersteps.storage.sqlite.read_only import StillConnection, check_still
from supersteps.storage.sqlite.tables import SqliteTables

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4


class Readers:
    """Reads on its own threads, so that a slow disk never blocks an event loop.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._workers = Workers("supersteps-sqlite-read", _THREADS)
        self._begin()
        register(self, READS)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # guards the fields below
        self._idle: list[sqlite3.Connection] = []
        self._in_use = 0
        self._is_stopped = False

    async def run(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a job on a thread; the tables that it gets show one state of the database."""
        return await self._workers.run(partial(self.run_here, job, *args, **kwargs))

    def run_here(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a job on the calling thread; it may block."""
        with self._database.errors("read"), self._connection() as db:
            return job(SqliteTables(db), *args, **kwargs)

    async def aclose(self) -> None:
        """Wait for running jobs and close idle connections."""
        await self._workers.aclose()
        with self._changed:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    def __del__(self) -> None:
        # A storage need not be closed. Python would close these too, but with a warning.
        for db in self._idle:
            db.close()

    def before_fork(self, until: float) -> None:
        """Close the connections, and open no other one until the process has forked."""
        self._is_stopped = self._changed.acquire(timeout=max(0.0, until - time.monotonic()))
        if not self._is_stopped:
            return
        self._changed.wait_for(lambda: not self._in_use, max(0.0, until - time.monotonic()))
        while self._idle:
            self._idle.pop().close()

    def after_fork(self, *, in_child: bool) -> None:
        """Continue in the parent; start again in the child."""
        if not in_child:
            if self._is_stopped:
                self._changed.release()
            return
        if self._in_use or self._idle:
            self._database.bar()
            keep_forever(self._idle)
        self._begin()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = self._take()
        try:
            if db is None:
                db = self._database.connect(read_only=True)
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
            if isinstance(db, StillConnection):
                check_still(db, self._database.path)
        except BaseException:
            if db is not None and db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            self._put_back(db)

    def _take(self) -> sqlite3.Connection | None:
        """Return an idle connection, None if there is none; `_put_back` must follow."""
        with self._changed:
            self._in_use += 1
            return self._idle.pop() if self._idle else None

    def _put_back(self, db: sqlite3.Connection | None) -> None:
        if isinstance(db, StillConnection):
            db.close()  # another process may write before it is used again
            db = None
        with self._changed:
            self._in_use -= 1
            if db is not None:
                self._idle.append(db)
            self._changed.notify_all()  # a fork may wait
