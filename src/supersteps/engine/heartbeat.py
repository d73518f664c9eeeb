"""The heartbeat: renews the leases of runs that are in a long superstep.

A commit renews its run's lease by itself, so most runs never need a beat. The heartbeat is a thread
and not a task, so that a handler that blocks the event loop does not cost its run the lease.

At every beat, one thread finds the leases that need a renewal. The renewals of each storage run in
their own thread, so that a slow storage does not delay the others. If a renewal fails, the next
beat comes sooner, because a lease lasts only for a few beats.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from supersteps._process_fork import WRITES, keep_forever, register
from supersteps._thread_warnings import report, warn_from_thread
from supersteps.errors import LeaseWarning, RunFencedError, RunNotFoundError

BEAT_SECONDS = 10.0
"""How long a superstep may last before its run's lease is renewed, and then between renewals."""

_SOONER = 5
"""After a failure, the interval until the next beat is divided by this."""


class Holder(Protocol):
    """An owner of a lease during a superstep.

    Attributes:
        handle: Identity of the handle.
        run_id: The run.
        storage: The storage of the run.
    """

    handle: str
    run_id: str

    @property
    def storage(self) -> object: ...

    async def renew(self) -> None:
        """Renew the lease if its last renewal is at least `BEAT_SECONDS` ago."""


class Heartbeat:
    """Renews leases, in threads that start when needed.

    Attributes:
        holders: The owners of the leases, by handle.
    """

    def __init__(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Prepare.

        Args:
            pause: Waits for a number of seconds.
        """
        self._pause = pause
        self.holders: dict[str, Holder] = {}
        self._begin()
        register(self, WRITES)

    def _begin(self) -> None:
        self.holders.clear()
        self._working = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewing: set[int] = set()  # ids of storages whose thread is running
        self._troubled: set[str] = set()  # handles whose last renewal failed
        # Loops ready for use: creating one needs descriptors, of which there may be none when it
        # matters.
        self._runners: list[asyncio.Runner] = []

    def watch(self, holder: Holder) -> None:
        """Renew a holder's lease until `unwatch`."""
        self.holders[holder.handle] = holder
        if not self._working.is_set():
            self._working.set()
        if self._thread is None:
            self._start()

    def unwatch(self, holder: Holder) -> None:
        """Stop renewing an owner's lease."""
        self.holders.pop(holder.handle, None)

    def before_fork(self, until: float) -> None:
        """Close the idle loops: closing a copy of one would disturb the other."""
        while self._runners:
            self._runners.pop().close()

    def after_fork(self, *, in_child: bool) -> None:
        """Start again in the child: the threads and the runs belong to the parent."""
        if in_child:
            keep_forever(self._runners)
            self._begin()

    # -------------------------------------------------------------------------------- the threads

    def _start(self) -> None:
        thread = threading.Thread(target=self._beat, name="supersteps-heartbeat", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # the next superstep tries again
            self._warn(next(iter(self.holders.values()), None), error)
        else:
            self._thread = thread

    def _beat(self) -> None:
        with suppress(OSError, MemoryError):  # then a renewal tries again or reports it
            self._keep(_runner())
        while True:
            self._working.wait()
            parts = _SOONER if self._troubled else 1
            self._pause(BEAT_SECONDS / parts)
            try:
                self._renew_all()
            except Exception as error:  # for example no memory, which the next beat may have
                report(error)
            self._working.clear()
            if self.holders:
                self._working.set()

    def _renew_all(self) -> None:
        storages: dict[int, list[Holder]] = {}
        for holder in list(self.holders.values()):
            storages.setdefault(id(holder.storage), []).append(holder)
        for handle in self._troubled - self.holders.keys():
            self._troubled.discard(handle)
        for key, holders in storages.items():
            if key not in self._renewing:
                self._renew_apart(key, holders)

    def _renew_apart(self, key: int, holders: list[Holder]) -> None:
        """Renew leases of one storage in a thread, or here if no thread can be started."""
        self._renewing.add(key)
        try:
            threading.Thread(
                target=self._renew_storage,
                args=(key, holders),
                name="supersteps-heartbeat-renew",
                daemon=True,
            ).start()
        except (RuntimeError, MemoryError):
            self._renew_storage(key, holders)

    def _renew_storage(self, key: int, holders: list[Holder]) -> None:
        outcomes: list[BaseException | None]
        try:
            runner = self._runners.pop() if self._runners else _runner()
            try:
                outcomes = runner.run(_renew(holders))
            finally:
                self._keep(runner)
        except Exception as error:  # no descriptors, no memory
            outcomes = [error] * len(holders)
        finally:
            self._renewing.discard(key)
        for holder, outcome in zip(holders, outcomes, strict=True):
            self._note(holder, outcome)

    def _keep(self, runner: asyncio.Runner) -> None:
        if self._runners:
            runner.close()
        else:
            self._runners.append(runner)

    # ------------------------------------------------------------------------------- what is said

    def _note(self, holder: Holder, outcome: BaseException | None) -> None:
        """Record whether a renewal failed, and warn the first time."""
        if outcome is None or isinstance(outcome, RunFencedError | RunNotFoundError):
            # Another owner has the run: the next commit fails for the same reason and reports it.
            self._troubled.discard(holder.handle)
        elif holder.handle not in self._troubled and holder.handle in self.holders:
            self._troubled.add(holder.handle)
            self._warn(holder, outcome)

    def _warn(self, holder: Holder | None, error: BaseException) -> None:
        with suppress(Exception):  # a failing warning must not end the heartbeat
            run = f"run {holder.run_id!r}" if holder is not None else "a run"
            text = (
                f"{run}: its lease could not be renewed during a long superstep "
                f"({type(error).__name__}: {error}). The renewal will be tried again. If it fails "
                "until the lease ends, another process may take over the run, and this superstep "
                "will not be committed."
            )
            warn_from_thread(text, LeaseWarning)


def _runner() -> asyncio.Runner:
    """Return a loop without making it the current one of this thread.

    Raises:
        OSError: There are no file descriptors for it.
    """
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    runner.get_loop()
    return runner


async def _renew(holders: list[Holder]) -> list[BaseException | None]:
    return await asyncio.gather(*(holder.renew() for holder in holders), return_exceptions=True)


_heartbeat = Heartbeat()
watch, unwatch = _heartbeat.watch, _heartbeat.unwatch
