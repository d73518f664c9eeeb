"""`Workflow`: an immutable definition that can be run any number of times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from supersteps._notebook import Shown
from supersteps.checkpoint.edits import Edits
from supersteps.define.definition import Definition
from supersteps.define.graph import Graph
from supersteps.engine.backends import Backend
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.event_loops import outlast
from supersteps.engine.observer import Observer
from supersteps.engine.time_travel.migration import Migration
from supersteps.engine.time_travel.resume_point import CheckpointReference
from supersteps.errors import WorkflowRuntimeError
from supersteps.events import WorkflowEvent
from supersteps.run.answer import answer_and_wait, answered_run
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import ForkedRun, NewRun, ReplayedRun, ResumedRun
from supersteps.run.result import WorkflowRunResult
from supersteps.run.setup import RunSetup
from supersteps.run.wait import result_of
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.retention import RetentionPolicy


class Workflow(Definition, Shown):
    """An immutable graph of executors with a name; build it with `WorkflowBuilder`.

    One object can have any number of runs, also concurrently.

    Attributes:
        workflow_id: The workflow's name, the same in every process: the builder's `name`, otherwise
            the start executor's id.
        max_iterations: How many supersteps a run may take after an input from outside, not counting
            its first one.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        workflow_id: str,
        max_iterations: int,
        checkpoint_storage: CheckpointStorage | None = None,
        types: Sequence[Any] = (),
        retention: RetentionPolicy | None = None,
        backend: Backend | None = None,
        migration: Migration | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Use `WorkflowBuilder.build()`, which also checks the graph.

        Args:
            graph: The validated graph.
            workflow_id: The name.
            max_iterations: The limit of supersteps.
            checkpoint_storage: The storage of runs.
            types: Types of values that the handlers' annotations do not reach.
            retention: Which checkpoints to keep while a run continues.
            backend: Calls handlers; by default in this process.
            migration: How to continue runs that an earlier graph started; by default they are
                refused.
            observer: Gets reports of what runs do.
        """
        super().__init__(graph, workflow_id=workflow_id, max_iterations=max_iterations, types=types)
        self._given = {
            "workflow_id": workflow_id,
            "max_iterations": max_iterations,
            "checkpoint_storage": checkpoint_storage,
            "types": list(types),
            "retention": retention,
            "backend": backend,
            "migration": migration,
            "observer": observer,
        }
        self._setup = RunSetup(
            self,
            checkpoint_storage=checkpoint_storage,
            retention=retention,
            backend=backend or LocalBackend(),
            migration=migration,
            observer=observer,
        )

    def __copy__(self) -> Self:
        return self  # an immutable definition

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickle it, if its executors, functions and storage can be pickled."""
        return _workflow_with, (type(self), self._graph, self._given)

    @property
    def checkpoint_storage(self) -> DurableStorage | None:
        """The storage of runs, unless a run has another one."""
        return self._setup.storage

    def __repr__(self) -> str:
        return f"Workflow(workflow_id={self.workflow_id!r}, executors={list(self._graph.nodes)})"

    # -------------------------------------------------------------------------------------- running

    async def run(
        self,
        message: Any,
        *,
        run_id: str | None = None,
        if_exists: Literal["error", "attach"] = "error",
        checkpoint_storage: CheckpointStorage | None = None,
        include_status_events: bool = False,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
    ) -> WorkflowRunResult:
        """Start a new run and drive it until it has completed or only waits for answers.

        Args:
            message: The input, of a type that the start executor handles.
            run_id: The run's id; by default a new time-ordered one.
            if_exists: What to do if a run has this id: "error", or "attach" to continue that run
                and ignore the input. Use "attach" with your own `run_id` if a start may be
                repeated, for example by a queue.
            checkpoint_storage: The storage of the run, instead of the builder's.
            include_status_events: Whether the result lists status changes among its events.
            metadata: Metadata of the run: JSON values.
            tags: Tags of the run, by which it can be listed.

        Returns:
            The events, outputs and final state.

        Raises:
            RunExistsError: A run has this id.
            UnhandledMessageError: The start executor does not accept the input.
            WorkflowConvergenceError: `max_iterations` was reached.
            CheckpointSaveError: A checkpoint could not be saved.
            Exception: The exception of a handler.
        """
        origin = self._new_run(message, run_id, if_exists, checkpoint_storage, metadata, tags)
        run = StreamingRun(origin, include_status_events=include_status_events)
        return await run.wait_for_completion()

    def run_sync(
        self,
        message: Any,
        *,
        run_id: str | None = None,
        if_exists: Literal["error", "attach"] = "error",
        checkpoint_storage: CheckpointStorage | None = None,
        include_status_events: bool = False,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
    ) -> WorkflowRunResult:
        """Like `run`, in its own event loop: for scripts.

        SIGINT and SIGTERM let the current superstep end and be committed; a second signal
        interrupts at once.

        Args: see `run`.

        Raises:
            RunDrainedError: A signal stopped the run before its end; the message says how to resume
                it.
            RuntimeError: An event loop is already running in this thread: await `run` there.
            Exception: See `run`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WorkflowRuntimeError(
                f"run_sync of workflow {self.workflow_id!r} was called inside a running event "
                "loop, which it would block: write `await workflow.run(...)` there. Nothing was "
                "started."
            )
        from supersteps.run.script import drive  # needed only by scripts

        origin = self._new_run(message, run_id, if_exists, checkpoint_storage, metadata, tags)
        run = StreamingRun(origin, include_status_events=include_status_events)
        return asyncio.run(drive(run, self.workflow_id))

    def run_stream(
        self,
        message: Any,
        *,
        run_id: str | None = None,
        if_exists: Literal["error", "attach"] = "error",
        checkpoint_storage: CheckpointStorage | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
    ) -> StreamingRun:
        """Return the handle of a new run, which starts at the first step of iteration.

        Args: see `run`.
        """
        return StreamingRun(
            self._new_run(message, run_id, if_exists, checkpoint_storage, metadata, tags)
        )

    async def submit(
        self,
        message: Any,
        *,
        run_id: str | None = None,
        if_exists: Literal["raise", "attach", "error"] = "raise",
        start_at: datetime | timedelta | None = None,
        priority: int = 0,
        queue: str = "default",
        concurrency_key: str | None = None,
        checkpoint_storage: CheckpointStorage | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
    ) -> str:
        """Create a run and leave it to workers; nothing of it has run when this returns.

        Its input is durable then: whatever becomes of this process, a worker (any process with this
        workflow and storage) takes the run once its time has come. Wait for it with `wait`.

        Args:
            message: The input, of a type that the start executor handles.
            run_id: The run's id; a fresh time-ordered one when None.
            if_exists: What to do when a run has this id: "raise" (also "error", as `run` has it),
                or "attach" to leave that run to workers and ignore the input. Choose "attach",
                with a `run_id` of your own, where a submission may be repeated.
            start_at: From when on a worker may take it: a time with a time zone, or how long from
                now; at once when None.
            priority: Of the runs in one queue, workers take those with a higher one first.
            queue: The queue; only workers that serve it take the run.
            concurrency_key: Runs with the same key, such as those of one customer, are limited
                together, by the workers' `key_limit`.
            checkpoint_storage: Where to save the run; wins over the builder's.
            metadata: Remarks to keep with the run: JSON values.
            tags: Labels to keep with the run.

        Returns:
            The run's id.

        Raises:
            RunExistsError: A run has this id.
            UnhandledMessageError: The start executor does not take the input.
            CheckpointSaveError: The run could not be saved.
            StorageError: The storage has no queue.
        """
        from supersteps.run.workers.submit import (
            entry_of,
            submit,
        )  # wanted only where runs are submitted

        entry = entry_of(start_at, priority, queue, concurrency_key)
        # A submission is made or it is not: who is cancelled meanwhile hears of it afterwards.
        return await outlast(
            submit(
                self._setup,
                message,
                checkpoint_storage,
                entry,
                run_id=run_id,
                if_exists=if_exists,
                metadata=metadata,
                tags=tags,
            )
        )

    def _new_run(
        self,
        message: Any,
        run_id: str | None,
        if_exists: Literal["error", "attach"],
        checkpoint_storage: CheckpointStorage | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> NewRun:
        return NewRun(
            self._setup,
            self._setup.storage_for(checkpoint_storage),
            message,
            run_id=run_id,
            if_exists=if_exists,
            metadata=metadata,
            tags=tags,
        )

    async def run_from_checkpoint(
        self,
        checkpoint_id: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None = None,
        responses: Mapping[str, Any] | None = None,
    ) -> WorkflowRunResult:
        """Resume a run from a checkpoint; drive it until it has completed or only waits.

        Args:
            checkpoint_id: The checkpoint: its id, its `CheckpointInfo`, or the object.
            checkpoint_storage: The storage of it and of new checkpoints; by default the builder's.
            responses: Answers by request id, accepted before anything runs.

        Returns:
            The new events, and every output of the lineage.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            GraphChangedError: The workflow's graph no longer fits the checkpoint.
            RunBusyError: Another live owner is advancing the run.
            RequestError: An answer was refused; nothing was changed.
        """
        run = self.run_stream_from_checkpoint(checkpoint_id, checkpoint_storage, responses)
        return await run.wait_for_completion()

    def run_stream_from_checkpoint(
        self,
        checkpoint_id: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None = None,
        responses: Mapping[str, Any] | None = None,
    ) -> StreamingRun:
        """Return the handle of a run, which continues from a checkpoint when iterated.

        Args: see `run_from_checkpoint`.
        """
        storage = self._setup.storage_for(checkpoint_storage)
        return StreamingRun(ResumedRun(self._setup, storage, checkpoint_id, responses))

    def fork(
        self,
        checkpoint: CheckpointReference,
        changes: Edits | None = None,
        *,
        run_id: str | None = None,
        checkpoint_storage: CheckpointStorage | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
    ) -> StreamingRun:
        """Return the handle of a new run that starts from a checkpoint of any run.

        Use it to try another input, state or program without touching the old run. The new run is
        created at the first step of iteration. Questions that wait at the checkpoint also wait in
        it, with the same ids.

        Args:
            checkpoint: The checkpoint: its id, its `CheckpointInfo`, or the object.
            changes: New values by path; `DELETE` deletes. A path is a string with dots, a tuple (if
                a name contains a dot), or a JSON Pointer: "input" (at iteration 0),
                "messages.INDEX", "shared_state.KEY", "executor_states.ID.KEY", "scopes.NAME.KEY",
                in a sub-workflow "sub_state.PATH.KEY" and "sub_scopes.PATH.NAME.KEY", each with
                further keys, indexes or attributes inside the value.
            run_id: The new run's id; by default a new time-ordered one.
            checkpoint_storage: The storage of the checkpoint and of the new run; by default the
                builder's.
            metadata: Metadata of the new run; the old run's is not copied.
            tags: Tags of the new run.

        Raises (at the first step of iteration; nothing was created):
            CheckpointNotFoundError: There is no such checkpoint.
            GraphChangedError: The workflow's graph no longer fits the checkpoint.
            ForkError: A change names nothing, or does not fit its place.
            UnhandledMessageError: The start executor does not accept the new input.
            CheckpointEncodeError: A new value cannot be saved.
            RunExistsError: A run has this id.
        """
        storage = self._setup.storage_for(checkpoint_storage)
        return StreamingRun(
            ForkedRun(
                self._setup,
                storage,
                checkpoint,
                changes,
                run_id=run_id,
                metadata=metadata,
                tags=tags,
            )
        )

    def replay(
        self,
        checkpoint_or_run_id: CheckpointReference,
        *,
        to_step: int | None = None,
        checkpoint_storage: CheckpointStorage | None = None,
    ) -> StreamingRun:
        """Return the handle of a replay in memory: handlers run again, and nothing is written.

        Use it for debugging. Handlers see `ctx.is_replaying`. They get the same answers in the same
        supersteps as in the run; timers are due and sleeps end at once.
        `StreamingRun.snapshot()` returns the state that was reached.

        Args:
            checkpoint_or_run_id: The checkpoint to start from; for a run's id, the oldest
                checkpoint on the lineage of its head.
            to_step: The superstep after which to stop; by default the lineage's last one. One more
                repeats the superstep that failed.
            checkpoint_storage: The storage of the run; by default the builder's.

        Raises (at the first step of iteration):
            CheckpointNotFoundError: There is neither such a checkpoint nor such a run.
            GraphChangedError: The workflow's graph no longer fits the checkpoint.
            ValueError: `to_step` is before the checkpoint.
        """
        storage = self._setup.storage_for(checkpoint_storage)
        return StreamingRun(ReplayedRun(self._setup, storage, checkpoint_or_run_id, to_step))

    async def send_responses(self, responses: Mapping[str, Any]) -> WorkflowRunResult:
        """Answer the run that waits for these requests, and continue it.

        The run is searched among this workflow's handles, then in its storage. If another task or
        process is driving the run, the answers are passed to it and its result is awaited; so
        several questions of one run can be answered concurrently.

        Returns:
            Every output of the lineage, the final state, and the questions that wait now. The other
            events are those that were not delivered elsewhere.

        Raises:
            UnknownRequestError: No run waits for one of the requests.
            RequestError: An answer was refused; nothing was changed.
            StreamBusyError: The calling task itself iterates over the run's handle; use the
                handle's `send_response` there. Nothing was changed.
            CalledFromHandlerError: A handler of the run called it and would wait for its own end.
        """
        return await answer_and_wait(self._setup, responses)

    async def wait(
        self,
        run_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - callers expect it; see `asyncio.wait_for`
        checkpoint_storage: CheckpointStorage | None = None,
    ) -> WorkflowRunResult:
        """Wait until a run has completed or waits for answers, and return its result.

        Use it if another handle, task or process drives the run: this call does not. To continue a
        run, use `run_from_checkpoint`, or `run` with `if_exists="attach"`.

        Args:
            run_id: The run; it must exist.
            timeout: Maximum number of seconds to wait; by default unlimited.
            checkpoint_storage: The storage of the run; by default the builder's.

        Returns:
            Every output of the lineage, the final state, and an event for each waiting question.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted in the meantime.
            TimeoutError: The time is over.
            WorkflowRuntimeError: The run has failed; the message has the cause.
            CalledFromHandlerError: A handler of the run called it and would wait for its own end.
            StreamBusyError: The calling task itself iterates over the run's handle.
        """
        async with asyncio.timeout(timeout):
            return await result_of(self._setup, run_id, checkpoint_storage)

    def watch(
        self,
        run_id: str,
        *,
        from_step: int = 0,
        checkpoint_storage: CheckpointStorage | None = None,
    ) -> AsyncIterator[WorkflowEvent]:
        """Iterate over the committed events of a run that another process drives.

        For each superstep: its outputs, questions that ended without an answer or were asked, and
        a `SuperStepCompletedEvent`; beside these, each change of the run's state. All of it is
        read from checkpoints, so it also works for what was committed before; live events are not
        among it. Which executors ran and which one yielded an output is not in a checkpoint: these
        fields are empty.

        The iteration continues while the run waits. It ends when the run is done or cancelled, or
        has failed (after a `WorkflowFailedEvent`). Leave it whenever you like: nothing is driven.

        Args:
            run_id: The run; it must exist.
            from_step: Only what came after this superstep, such as the `step_number` of the last
                `SuperStepCompletedEvent` that was seen.
            checkpoint_storage: The storage of the run; by default the builder's.

        Raises (while iterating):
            RunNotFoundError: There is no such run, or it was deleted in the meantime.
            RunFencedError: It was deleted in the meantime, and another one has its id.
            GraphChangedError: The workflow is not the one that wrote it.
        """
        from supersteps.run.workers.watch import events_of  # wanted only where runs are watched

        return events_of(self._setup, run_id, from_step, checkpoint_storage)

    def send_responses_streaming(self, responses: Mapping[str, Any]) -> StreamingRun:
        """Return the handle of the run that waits for these requests.

        The run is answered at the first step of iteration.
        """
        return answered_run(self._setup, responses)


def _workflow_with(cls: type[Workflow], graph: Graph, given: Mapping[str, Any]) -> Workflow:
    """Recreate a workflow that was pickled."""
    return cls(graph, **given)
