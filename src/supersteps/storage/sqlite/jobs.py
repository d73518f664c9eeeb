"""Things to be written, and what a transaction does with several of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

import msgspec

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]


class Job(msgspec.Struct, Generic[T], eq=False):
    """Something to be written, and somebody who waits for it.

    Attributes:
        work: Does it.
        written: Tells, from a later look, whether it has been done; None when that cannot be told.
        is_apart: Whether it is to be done outside of any transaction.
        is_small: Whether it takes so little that it may be done on an event loop's thread.
        is_done: Whether the outcome is certain.
        is_given_up: Whether nobody waits any more, so that it must not be begun.
        error: What it was refused or failed with.
        loop: The event loop of who waits.
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
        """Whether it is still to be done."""
        return not (self.is_done or self.is_given_up)

    def outcome(self) -> T:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Batch(msgspec.Struct, eq=False):
    """Jobs that one transaction does.

    Attributes:
        jobs: They.
        is_committing: Whether the COMMIT was begun.
        is_committed: Whether it is known to have been done.
    """

    jobs: list[Job[Any]]
    is_committing: bool = False
    is_committed: bool = False


def perform(db: sqlite3.Connection, jobs: Iterable[Job[Any]], *, apart: bool = False) -> bool:
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


def deliver(jobs: Iterable[Job[Any]]) -> None:
    """Tell those who wait that the outcome is certain, from any thread, each on its own event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Job[Any]]] = {}
    for job in jobs:
        job.is_done = True
        loops.setdefault(job.loop, []).append(job)
    for loop, theirs in loops.items():
        try:
            for _ in range(2):  # a KeyboardInterrupt may end one call before it has told anybody
                loop.call_soon_threadsafe(wake, theirs)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def wake(jobs: Iterable[Job[Any]]) -> None:
    """Tell those who wait on the event loop of this thread that the outcome is certain."""
    for job in jobs:
        if job.waiter is not None and not job.waiter.done():
            job.waiter.set_result(None)
