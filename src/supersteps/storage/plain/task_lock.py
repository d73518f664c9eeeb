"""A lock for tasks of several event loops."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from types import TracebackType

from supersteps._process_fork import forkable_lock


class TaskLock:
    """Admits one task at a time, in the order of arrival, also from different event loops.

    An `asyncio.Lock` is bound to the loop that first waits for it, and a `threading.Lock` would
    block a loop.
    """

    def __init__(self) -> None:
        self._lock = forkable_lock()
        self._taken = False
        self._queue: deque[Future[None]] = deque()

    @property
    def is_taken(self) -> bool:
        """Whether a task holds the lock."""
        return self._taken

    async def __aenter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            turn: Future[None] = Future()
            self._queue.append(turn)
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            # Either the turn is cancelled before it comes, or it has come already and is passed on.
            if not turn.cancel():
                self._pass_on()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            while self._queue:
                turn = self._queue.popleft()
                if turn.set_running_or_notify_cancel():  # a cancelled one is skipped
                    break
            else:
                self._taken = False
                return
        # Outside the lock: this wakes a task, on this loop or another.
        turn.set_result(None)
