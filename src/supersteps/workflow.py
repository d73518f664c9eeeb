"""`Workflow`: an immutable definition that can be run, resumed and answered any number of times."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from supersteps._ids import check_id, new_run_id
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.record import GRAPH, REQUESTS, CheckpointRecord
from supersteps.driver import Opened, RunDriver
from supersteps.engine.backends import Backend
from supersteps.engine.backends.local import LocalBackend
from supersteps.engine.encoding import encode_graph
from supersteps.engine.forking import Edits, edited_parts, first_changes, status_of
from supersteps.engine.levels import Levels
from supersteps.engine.migration import Fitted, Migration
from supersteps.engine.opening import adopt_checkpoint, check_graph, find_checkpoint, fitted, head_of
from supersteps.engine.replaying import Replay, find_replay
from supersteps.engine.runner import Runner
from supersteps.engine.store import RunStore
from supersteps.errors import (
    CheckpointingDisabledError,
    RequestError,
    RunExistsError,
    UnknownRequestError,
    WorkflowRuntimeError,
)
from supersteps.events import WorkflowRunState
from supersteps.executor import Executor
from supersteps.graph import Graph
from supersteps.result import WorkflowRunResult
from supersteps.run import CheckpointReference, StreamingRun
from supersteps.storage.base import CheckpointStorage, DurableStorage
from supersteps.storage.retention import RetentionPolicy


class Workflow:
    """A frozen graph of executors with a name; build it with `WorkflowBuilder`.

    One object serves any number of runs, also at the same time.

    Attributes:
        workflow_id: The workflow's name, the same in every process: given to the builder, else the start executor's id.
        max_iterations: How many supersteps a run may take after an input from outside, its very first not counted.
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
    ) -> None:
        """Define; use `WorkflowBuilder` instead.

        Args:
            graph: The validated graph.
            workflow_id: The name.
            max_iterations: The limit of supersteps.
            checkpoint_storage: Where runs are saved.
            types: Types of values beyond those that the handlers' annotations reach.
            retention: Which checkpoints to keep while a run goes on.
            backend: Where handlers run; this process when None.
            migration: How to go on with runs that an earlier graph began; they are refused when None.
        """
        self.workflow_id = workflow_id
        self.max_iterations = max_iterations
        self._graph = graph
        self._types = [*graph.annotations, *types]
        self._retention = retention
        self._migration = migration
        self._backend = backend or LocalBackend()
        self._storage = None if checkpoint_storage is None else self._durable(checkpoint_storage)
        self._codecs: weakref.WeakKeyDictionary[DurableStorage, Codec] = weakref.WeakKeyDictionary()
        self._plain_codec = Codec(self._types)
        self._waiting: dict[str, StreamingRun] = {}
        self._waiting_stored: weakref.WeakValueDictionary[str, StreamingRun] = weakref.WeakValueDictionary()
        self._forked_requests: set[str] = set()
        self._other_storages: dict[int, DurableStorage] = {}

    # ----------------------------------------------------------------------------------- describing

    @property
    def id(self) -> str:
        """The workflow's name."""
        return self.workflow_id

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.workflow_id

    @property
    def graph(self) -> Graph:
        """The frozen structure."""
        return self._graph

    @property
    def types(self) -> list[Any]:
        """What the codec may rebuild: types that the handlers' annotations reach, and those given beside them."""
        return list(self._types)

    @property
    def checkpoint_storage(self) -> DurableStorage | None:
        """Where runs are saved unless a run is given another storage."""
        return self._storage

    @property
    def graph_signature_hash(self) -> str:
        """Hash of the structure: executors, handled types, edges, names of conditions; no limits, no looks."""
        return self._graph.fingerprint

    @property
    def input_types(self) -> list[Any]:
        """Types of the inputs it takes."""
        return self.get_start_executor().input_types

    @property
    def output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        kinds = [k for node in self._graph.nodes.values() for k in node.executor.workflow_output_types]
        return list(dict.fromkeys(kinds))

    def get_start_executor(self) -> Executor:
        """Return the executor that gets the input."""
        return self._graph.nodes[self._graph.start_id].executor

    def get_executors_list(self) -> list[Executor]:
        """Return every executor, in the order in which they were added."""
        return [node.executor for node in self._graph.nodes.values()]

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON-ready builtins, for display."""
        groups = [
            {"kind": g.kind, "id": g.id, "sources": list(g.source_ids), "targets": list(g.target_ids), "names": g.names}
            for g in self._graph.groups
        ]
        return {
            "id": self.workflow_id,
            "start_executor_id": self._graph.start_id,
            "max_iterations": self.max_iterations,
            "edge_groups": groups,
            "executors": {
                node_id: {"id": node_id, "type": type(node.executor).__name__}
                for node_id, node in self._graph.nodes.items()
            },
        }

    def to_json(self) -> str:
        """Return the definition as JSON, for display."""
        return msgspec.json.encode(self.to_dict()).decode()

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
            if_exists: What to do when a run has this id: "error", or "attach" to go on with that run (and ignore the
                input), which makes starting idempotent.
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
        run = self._start(
            message, run_id, if_exists, checkpoint_storage, metadata, tags, include_status_events=include_status_events
        )
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

        SIGINT and SIGTERM let the superstep under way end and be committed; a second signal interrupts at once.

        Args: see `run`.

        Raises:
            RunDrainedError: A signal stopped the run before its end; the message says how to resume it.
            RuntimeError: An event loop is running already in this thread: await `run` there.
            Exception: See `run`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WorkflowRuntimeError(
                f"run_sync of workflow {self.workflow_id!r} was called inside a running event loop, which it would "
                "block: write `await workflow.run(...)` there. Nothing was started."
            )
        from supersteps.script import drive  # wanted only by scripts

        run = self._start(
            message, run_id, if_exists, checkpoint_storage, metadata, tags, include_status_events=include_status_events
        )
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
        return self._start(message, run_id, if_exists, checkpoint_storage, metadata, tags)

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
        return await self._resume(checkpoint_id, checkpoint_storage, responses).wait_for_completion()

    def run_stream_from_checkpoint(
        self,
        checkpoint_id: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None = None,
        responses: Mapping[str, Any] | None = None,
    ) -> StreamingRun:
        """Return the handle of a run that continues from a checkpoint at the first step of iteration.

        Args: see `run_from_checkpoint`.
        """
        return self._resume(checkpoint_id, checkpoint_storage, responses)

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
        """Return the handle of a new run that begins at a checkpoint of any run, as it was or with changes to it.

        Nothing of the old run changes. The new one is created at the first step of iteration; questions that wait at
        the checkpoint wait in it too, under the same ids.

        Args:
            checkpoint: Where to begin: a checkpoint's id, its `CheckpointInfo`, or itself.
            changes: New values by path; `DELETE` removes what is there. A path is a string with dots, a tuple where a
                name has a dot in it, or a JSON Pointer: "input" (at iteration 0), "messages.INDEX",
                "shared_state.KEY", "executor_states.ID.KEY", "scopes.NAME.KEY", of a sub-workflow "sub_state.PATH.KEY"
                and "sub_scopes.PATH.NAME.KEY", each with further keys, indexes or attributes inside the value.
            run_id: The new run's id; a fresh time-ordered one when None.
            checkpoint_storage: Where the checkpoint is, and where the new run goes; the builder's when None.
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
        chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
        storage = self._storage if checkpoint_storage is None else self._durable(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("fork from")
            source = await find_checkpoint(storage, checkpoint)
            source = self._fit(storage, source).record
            parts = edited_parts(source, changes or {}, Levels(self._graph), self._codec(storage))
            opened = self._prepare(run, storage, chosen)
            assert opened.store is not None
            first = first_changes(parts)
            first.puts[GRAPH] = encode_graph(self._graph.description)
            await opened.store.commit(
                first,
                iteration=source.header.iteration_count,
                steps_since_input=source.header.steps_since_input,
                max_iterations=self.max_iterations,
                status=status_of(parts).value,
                more=False,
                metadata=dict(metadata or {}),
                fingerprint=self._graph.fingerprint,
                tags=tags,
                parent_run=source.header.run_id or None,
                parent_checkpoint=source.header.checkpoint_id,
            )
            self._forked_requests.update(key[1] for key in parts if key[0] == REQUESTS)
            await opened.runner.load(*await head_of(storage, chosen))
            return opened

        return StreamingRun(chosen, open_run, on_waiting=self._note_waiting, begins_anew=True)

    def replay(
        self,
        checkpoint_or_run_id: CheckpointReference,
        *,
        to_step: int | None = None,
        checkpoint_storage: CheckpointStorage | None = None,
    ) -> StreamingRun:
        """Return the handle of a repetition in memory, for debugging: handlers run again, and nothing is written.

        Handlers see `ctx.is_replaying`. They get the answers that the run had, in the supersteps that had them;
        timers count as due and sleeps as slept. `StreamingRun.snapshot()` gives the state that is reached.

        Args:
            checkpoint_or_run_id: Where to begin; for a run's id the oldest checkpoint on its head's lineage.
            to_step: The superstep after which to stop; the lineage's last one when None. One more repeats the
                superstep that failed.
            checkpoint_storage: Where the run is; the builder's when None.

        Raises (at the first step of iteration):
            CheckpointNotFoundError: There is neither such a checkpoint nor such a run.
            GraphChangedError: The workflow is no longer the one that wrote it.
            ValueError: `to_step` comes before the checkpoint.
        """
        storage = self._storage if checkpoint_storage is None else self._durable(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("replay from")
            replay = await find_replay(storage, checkpoint_or_run_id, to_step)
            check_graph(self._graph, self.workflow_id, replay.start)
            run.run_id = replay.start.header.run_id
            opened = self._prepare(run, None, run.run_id, codec=self._codec(storage), replay=replay)
            await opened.runner.load_replay()
            return opened

        run_id = "" if isinstance(checkpoint_or_run_id, str) else checkpoint_or_run_id.run_id
        return StreamingRun(run_id, open_run, on_waiting=lambda _run, _request_ids: None, begins_anew=True)

    async def send_responses(self, responses: Mapping[str, Any]) -> WorkflowRunResult:
        """Answer the run that waits for these requests, and drive it on.

        The run is looked for among this workflow's own, then in its storage.

        Raises:
            UnknownRequestError: No run waits for one of the requests.
            RequestError: An answer cannot be taken; nothing was changed.
        """
        return await self._answer(responses).wait_for_completion()

    def send_responses_streaming(self, responses: Mapping[str, Any]) -> StreamingRun:
        """Return the handle of the run that waits for these requests; it is answered at the first step of iteration."""
        return self._answer(responses)

    # -------------------------------------------------------------------------------------- opening

    def _start(
        self,
        message: Any,
        run_id: str | None,
        if_exists: Literal["error", "attach"],
        checkpoint_storage: CheckpointStorage | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
        *,
        include_status_events: bool = False,
    ) -> StreamingRun:
        if if_exists not in ("error", "attach"):
            raise ValueError(f'if_exists is "error" or "attach", not {if_exists!r}')
        chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
        storage = self._storage if checkpoint_storage is None else self._durable(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            opened = self._prepare(run, storage, chosen)
            try:
                await opened.runner.begin(message, dict(metadata or {}), tags)
            except RunExistsError:
                if if_exists == "error" or storage is None:
                    raise
                record, existing = await head_of(storage, chosen)
                opened = self._prepare(run, storage, chosen)
                await opened.runner.load(record, existing)
            return opened

        return StreamingRun(
            chosen,
            open_run,
            on_waiting=self._note_waiting,
            begins_anew=if_exists == "error",
            include_status_events=include_status_events,
        )

    def _resume(
        self,
        reference: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None,
        responses: Mapping[str, Any] | None,
    ) -> StreamingRun:
        storage = self._storage if checkpoint_storage is None else self._durable(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("resume from")
            record = await find_checkpoint(storage, reference)
            fitting: Fitted | None = self._fit(storage, record)
            existing = await storage.get_run(record.header.run_id) if record.header.run_id else None
            if existing is None:
                assert fitting is not None
                record, existing = await adopt_checkpoint(storage, fitting.record, self.workflow_id, self._graph)
                fitting = None
            run.run_id = existing.run_id
            opened = self._prepare(run, storage, existing.run_id)
            await opened.runner.load(record, existing, fitting)
            if responses:
                await opened.runner.accept(responses)
            elif opened.store is not None and record.header.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
                await opened.store.become_head()  # it waits for answers, and they go to the head
            return opened

        run_id = "" if isinstance(reference, str) else reference.run_id
        return StreamingRun(run_id, open_run, on_waiting=self._note_waiting)

    def _answer(self, responses: Mapping[str, Any]) -> StreamingRun:
        if not responses:
            raise RequestError("send_responses needs at least one answer: {request_id: answer}")
        runs = {id(run): run for request_id in responses if (run := self._own_waiting(request_id)) is not None}
        if len(runs) > 1:
            raise RequestError(
                "these requests belong to different runs "
                f"({', '.join(run.run_id for run in runs.values())}); answer one run at a time. Nothing was changed."
            )
        if runs:
            ((_, run),) = runs.items()
            run.queue_responses(responses)
            return run

        async def open_run(run: RunDriver) -> Opened:
            storage, run.run_id = await self._find_waiting(next(iter(responses)))
            record, existing = await head_of(storage, run.run_id)
            fitting = self._fit(storage, record)
            opened = self._prepare(run, storage, run.run_id)
            await opened.runner.load(record, existing, fitting)
            await opened.runner.accept(responses)
            return opened

        return StreamingRun("", open_run, on_waiting=self._note_waiting)

    async def _find_waiting(self, request_id: str) -> tuple[DurableStorage, str]:
        """Return the stored run that waits for a request, as its storage and its id."""
        storages = [*([] if self._storage is None else [self._storage]), *self._other_storages.values()]
        found = [
            (storage, run.run_id)
            for storage in storages
            for run in await storage.find_waiting_runs(request_id)
            if run.workflow_id == self.workflow_id
        ]
        if not found:
            where = " or in its ".join(["among its own runs", *(type(storage).__name__ for storage in storages)])
            raise UnknownRequestError(
                f"no run of workflow {self.workflow_id!r} waits for request {request_id!r}, {where}. It may be "
                "answered already, or belong to another workflow or storage. Nothing was changed."
            )
        if len(found) > 1:
            raise RequestError(
                f"request {request_id!r} waits in several runs ({', '.join(run_id for _, run_id in found)}); choose "
                "one: run_from_checkpoint(<its head>, responses=...). Nothing was changed."
            )
        return found[0]

    def _own_waiting(self, request_id: str) -> StreamingRun | None:
        if request_id in self._forked_requests:
            return None  # the storage knows in how many runs it waits
        for registry in (self._waiting, self._waiting_stored):
            run = registry.get(request_id)
            if run is not None:
                if run.waits_for(request_id):
                    return run
                del registry[request_id]
        return None

    def _note_waiting(self, run: StreamingRun, request_ids: list[str]) -> None:
        # A run with a storage can be found there again; one without lives only as long as somebody holds it.
        registry = self._waiting if run.storage is None else self._waiting_stored
        if run.storage is not None and run.storage is not self._storage:
            self._other_storages[id(run.storage)] = run.storage
        for request_id in request_ids:
            registry[request_id] = run

    def _prepare(
        self,
        run: RunDriver,
        storage: DurableStorage | None,
        run_id: str,
        *,
        codec: Codec | None = None,
        replay: Replay | None = None,
    ) -> Opened:
        store = None if storage is None else RunStore(storage, run_id, self.workflow_id, self._retention)
        run.hold(store)
        run.announce()
        executors = {
            node_id: node.executor if node.factory is None else node.factory()
            for node_id, node in self._graph.nodes.items()
        }
        runner = Runner(
            self._graph,
            executors,
            run_id=run_id,
            workflow_id=self.workflow_id,
            codec=codec or self._codec(storage),
            store=store,
            backend=self._backend,
            max_iterations=self.max_iterations,
            emit=run.emit,
            holder=run,
            replay=replay,
            fit=Fitted if storage is None else lambda record: self._fit(storage, record),
        )
        return Opened(runner, store)

    def _no_storage(self, what: str) -> CheckpointingDisabledError:
        return CheckpointingDisabledError(
            f"workflow {self.workflow_id!r} has no storage to {what}: pass checkpoint_storage=, or build it "
            "with_checkpointing(checkpoint_storage=...)"
        )

    def _fit(self, storage: DurableStorage, record: CheckpointRecord) -> Fitted:
        return fitted(self._graph, self.workflow_id, record, self._codec(storage), self._migration)

    def _codec(self, storage: DurableStorage | None) -> Codec:
        if storage is None:
            return self._plain_codec
        codec = self._codecs.get(storage)
        if codec is None:
            codec = self._codecs[storage] = storage.codec.extended(self._types)
            if self._migration is not None:
                codec.add_upgrades(self._migration.upgrade)
        return codec

    def _durable(self, checkpoint_storage: CheckpointStorage) -> DurableStorage:
        from supersteps.storage.adapter import as_durable  # wanted only by workflows with a storage

        storage = as_durable(checkpoint_storage)
        storage.codec.add_types(self._types)  # so that listing its checkpoints gives typed values
        return storage
