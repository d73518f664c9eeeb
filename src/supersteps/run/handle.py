"""`StreamingRun`: the handle of a run, to iterate, answer, restore or end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from supersteps._notebook import Shown
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.event_loops import outlast
from supersteps.engine.runner import Runner
from supersteps.engine.time_travel.resume_point import CheckpointReference, reference_id
from supersteps.engine.user_code import UserCodeError
from supersteps.errors import (
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    RunClosedError,
    UnknownRequestError,
)
from supersteps.events import WorkflowEvent
from supersteps.run.driver import RunDriver
from supersteps.run.phases import CANCELLED, CLOSED, Phase
from supersteps.run.result import ResultCollector, WorkflowRunResult
from supersteps.run.work import Origin
from supersteps.states import WorkflowRunState


class StreamingRun(RunDriver, Shown):
    """One run of a workflow: an asynchronous stream of its events, and its handle.

    Nothing runs before the first step of iteration. The engine works only while a consumer waits
    for events: after a `break`, the current superstep is finished and committed, then nothing runs
    until the next iteration. Iterate over it to watch a run; use `wait_for_completion()` if only
    the result matters.

    Attributes:
        run_id: The run's id; of a resumed run, known once it is opened.
    """

    def __init__(self, origin: Origin, *, include_status_events: bool = False) -> None:
        """Workflows create the handles of their runs: `run_stream`, `fork` and others.

        Args:
            origin: Where the run comes from.
            include_status_events: Whether results list status changes among the events.
        """
        super().__init__(origin)
        self._include_status_events = include_status_events

    # -------------------------------------------------------------------------------------- looking

    @property
    def checkpoints(self) -> list[CheckpointInfo]:
        """The newest 10,000 checkpoints of the lineage, oldest first. See `history` for all.

        For a resumed run, the first access reads them from the storage and blocks the event loop
        meanwhile; `history` reads them page by page without blocking.
        """
        store = self._work.store
        return [] if store is None else store.lineage.infos()

    @property
    def state(self) -> WorkflowRunState:
        """The run's state, as last reported by the stream."""
        return self._stream.state

    @property
    def latest_checkpoint(self) -> CheckpointInfo | None:
        """The run's head, None if there is none yet."""
        store = self._work.store
        return None if store is None else store.lineage.head

    async def history(self, page_size: int = 1000) -> AsyncIterator[CheckpointInfo]:
        """Yield the whole lineage, newest first.

        Args:
            page_size: Number of checkpoints to read from the storage at once.
        """
        store = self._work.store
        if store is None or store.lineage.head is None:
            return
        run = await store.look_up()
        if run is None or run.incarnation != store.incarnation:
            return  # it was deleted; its id belongs to another run now
        cursor: str | None = store.lineage.head.checkpoint_id
        while cursor is not None:
            page = await store.storage.list_lineage(cursor, page_size)
            for info in reversed(page):
                yield info
            cursor = page[0].parent if page else None

    def snapshot(self) -> WorkflowCheckpoint:
        """Return the state that a replay has reached, to inspect or `diff`; it is not stored.

        Raises:
            CheckpointingDisabledError: This is not a replay, or it has not started.
        """
        if self._work.runner is None:
            raise CheckpointingDisabledError(
                "nothing was replayed yet: iterate the handle or wait_for_completion() first"
            )
        return self._work.runner.snapshot()

    # ------------------------------------------------------------------------------------ consuming

    def __aiter__(self) -> AsyncIterator[WorkflowEvent]:
        """Iterate over the events that have not been delivered yet, and drive the run.

        Raises:
            CalledFromHandlerError: A handler of this run called it.
            StreamBusyError: There is another consumer.
        """
        self._check_open()
        self._refuse_inside("iterating over its handle")
        iterator = self._stream.iterate()
        self._go_on()
        return iterator

    def watch_stream(self) -> AsyncIterator[WorkflowEvent]:
        """Return the same stream as `aiter(run)`."""
        return self.__aiter__()

    async def wait_for_completion(self) -> WorkflowRunResult:
        """Drive the run until it has completed or only waits for answers.

        Returns:
            The events not delivered before, and every output of the lineage.

        Raises:
            Exception: The error of the run, if it failed.
        """
        self._check_open()
        self._refuse_inside("run.wait_for_completion()")
        stream = self._stream
        hold = stream.collect(ResultCollector(include_status_events=self._include_status_events))
        self._go_on()
        try:
            while await self._advance(self._do_all):
                pass
            if self._life.phase is CLOSED:
                self._check_open()
            complete = not stream.delivered_some
            collector = stream.collector  # a restore starts a new one
            assert collector is not None
        except asyncio.CancelledError:
            await outlast(self._stop())
            raise
        finally:
            stream.release(hold)
            stream.delivered_some = True
        return collector.result(
            self.run_id, await self._all_outputs(collector, complete), stream.state
        )

    async def drive_to_rest(self, collector: ResultCollector) -> None:
        """Drive the run until there is nothing to do for now, or it is drained.

        Args:
            collector: Takes the events.

        Raises:
            Exception: What ended the run, if it failed.
        """
        hold = self._stream.collect(collector)
        self._go_on()
        try:
            while await self._advance(self._do_all):
                pass
        except asyncio.CancelledError:
            await outlast(self._stop())
            raise
        finally:
            self._stream.release(hold)

    async def outcome(self) -> WorkflowRunResult:
        """Drive the run, or wait for its driver; return the result.

        Returns:
            The events not delivered before, and every output of the lineage; if another consumer
            had the events, the waiting questions.

        Raises:
            StreamBusyError: The calling task itself consumes the run's events.
            Exception: The error of the run, if it failed.
        """
        self._refuse_inside("waiting for its outcome")
        has_waited = self._stream.is_taken
        while self._stream.is_taken:
            await self._stream.freed()
        result = await self.wait_for_completion()
        if has_waited and self._work.runner is not None and not result.get_request_info_events():
            result.extend(self._work.runner.waiting_requests())
        return result

    async def answer(self, responses: Mapping[str, Any]) -> None:
        """Answer several questions, for a caller that then waits for the run.

        Raises:
            StreamBusyError: The calling task itself consumes the run's events.
            RequestError: One of the answers was refused; nothing was changed.
        """
        self._refuse_inside("waiting for its outcome")
        self._stream.check_not_own()
        await self.send_responses(responses)

    async def _all_outputs(self, collector: ResultCollector, complete: bool) -> list[Any] | None:
        """Return every output of the lineage, None for a run that could not be opened.

        Args:
            collector: Has the outputs that were committed since the last wait.
            complete: Whether it has all outputs that this handle committed.
        """
        runner = self._work.runner
        if runner is None:
            return None
        if not complete:
            stored = await runner.stored_outputs()
            return stored if stored is not None else runner.outputs()
        return runner.earlier_outputs() + collector.new_outputs()

    def _check_open(self) -> None:
        if self._life.has_ended and not self._stream.events:
            raise RunClosedError(
                f"run {self.run_id!r} was {self._life.phase.name.lower()} through this handle. "
                "Resume it with workflow.run_from_checkpoint() and its latest checkpoint."
            )

    # ------------------------------------------------------------------------------------- steering

    async def send_response(self, request_id: str, response: Any) -> None:
        """Answer a question.

        The answer is durable when this returns, and the next superstep consumes it. Inside a loop
        over the events, the stream continues; after its end, iterate again.

        Raises:
            RequestError: The answer was refused; nothing was changed.
        """
        await self.send_responses({request_id: response})

    async def send_responses(self, responses: Mapping[str, Any]) -> None:
        """Answer several questions, all or none.

        Raises:
            RequestError: One of the answers was refused; nothing was changed.
        """
        self._refuse_while_loading("run.send_responses()")
        async with self._turn.here():
            # Answers are accepted or not: a cancellation meanwhile is raised afterwards.
            await outlast(self._accept(responses))

    async def _accept(self, responses: Mapping[str, Any]) -> None:
        self._check_open()
        runner = await self._ready_to_answer()
        await runner.accept(responses)
        self._life.expect_more()

    async def _ready_to_answer(self) -> Runner:
        """Return the run's runner, opened unless it would have to be created.

        Raises:
            UnknownRequestError: It does not exist yet, or could not be opened, so it has no
                questions.
        """
        if self._work.runner is None and self._work.origin.begins_anew:
            raise UnknownRequestError(
                f"run {self.run_id!r} has not started, so it has no questions: iterate it or "
                "wait_for_completion() first"
            )
        runner = await self._ready()
        if runner is None:
            raise UnknownRequestError(
                f"run {self.run_id!r} could not be opened, so it has no questions"
            )
        return runner

    async def _ready(self) -> Runner | None:
        """Return the run's runner, opened if necessary; None if another task could not open it.

        Raises:
            Exception: The reason why it could not be opened.
        """
        if self._work.runner is None:
            await self._work.do()
            self._life.raise_trouble()
        return self._work.runner

    async def restore_checkpoint(self, checkpoint: CheckpointReference) -> None:
        """Restore this run to one of its checkpoints; iterate again to continue from there.

        Running work is cancelled, and undelivered events are dropped. To leave this run unchanged
        and try something else, use `Workflow.fork`.

        Args:
            checkpoint: A checkpoint of this run, on any branch; the present branch stays
                readable.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
            CheckpointingDisabledError: The run has no storage.
            CalledFromHandlerError: A handler of this run called it.
            Exception: The exception of an executor's `on_checkpoint_restored`.
        """
        self._check_open()
        self._refuse_inside("run.restore_checkpoint()")
        try:
            await outlast(self._restore(reference_id(checkpoint)))
        except UserCodeError as raised:
            error = raised.error
        else:
            return
        raise error

    async def _restore(self, checkpoint_id: str) -> None:
        async with self._stopped():
            self._check_open()
            if self._work.runner is None and self._work.origin.begins_anew:
                raise CheckpointNotFoundError(
                    f"run {self.run_id!r} has not started, so it has no checkpoints: iterate it or "
                    "wait_for_completion() first"
                )
            runner = await self._ready()
            assert runner is not None
            if self._work.store is None:
                raise CheckpointingDisabledError(
                    f"run {self.run_id!r} has no checkpoints to restore: build its workflow "
                    "with_checkpointing(checkpoint_storage=...)"
                )
            with self._work.loading:
                await runner.restore(checkpoint_id)
            self._stream.begin_anew()
            self._work.forget_answers()
            self._life.rewind()
            self._stream.emit_state(WorkflowRunState.IN_PROGRESS)
            for event in runner.waiting_requests():
                self._stream.emit(event)

    async def cancel(self) -> None:
        """Cancel the run: running work is cancelled, and the run's state becomes CANCELLED.

        The checkpoints are retained, and a completed run stays completed. To stop a run that will
        be resumed later, use `drain` or `aclose`. If the calling task is cancelled meanwhile, that
        is raised once the run is cancelled.

        Raises:
            CalledFromHandlerError: A handler of this run called it.
        """
        self._refuse_inside("run.cancel()")
        await outlast(self._cancel())

    async def _cancel(self) -> None:
        async with self._stopped():
            if self._life.has_ended:
                return
            if self._work.runner is None or self._work.runner.status is not WorkflowRunState.IDLE:
                await self._note_cancelled()
                self._stream.events.clear()
                self._stream.emit_state(WorkflowRunState.CANCELLED)
            self._close(CANCELLED)

    async def _note_cancelled(self) -> None:
        """Store that the run was cancelled, unless it has failed before."""
        store = self._work.store
        if store is None or self._life.failure is not None:
            return
        try:
            await store.own()
        except CheckpointNotFoundError:  # the checkpoint to continue from was pruned
            await store.own_where_it_stands()
        await store.release(status=WorkflowRunState.CANCELLED.value)

    async def cancel_request(self, request_id: str) -> None:
        """Cancel a question: it can no longer be answered, and its executor gets no answer.

        The next superstep closes it.

        Raises:
            RequestError: The question does not wait.
        """
        self._refuse_while_loading("run.cancel_request()")
        async with self._turn.here():
            self._check_open()
            runner = await self._ready_to_answer()
            await runner.cancel_request(request_id)
            self._life.expect_more()

    async def drain(self) -> None:
        """Let the current superstep end and be committed, then stop; iterate again to continue.

        Handlers that sleep (`ctx.sleep_until`) are interrupted; they sleep for the rest of their
        time when the run continues.

        Raises:
            CalledFromHandlerError: A handler of this run called it.
        """
        self._refuse_inside("run.drain()")
        await self._drain()

    async def aclose(self) -> None:
        """Release the run: running work is cancelled, and the run can be resumed.

        If the calling task is cancelled meanwhile, that is raised once the handle is closed.

        Raises:
            CalledFromHandlerError: A handler of this run called it.
        """
        self._refuse_inside("run.aclose()")
        await outlast(self._aclose())

    async def _aclose(self) -> None:
        async with self._stopped():
            if self._life.has_ended:
                return
            self._stream.events.clear()
            self._close(CLOSED)
            if self._work.store is not None:
                await self._work.store.release()

    def _close(self, how: Phase) -> None:
        self._life.phase = how
        self._work.tell_rest()
        self._work.origin.note_waiting(self, [])
        self._stream.is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"StreamingRun(run_id={self.run_id!r}, state={self._stream.state.value})"
