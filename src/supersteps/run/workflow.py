"""`Workflow`: an immutable definition, to be run any number of times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from supersteps._notebook import Shown
from supersteps.checkpoint.edits import Edits
from supersteps.define.definition import Definition
from supersteps.define.graph import Graph
from supersteps.engine.backends import Backend
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.observer import Observer
from supersteps.engine.time_travel.migration import Migration
from supersteps.engine.time_travel.resume_point import CheckpointReference
from supersteps.errors import WorkflowRuntimeError
from supersteps.run.answer import answer_and_wait, answered_run
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import ForkedRun, NewRun, ReplayedRun, ResumedRun
from supersteps.run.result import WorkflowRunResult
from supersteps.run.setup import RunSetup
from supersteps.run.wait import result_of
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.retention import RetentionPolicy


class Workflow(Definition, Shown):
    """A frozen graph of executors with a name; build it with `WorkflowBuilder`.

    One object serves any number of runs, also at the same time.

    Attributes:
        workflow_id: The workflow's name, the same in every process: the one that the builder was
            given, else the start executor's id.
        max_iterations: How many supersteps a run may take after an input from outside, its very
            first not counted.
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
        """`WorkflowBuilder.build()` makes workflows, once their graph has passed every check.

        Args:
            graph: The validated graph.
            workflow_id: The name.
            max_iterations: The limit of supersteps.
            checkpoint_storage: Where runs are saved.
            types: Types of values beyond those that the handlers' annotations reach.
            retention: Which checkpoints to keep while a run goes on.
            backend: Where handlers run; this process when None.
            migration: How to go on with runs that an earlier graph began; they are refused when
                None.
            observer: Is told what runs do; nobody is when None.
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
        return self  # a definition that never changes, and serves any number of runs

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Let it be pickled where its executors, functions and storage can be."""
        return _workflow_with, (type(self), self._graph, self._given)

    @property
    def checkpoint_storage(self) -> DurableStorage | None:
        """Where runs are saved unless a run is given another storage."""
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
        """Start a new run and drive it until it is done or only waits for answers.

        Args:
            message: The input, of a type that the start executor handles.
            run_id: The run's id; a fresh time-ordered one when None.
            if_exists: What to do when a run has this id: "error", or "attach" to go on with that
                run and ignore the input. Choose "attach", with a `run_id` of your own, where a
                start may be repeated.
            checkpoint_storage: Where to save the run; wins over the builder's.
            include_status_events: Whether the result lists status changes among its events.
            metadata: Remarks to keep with the run: JSON values.
            tags: Labels to keep with the run.

        Returns:
            The events, outputs and final state.

        Raises:
            RunExistsError: A run has this id.
            UnhandledMessageError: The start executor does not take the input.
            WorkflowConvergenceError: `max_iterations` is reached.
            CheckpointSaveError: A checkpoint could not be saved.
            Exception: What a handler raised.
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
        """Do what `run` does, in an event loop of its own: for scripts.

        SIGINT and SIGTERM let the superstep under way end and be committed; a second signal
        interrupts at once.

        Args: see `run`.

        Raises:
            RunDrainedError: A signal stopped the run before its end; the message says how to resume
                it.
            RuntimeError: An event loop is running already in this thread: await `run` there.
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
        from supersteps.run.script import drive  # wanted only by scripts

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
        """Return a new run's handle; it starts at the first step of iteration.

        Args: see `run`.
        """
        return StreamingRun(
            self._new_run(message, run_id, if_exists, checkpoint_storage, metadata, tags)
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
        """Resume a run from a checkpoint and drive it until it is done or only waits for answers.

        Args:
            checkpoint_id: The checkpoint: its id, its `CheckpointInfo`, or itself.
            checkpoint_storage: Where it is, and where new checkpoints go; the builder's when None.
            responses: Answers by request id, taken before anything runs.

        Returns:
            The events since, and every output of the lineage.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            GraphChangedError: The workflow is no longer the one that wrote it.
            RunBusyError: Another live owner advances the run.
            RequestError: An answer cannot be taken; nothing was changed.
        """
        run = self.run_stream_from_checkpoint(checkpoint_id, checkpoint_storage, responses)
        return await run.wait_for_completion()

    def run_stream_from_checkpoint(
        self,
        checkpoint_id: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None = None,
        responses: Mapping[str, Any] | None = None,
    ) -> StreamingRun:
        """Return the handle of a run; at the first step of iteration it goes on from a checkpoint.

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
        """Return the handle of a new run that begins at a checkpoint of any run, perhaps changed.

        Nothing of the old run changes. The new one is created at the first step of iteration;
        questions that wait at the checkpoint wait in it too, under the same ids.

        Args:
            checkpoint: Where to begin: a checkpoint's id, its `CheckpointInfo`, or itself.
            changes: New values by path; `DELETE` removes what is there. A path is a string with
                dots, a tuple where a name has a dot in it, or a JSON Pointer: "input" (at iteration
                0), "messages.INDEX", "shared_state.KEY", "executor_states.ID.KEY",
                "scopes.NAME.KEY", of a sub-workflow "sub_state.PATH.KEY" and
                "sub_scopes.PATH.NAME.KEY", each with further keys, indexes or attributes inside the
                value.
            run_id: The new run's id; a fresh time-ordered one when None.
            checkpoint_storage: Where the checkpoint is, and where the new run goes; the builder's
                when None.
            metadata: Remarks to keep with the new run; those of the old one stay with that.
            tags: Labels to keep with the new run.

        Raises (at the first step of iteration; nothing was created):
            CheckpointNotFoundError: There is no such checkpoint.
            GraphChangedError: The workflow is no longer the one that wrote it.
            ForkError: A change leads nowhere, or does not fit its place.
            UnhandledMessageError: The start executor does not take the new input.
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

        Use it for debugging. Handlers see `ctx.is_replaying`. They get the answers that the run
        had, in the supersteps that had them; timers count as due and sleeps as slept.
        `StreamingRun.snapshot()` gives the state that is reached.

        Args:
            checkpoint_or_run_id: Where to begin; for a run's id the oldest checkpoint on its head's
                lineage.
            to_step: The superstep after which to stop; the lineage's last one when None. One more
                repeats the superstep that failed.
            checkpoint_storage: Where the run is; the builder's when None.

        Raises (at the first step of iteration):
            CheckpointNotFoundError: There is neither such a checkpoint nor such a run.
            GraphChangedError: The workflow is no longer the one that wrote it.
            ValueError: `to_step` comes before the checkpoint.
        """
        storage = self._setup.storage_for(checkpoint_storage)
        return StreamingRun(ReplayedRun(self._setup, storage, checkpoint_or_run_id, to_step))

    async def send_responses(self, responses: Mapping[str, Any]) -> WorkflowRunResult:
        """Answer the run that waits for these requests, and drive it on.

        The run is looked for among this workflow's own, then in its storage. Where somebody drives
        the run already, here or in another process, the answers are given to it, and its result is
        waited for; so different questions of one run can be answered at the same time.

        Returns:
            Every output of the lineage, the final state, and the questions that wait now. The
            other events are those that nobody else has had.

        Raises:
            UnknownRequestError: No run waits for one of the requests.
            RequestError: An answer cannot be taken; nothing was changed.
            StreamBusyError: The task that asks iterates over the run's handle itself; use the
                handle's `send_response` there. Nothing was changed.
            CalledFromHandlerError: A handler of the run asks, for whose end it would wait.
        """
        return await answer_and_wait(self._setup, responses)

    async def wait(
        self,
        run_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - callers expect it; see `asyncio.wait_for`
        checkpoint_storage: CheckpointStorage | None = None,
    ) -> WorkflowRunResult:
        """Wait until a run is done or waits for answers, and return its result.

        The run is driven by others: by another handle, another task or another process. Nothing is
        driven here; to go on with a run, use `run_from_checkpoint`, or `run` with
        `if_exists="attach"`.

        Args:
            run_id: The run; it must exist.
            timeout: For how many seconds to wait; without end when None.
            checkpoint_storage: Where the run is; the builder's when None.

        Returns:
            Every output of the lineage, the final state, and an event for each question that waits.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            TimeoutError: It took longer.
            WorkflowRuntimeError: The run has failed, with what it failed of.
            CalledFromHandlerError: A handler of the run asks, for whose end it would wait.
            StreamBusyError: The task that asks iterates over the run's handle itself.
        """
        async with asyncio.timeout(timeout):
            return await result_of(self._setup, run_id, checkpoint_storage)

    def send_responses_streaming(self, responses: Mapping[str, Any]) -> StreamingRun:
        """Return the handle of the run that waits for these requests.

        The run is answered at the first step of iteration.
        """
        return answered_run(self._setup, responses)


def _workflow_with(cls: type[Workflow], graph: Graph, given: Mapping[str, Any]) -> Workflow:
    """Make a workflow again that was pickled."""
    return cls(graph, **given)
