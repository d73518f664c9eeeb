"""Threads for blocking work, owned by one storage and bound to no event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from supersteps._process_fork import restart_in_child

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A thread pool that begins with its first job and may begin again after it was closed.

    It is not the event loop's own pool: a storage must neither wait for other people's jobs nor
    keep theirs waiting.

    Args:
        name: Begins the names of the threads.
        count: The most threads at once.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget the threads; a forked child has the pool without them."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a job on a thread and return what it returns.

        A job that has begun is never abandoned: when the waiting task is cancelled, the
        cancellation goes on once the job is done. So whoever cancels a save, then reads or writes,
        does not race with it.
        """
        future = self._submit(job, *args, **kwargs)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait((waiting,))
        except asyncio.CancelledError:
            if not future.cancel():
                await _outlast(waiting)
            raise
        return waiting.result()

    async def aclose(self) -> None:
        """Wait for the jobs under way and let the threads go."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is None:
            return
        closed: Future[None] = Future()

        def close() -> None:
            pool.shutdown()
            closed.set_result(None)

        # Waiting for threads blocks, and the pool cannot wait for itself.
        threading.Thread(target=close, name=f"{self._name}-close").start()
        await asyncio.wrap_future(closed)

    def _submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            return self._pool.submit(job, *args, **kwargs)


async def _outlast(waiting: asyncio.Future[T]) -> None:
    """Wait for a future however often the waiting task is cancelled."""
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((waiting,))
    if not waiting.cancelled():
        waiting.exception()  # seen: the cancellation is what the task reports
