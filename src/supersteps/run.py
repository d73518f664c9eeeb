"""`StreamingRun`: the handle of one run; iterate it for events, answer it, rewind it, end it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.record import CheckpointInfo
from supersteps.engine.runner import Runner
from supersteps.engine.store import RunStore
from supersteps.errors import (
    CheckpointingDisabledError,
    PartialStorageWarning,
    RequestError,
    RunBusyError,
    RunClosedError,
    RunFencedError,
    UnknownRequestError,
    WorkflowRuntimeError,
)
from supersteps.events import (
    WorkflowErrorDetails,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowRunState,
    WorkflowStartedEvent,
    WorkflowWarningEvent,
)
from supersteps.result import ResultCollector, WorkflowRunResult
from supersteps.stream import EventStream


@dataclass(frozen=True)
class Opened:
    """What opening a run gives.

    Attributes:
        runner: Advances it.
        store: Its hold on the storage, None without one.
    """

    runner: Runner
    store: RunStore | None


CheckpointReference = str | CheckpointInfo | WorkflowCheckpoint
"""A checkpoint by its id, its handle or itself."""


def reference_id(checkpoint: CheckpointReference) -> str:
    """Return the id of a checkpoint that is given in any way."""
    return checkpoint if isinstance(checkpoint, str) else checkpoint.checkpoint_id


class StreamingRun:
    """One run of a workflow: an asynchronous stream of its events, and its handle.

    Nothing runs before the first step of iteration. The engine goes on only while somebody asks for events: after a
    `break` the superstep under way is finished and committed, then nothing moves until the next iteration.

    Attributes:
        run_id: The run's id; for a resumed run known once it is opened.
    """

    def __init__(
        self,
        run_id: str,
        open_run: Callable[[StreamingRun], Awaitable[Opened]],
        *,
        on_waiting: Callable[[StreamingRun, list[str]], None],
        include_status_events: bool = False,
    ) -> None:
        """Prepare; workflows do this.

        Args:
            run_id: The run's id, empty while it is not known.
            open_run: Begins or loads the run, emitting through `emit`.
            on_waiting: Told when the run only waits for answers, with the ids of the questions.
            include_status_events: Whether results list status changes among the events.
        """
        self.run_id = run_id
        self._open_run = open_run
        self._on_waiting = on_waiting
        self._include_status_events = include_status_events
        self._queued: dict[str, Any] = {}
        self._opened: Opened | None = None
        self._hold: RunStore | None = None  # the store, also while the run is being opened
        self._stream = EventStream(self, self._left)
        self._work: asyncio.Task[None] | None = None
        self._parking: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()  # answers, restores and ends come one after the other
        self._steered = False
        self._failure: BaseException | None = None
        self._refusal: RequestError | None = None
        self._settled = False
        self._closed: str | None = None

    # -------------------------------------------------------------------------------------- looking

    @property
    def checkpoints(self) -> list[CheckpointInfo]:
        """The current lineage, iteration 0 first; the newest 10,000 of it. See `history` for all."""
        store = self._store
        return [] if store is None else list(store.lineage)

    @property
    def latest_checkpoint(self) -> CheckpointInfo | None:
        """The run's head, None while there is none."""
        store = self._store
        return store.lineage[-1] if store is not None and store.lineage else None

    async def history(self, page_size: int = 1000) -> AsyncIterator[CheckpointInfo]:
        """Go through the whole lineage, newest first.

        Args:
            page_size: How many checkpoints to read from the storage at once.
        """
        store = self._store
        if store is None or not store.lineage:
            return
        cursor: str | None = store.lineage[-1].checkpoint_id
        while cursor is not None:
            page = await store.storage.list_lineage(cursor, page_size)
            for info in reversed(page):
                yield info
            cursor = page[0].parent if page else None

    @property
    def _store(self) -> RunStore | None:
        return self._opened.store if self._opened is not None else None

    @property
    def is_stored(self) -> bool:
        """Whether the run has a storage."""
        return self._store is not None

    def waits_for(self, request_id: str) -> bool:
        """Return whether the run, as this handle knows it, waits for an answer to this question."""
        return self._closed is None and self._opened is not None and request_id in self._opened.runner.state.requests

    def is_active(self) -> bool:
        """Return whether somebody is driving the run at this moment."""
        if self._closed is not None:
            return False
        return self._work is not None or self._stream.is_taken

    # ------------------------------------------------------------------------------------ consuming

    def __aiter__(self) -> AsyncIterator[WorkflowEvent]:
        """Iterate over the events that have not been delivered yet, and drive the run.

        Raises:
            StreamBusyError: Somebody else is iterating.
        """
        self._check_open()
        return self._stream.iterate(self)

    def watch_stream(self) -> AsyncIterator[WorkflowEvent]:
        """Return the same stream by name."""
        return self.__aiter__()

    async def wait_for_completion(self) -> WorkflowRunResult:
        """Drive the run until it is done or only waits for answers.

        Returns:
            The events not delivered before, and every output of the lineage.

        Raises:
            Exception: What ended the run, if it failed.
        """
        self._check_open()
        stream = self._stream
        stream.collect(ResultCollector(include_status_events=self._include_status_events))
        try:
            while await self._advance(self._drive):
                pass
            if self._closed == "closed":
                self._check_open()
            complete = not stream.delivered_some
            collector = stream.collector  # a restore begins a new one
            assert collector is not None
        except asyncio.CancelledError:
            await self._stop_work()
            raise
        finally:
            stream.collector = None
            stream.delivered_some = True
        return collector.result(self.run_id, await self._all_outputs(collector, complete))

    async def _all_outputs(self, collector: ResultCollector, complete: bool) -> list[Any] | None:
        """Return every output of the lineage; `complete` says that the collector saw all that this handle committed."""
        if self._opened is None:
            return None
        runner = self._opened.runner
        if not complete:
            stored = await runner.stored_outputs()
            return stored if stored is not None else runner.outputs()
        return runner.earlier_outputs() + collector.new_outputs()

    async def next_event(self) -> WorkflowEvent:
        """Return the next event; the iterator's step.

        Raises:
            StopAsyncIteration: The run is done, or only waits for answers.
            Exception: What ended the run.
        """
        while not self._stream.events:
            if not await self._advance(self._do_unit_apart):
                raise StopAsyncIteration
        self._stream.delivered_some = True
        return self._stream.events.popleft()

    async def _advance(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have work begun or wait for it; return False where the stream ends.

        Args:
            work: What to begin, in a task of its own, when nothing is under way.

        Raises:
            Exception: What ended the run.
        """
        if self._work is not None or self._steered:
            await self._stream.wait()
        elif self._failure is not None or self._refusal is not None:
            self._raise_trouble()
        elif self._closed is not None or not self._next_unit():
            return False
        elif not self._stream.events:
            self._work = asyncio.create_task(work(), name=f"supersteps:{self.run_id}")
            self._work.add_done_callback(self._work_done)
        return True

    def _raise_trouble(self) -> None:
        """Raise what ended the run, or, once, why an answer was refused."""
        refusal, self._refusal = self._refusal, None
        trouble = self._failure or refusal
        if trouble is not None:
            raise trouble

    def _check_open(self) -> None:
        if self._closed is not None and not self._stream.events:
            raise RunClosedError(
                f"run {self.run_id!r} was {self._closed} through this handle. Resume it by "
                "workflow.run_from_checkpoint() with its latest checkpoint."
            )

    # -------------------------------------------------------------------------------------- driving

    def emit(self, event: WorkflowEvent) -> None:
        """Take an event from the engine."""
        self._stream.emit(event)

    def _next_unit(self) -> bool:
        """Return whether there is something to do or to say; at the end, say how the run stands."""
        if self._opened is None or self._queued or self._opened.runner.has_work:
            return True
        if self._settled:
            return False
        self._settled = True
        runner = self._opened.runner
        if runner.status is WorkflowRunState.IDLE:
            for text in runner.leftovers():
                self.emit(WorkflowWarningEvent(text))
        self._stream.emit_state(runner.status)
        if runner.status is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
            self._on_waiting(self, list(runner.state.requests))
        return bool(self._stream.events)

    async def _do_unit_apart(self) -> None:
        """Do a unit of work in a task of its own, so that live events reach the consumer meanwhile."""
        try:
            await self._do_unit()
            if not self._stream.is_taken and self._store is not None:
                await self._store.release()  # parked: nobody knows when somebody will ask for more
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._work = None
            self._stream.wake()

    def _work_done(self, work: asyncio.Task[None]) -> None:
        """See to the end of a task that was cancelled before its first step, too."""
        _look_at(work)
        if self._work is work:
            self._work = None
            self._stream.wake()

    async def _drive(self) -> None:
        """Do all units of work there are, for somebody who only wants the result."""
        try:
            while self._is_driven() and self._next_unit():
                await self._do_unit()
        except Exception as error:
            self._failure = self._failure or error
        finally:
            self._work = None
            self._stream.wake()

    def _is_driven(self) -> bool:
        is_wanted = self._stream.collector is not None and not self._steered and self._closed is None
        return is_wanted and self._failure is None and self._refusal is None

    def _left(self) -> None:
        """Give the lease up when the consumer leaves between two supersteps; after a superstep its task does."""
        if self._work is None and self._store is not None and self._closed is None:
            with suppress(RuntimeError):  # no loop runs here any more: then the lease ends with the process
                self._parking = asyncio.get_running_loop().create_task(self._park(self._store))

    async def _park(self, store: RunStore) -> None:
        with suppress(Exception):  # the lease expires by itself
            await store.release()

    def hold(self, store: RunStore | None) -> None:
        """Learn of the store through which the run is being opened."""
        self._hold = store

    async def _open(self) -> None:
        async with self._opening:
            if self._opened is not None or self._failure is not None:
                return  # somebody else was first
            if self.run_id:
                self.announce()
            self._opened = await self._open_run(self)
            self.announce()
            self._say_what_is_missing()
            for event in self._opened.runner.waiting_requests():
                self.emit(event)

    def _say_what_is_missing(self) -> None:
        """Say, once per run, which promises its storage cannot keep."""
        missing: Sequence[str] = () if self._store is None else getattr(self._store.storage, "missing", ())
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
        self._settled = False
        try:
            if self._opened is None:
                await self._open()
            else:
                runner = self._opened.runner
                await self._take_queued(runner)
                self._stream.emit_state(runner.status)
                await runner.superstep()
                if runner.status is not WorkflowRunState.IDLE and runner.state.requests:
                    self._stream.emit_state(WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS)
        except asyncio.CancelledError as error:
            if self._hold is not None:
                await self._hold.release()
            if is_cancelled():
                raise
            self._failure = WorkflowRuntimeError(f"run {self.run_id!r}: something that it waited for was cancelled")
            self._failure.__cause__ = error
            await self._note_failure(self._failure)
        except RequestError as error:
            self._refusal = error
        except Exception as error:
            self._failure = error
            await self._note_failure(error)
        except BaseException as error:
            self._failure = error
            raise

    async def _take_queued(self, runner: Runner) -> None:
        queued, self._queued = self._queued, {}
        if queued:
            await runner.accept(queued)

    async def _note_failure(self, error: Exception) -> None:
        """Record why the run stopped, give it up, and tell the consumer."""
        self.announce()
        extra = {"run_id": self.run_id}
        details = WorkflowErrorDetails.from_exception(error, extra=extra)
        try:
            if self._store is not None and not isinstance(error, RunFencedError | RunBusyError):
                await self._store.release(
                    status=WorkflowRunState.FAILED.value, error=f"{type(error).__name__}: {error}"
                )
        except Exception as second:
            error.add_note(f"and the failure could not be recorded: {type(second).__name__}: {second}")
        self.emit(WorkflowFailedEvent(details))
        self._stream.emit_state(WorkflowRunState.FAILED)

    # ------------------------------------------------------------------------------------- steering

    async def send_response(self, request_id: str, response: Any) -> None:
        """Answer a question; the answer is durable when this returns, and the next superstep consumes it.

        Inside the loop the stream goes on; after its end, iterate again.

        Raises:
            RequestError: The answer cannot be taken; nothing was changed.
        """
        await self.send_responses({request_id: response})

    async def send_responses(self, responses: Mapping[str, Any]) -> None:
        """Answer several questions, all or none.

        Raises:
            RequestError: One of the answers cannot be taken; nothing was changed.
        """
        async with self._turn:
            # An answer is taken or it is not: whoever is cancelled meanwhile is told so only afterwards.
            task = asyncio.ensure_future(self._accept(responses))
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                if not task.done():
                    await asyncio.wait({task})
                _look_at(task)
                raise

    async def _accept(self, responses: Mapping[str, Any]) -> None:
        self._check_open()
        if self._opened is None:
            await self._do_unit()
            self._raise_trouble()
        if self._opened is None:
            raise UnknownRequestError(f"run {self.run_id!r} has not begun: it asks nothing yet")
        await self._opened.runner.accept(responses)
        self._settled = False

    def queue_responses(self, responses: Mapping[str, Any]) -> None:
        """Have answers taken at the next step of iteration, which raises a `RequestError` if they cannot be.

        Raises:
            StreamBusyError: Somebody else is iterating.
        """
        self._stream.check_free()
        self._queued.update(responses)
        self._settled = False

    async def restore_checkpoint(self, checkpoint: CheckpointReference) -> None:
        """Rewind this very run: work in flight is cancelled, undelivered events are dropped, then iterate again.

        Args:
            checkpoint: A checkpoint of this run, on any branch; the abandoned branch stays readable.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
            CheckpointingDisabledError: The run has no storage.
        """
        self._check_open()
        async with self._steering():
            self._check_open()
            if self._opened is None:
                await self._do_unit()
                self._raise_trouble()
            assert self._opened is not None
            if self._opened.store is None:
                raise CheckpointingDisabledError(
                    f"run {self.run_id!r} has no checkpoints to restore: build its workflow "
                    "with_checkpointing(checkpoint_storage=...)"
                )
            runner = self._opened.runner
            await runner.restore(reference_id(checkpoint))
            self._stream.begin_anew()
            self._queued.clear()
            self._failure = self._refusal = None
            self._settled = False
            self._stream.emit_state(WorkflowRunState.IN_PROGRESS)
            for event in runner.waiting_requests():
                self.emit(event)

    async def cancel(self) -> None:
        """End the run: work in flight is cancelled, and the storage notes that it was.

        The stream ends with the status CANCELLED. Its checkpoints stay. A run that is done stays done.
        """
        async with self._steering():
            if self._closed is not None:
                return
            is_done = self._opened is not None and self._opened.runner.status is WorkflowRunState.IDLE
            if not is_done:
                if self._store is not None and self._failure is None:
                    await self._store.own()
                    await self._store.release(status=WorkflowRunState.CANCELLED.value)
                self._stream.events.clear()
                self._stream.emit_state(WorkflowRunState.CANCELLED)
            self._close("cancelled")

    async def aclose(self) -> None:
        """Let go of the run: work in flight is cancelled, the run itself can be resumed."""
        async with self._steering():
            if self._closed is not None:
                return
            self._stream.events.clear()
            self._close("closed")
            if self._store is not None:
                await self._store.release()

    def _close(self, how: str) -> None:
        self._closed = how
        self._stream.is_closed = True

    @asynccontextmanager
    async def _steering(self) -> AsyncIterator[None]:
        """Have the handle alone: work in flight is cancelled, and none begins meanwhile."""
        async with self._turn:
            self._steered = True
            try:
                await self._stop_work()
                yield
            finally:
                self._steered = False
                self._stream.wake()

    async def _stop_work(self) -> None:
        """Cancel the work under way, though not amid a write: what was committed must be known to be."""
        while (work := self._work) is not None:
            if self._hold is not None and self._hold.is_writing:
                await self._hold.written()
            else:
                work.cancel()
                await asyncio.wait({work})
                self._work_done(work)
        if self._parking is not None:
            await asyncio.wait({self._parking})
        if self._hold is not None:
            await self._hold.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"StreamingRun(run_id={self.run_id!r}, state={self._stream.state.value})"


def is_cancelled() -> bool:
    """Return whether somebody has cancelled the current task; a handler may also raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _look_at(task: asyncio.Task[None]) -> None:
    """Take note of what ended a task: SystemExit and the like stop the event loop by themselves."""
    if not task.cancelled():
        task.exception()
