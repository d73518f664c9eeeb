"""`RunOpener`: opens the runs of one workflow, in each of five ways: start, resume, fork, replay, answer.

Each way gives a handle at once, and its work is done at the first step of the handle's iteration: find or create the
run, look whether the graph fits, and equip a runner with what it needs.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import GRAPH
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.define.graph import Graph
from supersteps.engine.backends import Backend
from supersteps.engine.executors import made
from supersteps.engine.levels import Levels
from supersteps.engine.observer import Observer
from supersteps.engine.parts import encode_graph
from supersteps.engine.run_store import RunStore
from supersteps.engine.runner import Runner
from supersteps.engine.time_travel.fork import Edits, edited_parts, first_changes, status_of
from supersteps.engine.time_travel.migration import Fitted, Migration
from supersteps.engine.time_travel.replay import Replay, find_replay
from supersteps.engine.time_travel.resume_point import (
    adopt_checkpoint,
    check_graph,
    find_checkpoint,
    find_run,
    fitted,
    head_of,
)
from supersteps.errors import (
    CheckpointingDisabledError,
    RequestError,
    RunBusyError,
    RunExistsError,
    RunFencedError,
)
from supersteps.events import WorkflowStatusEvent
from supersteps.ids import check_id, new_run_id
from supersteps.run.driver import Opened, RunDriver
from supersteps.run.handle import CheckpointReference, StreamingRun
from supersteps.run.result import WorkflowRunResult
from supersteps.run.wait import until_at_rest, until_let_go
from supersteps.run.waiters import WaitingRuns
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.records import RunRecord
from supersteps.storage.retention import RetentionPolicy


class Definition(Protocol):
    """What the opener asks of the workflow whose runs it opens."""

    @property
    def workflow_id(self) -> str:
        """The workflow's name."""

    @property
    def max_iterations(self) -> int:
        """How many supersteps a run may take after an input from outside."""

    @property
    def graph(self) -> Graph:
        """The frozen structure."""


class RunOpener:
    """Opens the runs of one workflow.

    The arguments of the five ways are those of the public methods of `Workflow`, which also say what may go wrong.

    Attributes:
        storage: Where runs are saved unless a run is given another storage.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        checkpoint_storage: CheckpointStorage | None,
        types: Sequence[Any],
        retention: RetentionPolicy | None,
        backend: Backend,
        migration: Migration | None,
        observer: Observer | None = None,
    ) -> None:
        """Prepare.

        Args:
            definition: The workflow.
            checkpoint_storage: Where runs are saved.
            types: Types of the values that may be saved.
            retention: Which checkpoints to keep while a run goes on.
            backend: Where handlers run.
            migration: How to go on with runs that an earlier graph began; they are refused when None.
            observer: Is told what the runs do.
        """
        self._definition = definition
        self._types = types
        self._retention = retention
        self._backend = backend
        self._observer = observer
        self._migration = migration
        self._adapters: weakref.WeakValueDictionary[int, DurableStorage] = (
            weakref.WeakValueDictionary()
        )
        self.storage = None if checkpoint_storage is None else self._durable(checkpoint_storage)
        self._codecs: weakref.WeakKeyDictionary[DurableStorage, Codec] = weakref.WeakKeyDictionary()
        self._plain_codec = Codec(types)
        self._waiting = WaitingRuns(self.storage)

    # --------------------------------------------------------------------------------- the five ways

    def start(
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
        """Return the handle of a new run; see `Workflow.run`."""
        if if_exists not in ("error", "attach"):
            raise ValueError(f'if_exists is "error" or "attach", not {if_exists!r}')
        chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
        storage = self._storage_for(checkpoint_storage)

        earlier = _Attempts()

        async def open_run(run: RunDriver) -> Opened:
            opened = earlier.made(run)
            if opened is not None and not opened.runner.is_beginning:
                return opened
            opened = earlier.last = opened or self._prepare(run, storage, chosen)
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
            on_waiting=self._waiting.note,
            begins_anew=if_exists == "error",
            include_status_events=include_status_events,
        )

    def resume(
        self,
        reference: CheckpointReference,
        checkpoint_storage: CheckpointStorage | None,
        responses: Mapping[str, Any] | None,
    ) -> StreamingRun:
        """Return the handle of a run that continues from a checkpoint; see `Workflow.run_from_checkpoint`."""
        storage = self._storage_for(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("resume from")
            record, existing = await find_run(storage, reference)
            fitting = self._fit(storage, record)
            if existing is None:
                definition = self._definition
                record, existing = await adopt_checkpoint(
                    storage, fitting.record, definition.workflow_id, definition.graph
                )
                fitting = Fitted(record, warnings=fitting.warnings)
            run.run_id = existing.run_id
            opened = self._prepare(run, storage, existing.run_id)
            await opened.runner.load(record, existing, fitting)
            if responses:
                later = opened.runner.coming_questions() - opened.runner.state.requests.keys()
                run.answer_when_asked({k: v for k, v in responses.items() if k in later})
                now = {k: v for k, v in responses.items() if k not in later}
                if now:
                    await opened.runner.accept(now)
            elif (
                opened.store is not None
                and record.header.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
            ):
                await opened.store.become_head()  # it waits for answers, and they go to the head
            return opened

        run_id = "" if isinstance(reference, str) else reference.run_id
        return StreamingRun(run_id, open_run, on_waiting=self._waiting.note)

    def fork(
        self,
        reference: CheckpointReference,
        changes: Edits | None,
        run_id: str | None,
        checkpoint_storage: CheckpointStorage | None,
        metadata: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> StreamingRun:
        """Return the handle of a new run that begins at a checkpoint of any run; see `Workflow.fork`."""
        chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
        storage = self._storage_for(checkpoint_storage)
        earlier = _Attempts()

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("fork from")
            opened = earlier.made(run)
            if opened is None:
                opened = await create(run, storage)
            elif opened.store is not None and opened.store.is_cut:
                await opened.store.settle()
            await opened.runner.load(*await head_of(storage, chosen))
            return opened

        async def create(run: RunDriver, storage: DurableStorage) -> Opened:
            graph = self._definition.graph
            source = await find_checkpoint(storage, reference)
            source = self._fit(storage, source).record
            parts = edited_parts(source, changes or {}, Levels(graph), self._codec(storage))
            opened = self._prepare(run, storage, chosen)
            assert opened.store is not None
            first = first_changes(parts)
            first.puts[GRAPH] = encode_graph(graph.description)
            earlier.last = opened
            await opened.store.commit(
                first,
                iteration=source.header.iteration_count,
                steps_since_input=source.header.steps_since_input,
                max_iterations=self._definition.max_iterations,
                status=status_of(parts).value,
                more=False,
                metadata=dict(metadata or {}),
                fingerprint=graph.fingerprint,
                tags=tags,
                parent_run=source.header.run_id or None,
                parent_checkpoint=source.header.checkpoint_id,
            )
            self._waiting.note_forked(key[1] for key in parts if key[0] == REQUESTS)
            return opened

        return StreamingRun(chosen, open_run, on_waiting=self._waiting.note, begins_anew=True)

    def replay(
        self,
        reference: CheckpointReference,
        to_step: int | None,
        checkpoint_storage: CheckpointStorage | None,
    ) -> StreamingRun:
        """Return the handle of a repetition in memory; see `Workflow.replay`."""
        storage = self._storage_for(checkpoint_storage)

        async def open_run(run: RunDriver) -> Opened:
            if storage is None:
                raise self._no_storage("replay from")
            replay = await find_replay(storage, reference, to_step)
            check_graph(self._definition.graph, self._definition.workflow_id, replay.start)
            run.run_id = replay.start.header.run_id
            opened = self._prepare(run, None, run.run_id, codec=self._codec(storage), replay=replay)
            await opened.runner.load_replay()
            return opened

        run_id = "" if isinstance(reference, str) else reference.run_id
        return StreamingRun(
            run_id, open_run, on_waiting=lambda _run, _request_ids: None, begins_anew=True
        )

    def answer(self, responses: Mapping[str, Any]) -> StreamingRun:
        """Return the handle of the run that waits for these requests; see `Workflow.send_responses`."""
        if not responses:
            raise RequestError("send_responses needs at least one answer: {request_id: answer}")
        at_hand = self._waiting.at_hand(responses)
        if at_hand is not None:
            at_hand.queue_responses(responses)
            return at_hand

        async def open_run(run: RunDriver) -> Opened:
            storage, run.run_id = await self._waiting.find(responses, self._definition.workflow_id)
            record, existing = await head_of(storage, run.run_id)
            fitting = self._fit(storage, record)
            opened = self._prepare(run, storage, run.run_id)
            await opened.runner.load(record, existing, fitting)
            await opened.runner.accept(responses)
            return opened

        return StreamingRun("", open_run, on_waiting=self._waiting.note)

    # --------------------------------------------------------------------------- answering, waiting

    async def give(self, responses: Mapping[str, Any]) -> WorkflowRunResult:
        """Answer the run that waits for these requests, and return where that leads.

        The run is driven on by whoever drives it already, else here; see `Workflow.send_responses`.
        """
        if not responses:
            raise RequestError("send_responses needs at least one answer: {request_id: answer}")
        run = self._waiting.at_hand(responses)
        storage = None if run is None else run.storage
        if run is not None and storage is None:
            await run.answer(responses)
            return await run.outcome()
        if run is not None and storage is not None:
            run_id = run.run_id
        else:
            storage, run_id = await self._waiting.find(responses, self._definition.workflow_id)
        assert storage is not None
        run = await self._current(storage, run_id)
        await run.answer(responses)
        while True:
            try:
                return await run.outcome()
            except (RunBusyError, RunFencedError):
                if not run.is_overtaken:
                    raise
            await until_let_go(storage, run_id)
            run = await self._current(storage, run_id)

    async def _current(self, storage: DurableStorage, run_id: str) -> StreamingRun:
        """Return a handle that stands where the run does: one that somebody has, or a new one."""
        run = self._waiting.handle(storage, run_id)
        while run is not None and not run.is_active():
            record = await storage.get_run(run_id)
            newest = self._waiting.handle(storage, run_id)
            if newest is run and (record is None or not run.stands_at(record)):
                break
            if newest is run:
                return run
            run = newest  # somebody else has just made one
        else:
            if run is not None:
                return run

        async def open_run(run: RunDriver) -> Opened:
            record, existing = await head_of(storage, run_id)
            fitting = self._fit(storage, record)
            opened = self._prepare(run, storage, run_id)
            await opened.runner.load(record, existing, fitting)
            return opened

        made = StreamingRun(run_id, open_run, on_waiting=self._waiting.note)
        self._waiting.register(storage, made)
        return made

    async def wait(
        self, run_id: str, checkpoint_storage: CheckpointStorage | None
    ) -> WorkflowRunResult:
        """Wait until a run is done or waits for answers, whoever drives it; see `Workflow.wait`."""
        storage = self._storage_for(checkpoint_storage)
        if storage is None:
            raise self._no_storage("find runs in")
        run = self._waiting.handle(storage, run_id)
        if run is not None and run.is_active():
            await run.left()
        existing = await until_at_rest(storage, run_id)
        record = await storage.load_record(existing.head)
        if record is None:
            record, existing = await head_of(storage, run_id)
        return self._result(storage, self._fit(storage, record).record, existing)

    def _result(
        self, storage: DurableStorage, record: CheckpointRecord, existing: RunRecord
    ) -> WorkflowRunResult:
        """Return what a run that nobody drives here has to show."""
        run = StreamingRun(existing.run_id, _never, on_waiting=lambda _run, _request_ids: None)
        runner = self._equip(run, storage, existing.run_id).runner
        runner.show(record)
        state = WorkflowRunState(existing.status)
        is_waiting = state is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
        events = runner.waiting_requests() if is_waiting else []
        return WorkflowRunResult(
            events,
            [WorkflowStatusEvent(state)],
            run_id=existing.run_id,
            outputs=runner.earlier_outputs(),
        )

    # ------------------------------------------------------------------------------------ equipment

    def _prepare(
        self,
        run: RunDriver,
        storage: DurableStorage | None,
        run_id: str,
        *,
        codec: Codec | None = None,
        replay: Replay | None = None,
    ) -> Opened:
        """Equip a run that is about to be begun or loaded."""
        if storage is not None and isinstance(run, StreamingRun):
            self._waiting.register(storage, run)
        return self._equip(run, storage, run_id, codec=codec, replay=replay)

    def _equip(
        self,
        run: RunDriver,
        storage: DurableStorage | None,
        run_id: str,
        *,
        codec: Codec | None = None,
        replay: Replay | None = None,
    ) -> Opened:
        """Equip a run with executors, a runner and its hold on the storage; nothing is begun or loaded yet."""
        definition = self._definition
        store = (
            None
            if storage is None
            else RunStore(storage, run_id, definition.workflow_id, self._retention)
        )
        run.hold(store)
        run.announce()
        executors = {node_id: made(node) for node_id, node in definition.graph.nodes.items()}
        runner = Runner(
            definition.graph,
            executors,
            run_id=run_id,
            workflow_id=definition.workflow_id,
            codec=codec or self._codec(storage),
            store=store,
            backend=self._backend,
            max_iterations=definition.max_iterations,
            emit=run.reader.emit,
            notes=run.reader,
            reader=run.reader,
            holder=run,
            replay=replay,
            observer=self._observer,
            fit=Fitted if storage is None else lambda record: self._fit(storage, record),
        )
        return Opened(runner, store)

    def _fit(self, storage: DurableStorage, record: CheckpointRecord) -> Fitted:
        definition = self._definition
        return fitted(
            definition.graph, definition.workflow_id, record, self._codec(storage), self._migration
        )

    def _codec(self, storage: DurableStorage | None) -> Codec:
        if storage is None:
            return self._plain_codec
        codec = self._codecs.get(storage)
        if codec is None:
            codec = self._codecs[storage] = storage.codec.extended(self._types)
            if self._migration is not None:
                codec.add_upgrades(self._migration.upgrade)
        return codec

    def _storage_for(self, checkpoint_storage: CheckpointStorage | None) -> DurableStorage | None:
        """Return a run's storage: the one that it is given, else the workflow's own."""
        return self.storage if checkpoint_storage is None else self._durable(checkpoint_storage)

    def _durable(self, checkpoint_storage: CheckpointStorage) -> DurableStorage:
        from supersteps.storage.plain.adapter import (
            as_durable,  # wanted only by workflows with a storage
        )

        storage = self._adapters.get(id(checkpoint_storage)) or as_durable(checkpoint_storage)
        if (
            storage is not checkpoint_storage
        ):  # an adapter: one for each storage, which it keeps alive
            self._adapters[id(checkpoint_storage)] = storage
        storage.codec.add_types(self._types)  # so that listing its checkpoints gives typed values
        return storage

    def _no_storage(self, what: str) -> CheckpointingDisabledError:
        return CheckpointingDisabledError(
            f"workflow {self._definition.workflow_id!r} has no storage to {what}: pass checkpoint_storage=, or build "
            "it with_checkpointing(checkpoint_storage=...)"
        )


async def _never(run: RunDriver) -> Opened:
    raise AssertionError(f"run {run.run_id!r} is only looked at")


class _Attempts:
    """Earlier attempts to create a run.

    Attributes:
        last: The last one.
    """

    def __init__(self) -> None:
        self.last: Opened | None = None

    def made(self, run: RunDriver) -> Opened | None:
        """Return the last attempt if it has made the run, or was cut short while it did."""
        last = self.last
        if last is None or last.store is None or not (last.store.is_cut or last.store.head):
            return None
        run.hold(last.store)
        return last
