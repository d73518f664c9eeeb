"""`RunDriver`: runs the work of a run while a consumer asks for events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from supersteps.engine.event_loops import LoopLock, Turns, is_gone, look_at, start_task
from supersteps.engine.run_store import RunStore
from supersteps.errors import CalledFromHandlerError, StreamBusyError, WorkflowRuntimeError
from supersteps.events import WorkflowEvent
from supersteps.run.phases import DRAINED, STOPPING, WORKING, Life
from supersteps.run.stream import EventStream
from supersteps.run.work import TURN_SECONDS, Origin, RunWork
from supersteps.storage.ports import DurableStorage
from supersteps.storage.records import RunRecord

GRACE_SECONDS = 5.0
"""How long a cancelled handler may clean up before it is cancelled again."""


class RunDriver:
    """Runs the work of one run, unit by unit, for a consumer of its events or its result.

    Each unit runs in its own task, so that live events reach the consumer meanwhile; between
    two units there is no task. The driver's state is its `Life`.
    """

    def __init__(self, origin: Origin) -> None:
        """Nothing is opened before the first request.

        Args:
            origin: Where the run comes from.
        """
        self._life = Life()
        self._stream = EventStream(self)
        self._work = RunWork(origin, self._stream, self._life, self)
        self._task: asyncio.Task[None] | None = None  # runs a unit of work
        self._interrupted: asyncio.Task[Any] | None = None  # cancelled by the end of the program
        self._parking: asyncio.Task[None] | None = None
        self._turn = LoopLock()  # answers, restores and ends exclude each other
        self._turns = Turns(TURN_SECONDS)

    @property
    def run_id(self) -> str:
        """The run's id; of a resumed run, known once it is opened."""
        return self._work.run_id

    @property
    def storage(self) -> DurableStorage | None:
        """The run's storage, None without storage or before it is opened."""
        store = self._work.store
        return None if store is None else store.storage

    def is_active(self) -> bool:
        """Return whether a task is driving the run now."""
        if self._life.has_ended:
            return False
        return self._task is not None or self._stream.is_taken

    # --------------------------------------------------------------- for the others of its workflow

    def waits_for(self, request_id: str) -> bool:
        """Return whether the run, as this handle knows it, waits for an answer to this question."""
        return (
            not self._life.has_ended
            and (runner := self._work.runner) is not None
            and request_id in runner.state.requests
        )

    def stands_at(self, record: RunRecord) -> bool:
        """Return whether the handle can continue a run from its present head."""
        if self._life.has_ended or self._life.failure is not None:
            return False
        store = self._work.store
        return store is None or (store.head is not None and store.is_at(record))

    @property
    def is_overtaken(self) -> bool:
        """Whether the handle has ended because another owner has the run."""
        return self._life.is_lost

    async def left(self) -> None:
        """Wait until the run's events have no consumer.

        Raises:
            StreamBusyError: The calling task itself consumes them.
        """
        self._refuse_inside("waiting for its outcome")
        await self._stream.freed()

    def queue_responses(self, responses: Mapping[str, Any]) -> None:
        """Accept answers at the next step of iteration, which raises if they are refused.

        Raises:
            StreamBusyError: There is another consumer.
        """
        self._stream.check_free()
        self._work.queue_answers(responses)
        self._life.expect_more()

    # ----------------------------------------------------------------------------- for the consumer

    async def next_event(self) -> WorkflowEvent:
        """Return the next event; the iterator's step.

        Raises:
            StopAsyncIteration: The run has completed, or only waits for answers.
            Exception: What ended the run.
        """
        while not self._stream.events:
            if not await self._advance(self._work.do):
                raise StopAsyncIteration
        return self._stream.take()

    async def _advance(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Start work or wait for it; return False at the end of the stream.

        Args:
            work: The work to start in a new task, if none is running.

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
            elif not stream.events:  # an eager start may already have delivered some
                await stream.wait()
        return True

    def _was_left_behind(self, task: asyncio.Task[None]) -> bool:
        """Drop work that an ended event loop left unfinished; return whether there was any.

        Raises:
            StreamBusyError: That loop is still running, in another thread.
        """
        if task.get_loop() is asyncio.get_running_loop():
            return False
        if not is_gone(task):
            raise StreamBusyError(
                f"run {self.run_id!r} is driven in the event loop of another thread; use its "
                "handle there, or resume the run with a new handle once that one is closed"
            )
        with suppress(RuntimeError):  # a closed loop
            task.cancel()  # in case that loop runs again
        if self._work.hold is not None:
            self._work.hold.forget_writes()
        self._end_task()
        return True

    def _refuse_inside(self, what: str) -> None:
        """Refuse a call by a handler of the run that would wait for that handler's end.

        Raises:
            CalledFromHandlerError: A handler of this run, or a task that it started, calls.
        """
        runner = self._work.runner
        if (runner is not None and runner.is_here) or self._work.loading.is_here:
            raise CalledFromHandlerError(
                f"{what} was called by a handler of run {self.run_id!r} itself, and would wait for "
                "that handler's end. Let the handler return first: raise an exception to end the "
                f"run, or let the consumer of its events call {what}. Nothing was changed."
            )

    def _refuse_while_loading(self, what: str) -> None:
        """Refuse a call by a hook that would wait for that hook's end."""
        if self._work.loading.is_here:
            self._refuse_inside(what)

    def _go_on(self) -> None:
        """Allow work after a drain, and look for answers that were given meanwhile."""
        self._life.go_on()
        self._work.has_looked = False

    def consumer_left(self) -> None:
        """Release the lease when the consumer leaves between two units of work.

        After a unit, its task does this.
        """
        self._stream.make_room()  # handlers need no longer wait for it
        if self._work.runner is not None:
            self._work.runner.wake()  # no consumer waits for the timer any longer
        if self._task is None:
            self._work.tell_rest()
        if self._task is None and self._work.store is not None and not self._life.has_ended:
            with suppress(RuntimeError):  # no loop is running here: the lease expires
                self._parking = asyncio.get_running_loop().create_task(self._park(self._work.store))

    async def _park(self, store: RunStore) -> None:
        with suppress(Exception):  # the lease expires by itself
            await store.release()

    # ------------------------------------------------------------------------------- units in tasks

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._life.begin()
        try:
            task = start_task(self._do(work), f"supersteps:{self.run_id}")
        except (KeyboardInterrupt, SystemExit):  # raised by an eager start instead of its task
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
        """Run work in its own task, and record how it ends."""
        try:
            await work()
            if not self._stream.is_taken:
                if self._work.store is not None:
                    await (
                        self._work.store.release()
                    )  # parked: it is unknown when a consumer returns
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
        """Run all units of work, for a caller that only wants the result."""
        clock = asyncio.get_running_loop().time
        turned = clock()
        work, stream, life = self._work, self._stream, self._life
        while life.is_at_work and stream.collector is not None and work.has_next():
            await work.do()
            if clock() - turned > TURN_SECONDS:  # a superstep may not have awaited anything
                await asyncio.sleep(0)
                turned = clock()

    def _end_task(self) -> None:
        self._task = None
        self._life.end_unit()
        self._stream.wake()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """Record the end also of a task that was cancelled before its first step."""
        look_at(task)
        if self._task is task:
            self._note_interruption()
            self._end_task()

    def _note_interruption(self) -> None:
        """Tell the waiting task that the work was cancelled, unless this handle did it.

        When an event loop ends, it also cancels the waiting task: then nothing is reported.
        """
        if self._life.phase is WORKING and self._stream.is_awaited:
            self._life.refusal = WorkflowRuntimeError(
                f"run {self.run_id!r}: its work was not cancelled by its handle but by something "
                "else, such as a handler that cancels its own task. Commits are retained; iterate "
                "again or call wait_for_completion() to continue."
            )

    # ------------------------------------------------------------------------------------- stopping

    async def _drain(self) -> None:
        """Let the current superstep end and be committed, or interrupt handlers that sleep."""
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
            CheckpointError: Finished calls could not be recorded; the work is cancelled.
        """
        runner = self._work.runner
        if runner is None:
            await asyncio.wait({task})  # it only opens the run
        else:
            runner.wake()
            while not task.done():
                asleep = asyncio.create_task(runner.asleep())
                try:
                    await asyncio.wait({task, asleep}, return_when=asyncio.FIRST_COMPLETED)
                    failed = asleep.done() and asleep.exception() is not None
                    # Checked again: one may have woken up meanwhile, with a result to record.
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
        """Stop the running work, because the task that waited for its result was cancelled."""
        async with self._stopped():
            self._work.tell_rest()

    @asynccontextmanager
    async def _stopped(self) -> AsyncIterator[None]:
        """Lock the handle: running work is cancelled, and none is started meanwhile."""
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
        """Cancel the running work, but not during a write, whose outcome must be known.

        A handler may catch the cancellation. Then its call does not count, no other one is started,
        and if it continues, it is cancelled again, after some time for other handlers to clean up.
        """
        while (task := self._task) is not None and not self._was_left_behind(task):
            if self._work.runner is not None:
                self._work.runner.stop()
            hold = self._work.hold
            if hold is not None and hold.is_writing:
                await hold.written()
                if not task.done():
                    await asyncio.sleep(0)  # it gets the outcome
            else:
                task.cancel()
                await asyncio.wait({task}, timeout=GRACE_SECONDS)
            if task.done():
                self._task_done(task)
        if self._parking is not None and not is_gone(self._parking):
            await asyncio.wait({self._parking})
        if self._work.hold is not None:
            await self._work.hold.release()
