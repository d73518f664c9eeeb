"""Threads for blocking work of one storage, for any event loop."""

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
    """A thread pool that starts with its first job and may start again after closing.

    It is not the event loop's own pool, so that a storage neither waits for other jobs nor delays
    them.

    Args:
        name: Prefix of the threads' names.
        count: Maximum number of threads.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget the threads, which do not exist in a forked child."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a job on a thread and return what it returns.

        A started job is never abandoned: if the waiting task is cancelled, the cancellation
        continues after the job. So a caller that cancels a save and then reads or writes does not
        race with it.
        """
        future = self._submit(job, *args, **kwargs)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait((waiting,))
        except asyncio.CancelledError:
            if not future.cancel():
                await outlast(waiting)
            raise
        return waiting.result()

    def begin(self, job: Callable[[], None]) -> None:
        """Have a job done on a thread without waiting for it; it must not raise."""
        self._submit(job)

    async def aclose(self) -> None:
        """Wait for the running jobs and end the threads."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is None:
            return
        closed: Future[None] = Future()

        def close() -> None:
            pool.shutdown()
            closed.set_result(None)

        # Waiting for threads blocks, so it needs a thread outside the pool.
        threading.Thread(target=close, name=f"{self._name}-close").start()
        await asyncio.wrap_future(closed)

    def _submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            return self._pool.submit(job, *args, **kwargs)


async def outlast(waiting: asyncio.Future[T]) -> None:
    """Wait for a future however often the waiting task is cancelled."""
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((waiting,))
    if not waiting.cancelled():
        waiting.exception()  # retrieved; the task reports the cancellation
