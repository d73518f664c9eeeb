"""The single connection that writes, shared by all writers.

All writes go through a queue of jobs. A task that waits for a job takes the lock and writes the
whole queue in one transaction. A run that writes alone to a fast disk does so at once, on its event
loop's thread, because handing a commit to another thread and back takes about as long as the
commit. If several runs of one loop write, each waits for the loop's next turn, and the first one
writes for all. Large jobs, and those that meet a slow disk or another process that writes, go to a
worker thread. The worker has the connection without the lock as long as there are jobs, so no loop
is blocked for long.

A KeyboardInterrupt may come between any two steps, except on the worker's thread. So no step of a
loop's thread relies on a later one: the lock is released by its `with`, a job is watched by the
task that waits for it, and a started transaction stays recorded until its outcome is known. The
next writer finds the record and cleans up first.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
import types
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from supersteps._process_fork import WRITES, Lock, keep_forever, register
from supersteps.errors import StorageError
from supersteps.storage.sqlite.database import Database, Whereabouts, is_busy
from supersteps.storage.sqlite.jobs import Batch, Job, Work, deliver, perform
from supersteps.storage.sqlite.log import Log
from supersteps.storage.sqlite.tables import SqliteTables

T = TypeVar("T")

_SLOW_SECONDS = 0.002
"""A commit that takes longer should not run on an event loop's thread."""

_SLOW_SHARE = 0.1
"""The share of slow commits among recent ones up to which a disk counts as fast."""

_MOST_ON_LOOP = 64
_MOST_TOGETHER = 256
_PAGES_IN_LOG = 1000
"""Approximate number of pages in the write-ahead log before they are moved to the database."""

_CHANGES_IN_PAGE = 4
"""Approximate number of a transaction's changes per page."""

_COMMITS_BEFORE_ROOM = 16
"""With more commits than that, the log gets its full length at once."""


class Writer:
    """Writes for all event loops and threads.

    Args:
        database: The file.
        clock: Returns the present time for leases, in Unix seconds.
        forget: Called when a transaction has failed, because caches are then invalid.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float], forget: Callable[[], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._forget = forget
        self._log = Log(database.path)
        self._begin()
        register(self, WRITES)

    def _begin(self) -> None:
        # Held while a loop's thread writes, and for all access to the fields below. It is
        # reentrant, because an interrupt may come before its release.
        self._lock = threading.RLock()
        self._queue: deque[Job[Any]] = deque()
        self._batch: Batch | None = None  # what is being written, or was at an interrupt
        self._is_lent = False  # to the worker, which is the only one to set it
        self._lent = threading.Lock()  # held while the worker writes, to exclude forks
        self._is_called = False  # the worker, which has not started yet
        self._pool: ThreadPoolExecutor | None = None
        self._last: str | None = None
        self._db: sqlite3.Connection | None = None
        self._tables: SqliteTables | None = None  # those of the connection
        self._whereabouts: Whereabouts | None = None
        self._is_waiting = True
        self._slow_share = 1.25 * _SLOW_SHARE  # until a few commits show otherwise
        self._pages = 0
        self._until_room = _COMMITS_BEFORE_ROOM
        self._stopped: list[Lock] = []  # held while the process forks

    async def run(
        self,
        work: Work[T],
        *,
        alone: str | None = None,
        is_small: bool = False,
        written: Work[bool] | None = None,
    ) -> T:
        """Write durably.

        A started job is never abandoned: if the waiting task is cancelled, the cancellation
        continues once the outcome is known.

        Args:
            work: Writes inside a transaction; raising undoes only its own changes.
            alone: The writer's name. If it was also the last one, it need not wait for others.
            is_small: Whether it may run on the event loop's thread.
            written: Returns later whether `work` was written, for a failed COMMIT.
        """
        self._free_lock()
        job = Job(work, asyncio.get_running_loop(), written, is_small=is_small)
        try:
            self._put(job, alone)
            if not job.is_done:
                await self._outcome(job)
        except BaseException:
            job.is_given_up = True
            raise
        return job.outcome()

    async def run_apart(self, work: Work[T]) -> T:
        """Run a job with the connection outside of a transaction."""
        self._free_lock()
        job = Job(work, asyncio.get_running_loop(), is_apart=True)
        try:
            self._put(job, None)
            await self._outcome(job)
        except BaseException:
            job.is_given_up = True
            raise
        return job.outcome()

    async def aclose(self) -> None:
        """Finish the queue, move the log into the database and close; can be used again."""
        self._free_lock()
        with self._lock:
            if self._db is None and not (self._is_lent or self._is_called or self._queue):
                return
        await self.run_apart(self._close)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)  # its thread ends when the queue is empty

    def __del__(self) -> None:
        # A storage need not be closed. Python would close this too, but with a warning.
        if self._db is not None:
            self._db.close()

    def before_fork(self, until: float) -> None:
        """Close the connection, and open no other one until the process has forked."""
        locks: tuple[Lock, ...] = (self._lock, self._lent)
        for lock in locks:
            if not lock.acquire(timeout=max(0.0, until - time.monotonic())):
                return
            self._stopped.append(lock)
        if self._batch is not None:  # being written by the thread that forks
            return
        try:
            self._drop_connection()
        except sqlite3.Error:  # the log has everything that was committed
            return

    def after_fork(self, *, in_child: bool) -> None:
        """Continue: with the queue in the parent, without it in the child."""
        if not in_child:
            while self._stopped:
                self._stopped.pop().release()
            return
        if self._db is not None:
            self._database.bar()
            keep_forever(self._db)
        self._forget()
        self._begin()

    def _free_lock(self) -> None:
        """Release the lock if this thread holds it: an interrupt came before its release."""
        while self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.release()

    def _is_fast(self) -> bool:
        """Return whether a small commit may run on an event loop's thread now."""
        return self._db is not None and self._slow_share < _SLOW_SHARE and not self._needs_tidying()

    # -------------------------------------------------------------------------------------- waiting

    def _put(self, job: Job[Any], alone: str | None) -> None:
        """Write a job at once, call the worker, or leave it to the event loop's next turn."""
        with self._lock:
            if self._batch is not None and not self._is_lent:
                self._clean_up()
            is_alone = alone is not None and alone == self._last
            self._last = alone
            is_here = job.is_small and not (self._is_lent or self._is_called) and self._is_fast()
            if is_alone and is_here and not self._queue:
                if not self._write_here([job]):
                    self._queue.append(job)
                    self._call_worker()
                return
            self._queue.append(job)
            if not is_here:
                self._call_worker()

    async def _outcome(self, job: Job[Any]) -> None:
        """Wait for a job's outcome, and write the queue if no other task does.

        Raises:
            CancelledError: The waiting task was cancelled; the job is done, or will never start.
        """
        cancelled: asyncio.CancelledError | None = None
        turn: Awaitable[None] | None = _next_turn()
        while not job.is_done:
            try:
                if turn is not None:
                    await turn
                turn = self._take_turn(job)
            except asyncio.CancelledError as error:
                cancelled = error
                with self._lock:
                    if job in self._queue:
                        self._queue.remove(job)
                        raise
                turn = None
        if cancelled is not None:
            raise cancelled

    # ------------------------------------------------------------------------- on the loop's thread

    def _take_turn(self, job: Job[Any]) -> asyncio.Future[None] | None:
        """Write the queue, or return a future of the worker that does."""
        with self._lock:
            if self._batch is not None and not self._is_lent:
                self._clean_up()
            if job.is_done:
                return None
            if not (self._is_lent or self._is_called):
                first = list(islice(self._queue, _MOST_ON_LOOP))
                jobs = [queued for queued in first if queued.is_wanted]
                is_here = self._is_fast() and all(queued.is_small for queued in jobs)
                if is_here and (not jobs or self._write_here(jobs)):
                    for _ in first:  # not earlier: an interrupt would lose them
                        self._queue.popleft()
                self._hand_on()
            if job.is_done:
                return None
            job.waiter = job.loop.create_future()
            return job.waiter

    def _hand_on(self) -> None:
        """Leave the rest of the queue to the worker. The lock is held."""
        if self._queue:
            self._call_worker()

    def _write_here(self, jobs: list[Job[Any]]) -> bool:
        """Run jobs on this thread; return False if they have to wait. The lock is held."""
        if not self._write(jobs, waiting=False):
            return False
        for job in jobs:
            job.is_done = True  # the waiting task checks it at its loop's next turn
        self._batch = None
        return True

    def _call_worker(self) -> None:
        """Start the worker for the queue, unless it is about to run. The lock is held."""
        if self._is_lent or self._is_called:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="supersteps-sqlite-write")
        self._pool.submit(self._work)
        self._is_called = True

    # -------------------------------------------------------------------------------- on the worker

    def _work(self) -> None:
        with self._lock:
            if self._is_lent:
                return
            self._clean_up()
            self._is_lent = True
            self._is_called = False
        while True:
            with self._lock:
                jobs = self._next_jobs(_MOST_TOGETHER)
                if not jobs:
                    self._is_lent = False
                    return
            with self._lent:
                try:
                    self._write(jobs, waiting=True)
                except BaseException as error:
                    if self._batch is None or not self._clear_up(self._batch):
                        _fail(jobs, error)
                self._batch = None
            with self._lock:
                is_last = not (self._queue or self._needs_tidying())
                if is_last:
                    # Before waking the waiting tasks, whose next writes may then run on their own
                    # threads.
                    self._is_lent = False
            deliver(jobs)
            if is_last:
                return
            with self._lent:
                self._tidy()

    def _next_jobs(self, most: int) -> list[Job[Any]]:
        jobs: list[Job[Any]] = []
        while self._queue and len(jobs) < most and not (jobs and self._queue[0].is_apart):
            job = self._queue.popleft()
            if job.is_wanted:
                jobs.append(job)
                if job.is_apart:
                    break
        return jobs

    def _needs_tidying(self) -> bool:
        return self._db is not None and (self._until_room == 0 or self._pages >= _PAGES_IN_LOG)

    def _tidy(self) -> None:
        """Maintain the log here, and not inside a commit, for which a task waits."""
        if self._db is None or not self._needs_tidying():
            return
        try:
            if self._until_room == 0:
                self._until_room = -1
                self._database.make_room(self._db, _PAGES_IN_LOG)
            if self._pages >= _PAGES_IN_LOG:
                self._pages = 0
                if self._log.move(self._db):
                    self._until_room = _COMMITS_BEFORE_ROOM
        except (sqlite3.Error, OSError):
            # Nothing is lost; if the problem persists, the next commit reports it.
            self._drop_connection()

    def _close(self, tables: SqliteTables) -> None:
        db = tables.db
        try:
            self._database.set_waiting(db, False)  # for connections that still read
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # the log stays beside the database and is used when it is opened again
        finally:
            self._drop_connection()

    # --------------------------------------------------------------------------------- transactions

    def _write(self, jobs: list[Job[Any]], *, waiting: bool) -> bool:
        """Run jobs in one transaction; return False, without changes, if it would have to wait."""
        batch = self._batch = Batch(jobs)
        try:
            tables = self._connected(waiting)
            if jobs[0].is_apart:
                jobs[0].result = jobs[0].work(tables)
                return True
            db = tables.db
            before = db.total_changes
            db.execute("BEGIN IMMEDIATE")
            if not self._perform(tables, jobs):
                return True
            batch.is_committing = True
            self._commit(db)
            batch.is_committed = True
            self._pages += 3 + (db.total_changes - before) // _CHANGES_IN_PAGE
            if self._whereabouts is not None and not self._whereabouts.are_unchanged():
                # A deleted file can still be written and synced, but its content can never be
                # found.
                self._forget()
                self._drop_connection()
                _fail(jobs, self._database.lost())
        except sqlite3.Error as error:
            if not waiting and not batch.is_committing and is_busy(error):
                self._roll_back()
                self._batch = None
                return False
            self._recover(batch, error)
        return True

    def _perform(self, tables: SqliteTables, jobs: list[Job[Any]]) -> bool:
        """Run jobs in the transaction; return False, and end it, if there is nothing to commit.

        Most refusals come before anything is written. Savepoints cost as much as the statements of
        a small commit, so they are used only after a job was refused later than that.
        """
        db = tables.db
        if not perform(tables, jobs):
            db.execute("ROLLBACK")
            self._forget()
            if len(jobs) == 1:
                return False
            for job in jobs:
                job.error = job.result = None
            db.execute("BEGIN IMMEDIATE")
            perform(tables, jobs, apart=True)
        if jobs[0].error is not None and all(job.error is not None for job in jobs):
            db.execute("ROLLBACK")
            return False
        return True

    def _connected(self, waiting: bool) -> SqliteTables:
        if self._db is None or self._tables is None:
            self._db = self._database.connect()
            self._tables = SqliteTables(self._db, self._clock)
            self._log.limit(self._db)
            self._db.execute("BEGIN IMMEDIATE")  # ensures that there is a log
            self._db.execute("ROLLBACK")
            self._whereabouts = self._database.whereabouts()
            self._is_waiting = True
            self._until_room = _COMMITS_BEFORE_ROOM
        if self._is_waiting != waiting:
            self._database.set_waiting(self._db, waiting)
            self._is_waiting = waiting
        return self._tables

    def _commit(self, db: sqlite3.Connection) -> None:
        begun = time.perf_counter()
        db.execute("COMMIT")
        is_slow = time.perf_counter() - begun > _SLOW_SECONDS
        self._slow_share += (is_slow - self._slow_share) / 16
        if self._until_room > 0:
            self._until_room -= 1

    # -------------------------------------------------------------------------------------- trouble

    def _clean_up(self) -> None:
        """Clean up after an interrupt. The lock is held."""
        batch = self._batch
        if batch is None:
            return
        is_committed = self._clear_up(batch)
        for (
            job
        ) in batch.jobs:  # jobs that are not done are still queued, unless no task waits for them
            if is_committed:
                job.is_done = True
            elif not job.is_done:
                job.error = job.result = None
        self._batch = None

    def _clear_up(self, batch: Batch) -> bool:
        """End an unfinished transaction, and return whether it was committed."""
        if batch.is_committing and not batch.is_committed:
            batch.is_committed = self._has_committed(batch.jobs)
        batch.is_committing = False
        self._forget()
        self._drop_connection()
        return batch.is_committed

    def _has_committed(self, jobs: list[Job[Any]]) -> bool:
        """Return whether a COMMIT that was started before an interrupt has succeeded."""
        if self._is_in_transaction():
            return False
        if any(job.written is not None for job in jobs):
            return self._was_written(jobs)
        return self._db is not None

    def _recover(self, batch: Batch, error: sqlite3.Error) -> None:
        """End an unfinished transaction, and determine the outcomes of the jobs."""
        jobs = batch.jobs
        is_unsettled = batch.is_committing and not self._is_in_transaction()
        self._roll_back()
        self._forget()
        self._drop_connection()
        if is_unsettled and self._was_written(jobs):
            return
        if len(jobs) > 1 and not is_busy(error):
            # None was written; one of them may be too large.
            for job in jobs:
                job.error = job.result = None
                self._write([job], waiting=True)
                job.is_done = True
            return
        translated = self._database.translated(error, "write")
        translated.__cause__ = error
        _fail(jobs, translated)

    def _is_in_transaction(self) -> bool:
        try:
            return self._db is not None and self._db.in_transaction
        except sqlite3.ProgrammingError:  # the connection is closed
            return False

    def _roll_back(self) -> None:
        # SQLite often rolls back by itself, for example after a full disk.
        if self._db is not None and self._is_in_transaction():
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop_connection()  # this also rolls back

    def _was_written(self, jobs: list[Job[Any]]) -> bool:
        """Return whether a transaction was committed although its COMMIT failed, by checking."""
        witness = next(
            (job.written for job in jobs if job.written is not None and job.error is None), None
        )
        if witness is None:
            return False
        try:
            return witness(self._connected(waiting=True))
        except (sqlite3.Error, StorageError):
            self._drop_connection()
            return False

    def _drop_connection(self) -> None:
        if self._db is not None:
            self._db.close()  # before it is dropped: an open one may have a transaction
            self._db = self._tables = None


def _fail(jobs: list[Job[Any]], error: BaseException) -> None:
    """Set the error of jobs: in any case, no task may wait forever."""
    for job in jobs:
        job.error = job.error or error


@types.coroutine
def _next_turn() -> Generator[None, None, None]:
    """Wait for the event loop's next turn."""
    yield
