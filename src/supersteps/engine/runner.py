"""`Runner`: advances one run, superstep by superstep: plan, execute, merge, commit.

The runner knows nothing of streams and consumers: it is told to begin, to load, to take a superstep, and it passes
events to whoever listens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from supersteps._typing import display_name
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.record import GRAPH, OUTPUTS, CheckpointInfo, CheckpointRecord, Part
from supersteps.engine.answers import response_type
from supersteps.engine.backends import Backend
from supersteps.engine.call import CallSite
from supersteps.engine.claims import Holder
from supersteps.engine.effects import Effects
from supersteps.engine.encoding import decode_outputs, decode_state, encode_changes, encode_graph
from supersteps.engine.execution import Execution
from supersteps.engine.hooks import Hooks
from supersteps.engine.inbox import Inbox
from supersteps.engine.journal import Journal
from supersteps.engine.state import SHARED_STATE, Message, Request, State, View
from supersteps.engine.store import RunStore
from supersteps.engine.superstep import Answer, Merged, Plan, merge, plan
from supersteps.engine.values import Sealed, SealedList, Sealer
from supersteps.errors import (
    UndeliveredMessageWarning,
    UnhandledMessageError,
    WorkflowConvergenceError,
    WorkflowRuntimeError,
)
from supersteps.events import (
    RequestInfoEvent,
    SuperStepCompletedEvent,
    SuperStepCompletionInfo,
    SuperStepStartedEvent,
    SuperStepStartInfo,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowWarningEvent,
)
from supersteps.executor import Executor
from supersteps.graph import Graph
from supersteps.storage.runs import RunRecord

INPUT_SOURCE = "Workflow"
"""Sender of the input, as the start executor sees it."""


class Runner:
    """Advances one run.

    Attributes:
        state: The state at the last barrier.
        iteration: Supersteps done on this lineage.
    """

    def __init__(
        self,
        graph: Graph,
        executors: Mapping[str, Executor],
        *,
        run_id: str,
        workflow_id: str,
        codec: Codec,
        store: RunStore | None,
        backend: Backend,
        max_iterations: int,
        emit: Callable[[WorkflowEvent], None],
        holder: Holder,
    ) -> None:
        self.state = State()
        self.iteration = 0
        self._graph = graph
        self._executors = executors
        self._run_id = run_id
        self._workflow_id = workflow_id
        self._sealer = Sealer(codec, encoding=store is not None)
        self._store = store
        self._backend = backend
        self._max_iterations = max_iterations
        self._emit = emit
        self._steps_since_input = 0
        self._earlier_outputs: Part | None = None
        self._inbox = Inbox(graph, self._sealer, store, run_id)
        self._replayed: dict[tuple[str, int], Effects] = {}
        self._outputs: list[Sealed] = []
        self._interrupted = False
        self._hooks = Hooks(
            executors.values(),
            (node_id for node_id, node in graph.nodes.items() if node.factory is None),
            holder,
            site=lambda executor_id, view: self._site(executor_id, view, self.iteration),
            view=lambda: View(self.state, graph.reducers, self._sealer),
        )

    # --------------------------------------------------------------------------- beginning, loading

    async def begin(self, message: Any, metadata: dict[str, Any], tags: Sequence[str]) -> None:
        """Start the run: its first checkpoint holds the input, before any handler ran.

        Raises:
            UnhandledMessageError: The start executor does not take such an input.
            RunExistsError: The run's id is taken.
        """
        start = self._executors[self._graph.start_id]
        if not start.can_handle(message):
            handles = ", ".join(map(display_name, start.input_types))
            raise UnhandledMessageError(
                f"workflow {self._workflow_id!r} cannot start with a {display_name(type(message))}: its start executor "
                f"{start.id!r} handles {handles}. Nothing was started."
            )
        payload = self._sealer.seal(message, "the input of workflow {!r}", self._workflow_id)
        results = await self._hooks.begin(self._backend)
        merged = merge(self._graph, self.state, results, self._sealer)
        merged.messages = [Message(payload, (INPUT_SOURCE,), (self._graph.start_id,))]
        if self._store is not None:
            changes = encode_changes(merged, self.state, (), ())
            changes.puts[GRAPH] = encode_graph(self._graph.description)
            await self._store.commit(
                changes,
                iteration=0,
                steps_since_input=0,
                max_iterations=self._max_iterations,
                status=WorkflowRunState.IN_PROGRESS.value,
                more=True,
                metadata=metadata,
                fingerprint=self._graph.fingerprint,
                tags=tags,
            )
        self._apply(merged, (), ())

    async def load(self, record: CheckpointRecord, run: RunRecord) -> None:
        """Continue from a checkpoint: its state, what the journal and the inbox add, then the executors' hooks."""
        assert self._store is not None
        await self._store.load(record, run)
        await self._load(record)

    async def restore(self, checkpoint_id: str) -> None:
        """Make a checkpoint of this run its head and continue from it.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        assert self._store is not None
        await self._load(await self._store.restore(checkpoint_id))

    async def _load(self, record: CheckpointRecord) -> None:
        assert self._store is not None
        self.state = decode_state(record, self._sealer)
        self.iteration = record.header.iteration_count
        self._steps_since_input = record.header.steps_since_input
        self._earlier_outputs = record.parts.get(OUTPUTS)
        await self._inbox.load(self._store)
        await self._read_journal(self._store)
        self._hooks.claim()
        await self._hooks.restore(self._replayed)
        self._interrupted = False

    async def _read_journal(self, store: RunStore) -> None:
        self._replayed = {}
        for data in await store.read_journal():
            effects = Effects.from_record(data, self._sealer)
            self._replayed[effects.executor_id, effects.ordinal] = effects

    def outputs(self) -> list[Any]:
        """Return every output of a run without storage."""
        return [output.open() for output in self._outputs]

    def earlier_outputs(self) -> list[Any]:
        """Return the outputs that the lineage had yielded when it was loaded."""
        return decode_outputs(self._earlier_outputs, self._sealer)

    async def stored_outputs(self) -> list[Any] | None:
        """Return every output of the lineage, as stored; None without storage."""
        if self._store is None or self._store.head is None:
            return None
        record = await self._store.storage.load_record(self._store.head.checkpoint_id)
        return None if record is None else decode_outputs(record.parts.get(OUTPUTS), self._sealer)

    # ------------------------------------------------------------------------------------ answering

    @property
    def has_work(self) -> bool:
        """Whether a superstep has anything to do."""
        return bool(self.state.messages) or bool(self._inbox.answers)

    @property
    def status(self) -> WorkflowRunState:
        """Where the run stands at this barrier."""
        if not self.state.requests:
            return WorkflowRunState.IN_PROGRESS if self.has_work else WorkflowRunState.IDLE
        return _status(self.has_work, bool(self._inbox.waiting(self.state)))

    def waiting_requests(self) -> list[RequestInfoEvent]:
        """Return an event for each question that waits for an answer."""
        return [self._request_event(self.state.requests[request_id]) for request_id in self._inbox.waiting(self.state)]

    async def accept(self, responses: Mapping[str, Any]) -> None:
        """Take answers, durably; the next superstep consumes them.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        await self._inbox.accept(self.state, responses)

    # ------------------------------------------------------------------------------------ superstep

    async def superstep(self) -> None:
        """Deliver what is in flight, run the handlers, merge, commit, announce.

        Raises:
            WorkflowConvergenceError: The limit of supersteps is reached.
            CheckpointSaveError: The commit failed; the run stays at its last checkpoint.
            Exception: What a handler raised; its siblings have finished and are journalled.
        """
        self._check_limit()
        is_stale = self._hooks.claim()
        if self._store is not None:
            await self._store.own()
        if is_stale or self._interrupted:
            await self._recover()
        self._interrupted = True
        answers = list(self._inbox.answers)
        if self._store is None:
            await self._advance(answers)
        else:
            self._store.working(True)
            try:
                await self._advance(answers)
                await self._store.tidy()
            finally:
                self._store.working(False)
        self._interrupted = False

    async def _recover(self) -> None:
        """Get ready to go on after a superstep was cut short, or after another run has had this one's instances."""
        if self._interrupted and self._store is not None:
            await self._read_journal(self._store)
        await self._hooks.restore(self._replayed)

    def _check_limit(self) -> None:
        if self._steps_since_input < self._max_iterations or self._inbox.answers or self.iteration == 0:
            return
        targets = ", ".join(sorted({repr(target) for m in self.state.messages for target in m.target_ids}))
        resume = (
            "Its checkpoint is saved: resume it with a workflow whose max_iterations is higher."
            if self._store is not None
            else "Raise max_iterations if it should."
        )
        raise WorkflowConvergenceError(
            f"run {self._run_id!r} of workflow {self._workflow_id!r} did not converge after {self._max_iterations} "
            f"iterations (max_iterations): messages are still on their way to {targets}. {resume}"
        )

    async def _advance(self, answers: Sequence[Answer]) -> None:
        planned = plan(self._graph, self.state, answers)
        step = self.iteration + 1
        ran = tuple(planned.calls)
        self._emit(SuperStepStartedEvent(step, SuperStepStartInfo(ran, bool(answers))))
        results = await self._execute(planned)
        merged, opened = await self._merge(results, answers)
        closed = [answer.request_id for answer in answers]
        info = await self._commit(merged, opened, answers)
        self._replayed = {}
        self._apply(merged, opened, closed)
        self._steps_since_input = self._next_count(answers)
        self.iteration = step
        self._inbox.consume(len(answers))
        self._announce(merged, opened, step, ran, info)

    def _next_count(self, answers: Sequence[Answer]) -> int:
        """Return the supersteps since the last input: the very first of a run does not count, an answer begins anew."""
        if answers:
            return 1
        return self._steps_since_input + (1 if self.iteration else 0)

    async def _execute(self, planned: Plan) -> list[Effects]:
        execution = Execution(
            planned,
            self._executors,
            self._backend,
            site=lambda executor_id: self._site(
                executor_id, View(self.state, self._graph.reducers, self._sealer), self.iteration + 1
            ),
            emit=self._emit,
            replayed=self._replayed,
            journal=Journal(self._store) if self._store is not None and planned.needs_journal else None,
        )
        return await execution.run()

    async def _merge(self, results: Sequence[Effects], answers: Sequence[Answer]) -> tuple[Merged, list[Request]]:
        try:
            merged = merge(self._graph, self.state, results, self._sealer)
            opened = [self._open_request(asked_through, ask) for asked_through, ask in merged.asks]
            self._refuse_twins(opened, answers)
            return merged, opened
        except Exception:
            # The records would lead into the same failure for ever; without them a mended program can go on.
            if self._store is not None:
                await self._store.discard_journal()
            raise

    def _open_request(self, asked_through: str, ask: Any) -> Request:
        wanted = response_type(self._graph, asked_through, ask.source_executor_id, ask.data.open())
        return Request(
            request_id=ask.request_id,
            source_executor_id=ask.source_executor_id,
            request_executor_id=asked_through,
            iteration=self.iteration + 1,
            timestamp=ask.timestamp,
            response_type=wanted,
            data=ask.data,
        )

    def _refuse_twins(self, opened: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Refuse a question whose id another one has that waits: an answer could not tell them apart."""
        waiting = self.state.requests.keys() - {answer.request_id for answer in answers}
        for request in opened:
            if request.request_id in waiting:
                raise WorkflowRuntimeError(
                    f"executor {request.source_executor_id!r} of run {self._run_id!r} asks request "
                    f"{request.request_id!r}, but a request with this id waits for its answer already. Give each "
                    "question an id of its own (a fresh RequestInfoMessage has one). Nothing of this superstep was "
                    "committed."
                )
            waiting.add(request.request_id)

    async def _commit(
        self, merged: Merged, opened: Sequence[Request], answers: Sequence[Answer]
    ) -> CheckpointInfo | None:
        if self._store is None:
            return None
        closed = [answer.request_id for answer in answers]
        more = bool(merged.messages) or len(self._inbox.answers) > len(answers)
        waiting = len(self.state.requests) + len(opened) > len(closed)
        return await self._store.commit(
            encode_changes(merged, self.state, opened, closed),
            iteration=self.iteration + 1,
            steps_since_input=self._next_count(answers),
            max_iterations=self._max_iterations,
            status=_status(bool(merged.messages), waiting).value,
            more=more,
            inbox_read=answers[-1].number if answers else 0,
        )

    def _apply(self, merged: Merged, opened: Iterable[Request], closed: Iterable[str]) -> None:
        """Make the merged changes the state of the new barrier."""
        state = self.state
        state.messages = merged.messages
        for (scope, key), value in merged.writes.items():
            if value is not None:
                state.scopes.setdefault(scope, {})[key] = value
            elif scope in state.scopes:
                state.scopes[scope].pop(key, None)
        for key, items in merged.appends.items():
            shared = state.scopes.setdefault(SHARED_STATE, {})
            before = shared.get(key)
            longer = before if isinstance(before, SealedList) else self._sealer.seal_list((), "")
            shared[key] = longer.extended(items)
        for group_id, buffers in merged.fan_in.items():
            if buffers:
                state.fan_in[group_id] = buffers
            else:
                state.fan_in.pop(group_id, None)
        for request_id in closed:
            del state.requests[request_id]
        for request in opened:
            state.requests[request.request_id] = request

    def _announce(
        self, merged: Merged, opened: Sequence[Request], step: int, ran: tuple[str, ...], info: CheckpointInfo | None
    ) -> None:
        """Tell the consumer what is true now that it is committed."""
        emit = self._emit
        if self._store is None:
            self._outputs += [value for _source, value in merged.outputs]
        for source, value in merged.outputs:
            emit(WorkflowOutputEvent(value.open(), source))
        for request in opened:
            emit(self._request_event(request))
        for text in merged.undelivered:
            emit(WorkflowWarningEvent(text))
        completion = SuperStepCompletionInfo(ran, bool(merged.messages), bool(self.state.requests), info)
        emit(SuperStepCompletedEvent(step, completion))
        for text in merged.undelivered:  # last: a filter may turn it into an error
            warnings.warn(f"run {self._run_id!r}, superstep {step}: {text}", UndeliveredMessageWarning, stacklevel=2)

    def _request_event(self, request: Request) -> RequestInfoEvent:
        data = request.data.open()
        wanted = response_type(self._graph, request.request_executor_id, request.source_executor_id, data)
        return RequestInfoEvent(request.request_id, request.source_executor_id, type(data), data, wanted)

    def _site(self, executor_id: str, view: View, step: int = 0) -> CallSite:
        branch = self._store.branch if self._store is not None else 0
        return CallSite(
            executor_id=executor_id,
            run_id=self._run_id,
            workflow_id=self._workflow_id,
            step_number=step,
            key_prefix=f"{self._run_id}:{branch}:{step}:{executor_id}",
            reachable=self._graph.reachable[executor_id],
            view=view,
            sealer=self._sealer,
            emit=self._emit,
        )

    def leftovers(self) -> list[str]:
        """Return a sentence for each message that still waits in a fan-in, for when nothing else is left to do."""
        return [
            f"{group_id} ended with messages from {', '.join(map(repr, buffers))} that wait for "
            f"{', '.join(repr(s) for s in self._graph.fan_ins[group_id].source_ids if s not in buffers)}"
            for group_id, buffers in self.state.fan_in.items()
        ]


def _status(has_work: bool, is_waiting: bool) -> WorkflowRunState:
    if has_work:
        return WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS if is_waiting else WorkflowRunState.IN_PROGRESS
    return WorkflowRunState.IDLE_WITH_PENDING_REQUESTS if is_waiting else WorkflowRunState.IDLE
