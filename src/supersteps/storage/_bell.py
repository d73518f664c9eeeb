"""`Bell`: wakes those who wait for a change of a storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supersteps._process_fork import forkable_lock, restart_in_child

FIRST_PAUSE, LONGEST_PAUSE, SLOWER = 0.005, 0.025, 1.5
"""Between two looks for what other processes change, in seconds, and by how much it grows."""

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Bell:
    """Wakes those who wait, on any event loop, from any thread.

    Attributes:
        number: How often it has been rung.
    """

    def __init__(self) -> None:
        self.number = 0
        self._lock = forkable_lock()
        self._waiting: set[_Waiter] = set()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget those who wait: in a forked child they are the parent's."""
        self._waiting = set()

    def ring(self) -> None:
        """Wake all who wait."""
        with self._lock:
            self.number += 1
            waiting, self._waiting = self._waiting, set()
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_wake, future)
            except RuntimeError:  # the loop is closed, and the waiting task with it
                continue

    async def wait(
        self, seen: int, seconds: float, future: asyncio.Future[None] | None = None
    ) -> None:
        """Wait until it is rung again, at most for some seconds.

        Args:
            seen: Its number as the caller has seen it; if it was rung since, there is no wait.
            seconds: For how many.
            future: Ends the wait, too, once it is done.
        """
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop, future or loop.create_future()
        with self._lock:
            if self.number != seen:
                return
            self._waiting.add(waiter)
        timer = loop.call_later(seconds, _wake, waiter[1])  # lighter than a task and a timeout
        try:
            await waiter[1]
        finally:
            timer.cancel()
            with self._lock:
                self._waiting.discard(waiter)

    async def wait_looking(
        self, look: Callable[[], object], seen: object, seconds: float
    ) -> tuple[int, object]:
        """Wait until it is rung or a look shows a change; return a mark for the next call.

        Looks follow each other fast at first, then more slowly.

        Args:
            look: Returns another value once another process has changed something.
            seen: What an earlier call returned.
            seconds: For how many seconds to wait at most.
        """
        mark = (self.number, look())
        if mark != seen or seconds <= 0:
            return mark
        looking = _Looking(look, mark[1], seconds)
        try:
            await self.wait(mark[0], seconds, looking.future)
        finally:
            looking.timer.cancel()
        return self.number, look()


class _Looking:
    """Looks again and again by timers of the event loop, which costs less than a task would.

    Attributes:
        future: Is done once a look shows a change, or fails.
        timer: The next look.
    """

    def __init__(self, look: Callable[[], object], seen: object, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._look = look
        self._seen = seen
        self._until = self._loop.time() + seconds
        self._pause = FIRST_PAUSE
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.timer = self._loop.call_later(min(self._pause, seconds), self._do)

    def _do(self) -> None:
        try:
            if self._look() != self._seen:
                return _wake(self.future)
        except Exception as error:
            if not self.future.done():
                self.future.set_exception(error)
            return None
        self._pause = min(self._pause * SLOWER, LONGEST_PAUSE)
        left = self._until - self._loop.time()
        if left > 0 and not self.future.done():
            self.timer = self._loop.call_later(min(self._pause, left), self._do)
        return None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
