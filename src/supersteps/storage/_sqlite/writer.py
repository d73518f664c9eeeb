"""The one connection that writes, and who uses it when.

A run that writes alone to a fast disk does so there and then, on its event loop's thread: handing a commit to another
thread and back takes about as long as the commit. When several runs of one loop write, the loop's next turn writes for
all of them in one transaction. Whatever is large, or comes from several loops, or meets a slow disk or another process
that writes, goes to a worker thread, again everything that waits in one transaction: so no loop stands still for long.
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
from typing import Any, TypeVar

from supersteps.errors import StorageError
from supersteps.storage._sqlite.database import Database, Whereabouts, is_busy
from supersteps.storage._sqlite.jobs import Job, Work, deliver, perform, wake

T = TypeVar("T")

_SLOW_SECONDS = 0.002
"""A commit that takes longer is not one to make on an event loop's thread."""

_SLOW_SHARE = 0.1
"""The share of slow ones among the recent commits up to which a disk is called fast."""

_MOST_ON_LOOP = 64
_MOST_TOGETHER = 256
_PAGES_IN_LOG = 1000
"""About how many pages the write-ahead log may hold before they are moved to the database."""

_CHANGES_IN_PAGE = 4
"""About how many of a transaction's changes share a page."""

_COMMITS_BEFORE_ROOM = 16
"""Who commits more often than that gets a log of its full length at once."""


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
        self._lock = (
            threading.Lock()
        )  # held for moments only; what follows may only be touched with it
        self._queue: deque[Job[Any]] = deque()
        self._is_busy = False  # whoever sets it may use the connection, and what goes with it
        self._turn: asyncio.AbstractEventLoop | None = (
            None  # the loop whose next turn writes what is queued
        )
        self._pool: ThreadPoolExecutor | None = None
        self._last: str | None = None
        self._db: sqlite3.Connection | None = None
        self._whereabouts: Whereabouts | None = None
        self._is_waiting = True
        self._slow_share = 1.25 * _SLOW_SHARE  # until a few commits have shown otherwise
        self._pages = 0
        self._until_room = _COMMITS_BEFORE_ROOM

    async def run(
        self,
        work: Work[T],
        *,
        alone: str | None = None,
        is_small: bool = False,
        written: Work[bool] | None = None,
    ) -> T:
        """Write, durably.

        A job that has begun is never abandoned: when the waiting task is cancelled, the cancellation goes on once the
        outcome is certain.

        Args:
            work: Writes inside a transaction; what it raises undoes only its own part.
            alone: Who writes. If that was also the last to write, it need not wait for company.
            is_small: Whether it may be done on the event loop's thread.
            written: Tells, from a later look, whether `work` has been done, for when a COMMIT fails.
        """
        self._look_who_is_here()
        job = Job(work, asyncio.get_running_loop(), written, is_small=is_small)
        with self._lock:
            is_first = is_small and not self._is_busy and self._is_fast()
            is_inline = is_first and alone is not None and alone == self._last
            self._last = alone
            if is_inline:
                self._is_busy = True
            else:
                self._enqueue(job, on_turn=is_first)
        if not (is_inline and self._write_inline(job)):
            await self._outcome(job)
        return job.outcome()

    async def run_apart(self, work: Work[T]) -> T:
        """Do something with the connection that cannot be done inside a transaction."""
        self._look_who_is_here()
        job = Job(work, asyncio.get_running_loop(), is_apart=True)
        with self._lock:
            self._enqueue(job)
        await self._outcome(job)
        return job.outcome()

    async def aclose(self) -> None:
        """Finish what is queued, move the log into the database and close; the writer may be used again."""
        self._look_who_is_here()
        with self._lock:
            if self._db is None and not self._is_busy:
                return
        await self.run_apart(self._close)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)  # its thread ends when nothing is queued

    def _look_who_is_here(self) -> None:
        if self._process != os.getpid():
            # A forked child must neither use nor close what the parent opened: closing drops the parent's locks.
            self._leaked += [self._db, self._pool]
            self._begin()

    def _is_fast(self) -> bool:
        """Return whether a small commit may be made on an event loop's thread now."""
        return self._db is not None and self._slow_share < _SLOW_SHARE and not self._needs_tidying()

    # ------------------------------------------------------------------------------------------------------- waiting

    def _enqueue(self, job: Job[Any], *, on_turn: bool = False) -> None:
        """Queue a job for who is at work, for the loop's next turn, or for the worker. The lock is held."""
        job.waiter = job.loop.create_future()
        self._queue.append(job)
        if not self._is_busy:
            self._is_busy = True
            if on_turn:
                self._turn = job.loop
                job.loop.call_soon(self._take_turn)
            else:
                self._start()
        elif self._turn is not None and not (job.is_small and job.loop is self._turn):
            self._turn = (
                None  # that loop may be at something long, or closed: nobody else waits for it
            )
            self._start()

    def _start(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="supersteps-sqlite-write")
        self._pool.submit(self._work)

    async def _outcome(self, job: Job[Any]) -> None:
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
                job.waiter = job.loop.create_future()
        if cancelled is not None:
            raise cancelled

    # ------------------------------------------------------------------------------------------- on the loop's thread

    def _write_inline(self, job: Job[Any]) -> bool:
        """Do a job here and now; return False when it has to wait, and was queued for the worker."""
        is_done = True  # also when it raises
        try:
            is_done = self._write([job], waiting=False)
        finally:
            with self._lock:
                if not is_done:
                    job.waiter = job.loop.create_future()
                    self._queue.appendleft(job)
                self._hand_on()
        return is_done

    def _take_turn(self) -> None:
        """Do what has been queued since the loop's last turn, unless it had to go to the worker."""
        here = asyncio.get_running_loop()
        with self._lock:
            if self._turn is not here:
                return
            self._turn = None
            jobs = self._next_jobs(_MOST_ON_LOOP)
        is_done = True
        try:
            is_done = not jobs or self._write(jobs, waiting=False)
        except BaseException as error:
            _fail(jobs, error)
        with self._lock:
            if not is_done:
                self._queue.extendleft(reversed(jobs))
            self._hand_on()
        if is_done:
            wake(jobs)  # all are of this loop

    def _hand_on(self) -> None:
        """Leave the connection to the worker if something is queued, else to whoever comes. The lock is held."""
        if self._queue:
            self._start()
        else:
            self._is_busy = False

    # ------------------------------------------------------------------------------------------------- on the worker

    def _work(self) -> None:
        while True:
            with self._lock:
                jobs = self._next_jobs(_MOST_TOGETHER)
                if not jobs:
                    self._is_busy = False
                    return
            try:
                self._write(jobs, waiting=True)
            except BaseException as error:
                _fail(jobs, error)
            with self._lock:
                is_last = not (self._queue or self._needs_tidying())
                if is_last:
                    self._is_busy = False  # before anybody is told: what they write next may then be written inline
            deliver(jobs)
            if is_last:
                return
            self._tidy()

    def _next_jobs(self, most: int) -> list[Job[Any]]:
        jobs: list[Job[Any]] = []
        while self._queue and len(jobs) < most and not (jobs and self._queue[0].is_apart):
            jobs.append(self._queue.popleft())
            if jobs[0].is_apart:
                break
        return jobs

    def _needs_tidying(self) -> bool:
        return self._db is not None and (self._until_room == 0 or self._pages >= _PAGES_IN_LOG)

    def _tidy(self) -> None:
        """Look after the log; here rather than inside a commit, where somebody waits."""
        if self._db is None or not self._needs_tidying():
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
            self._database.set_waiting(db, False)  # for whoever still reads
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # then the log stays beside the database: everything is in it, and whoever opens the two finds it
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
            self._pages += 3 + (db.total_changes - before) // _CHANGES_IN_PAGE
            if self._whereabouts is not None and not self._whereabouts.are_unchanged():
                # A deleted file can be written and synced like any other, and nobody will ever find what is in it.
                self._forget()
                self._drop_connection()
                _fail(jobs, self._database.lost())
        except sqlite3.Error as error:
            if not waiting and not is_committing and is_busy(error):
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
        statements, are made only when a job was refused later than that.
        """
        if not perform(db, jobs):
            db.execute("ROLLBACK")
            self._forget()
            if len(jobs) == 1:
                return False
            for job in jobs:
                job.error = job.result = None
            db.execute("BEGIN IMMEDIATE")
            perform(db, jobs, apart=True)
        if jobs[0].error is not None and all(job.error is not None for job in jobs):
            db.execute("ROLLBACK")
            return False
        return True

    def _connection(self, waiting: bool) -> sqlite3.Connection:
        if self._db is None:
            self._db = self._database.connect()
            self._db.execute("BEGIN IMMEDIATE")  # makes sure that there is a log
            self._db.execute("ROLLBACK")
            self._whereabouts = self._database.whereabouts()
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
        if self._until_room > 0:
            self._until_room -= 1

    # ------------------------------------------------------------------------------------------------------- trouble

    def _recover(
        self, jobs: list[Job[Any]], error: sqlite3.Error | None, is_committing: bool
    ) -> None:
        """Leave no half-done transaction behind, and find out what has become of the jobs."""
        is_unsettled = is_committing and not (self._db is not None and self._db.in_transaction)
        self._roll_back()
        self._forget()
        self._drop_connection()
        if error is None or (is_unsettled and self._was_written(jobs)):
            return
        if len(jobs) > 1 and not is_busy(error):
            for job in jobs:  # none was written; the trouble may be that of one of them, which has too much to write
                job.error = job.result = None
                self._write([job], waiting=True)
            return
        translated = self._database.translated(error, "write")
        translated.__cause__ = error
        _fail(jobs, translated)

    def _roll_back(self) -> None:
        # SQLite has often done so by itself, after a full disk for one.
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop_connection()  # which rolls back too

    def _was_written(self, jobs: list[Job[Any]]) -> bool:
        """Return whether a transaction whose COMMIT failed was committed all the same: look, do not guess."""
        witness = next(
            (job.written for job in jobs if job.written is not None and job.error is None), None
        )
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


def _fail(jobs: list[Job[Any]], error: BaseException) -> None:
    """Note what jobs failed with: whatever happens, nobody may wait for ever."""
    for job in jobs:
        job.error = job.error or error
