"""Events, locks and tasks that outlive their event loop.

A handle may be used in several event loops, one after the other: `asyncio.run` creates one for each
call. The primitives of asyncio are bound to the loop in which a task first waited; these are bound
to a loop only while a task waits.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class LoopEvent:
    """An event like asyncio's, for tasks of any event loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all waiting tasks; until `clear`, no task waits."""
        self._is_set = True
        if self._waiting is not None:
            (loop, event), self._waiting = self._waiting, None
            with suppress(RuntimeError):  # the loop is closed, so no task waits there
                loop.call_soon_threadsafe(event.set) if _is_elsewhere(loop) else event.set()

    def clear(self) -> None:
        """Make tasks wait again."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set."""
        while not self._is_set:
            loop = asyncio.get_running_loop()
            if self._waiting is None or self._waiting[0] is not loop:
                self._waiting = loop, asyncio.Event()
            await self._waiting[1].wait()


class LoopLock:
    """A lock like asyncio's, which is free once the event loop that locked it has ended."""

    def __init__(self) -> None:
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def here(self) -> asyncio.Lock:
        """Return the lock of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]


class Turns:
    """Lets other tasks run during work that never waits."""

    def __init__(self, seconds: float) -> None:
        """Create it for one piece of work.

        Args:
            seconds: How long the work may block the event loop.
        """
        self._seconds = seconds
        self._until = 0.0

    async def share(self) -> None:
        """Let other tasks run, if their last turn was too long ago."""
        now = time.monotonic()
        if now > self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + self._seconds


def start_task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start work in its own task, and run it at once up to its first wait if Python can.

    Python 3.12 and later can. Work that never waits has then ended when this returns, without a
    turn of the event loop; with 3.11 it starts at the loop's next turn.
    """
    if sys.version_info >= (3, 12):
        loop = asyncio.get_running_loop()
        return asyncio.Task(work, loop=loop, name=name, eager_start=True)
    return asyncio.create_task(work, name=name)


async def outlast(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end, even if the waiting task is cancelled meanwhile.

    Raises:
        CancelledError: The task was cancelled; the work has ended.
        Exception: The exception of the work.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        look_at(task)
        raise cancelled
    return task.result()


async def map_bounded(
    work: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int, name: str
) -> list[R]:
    """Return the results of work on items, in the order of the items.

    After a failure no further work is started; running work ends first.

    Args:
        work: The work for an item.
        items: The items, started in their order.
        limit: Maximum number of concurrent items.
        name: Name of the tasks.

    Raises:
        Exception: The failure of the first failed item, in their order.
    """
    results: dict[int, R] = {}
    failures: dict[int, Exception] = {}
    waiting = iter(enumerate(items))

    async def run() -> None:
        for place, item in waiting:
            try:
                results[place] = await work(item)
            except Exception as error:  # raised below, once the others have ended
                failures[place] = error
            if failures:
                return

    tasks = [asyncio.create_task(run(), name=name) for _ in range(min(limit, len(items)))]
    try:
        await asyncio.gather(*tasks)
    except GeneratorExit:  # the event loop was closed, and these end with it
        raise
    except BaseException:
        # Cancelled from outside, or the program ends: no task may continue unnoticed.
        await end_all(tasks)
        raise
    if failures:
        raise failures[min(failures)]
    return [results[place] for place in range(len(items))]


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; a cancellation meanwhile cancels them again."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        with suppress(asyncio.CancelledError):  # one of them may have ignored it
            await asyncio.wait(left)
        for task in [task for task in left if task.done()]:
            look_at(task)
            left.discard(task)


def look_at(task: asyncio.Future[Any]) -> None:
    """Retrieve a task's exception, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()


def is_gone(future: asyncio.Future[Any]) -> bool:
    """Return whether a future or task belongs to another event loop, one that no longer runs."""
    return has_ended(future.get_loop())


def has_ended(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether an event loop is another one than this, and no longer runs."""
    return _is_elsewhere(loop) and not loop.is_running()


def _is_elsewhere(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is not loop
    except RuntimeError:
        return True
