"""`RunDriver`: has a run's work done while somebody asks for its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from supersteps.engine.event_loops import LoopLock, Turns, is_gone, look_at, start_task
from supersteps.engine.run_store import RunStore
from supersteps.engine.runner import Runner
from supersteps.errors import CalledFromHandlerError, StreamBusyError, WorkflowRuntimeError
from supersteps.events import WorkflowEvent
from supersteps.run.phases import DRAINED, STOPPING, WORKING, Life
from supersteps.run.stream import EventStream
from supersteps.run.work import TURN_SECONDS, Origin, RunWork
from supersteps.storage.ports import DurableStorage

GRACE_SECONDS = 5.0
"""How long a handler that was cancelled may clean up before it is cancelled once more."""


class RunDriver:
    """Has the work of one run done, unit by unit, for whoever asks for its events or its result.

    A unit is done in a task of its own, so that live events reach the consumer meanwhile; between
    two units there is no task at all. What the driver is at is its `Life`.
    """

    def __init__(self, origin: Origin) -> None:
        """Nothing is opened before somebody asks.

        Args:
            origin: Where the run comes from.
        """
        self._life = Life()
        self._stream = EventStream(self)
        self._work = RunWork(origin, self._stream, self._life, self)
        self._task: asyncio.Task[None] | None = None  # in which a unit of work is under way
        self._interrupted: asyncio.Task[Any] | None = None  # by the end of the program
        self._parking: asyncio.Task[None] | None = None
        self._turn = LoopLock()  # answers, restores and ends come one after the other
        self._turns = Turns(TURN_SECONDS)

    @property
    def run_id(self) -> str:
        """The run's id; for a resumed run known once it is opened."""
        return self._work.run_id

    @property
    def _runner(self) -> Runner | None:
        return self._work.runner

    @property
    def _store(self) -> RunStore | None:
        return self._work.store

    @property
    def storage(self) -> DurableStorage | None:
        """Where the run lives, None without storage or before it is opened."""
        return None if self._store is None else self._store.storage

    def is_active(self) -> bool:
        """Return whether somebody is driving the run at this moment."""
        if self._life.has_ended:
            return False
        return self._task is not None or self._stream.is_taken

    # ----------------------------------------------------------------------------- for the consumer

    async def next_event(self) -> WorkflowEvent:
        """Return the next event; the iterator's step.

        Raises:
            StopAsyncIteration: The run is done, or only waits for answers.
            Exception: What ended the run.
        """
        while not self._stream.events:
            if not await self._advance(self._work.do):
                raise StopAsyncIteration
        return self._stream.take()

    async def _advance(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have work begun or wait for it; return False where the stream ends.

        Args:
            work: What to do, in a task of its own, when nothing is under way.

        Raises:
            Exception: What ended the run.
        """
        life, stream = self._life, self._stream
        if self._task is not None or life.phase is STOPPING:
            if self._task is None or not self._was_left_behind(self._task):
                await stream.wait()
        elif life.failure is not None or life.refusal is not None:
            life.raise_trouble()
        elif life.has_ended or not self._work.has_next():
            return False
        elif not stream.events:
            self._begin(work)
            if self._task is None:
                await self._turns.share()
            elif not stream.events:  # an eager start may have delivered some already
                await stream.wait()
        return True

    def _was_left_behind(self, task: asyncio.Task[None]) -> bool:
        """Let go of work that an ended event loop left unfinished; return whether it did.

        Raises:
            StreamBusyError: That loop still runs, in another thread.
        """
        if task.get_loop() is asyncio.get_running_loop():
            return False
        if not is_gone(task):
            raise StreamBusyError(
                f"run {self.run_id!r} is driven in the event loop of another thread; use its "
                "handle there, or resume the run by a handle of your own once that one is closed"
            )
        with suppress(RuntimeError):  # a closed loop
            task.cancel()  # should that loop run again
        if self._work.hold is not None:
            self._work.hold.forget_writes()
        self._end_task()
        return True

    def _refuse_inside(self, what: str) -> None:
        """Refuse what would wait for the end of the handler that asks for it.

        Raises:
            CalledFromHandlerError: A handler of this run, or what it has started, asks.
        """
        runner = self._runner
        if (runner is not None and runner.is_here) or self._work.loading.is_here:
            raise CalledFromHandlerError(
                f"{what} was called by a handler of run {self.run_id!r} itself, for whose end it "
                "would wait. Let the handler return first: raise an exception to end the run, or "
                f"tell whoever consumes its events to call {what}. Nothing was changed."
            )

    def _refuse_while_loading(self, what: str) -> None:
        """Refuse what would wait for the end of the hook that asks for it."""
        if self._work.loading.is_here:
            self._refuse_inside(what)

    def _go_on(self) -> None:
        """Be asked anew: what was drained may go on, and others may have answered meanwhile."""
        self._life.go_on()
        self._work.has_looked = False

    def consumer_left(self) -> None:
        """Give the lease up when the consumer leaves between two units of work.

        After a unit its task does it.
        """
        self._stream.make_room()  # handlers need not wait for it any more
        if self._runner is not None:
            self._runner.wake()  # nobody waits for the timer any more
        if self._task is None:
            self._work.tell_rest()
        if self._task is None and self._store is not None and not self._life.has_ended:
            with suppress(RuntimeError):  # no loop runs here: the lease ends with the process
                self._parking = asyncio.get_running_loop().create_task(self._park(self._store))

    async def _park(self, store: RunStore) -> None:
        with suppress(Exception):  # the lease expires by itself
            await store.release()

    # ------------------------------------------------------------------------------- units in tasks

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._life.begin()
        try:
            task = start_task(self._do(work), f"supersteps:{self.run_id}")
        except (KeyboardInterrupt, SystemExit):  # raised by an eager start, instead of its task
            if self._interrupted is not None:
                look_at(self._interrupted)
                self._interrupted = None
            raise
        if task.done():
            look_at(task)
        else:
            self._task = task
            task.add_done_callback(self._task_done)

    async def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do work in a task of its own, and take note of how it ends."""
        try:
            await work()
            if not self._stream.is_taken:
                if self._store is not None:
                    await self._store.release()  # parked: nobody knows when more is asked for
                self._work.tell_rest()
        except Exception as error:
            self._life.fail(error)
        except asyncio.CancelledError:
            self._note_interruption()
            raise
        except (KeyboardInterrupt, SystemExit):
            self._interrupted = asyncio.current_task()
            raise
        finally:
            self._end_task()

    async def _do_all(self) -> None:
        """Do all units of work there are, for somebody who only wants the result."""
        clock = asyncio.get_running_loop().time
        turned = clock()
        work, stream, life = self._work, self._stream, self._life
        while life.is_at_work and stream.collector is not None and work.has_next():
            await work.do()
            if clock() - turned > TURN_SECONDS:  # nothing in a superstep may have waited
                await asyncio.sleep(0)
                turned = clock()

    def _end_task(self) -> None:
        self._task = None
        self._life.end_unit()
        self._stream.wake()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """Take note of the end also of a task that was cancelled before its first step."""
        look_at(task)
        if self._task is task:
            self._note_interruption()
            self._end_task()

    def _note_interruption(self) -> None:
        """Tell whoever waits that the work was cancelled, unless this handle did it.

        When an event loop ends, it cancels whoever waits, too: then nobody is to be told.
        """
        if self._life.phase is WORKING and self._stream.is_awaited:
            self._life.refusal = WorkflowRuntimeError(
                f"run {self.run_id!r}: its work was cancelled by something else than its handle, "
                "such as a handler that cancels its own task. What was committed stays; iterate "
                "again, or wait_for_completion(), to go on."
            )

    # ------------------------------------------------------------------------------------- stopping

    async def _drain(self) -> None:
        """Let the superstep under way end and be committed, or cut short handlers that sleep."""
        self._life.drain()
        self._stream.hurry()
        task = self._task
        try:
            if task is not None:
                await self._finish(task)
        finally:
            async with self._turn.here():
                if self._work.hold is not None and self._life.phase is DRAINED:
                    await self._work.hold.release()
                self._work.tell_rest()
                self._stream.wake()

    async def _finish(self, task: asyncio.Task[None]) -> None:
        """Wait for the end of a draining run's work, and cancel it once its handlers only sleep.

        Raises:
            CheckpointError: What has finished could not be recorded; the work is cancelled.
        """
        runner = self._runner
        if runner is None:
            await asyncio.wait({task})  # it opens the run, and that is all
        else:
            runner.wake()
            while not task.done():
                asleep = asyncio.create_task(runner.asleep())
                try:
                    await asyncio.wait({task, asleep}, return_when=asyncio.FIRST_COMPLETED)
                    failed = asleep.done() and asleep.exception() is not None
                    # Looked at once more: one may have woken up since, with a result to record.
                    if failed or runner.is_asleep:
                        task.cancel()
                        await asyncio.wait({task})
                    if failed:
                        asleep.result()
                finally:
                    asleep.cancel()
                    await asyncio.gather(asleep, return_exceptions=True)
        self._task_done(task)

    async def _stop(self) -> None:
        """Stop the work under way, for somebody who waited for its result and was cancelled."""
        async with self._stopped():
            self._work.tell_rest()

    @asynccontextmanager
    async def _stopped(self) -> AsyncIterator[None]:
        """Have the handle alone: work in flight is cancelled, and none begins meanwhile."""
        life = self._life
        async with self._turn.here():
            before = life.phase
            if not life.has_ended:
                life.phase = STOPPING
            try:
                await self._stop_work()
                yield
            finally:
                if life.phase is STOPPING:
                    life.phase = before
                    if self._task is None:
                        life.rest()
                self._stream.make_room()
                self._stream.wake()

    async def _stop_work(self) -> None:
        """Cancel the work under way, though not amid a write, whose outcome must be known.

        A handler may catch the cancellation. Then its call does not count, no other one begins, and
        if it works on it is cancelled again, after a while in which others may clean up.
        """
        while (task := self._task) is not None and not self._was_left_behind(task):
            if self._runner is not None:
                self._runner.stop()
            hold = self._work.hold
            if hold is not None and hold.is_writing:
                await hold.written()
                if not task.done():
                    await asyncio.sleep(0)  # it learns of the outcome
            else:
                task.cancel()
                await asyncio.wait({task}, timeout=GRACE_SECONDS)
            if task.done():
                self._task_done(task)
        if self._parking is not None and not is_gone(self._parking):
            await asyncio.wait({self._parking})
        if self._work.hold is not None:
            await self._work.hold.release()
