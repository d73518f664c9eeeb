"""Jobs that write, and the transaction that runs several of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

import msgspec

from supersteps.storage.sqlite.tables import SqliteTables

T = TypeVar("T")

Work = Callable[[SqliteTables], T]


class Job(msgspec.Struct, Generic[T], eq=False):
    """A write, and the task that waits for it.

    Attributes:
        work: The function that writes.
        written: Returns later whether it was written; None if that cannot be found out.
        is_apart: Whether it runs outside of a transaction.
        is_small: Whether it is small enough for an event loop's thread.
        is_done: Whether the outcome is known.
        is_given_up: Whether no task waits any longer, so that it must not be started.
        error: The error of its refusal or failure.
        loop: The event loop of the waiting task.
    """

    work: Work[T]
    loop: asyncio.AbstractEventLoop
    written: Work[bool] | None = None
    is_apart: bool = False
    is_small: bool = False
    is_done: bool = False
    is_given_up: bool = False
    result: T | None = None
    error: BaseException | None = None
    waiter: asyncio.Future[None] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it still has to run."""
        return not (self.is_done or self.is_given_up)

    def outcome(self) -> T:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Batch(msgspec.Struct, eq=False):
    """The jobs of one transaction.

    Attributes:
        jobs: The jobs.
        is_committing: Whether the COMMIT was started.
        is_committed: Whether it is known to have succeeded.
    """

    jobs: list[Job[Any]]
    is_committing: bool = False
    is_committed: bool = False


def perform(tables: SqliteTables, jobs: Iterable[Job[Any]], *, apart: bool = False) -> bool:
    """Run jobs in a transaction.

    Returns False, with the transaction unfinished, if a job was refused after it had written.

    Args:
        tables: The tables.
        jobs: The jobs.
        apart: Whether each has a savepoint, so that its refusal undoes only its own changes.
    """
    db = tables.db
    for job in jobs:
        before = db.total_changes
        if apart:
            db.execute("SAVEPOINT job")
        try:
            job.result = job.work(tables)
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


def deliver(jobs: Iterable[Job[Any]]) -> None:
    """Wake the waiting tasks from any thread, each on its own event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        job.is_done = True
        loops.setdefault(job.loop, []).append(job)
    for loop, theirs in loops.items():
        try:
            for _ in range(2):  # a KeyboardInterrupt may end one call early
                loop.call_soon_threadsafe(wake, theirs)
        except RuntimeError:  # the loop is closed, so no task waits
            continue


def wake(jobs: Iterable[Job[Any]]) -> None:
    """Wake the waiting tasks on the event loop of this thread."""
    for job in jobs:
        if job.waiter is not None and not job.waiter.done():
            job.waiter.set_result(None)
