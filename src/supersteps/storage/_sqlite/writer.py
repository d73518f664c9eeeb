"""The one connection that writes, and who uses it when.

A run that writes alone to a fast disk does so on its event loop's own thread: handing a commit to another thread and
back takes about as long as the commit. Otherwise everything that waits goes into one transaction on a worker thread:
one sync for many runs, and a slow disk stops no loop. The refusal of one leaves the others untouched, and all are told
of their success only after the common COMMIT.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar, cast

from supersteps.errors import StorageError
from supersteps.storage._sqlite.database import Database

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]

_SLOW_SECONDS = 0.002
"""A commit that takes longer is not one to make on an event loop's thread."""

_SLOW_SHARE = 0.1
"""The share of slow ones among the recent commits up to which a disk is called fast."""

_MOST_TOGETHER = 256
_PAGES_IN_LOG = 1000
"""About how many pages the write-ahead log may hold before they are moved to the database."""

_COMMITS_BEFORE_ROOM = 16
"""Who commits more often than that gets a log of its full length at once."""


class Job(Generic[T]):
    """Something to be written.

    Args:
        work: Does it, inside a transaction.
        written: Tells, from a later look, whether it has been written; None when that cannot be told.
        is_apart: Whether it is to be done outside of any transaction.
    """

    __slots__ = ("error", "is_apart", "is_done", "loop", "result", "waiter", "work", "written")

    def __init__(self, work: Work[T], written: Work[bool] | None = None, *, is_apart: bool = False) -> None:
        self.work = work
        self.written = written
        self.is_apart = is_apart
        self.is_done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiter: asyncio.Future[None] | None = None

    def outcome(self) -> T:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Writer:
    """Writes for any number of event loops and threads.

    Args:
        database: The file.
        forget: Called when a transaction has failed: what was remembered of it is not true.
    """

    def __init__(self, database: Database, forget: Callable[[], None]) -> None:
        self._database = database
        self._forget = forget
        self._leaked: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._queue: deque[Job[Any]] = deque()
        self._is_busy = False  # whoever sets it may use the connection
        self._db: sqlite3.Connection | None = None
        self._is_waiting = True
        self._pool: ThreadPoolExecutor | None = None
        self._last: str | None = None
        self._slow_share = 2 * _SLOW_SHARE  # until a few commits have shown otherwise
        self._pages = 0
        self._until_room = _COMMITS_BEFORE_ROOM

    async def run(self, work: Work[T], *, alone: str | None = None, written: Work[bool] | None = None) -> T:
        """Write, durably.

        A job that has begun is never abandoned: when the waiting task is cancelled, the cancellation goes on once the
        outcome is certain.

        Args:
            work: Writes inside a transaction; what it raises undoes only its own part.
            alone: Who writes. If that was also the last to write, and the disk is fast, it happens here and now.
            written: Tells, from a later look, whether `work` has been done, for when a COMMIT fails.
        """
        job = Job(work, written)
        if self._process != os.getpid():
            self._leave_to_parent()
        with self._lock:
            is_inline = self._may_go_inline(alone)
            self._last = alone
            if is_inline:
                self._is_busy = True
            else:
                self._enqueue(job)
        if is_inline and self._write_inline(job):
            return job.outcome()
        await self._outcome(job)
        return job.outcome()

    def _may_go_inline(self, alone: str | None) -> bool:
        return (
            alone is not None
            and alone == self._last
            and not self._is_busy
            and not self._queue
            and self._db is not None
            and self._slow_share < _SLOW_SHARE
            and self._pages < _PAGES_IN_LOG
            and self._until_room != 0
        )

    def _write_inline(self, job: Job[Any]) -> bool:
        """Do a job on this thread; return False when it has to wait, and was queued for the other one."""
        is_done = True  # also when it raises
        try:
            is_done = self._write([job], waiting=False)
        finally:
            with self._lock:
                if not is_done:
                    self._enqueue(job)
                if self._queue:
                    self._start()
                else:
                    self._is_busy = False
        return is_done

    # ---------------------------------------------------------------------------------------- waiting for the worker

    def _enqueue(self, job: Job[Any]) -> None:
        job.loop = asyncio.get_running_loop()
        job.waiter = job.loop.create_future()
        self._queue.append(job)
        if not self._is_busy:
            self._is_busy = True
            self._start()

    def _start(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="supersteps-sqlite-write")
        self._pool.submit(self._work)

    async def _outcome(self, job: Job[Any]) -> None:
        assert job.loop is not None
        assert job.waiter is not None
        cancelled: asyncio.CancelledError | None = None
        while not job.is_done:
            try:
                await job.waiter
            except asyncio.CancelledError as error:
                cancelled = error
                with self._lock:
                    if job in self._queue:
                        self._queue.remove(job)
                        raise
                    if not job.is_done:
                        job.waiter = job.loop.create_future()
        if cancelled is not None:
            raise cancelled

    async def run_apart(self, work: Work[T]) -> T:
        """Do something with the connection that cannot be done inside a transaction."""
        if self._process != os.getpid():
            self._leave_to_parent()
        job = Job(work, is_apart=True)
        with self._lock:
            self._enqueue(job)
        await self._outcome(job)
        return job.outcome()

    async def aclose(self) -> None:
        """Finish what is queued, move the log into the database and close; the writer may be used again."""
        if self._process != os.getpid():
            self._leave_to_parent()
        with self._lock:
            if self._db is None and not self._is_busy:
                return
        await self.run_apart(self._close)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)  # its thread ends when nothing is queued

    def _leave_to_parent(self) -> None:
        # A forked child must neither use nor close what the parent opened: closing drops the parent's locks.
        self._leaked += [self._db, self._pool]
        self._begin()

    # ------------------------------------------------------------------------------------------------ on the worker

    def _work(self) -> None:
        while True:
            with self._lock:
                jobs = self._next_jobs()
                if not jobs:
                    self._is_busy = False
                    return
            try:
                self._write(jobs, waiting=True)
            except BaseException as error:  # nobody may wait for ever, whatever happens here
                for job in jobs:
                    job.error = job.error or error
            self._deliver(jobs)
            self._tidy()

    def _next_jobs(self) -> list[Job[Any]]:
        jobs: list[Job[Any]] = []
        while self._queue and len(jobs) < _MOST_TOGETHER:
            if self._queue[0].is_apart and jobs:
                break
            jobs.append(self._queue.popleft())
            if jobs[0].is_apart:
                break
        return jobs

    def _deliver(self, jobs: list[Job[Any]]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
        for job in jobs:
            assert job.loop is not None
            loops.setdefault(job.loop, []).append(job)
        with self._lock:
            for job in jobs:
                job.is_done = True
        for loop, theirs in loops.items():
            try:
                loop.call_soon_threadsafe(_wake, theirs)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue

    def _tidy(self) -> None:
        """Look after the log; here rather than inside a commit, where somebody waits."""
        if self._db is None:
            return
        try:
            if self._until_room == 0:
                self._until_room = -1
                self._database.make_room(self._db, _PAGES_IN_LOG)
            if self._pages >= _PAGES_IN_LOG:
                self._pages = 0
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except (sqlite3.Error, OSError):
            self._drop_connection()  # nothing is lost; if the trouble lasts, the next commit meets it and says so

    def _close(self, db: sqlite3.Connection) -> None:
        try:
            self._database.set_waiting(db, False)  # for whoever still reads: then the log stays, which does no harm
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._drop_connection()

    # -------------------------------------------------------------------------------------------------- transactions

    def _write(self, jobs: list[Job[Any]], *, waiting: bool) -> bool:
        """Do jobs in one transaction; return False, having done nothing, when that would have to wait and may not."""
        is_committing = False
        try:
            db = self._connection(waiting)
            if jobs[0].is_apart:
                jobs[0].result = jobs[0].work(db)
                return True
            before = db.total_changes
            db.execute("BEGIN IMMEDIATE")
            if not self._perform(db, jobs):
                return True
            is_committing = True
            self._commit(db)
            self._pages += 1 + db.total_changes - before
            self._until_room = max(self._until_room - 1, min(self._until_room, 0))
        except sqlite3.Error as error:
            if not waiting and not is_committing and _is_busy_error(error):
                self._roll_back()
                return False
            self._recover(jobs, error, is_committing)
        except BaseException:
            self._recover(jobs, None, is_committing)
            raise
        return True

    def _perform(self, db: sqlite3.Connection, jobs: list[Job[Any]]) -> bool:
        """Do jobs in the transaction; return False, and end it, when there is nothing to commit.

        Most refusals come before anything is written, so savepoints, which cost as much as a small commit's own
        statements, are made only for jobs of which one was refused later.
        """
        if not _perform(db, jobs):
            db.execute("ROLLBACK")
            self._forget()
            if len(jobs) == 1:
                return False
            for job in jobs:
                job.error = job.result = None
            db.execute("BEGIN IMMEDIATE")
            _perform(db, jobs, apart=True)
        if all(job.error is not None for job in jobs):
            db.execute("ROLLBACK")
            return False
        return True

    def _connection(self, waiting: bool) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._database.connect()
            self._is_waiting = True
            self._until_room = _COMMITS_BEFORE_ROOM
        if self._is_waiting != waiting:
            self._database.set_waiting(self._db, waiting)
            self._is_waiting = waiting
        return self._db

    def _commit(self, db: sqlite3.Connection) -> None:
        begun = time.perf_counter()
        db.execute("COMMIT")
        is_slow = time.perf_counter() - begun > _SLOW_SECONDS
        self._slow_share += (is_slow - self._slow_share) / 16

    # ------------------------------------------------------------------------------------------------------- trouble

    def _recover(self, jobs: list[Job[Any]], error: sqlite3.Error | None, is_committing: bool) -> None:
        """Leave no half-done transaction behind, and find out what has become of the jobs."""
        is_unsettled = is_committing and not (self._db is not None and self._db.in_transaction)
        self._roll_back()
        self._forget()
        self._drop_connection()
        if error is None:
            return
        if is_unsettled and self._was_written(jobs):
            return
        if len(jobs) > 1 and not _is_busy_error(error):
            for job in jobs:  # none was written; the trouble may be that of one of them, which has too much to write
                job.error = job.result = None
                self._write([job], waiting=True)
            return
        for job in jobs:
            job.error = self._database.translated(error, "write")
            job.error.__cause__ = error

    def _roll_back(self) -> None:
        # SQLite has often done so by itself, after a full disk for one.
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop_connection()  # which rolls back too

    def _was_written(self, jobs: list[Job[Any]]) -> bool:
        """Return whether a transaction whose COMMIT failed was committed all the same: look, do not guess."""
        witness = next((job.written for job in jobs if job.written is not None and job.error is None), None)
        if witness is None:
            return False
        try:
            return witness(self._connection(waiting=True))
        except (sqlite3.Error, StorageError):
            self._drop_connection()
            return False

    def _drop_connection(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()


def _perform(db: sqlite3.Connection, jobs: list[Job[Any]], *, apart: bool = False) -> bool:
    """Do jobs in a transaction; return False, and leave it unfinished, when one was refused that has written already.

    Args:
        db: The database.
        jobs: The jobs.
        apart: Whether each has a savepoint, so that its refusal undoes its own part only.
    """
    for job in jobs:
        before = db.total_changes
        if apart:
            db.execute("SAVEPOINT job")
        try:
            job.result = job.work(db)
        except sqlite3.Error:
            raise
        except Exception as error:
            job.error = error
            if apart:
                db.execute("ROLLBACK TO job")
            elif db.total_changes != before:
                return False
        if apart:
            db.execute("RELEASE job")
    return True


def _wake(jobs: list[Job[Any]]) -> None:
    for job in jobs:
        if job.waiter is not None and not job.waiter.done():
            job.waiter.set_result(None)


def _is_busy_error(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
