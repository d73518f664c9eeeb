"""`RunWork`: the work of a run: opening it, then each superstep."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from supersteps._error_texts import annotate, described, notes_of
from supersteps.engine.event_loops import LoopLock
from supersteps.engine.hooks import Holder
from supersteps.engine.run_store import RunStore
from supersteps.engine.runner import Runner
from supersteps.engine.user_code import Stretch, UserCodeError
from supersteps.errors import (
    PartialStorageWarning,
    RequestError,
    RunBusyError,
    RunFencedError,
    WorkflowRuntimeError,
)
from supersteps.events import (
    WorkflowErrorDetails,
    WorkflowFailedEvent,
    WorkflowStartedEvent,
    WorkflowWarningEvent,
)
from supersteps.run.phases import DRAINING, SETTLED, STOPPING, WORKING, Life
from supersteps.run.stream import EventStream
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import capabilities_of

_PENDING = WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS

TURN_SECONDS = 0.02
"""How long supersteps may block the event loop before other tasks have their turn."""


@dataclass(frozen=True)
class Opened:
    """An opened run.

    Attributes:
        runner: Advances it.
        store: Its access to the storage, None without one.
    """

    runner: Runner
    store: RunStore | None


class Origin(Protocol):
    """The origin of a run: a new input, a checkpoint, another run, an answer."""

    @property
    def run_id(self) -> str:
        """The run's id, empty while it is not known."""

    @property
    def begins_anew(self) -> bool:
        """Whether opening the run creates it; then only iterating may open it."""

    async def open(self, work: RunWork) -> Opened:
        """Start the run or load it; called again if an earlier attempt was interrupted."""

    def note_waiting(self, handle: Holder, request_ids: Sequence[str]) -> None:
        """Record the questions of a run that only waits; none if it has ended."""


class RunWork:
    """The work of one run, one unit after the other: opening it, then each superstep.

    A failure is kept until the events before it are taken.

    Attributes:
        run_id: The run's id; for a resumed run known once it is opened.
        origin: The run's origin.
        stream: Takes the events.
        handle: The run's handle.
        runner: Advances the run, None before it is opened.
        store: Its access to the storage, None without one or before it is opened.
        hold: The same store, set as soon as the run is being opened.
        loading: Entered while hooks load attributes, to exclude other work.
        has_looked: Whether the inbox was read since the last superstep.
        waits_for_timers: Whether a run that has nothing to do before a timer is due waits for it;
            else it rests.
    """

    def __init__(self, origin: Origin, stream: EventStream, life: Life, handle: Holder) -> None:
        self.run_id = origin.run_id
        self.origin = origin
        self.stream = stream
        self.handle = handle
        self.runner: Runner | None = None
        self.store: RunStore | None = None
        self.hold: RunStore | None = None
        self.loading = Stretch()
        self.has_looked = False
        self.waits_for_timers = True
        self._life = life
        self._queued: dict[str, Any] = {}
        self._awaited: dict[str, Any] = {}  # answers to questions in flight
        self._opening = LoopLock()

    # ------------------------------------------------------------------------------------ the units

    def has_next(self) -> bool:
        """Return whether there is work or an event; at the end, report the run's state."""
        runner, life = self.runner, self._life
        if runner is None:
            return True
        if runner.flows or self._queued or runner.has_work:
            return not life.is_drained
        if self.waits_for_timers and runner.next_due:
            return not life.is_drained
        if self._may_look(runner) and not life.is_drained:
            return True
        if self._awaited and not life.is_drained:  # never asked: one more unit reports it
            self._queued, self._awaited = self._awaited, {}
            return True
        if life.phase is SETTLED:
            return False
        life.settle()
        status = runner.status
        if status is WorkflowRunState.IDLE:
            for text in runner.leftovers():
                self.stream.emit(WorkflowWarningEvent(text))
        self.stream.emit_state(status)
        runner.rest(status)
        is_waiting = status is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
        self.origin.note_waiting(self.handle, list(runner.state.requests) if is_waiting else [])
        return bool(self.stream.events)

    def _may_look(self, runner: Runner) -> bool:
        """Return whether others may have answered since the last superstep or request."""
        return not self.has_looked and self.store is not None and runner.has_questions

    async def do(self) -> None:
        """Open the run, or take one superstep; errors are kept for the consumer."""
        life = self._life
        try:
            if self.runner is None:
                await self._open()
            else:
                await self._advance(self.runner)
        except asyncio.CancelledError as error:
            if self.hold is not None:
                await self.hold.release()
            if life.phase in (STOPPING, DRAINING) or _is_cancelled():
                raise
            failure = WorkflowRuntimeError(
                f"run {self.run_id!r}: something that it waited for was cancelled"
            )
            failure.__cause__ = error
            await self._fail(failure)
        except UserCodeError as raised:
            await self._fail(raised.error, raised.where)
        except RequestError as error:
            life.refusal = error
        except (RunFencedError, RunBusyError) as error:
            life.is_lost = True
            await self._fail(error)
        except Exception as error:
            await self._fail(error)
        except (KeyboardInterrupt, SystemExit) as error:
            life.failure = error
            if self.hold is not None:
                with suppress(Exception):  # the lease expires by itself
                    await self.hold.release()
            raise
        except GeneratorExit:  # the event loop was closed; the run can continue in another one
            raise
        except BaseException as error:
            life.failure = error
            raise

    async def _fail(self, error: Exception, where: str = "") -> None:
        """Record why the run stopped, release it, and report it to the consumer.

        Args:
            error: The reason.
            where: The executor and superstep, if the error's notes may not have them.
        """
        self._life.failure = error
        self._announce()
        details = WorkflowErrorDetails.from_exception(error, extra={"run_id": self.run_id})
        try:
            if self.store is not None and not self._life.is_lost:
                await self.store.release(
                    status=WorkflowRunState.FAILED.value, error=_text_of(error, where)
                )
        except Exception as second:
            annotate(error, f"and the failure could not be recorded: {described(second)}")
        self.stream.emit(WorkflowFailedEvent(details))
        self.stream.emit_state(WorkflowRunState.FAILED)
        self.tell_rest(error)

    def tell_rest(self, error: BaseException | None = None) -> None:
        """Report to an observer that the handle has no more work for the run, for now."""
        if self.runner is not None:
            self.runner.rest(self.stream.state, error)

    # -------------------------------------------------------------------------------- opening a run

    async def _open(self) -> None:
        async with self._opening.here():
            if self.runner is not None or self._life.failure is not None:
                return  # another task was faster
            if self.run_id:
                self._announce()
            with self.loading:
                opened = await self.origin.open(self)
            self.runner, self.store = opened.runner, opened.store
            self.has_looked = True  # the inbox was read just now
            self._announce()
            self._say_what_is_missing()
            for event in opened.runner.waiting_requests():
                self.stream.emit(event)

    def begin_with(self, store: RunStore | None) -> None:
        """Set the store of the run that is being opened; its id is known now."""
        self.hold = store
        self._announce()

    def _announce(self) -> None:
        """Report once that the run starts."""
        if self.stream.state is WorkflowRunState.STARTED:
            self.stream.emit(WorkflowStartedEvent(run_id=self.run_id))
            self.stream.emit_state(WorkflowRunState.IN_PROGRESS)

    def _say_what_is_missing(self) -> None:
        """Warn, once per run, about guarantees that its storage cannot keep."""
        missing = () if self.store is None else capabilities_of(self.store.storage).missing
        if missing:
            text = "Not all guarantees hold for this run. " + " ".join(missing)
            self.stream.emit(WorkflowWarningEvent(text))
            warnings.warn(f"run {self.run_id!r}: {text}", PartialStorageWarning, stacklevel=2)

    # ----------------------------------------------------------------------------------- supersteps

    async def _advance(self, runner: Runner) -> None:
        """Take a superstep (several for a caller that only wants the result), or await a timer."""
        asks = runner.has_questions
        if runner.flows and not self._queued:
            self.stream.emit_state(_PENDING if asks else WorkflowRunState.IN_PROGRESS)
        elif not await self._get_ready(runner):
            return
        self.has_looked = False
        with runner.at_work:
            await runner.superstep()
            if self.stream.collector is not None:
                await self._take_more(runner, asks)
        if runner.has_questions and (runner.flows or runner.status is not WorkflowRunState.IDLE):
            self.stream.emit_state(_PENDING)

    async def _get_ready(self, runner: Runner) -> bool:
        """Take input from outside, or wait for it; return whether to take a superstep."""
        await self._take_queued(runner)
        if not runner.has_work and self._may_look(runner):
            self.has_looked = True
            await runner.look()
            return False
        self.stream.emit_state(runner.status)
        if runner.has_work:
            return True
        if self.stream.is_taken and not self._life.is_drained:
            await (
                runner.wait()
            )  # for a timer; an answer, a drain or a leaving consumer ends the wait
        return False

    async def _take_more(self, runner: Runner, asks: bool) -> None:
        """Take more supersteps for a caller that only wants the result, while messages flow.

        Only messages have to be checked between them, so they follow at once.

        Args:
            runner: Takes them.
            asks: Whether questions waited so far; if that changes, it is reported first.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + TURN_SECONDS
        while (
            runner.flows
            and runner.has_questions is asks
            and self._life.phase is WORKING
            and self.stream.collector is not None
            and not self._queued
            and clock() < until
        ):
            await runner.superstep()

    # ------------------------------------------------------------------------------ answers to take

    def queue_answers(self, responses: Mapping[str, Any]) -> None:
        """Let the next unit accept answers."""
        self._queued.update(responses)

    def answer_when_asked(self, responses: Mapping[str, Any]) -> None:
        """Accept answers as soon as their questions, which are in flight, are asked."""
        self._awaited.update(responses)

    def forget_answers(self) -> None:
        """Drop answers that were not accepted yet, because the run was restored."""
        self._queued.clear()
        self._awaited.clear()

    async def _take_queued(self, runner: Runner) -> None:
        for request_id in self._awaited.keys() & runner.state.requests.keys():
            self._queued[request_id] = self._awaited.pop(request_id)
        queued, self._queued = self._queued, {}
        if queued:
            await runner.accept(queued)


def _text_of(error: Exception, where: str) -> str:
    """Return an error as one text, with the executor and superstep in which it happened."""
    notes = notes_of(error)
    if where and where not in notes:
        notes.append(where)
    return "\n".join([described(error), *notes])


def _is_cancelled() -> bool:
    """Return whether this task was cancelled; a handler may raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
