"""`RunDriver`: does the work of one run, unit by unit, for whoever asks for its events or its result.

A unit is the opening of the run, or one superstep. It is done in a task of its own, so that live events reach the
consumer meanwhile; between two units there is no task at all. A failure is kept until the events before it are taken.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from supersteps._error_texts import annotate, described, notes_of
from supersteps.engine.event_loops import LoopLock, Turns, is_gone, look_at, start_task
from supersteps.engine.run_store import RunStore
from supersteps.engine.runner import Runner
from supersteps.engine.user_code import Stretch, UserCodeError
from supersteps.errors import (
    CalledFromHandlerError,
    PartialStorageWarning,
    RequestError,
    RunBusyError,
    RunFencedError,
    StreamBusyError,
    WorkflowRuntimeError,
)
from supersteps.events import (
    WorkflowErrorDetails,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowStartedEvent,
    WorkflowWarningEvent,
)
from supersteps.run.phases import DRAINED, DRAINING, FAILED, READY, SETTLED, STOPPING, WORKING
from supersteps.run.stream import EventStream
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage

TURN_SECONDS = 0.02
"""How long supersteps may follow each other until others on the event loop have their turn."""


GRACE_SECONDS = 5.0
"""How long a handler that was cancelled may clean up before it is cancelled once more."""


_PENDING = WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS


@dataclass(frozen=True)
class Opened:
    """What opening a run gives.

    Attributes:
        runner: Advances it.
        store: Its hold on the storage, None without one.
    """

    runner: Runner
    store: RunStore | None


class RunDriver:
    """The work behind a run's handle.

    What it is at is its `Phase`:

                     asked for more           the unit is done
           READY --------------------> WORKING -------------> READY, or SETTLED where
             ^                          |    |                nothing is left to do
             | asked anew         drain |    | it failed
             |                          v    v
           DRAINED <----------- DRAINING    FAILED            an answer makes READY
                the unit is done                              of SETTLED

        any but the last two --> STOPPING --> where it was, READY after a rewinding,
                                              or for good CLOSED or CANCELLED

    Only who begins, drains, stops or ends the work moves it, so it is known who has stopped it.
    Whether the run is opened is no phase: a handle may be drained or closed before that.

    Attributes:
        run_id: The run's id; for a resumed run known once it is opened.
    """

    def __init__(
        self,
        run_id: str,
        open_run: Callable[[RunDriver], Awaitable[Opened]],
        *,
        on_waiting: Callable[[list[str]], None],
    ) -> None:
        """Prepare.

        Args:
            run_id: The run's id, empty while it is not known.
            open_run: Begins or loads the run, emitting through `emit`.
            on_waiting: Told when the run only waits for answers, with the ids of the questions, and
                when it is done, with none.
        """
        self.run_id = run_id
        self._open_run = open_run
        self._on_waiting = on_waiting
        self._queued: dict[str, Any] = {}
        self._awaited: dict[str, Any] = {}  # answers to questions that are about to be asked
        self._opened: Opened | None = None
        self._hold: RunStore | None = None  # the store, also while the run is being opened
        self._stream = EventStream(self, self._left)
        self._work: asyncio.Task[None] | None = None
        self._interrupted: asyncio.Task[Any] | None = None  # by the end of the program
        self._parking: asyncio.Task[None] | None = None
        self._opening = LoopLock()
        self._turn = LoopLock()  # answers, restores and ends come one after the other
        self._turns = Turns(TURN_SECONDS)
        self._loading = Stretch()  # while hooks take attributes back, and nobody else may come in
        self._phase = READY
        self._failure: BaseException | None = None  # it goes with FAILED
        self._is_lost = False  # to somebody else
        self._refusal: WorkflowRuntimeError | RequestError | None = None  # raised once
        self._looked = False

    @property
    def _runner(self) -> Runner | None:
        return self._opened.runner if self._opened is not None else None

    @property
    def _store(self) -> RunStore | None:
        return self._opened.store if self._opened is not None else None

    @property
    def storage(self) -> DurableStorage | None:
        """Where the run lives, None without storage or before it is opened."""
        return None if self._store is None else self._store.storage

    def waits_for(self, request_id: str) -> bool:
        """Return whether the run, as this handle knows it, waits for an answer to this question."""
        return (
            not self._phase.has_ended
            and self._opened is not None
            and request_id in self._opened.runner.state.requests
        )

    def is_active(self) -> bool:
        """Return whether somebody is driving the run at this moment."""
        if self._phase.has_ended:
            return False
        return self._work is not None or self._stream.is_taken

    # ----------------------------------------------------------------------------- for the consumer

    async def next_event(self) -> WorkflowEvent:
        """Return the next event; the iterator's step.

        Raises:
            StopAsyncIteration: The run is done, or only waits for answers.
            Exception: What ended the run.
        """
        while not self._stream.events:
            if not await self._advance(self._do_unit_apart):
                raise StopAsyncIteration
        return self._stream.take()

    async def _advance(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have work begun or wait for it; return False where the stream ends.

        Args:
            work: What to begin, in a task of its own, when nothing is under way.

        Raises:
            Exception: What ended the run.
        """
        if self._work is not None or self._phase is STOPPING:
            if self._work is None or not self._was_left_behind(self._work):
                await self._stream.wait()
        elif self._failure is not None or self._refusal is not None:
            self._raise_trouble()
        elif self._phase.has_ended or not self._next_unit():
            return False
        elif not self._stream.events:
            self._begin(work())
            if self._work is None:
                await self._turns.share()
            elif not self._stream.events:  # an eager start may have delivered some already
                await self._stream.wait()
        return True

    def _was_left_behind(self, work: asyncio.Task[None]) -> bool:
        """Let go of work that an ended event loop left unfinished; return whether it did.

        Raises:
            StreamBusyError: That loop still runs, in another thread.
        """
        if work.get_loop() is asyncio.get_running_loop():
            return False
        if not is_gone(work):
            raise StreamBusyError(
                f"run {self.run_id!r} is driven in the event loop of another thread; use its "
                "handle there, or resume the run by a handle of your own once that one is closed"
            )
        with suppress(RuntimeError):  # a closed loop
            work.cancel()  # should that loop run again
        if self._hold is not None:
            self._hold.forget_writes()
        self._end_work()
        return True

    def _refuse_inside(self, what: str) -> None:
        """Refuse what would wait for the end of the handler that asks for it.

        Raises:
            CalledFromHandlerError: A handler of this run, or what it has started, asks.
        """
        is_inside = self._opened is not None and self._opened.runner.is_here
        if is_inside or self._loading.is_here:
            raise CalledFromHandlerError(
                f"{what} was called by a handler of run {self.run_id!r} itself, for whose end it "
                "would wait. Let the handler return first: raise an exception to end the run, or "
                f"tell whoever consumes its events to call {what}. Nothing was changed."
            )

    def _refuse_while_loading(self, what: str) -> None:
        """Refuse what would wait for the end of the hook that asks for it."""
        if self._loading.is_here:
            self._refuse_inside(what)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._phase = WORKING
        try:
            task = start_task(work, f"supersteps:{self.run_id}")
        except (KeyboardInterrupt, SystemExit):  # raised by an eager start, instead of its task
            if self._interrupted is not None:
                look_at(self._interrupted)
                self._interrupted = None
            raise
        if task.done():
            look_at(task)
        else:
            self._work = task
            task.add_done_callback(self._work_done)

    def _go_on(self) -> None:
        """Be asked anew: what was drained may go on, and others may have answered meanwhile."""
        if self._phase is DRAINED:
            self._phase = READY
        elif self._phase is DRAINING:
            self._phase = WORKING
        self._looked = False

    def _rest(self) -> None:
        """Be at what remains when nothing is under way any more."""
        if self._failure is not None:
            self._phase = FAILED
        elif self._phase is DRAINING:
            self._phase = DRAINED
        elif self._phase in (WORKING, STOPPING, FAILED):
            self._phase = READY

    def _expect_more(self) -> None:
        """There is something to do again: an answer has come."""
        if self._phase is SETTLED:
            self._phase = READY

    def _raise_trouble(self) -> None:
        """Raise what ended the run, or, once, why an answer was refused."""
        refusal, self._refusal = self._refusal, None
        trouble = self._failure if self._failure is not None else refusal
        if trouble is not None:
            raise trouble

    # ------------------------------------------------------------------------------- for the engine

    def emit(self, event: WorkflowEvent) -> None:
        """Take an event from the engine."""
        self._stream.emit(event)

    @property
    def reader(self) -> EventStream:
        """Tells the engine whether the consumer keeps up."""
        return self._stream

    def _next_unit(self) -> bool:
        """Return whether there is something to do or to say; at the end, say how the run stands."""
        if self._opened is None:
            return True
        runner = self._opened.runner
        if runner.flows or self._queued or runner.has_work or runner.next_due:
            return not self._is_drained
        if self._may_look() and not self._is_drained:
            return True
        if self._awaited and not self._is_drained:  # never asked: a unit that says so
            self._queued, self._awaited = self._awaited, {}
            return True
        if self._phase is SETTLED:
            return False
        self._phase = SETTLED
        if runner.status is WorkflowRunState.IDLE:
            for text in runner.leftovers():
                self.emit(WorkflowWarningEvent(text))
        self._stream.emit_state(runner.status)
        runner.rest(runner.status)
        is_waiting = runner.status is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
        self._on_waiting(list(runner.state.requests) if is_waiting else [])
        return bool(self._stream.events)

    @property
    def _is_drained(self) -> bool:
        return self._phase is DRAINING or self._phase is DRAINED

    def _may_look(self) -> bool:
        """Return whether others may have answered since the last superstep, or since the run was asked to go on."""
        if self._looked or self._opened is None or self._opened.store is None:
            return False
        return self._opened.runner.has_questions

    async def _do_unit_apart(self) -> None:
        """Do a unit of work in a task of its own, so that live events reach the consumer meanwhile."""
        try:
            await self._do_unit()
            if not self._stream.is_taken and self._store is not None:
                await self._store.release()  # parked: nobody knows when somebody will ask for more
            if not self._stream.is_taken:
                self._tell_rest()
        except Exception as error:
            if self._failure is None:
                self._failure = error
        except asyncio.CancelledError:
            self._note_interruption()
            raise
        except (KeyboardInterrupt, SystemExit):
            self._interrupted = asyncio.current_task()
            raise
        finally:
            self._end_work()

    def _end_work(self) -> None:
        self._work = None
        if self._phase is WORKING and self._failure is None:
            self._phase = READY
        elif self._phase is not STOPPING:
            self._rest()
        self._stream.wake()

    def _work_done(self, work: asyncio.Task[None]) -> None:
        """See to the end of work that was cancelled before its first step, too."""
        look_at(work)
        if self._work is work:
            self._note_interruption()
            self._end_work()

    def _note_interruption(self) -> None:
        """Have whoever waits learn that the work was cancelled, if this handle did not do it.

        When an event loop ends, it cancels whoever waits, too: then nobody is to be told.
        """
        if self._phase is WORKING and self._stream.is_awaited:
            self._refusal = WorkflowRuntimeError(
                f"run {self.run_id!r}: its work was cancelled by something else than its handle, "
                "such as a handler that cancels its own task. What was committed stays; iterate "
                "again, or wait_for_completion(), to go on."
            )

    async def _drive(self) -> None:
        """Do all units of work there are, for somebody who only wants the result."""
        clock = asyncio.get_running_loop().time
        turned = clock()
        try:
            while self._is_driven() and self._next_unit():
                await self._do_unit()
                if (
                    clock() - turned > TURN_SECONDS
                ):  # where nothing in a superstep waits, the loop has not turned
                    await asyncio.sleep(0)
                    turned = clock()
        except Exception as error:
            if self._failure is None:
                self._failure = error
        except asyncio.CancelledError:
            self._note_interruption()
            raise
        except (KeyboardInterrupt, SystemExit):
            self._interrupted = asyncio.current_task()
            raise
        finally:
            self._end_work()

    async def _drain(self) -> None:
        """Let the superstep under way end and be committed, or cut it short where handlers only sleep."""
        if self._phase is WORKING:
            self._phase = DRAINING
        elif self._phase in (READY, SETTLED):
            self._phase = DRAINED
        self._stream.hurry()
        work = self._work
        try:
            if work is not None:
                await self._finish(work)
        finally:
            async with self._turn.here():
                if self._hold is not None and self._phase is DRAINED:
                    await self._hold.release()
                self._tell_rest()
                self._stream.wake()

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """Wait for the end of a draining run's work, and cancel it once nothing goes on in it but sleep.

        Raises:
            CheckpointError: What has finished could not be recorded; the work is cancelled.
        """
        if self._opened is None:
            await asyncio.wait({work})  # it opens the run, and that is all
        else:
            runner = self._opened.runner
            runner.wake()
            while not work.done():
                asleep = asyncio.create_task(runner.asleep())
                try:
                    await asyncio.wait({work, asleep}, return_when=asyncio.FIRST_COMPLETED)
                    failed = asleep.done() and asleep.exception() is not None
                    # Looked at once more: somebody may have woken up since, and have a result to be recorded.
                    if failed or runner.is_asleep:
                        work.cancel()
                        await asyncio.wait({work})
                    if failed:
                        asleep.result()
                finally:
                    asleep.cancel()
                    await asyncio.gather(asleep, return_exceptions=True)
        self._work_done(work)

    def _is_driven(self) -> bool:
        is_wanted = self._phase is WORKING or self._phase is DRAINING
        return is_wanted and (
            self._stream.collector is not None and self._failure is None and self._refusal is None
        )

    def _left(self) -> None:
        """Give the lease up when the consumer leaves between two supersteps; after a superstep its task does."""
        self._stream.make_room()  # handlers need not wait for it any more
        if self._opened is not None:
            self._opened.runner.wake()  # nobody waits for the timer any more
        if self._work is None:
            self._tell_rest()
        if self._work is None and self._store is not None and not self._phase.has_ended:
            with suppress(
                RuntimeError
            ):  # no loop runs here any more: then the lease ends with the process
                self._parking = asyncio.get_running_loop().create_task(self._park(self._store))

    def _tell_rest(self, error: BaseException | None = None) -> None:
        """Tell an observer that the handle has nothing to do for the run any more, for now."""
        if self._opened is not None:
            self._opened.runner.rest(self._stream.state, error)

    async def _park(self, store: RunStore) -> None:
        with suppress(Exception):  # the lease expires by itself
            await store.release()

    def hold(self, store: RunStore | None) -> None:
        """Learn of the store through which the run is being opened."""
        self._hold = store

    async def _open(self) -> None:
        async with self._opening.here():
            if self._opened is not None or self._failure is not None:
                return  # somebody else was first
            if self.run_id:
                self.announce()
            with self._loading:
                self._opened = await self._open_run(self)
            self.announce()
            self._say_what_is_missing()
            for event in self._opened.runner.waiting_requests():
                self.emit(event)

    def _say_what_is_missing(self) -> None:
        """Say, once per run, which promises its storage cannot keep."""
        missing: Sequence[str] = (
            () if self._store is None else getattr(self._store.storage, "missing", ())
        )
        if missing:
            text = "Not every promise holds for this run. " + " ".join(missing)
            self.emit(WorkflowWarningEvent(text))
            warnings.warn(f"run {self.run_id!r}: {text}", PartialStorageWarning, stacklevel=2)

    def announce(self) -> None:
        """Say that the run begins, as soon as its id is known."""
        if self._stream.state is WorkflowRunState.STARTED:
            self.emit(WorkflowStartedEvent(run_id=self.run_id))
            self._stream.emit_state(WorkflowRunState.IN_PROGRESS)

    async def _do_unit(self) -> None:
        """Open the run, or take one superstep; a failure is kept for the consumer, after the events before it."""
        try:
            if self._opened is None:
                await self._open()
            else:
                runner = self._opened.runner
                asks = runner.has_questions
                if runner.flows and not self._queued:
                    self._stream.emit_state(
                        WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS
                        if asks
                        else WorkflowRunState.IN_PROGRESS
                    )
                elif not await self._get_ready(runner):
                    return
                self._looked = False
                with runner.at_work:
                    await runner.superstep()
                    if self._stream.collector is not None:
                        await self._take_more(runner, asks)
                if runner.has_questions and (
                    runner.flows or runner.status is not WorkflowRunState.IDLE
                ):
                    self._stream.emit_state(_PENDING)
        except asyncio.CancelledError as error:
            if self._hold is not None:
                await self._hold.release()
            if self._phase in (STOPPING, DRAINING) or is_cancelled():
                raise
            self._failure = WorkflowRuntimeError(
                f"run {self.run_id!r}: something that it waited for was cancelled"
            )
            self._failure.__cause__ = error
            await self._note_failure(self._failure)
        except UserCodeError as raised:
            self._failure = raised.error
            await self._note_failure(raised.error, raised.where)
        except RequestError as error:
            self._refusal = error
        except (RunFencedError, RunBusyError) as error:
            self._failure = error
            self._is_lost = True
            await self._note_failure(error, is_lost=True)
        except Exception as error:
            self._failure = error
            await self._note_failure(error)
        except (KeyboardInterrupt, SystemExit) as error:
            self._failure = error
            if self._hold is not None:
                with suppress(Exception):  # the lease expires by itself
                    await self._hold.release()
            raise
        except GeneratorExit:  # the event loop was closed; the run goes on in another one
            raise
        except BaseException as error:
            self._failure = error
            raise

    async def _get_ready(self, runner: Runner) -> bool:
        """Take what has come from outside, or wait for it; return whether to take a superstep."""
        await self._take_queued(runner)
        if not runner.has_work and self._may_look():
            self._looked = True
            await runner.look()
            return False
        self._stream.emit_state(runner.status)
        if runner.has_work:
            return True
        if self._stream.is_taken and not self._is_drained:
            await runner.wait()  # for a timer; whoever answers, drains or leaves ends the wait
        return False

    async def _take_more(self, runner: Runner, asks: bool) -> None:
        """Take further supersteps for somebody who only wants the result, while messages flow.

        Nothing but the messages has to be looked at between them, so they follow each other at once.

        Args:
            runner: Takes them.
            asks: Whether questions waited so far; where that changes, the consumer is told first.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + TURN_SECONDS
        while (
            runner.flows
            and runner.has_questions is asks
            and self._phase is WORKING
            and self._stream.collector is not None
            and not self._queued
            and clock() < until
        ):
            await runner.superstep()

    def answer_when_asked(self, responses: Mapping[str, Any]) -> None:
        """Have answers taken as soon as their questions are asked, which are on their way."""
        self._awaited.update(responses)

    async def _take_queued(self, runner: Runner) -> None:
        for request_id in self._awaited.keys() & runner.state.requests.keys():
            self._queued[request_id] = self._awaited.pop(request_id)
        queued, self._queued = self._queued, {}
        if queued:
            await runner.accept(queued)

    async def _note_failure(
        self, error: Exception, where: str = "", *, is_lost: bool = False
    ) -> None:
        """Record why the run stopped, give it up, and tell the consumer.

        Args:
            error: Why.
            where: In which executor and superstep, if the error's notes may not say so.
            is_lost: Whether the run belongs to somebody else.
        """
        self.announce()
        extra = {"run_id": self.run_id}
        details = WorkflowErrorDetails.from_exception(error, extra=extra)
        try:
            if self._store is not None and not is_lost:
                await self._store.release(
                    status=WorkflowRunState.FAILED.value, error=_text_of(error, where)
                )
        except Exception as second:
            annotate(error, f"and the failure could not be recorded: {described(second)}")
        self.emit(WorkflowFailedEvent(details))
        self._stream.emit_state(WorkflowRunState.FAILED)
        self._tell_rest(error)

    async def _stop(self) -> None:
        """Stop the work under way, for somebody who waited for its result and was cancelled."""
        async with self._stopped():
            self._tell_rest()

    @asynccontextmanager
    async def _stopped(self) -> AsyncIterator[None]:
        """Have the handle alone: work in flight is cancelled, and none begins meanwhile."""
        async with self._turn.here():
            before = self._phase
            if not before.has_ended:
                self._phase = STOPPING
            try:
                await self._stop_work()
                yield
            finally:
                if self._phase is STOPPING:
                    self._phase = before
                    if self._work is None:
                        self._rest()
                self._stream.make_room()
                self._stream.wake()

    async def _stop_work(self) -> None:
        """Cancel the work under way, though not amid a write, whose outcome must be known.

        A handler may catch the cancellation. Then its call does not count, no other one begins, and
        if it works on it is cancelled again, after a while in which others may clean up.
        """
        while (work := self._work) is not None and not self._was_left_behind(work):
            if self._opened is not None:
                self._opened.runner.stop()
            if self._hold is not None and self._hold.is_writing:
                await self._hold.written()
                if not work.done():
                    await asyncio.sleep(0)  # it learns of the outcome
            else:
                work.cancel()
                await asyncio.wait({work}, timeout=GRACE_SECONDS)
            if work.done():
                self._work_done(work)
        if self._parking is not None and not is_gone(self._parking):
            await asyncio.wait({self._parking})
        if self._hold is not None:
            await self._hold.release()


def _text_of(error: Exception, where: str) -> str:
    """Return an error as one text, with the executor and superstep in which it happened."""
    notes = notes_of(error)
    if where and where not in notes:
        notes.append(where)
    return "\n".join([described(error), *notes])


def is_cancelled() -> bool:
    """Return whether somebody has cancelled the current task; a handler may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
