"""`Runner`: advances one run, superstep by superstep: plan, execute, merge, commit.

The runner knows nothing of streams and consumers: it is told to begin, to load, to take a superstep, and it passes
events to whoever listens.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from supersteps._typing import display_name
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.record import (
    EXECUTORS,
    GRAPH,
    OUTPUTS,
    CheckpointInfo,
    CheckpointRecord,
    Part,
    PartKey,
    utc_now,
)
from supersteps.engine.announcing import Announcer
from supersteps.engine.applying import apply
from supersteps.engine.backends import Backend
from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.claims import Holder
from supersteps.engine.effects import Effects
from supersteps.engine.encoding import decode_outputs, decode_state, encode_changes, encode_graph
from supersteps.engine.execution import Execution, sleep_until
from supersteps.engine.executors import Executors
from supersteps.engine.hooks import Hooks
from supersteps.engine.inbox import Inbox
from supersteps.engine.journal import Journal, Note, Recorded
from supersteps.engine.levels import Levels
from supersteps.engine.migration import Fitted
from supersteps.engine.plan import Plan, due_timers, expired_requests, moving, plan
from supersteps.engine.replaying import Replay
from supersteps.engine.state import State
from supersteps.engine.store import RunStore
from supersteps.engine.superstep import Merged, enter, merge
from supersteps.engine.values import Sealed, Sealer
from supersteps.engine.view import View
from supersteps.errors import (
    CheckpointingDisabledError,
    RequestError,
    UndeliveredMessageWarning,
    UnhandledMessageError,
    WorkflowConvergenceError,
)
from supersteps.events import (
    RequestInfoEvent,
    SuperStepStartedEvent,
    SuperStepStartInfo,
    WorkflowEvent,
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
        replay: Replay | None = None,
        fit: Callable[[CheckpointRecord], Fitted] = Fitted,
    ) -> None:
        self.state = State()
        self.iteration = 0
        self._graph = graph
        self._levels = Levels(graph)
        self._executors = Executors(self._levels, executors)
        self._run_id = run_id
        self._workflow_id = workflow_id
        self._sealer = Sealer(codec, encoding=store is not None or replay is not None)
        self._store = store
        self._replay = replay
        self._parts: dict[PartKey, Part] = {}  # of a replay: what a storage would have
        self._backend = backend
        self._max_iterations = max_iterations if replay is None else max(max_iterations, replay.max_iterations)
        self._emit = emit
        self._steps_since_input = 0
        self._earlier_outputs: Part | None = None
        self._inbox = Inbox(self._levels, self._sealer, store, run_id)
        self._recorded = Recorded()
        self._fit = fit
        self._fitted: Fitted | None = None  # until the migration is committed
        self._outputs: list[Sealed] = []
        self._interrupted = False
        self._announcer = Announcer(self._levels, run_id, emit)
        self._execution: Execution | None = None
        self._woken = asyncio.Event()
        self._asleep = asyncio.Event()
        self._hooks = Hooks(
            self._executors,
            (node_id for node_id, node in graph.nodes.items() if node.factory is None),
            holder,
            site=lambda address, view: self._site(address, view, self.iteration),
            view=self._view,
            inner=self._hooked_inner,
        )

    # --------------------------------------------------------------------------- beginning, loading

    async def begin(self, message: Any, metadata: dict[str, Any], tags: Sequence[str]) -> None:
        """Start the run: its first checkpoint holds the input, before any handler ran.

        Raises:
            UnhandledMessageError: The start executor does not take such an input.
            RunExistsError: The run's id is taken.
        """
        start = self._executors.roots[self._graph.start_id]
        if not start.can_handle(message):
            handles = ", ".join(map(display_name, start.input_types))
            raise UnhandledMessageError(
                f"workflow {self._workflow_id!r} cannot start with a {display_name(type(message))}: its start executor "
                f"{start.id!r} handles {handles}. Nothing was started."
            )
        payload = self._sealer.seal(message, "the input of workflow {!r}", self._workflow_id)
        results = await self._hooks.begin(self._backend)
        merged = merge(self._levels, self.state, Plan({}), results, self._sealer, 0)
        merged.messages = [enter(self._levels, payload, (INPUT_SOURCE,), merged)]
        if self._store is not None:
            changes = encode_changes(merged, self.state, self._levels)
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
        apply(merged, self.state, self._levels, self._sealer)

    async def load(self, record: CheckpointRecord, run: RunRecord, fitted: Fitted | None = None) -> None:
        """Continue from a checkpoint: its state, what the journal and the inbox add, then the executors' hooks."""
        assert self._store is not None
        await self._store.load(record, run)
        await self._load(fitted or self._fit(record))

    async def restore(self, checkpoint_id: str) -> None:
        """Make a checkpoint of this run its head and continue from it.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        assert self._store is not None
        record = await self._store.storage.load_record(checkpoint_id)
        fitted = None if record is None else self._fit(record)  # refused before anything is moved
        restored = await self._store.restore(checkpoint_id)
        await self._load(fitted or self._fit(restored))

    async def load_replay(self) -> None:
        """Begin to repeat a lineage, in memory."""
        assert self._replay is not None
        record = self._replay.start
        self._take(record)
        self._parts = dict(record.parts)
        self._hooks.claim()
        await self._hooks.restore({})

    def _take(self, record: CheckpointRecord) -> None:
        self.state = decode_state(record.parts, self._sealer)
        self.iteration = record.header.iteration_count
        self._steps_since_input = record.header.steps_since_input
        self._earlier_outputs = record.parts.get(OUTPUTS)

    async def _load(self, fitted: Fitted) -> None:
        assert self._store is not None
        self._fitted = None if fitted.changes is None else fitted
        self._store.migrate(fitted.changes, fitted.fingerprint)
        self._take(fitted.record)
        await self._inbox.load(self.state, self._store)
        await self._read_journal(self._store)
        self._hooks.claim()
        await self._hooks.restore(self._recorded.finished)
        self._interrupted = False
        for text in fitted.warnings:
            self._emit(WorkflowWarningEvent(text))
        for text in fitted.warnings:  # last: a filter may turn it into an error
            warnings.warn(f"run {self._run_id!r}: {text}", UndeliveredMessageWarning, stacklevel=2)

    async def _read_journal(self, store: RunStore) -> None:
        fitted, records = self._fitted, await store.read_journal()
        if fitted is None:
            self._recorded = Recorded.read(records, self._sealer)
        else:
            self._recorded = Recorded.read(records, self._sealer, fitted.fingerprint, fitted.translate)

    def _hooked_inner(self) -> list[str]:
        """Return the executors with hooks of sub-workflows whose attributes are in the state or the journal."""
        recorded = {address for address, _key in self._recorded.finished}
        return [
            address
            for address in self._executors.hooked_inner(iter(self.state.sub_runs))
            if (EXECUTORS, address) in self.state.scopes or address in recorded
        ]

    def outputs(self) -> list[Any]:
        """Return every output of a run without storage."""
        return self.earlier_outputs() + [output.open() for output in self._outputs]

    def earlier_outputs(self) -> list[Any]:
        """Return the outputs that the lineage had yielded when it was loaded."""
        return decode_outputs(self._earlier_outputs, self._sealer)

    async def stored_outputs(self) -> list[Any] | None:
        """Return every output of the lineage, as stored; None without storage."""
        if self._store is None or self._store.head is None:
            return None
        record = await self._store.storage.load_record(self._store.head.checkpoint_id)
        return None if record is None else decode_outputs(record.parts.get(OUTPUTS), self._sealer)

    def snapshot(self) -> WorkflowCheckpoint:
        """Return the state that a replay has reached, as a checkpoint that is nowhere stored.

        Raises:
            CheckpointingDisabledError: This is no replay.
        """
        if self._replay is None:
            raise CheckpointingDisabledError(
                f"run {self._run_id!r} is no replay, so it has no snapshot: what it is at a barrier is in its "
                "checkpoints; see run.latest_checkpoint"
            )
        start, parts = self._replay.start.header, dict(self._parts)
        header = msgspec.structs.replace(
            start,
            checkpoint_id=f"replay-{self.iteration}-of-{start.checkpoint_id}",
            parent_id=start.checkpoint_id,
            branch=self._replay.branch(self.iteration),
            iteration_count=self.iteration,
            max_iterations=self._max_iterations,
            steps_since_input=self._steps_since_input,
            timestamp=utc_now(),
            status=self.status.value,
        )
        return WorkflowCheckpoint.from_record(header, lambda: parts, self._sealer.codec)

    def leftovers(self) -> list[str]:
        """Return a sentence for each fan-in and intercepted question that still waits, for when nothing else does."""
        return self._announcer.leftovers(self.state)

    # ------------------------------------------------------------------------------------ answering

    @property
    def has_work(self) -> bool:
        """Whether a superstep has anything to do."""
        state = self.state
        if self._replay is not None:
            return self._replay.has_work(self.iteration, state)
        if state.messages or self._inbox.answers or state.replies:
            return True
        now = utc_now()
        return bool(
            due_timers(state, now)
            or expired_requests(state.requests.values(), now)
            or expired_requests(state.intercepted.values(), now)
        )

    @property
    def next_due(self) -> str | None:
        """When the next timer is due, or a question inside the run has to be answered; None when there is neither.

        Questions to the outside world alone do not keep a run going.
        """
        inside = self.state.intercepted.values()
        moments = [timer.due for timer in self.state.timers.values()]
        moments += [request.deadline for request in inside if request.deadline is not None]
        if not moments or self._replay is not None:
            return None
        moments += [request.deadline for request in self.state.requests.values() if request.deadline is not None]
        return min(moments)

    async def wait(self) -> None:
        """Wait until a timer is due, or something else is to be done."""
        due = self.next_due
        if due is None:
            return
        self._woken.clear()
        if self._store is not None:
            await self._store.release()  # others may take the run meanwhile
        waker = asyncio.create_task(self._woken.wait())
        sleeper = asyncio.create_task(sleep_until(due))
        try:
            await asyncio.wait({waker, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waker, sleeper):
                task.cancel()
            await asyncio.gather(waker, sleeper, return_exceptions=True)

    def wake(self) -> None:
        """End a `wait`: there may be something to do."""
        self._woken.set()

    @property
    def is_asleep(self) -> bool:
        """Whether a superstep can be cut short without loss: only handlers' sleep goes on, the rest is recorded."""
        return self._asleep.is_set() and self._execution is not None and self._execution.is_recorded

    async def asleep(self) -> None:
        """Wait until `is_asleep`.

        Raises:
            CheckpointError: A finished call could not be recorded.
        """
        while not self.is_asleep:
            await self._asleep.wait()
            if self._execution is not None:
                await self._execution.flush()

    @property
    def status(self) -> WorkflowRunState:
        """Where the run stands at this barrier."""
        goes_on = bool(self.state.messages or self.state.replies or self.next_due or self.state.timers) or self.has_work
        if not self.state.requests:
            return WorkflowRunState.IN_PROGRESS if goes_on else WorkflowRunState.IDLE
        return _status(goes_on, bool(self._inbox.waiting(self.state)))

    def waiting_requests(self) -> list[RequestInfoEvent]:
        """Return an event for each question that waits for an answer and whose deadline has not passed."""
        waiting = [self.state.requests[request_id] for request_id in self._inbox.waiting(self.state)]
        late = {request.request_id for request in expired_requests(waiting, utc_now())}
        return [self._announcer.request_event(request) for request in waiting if request.request_id not in late]

    async def accept(self, responses: Mapping[str, Any]) -> None:
        """Take answers, durably; the next superstep consumes them.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        self._refuse_in_replay()
        await self._inbox.accept(self.state, responses)
        self.wake()

    @property
    def has_questions(self) -> bool:
        """Whether any question waits, answered or not."""
        return bool(self.state.requests)

    async def look(self) -> None:
        """Learn of answers that others have put in, before the run is said to wait for them."""
        if self._store is None:
            return
        run = await self._store.look_up()
        if run is not None and run.head == self._store.base.checkpoint_id:
            await self._inbox.refresh(self.state)

    async def cancel_request(self, request_id: str) -> None:
        """Take a question back, durably; the next superstep closes it.

        Raises:
            RequestError: It does not wait.
        """
        self._refuse_in_replay()
        await self._inbox.cancel(self.state, request_id)
        self.wake()

    def _refuse_in_replay(self) -> None:
        if self._replay is not None:
            raise RequestError(
                f"a replay of run {self._run_id!r} takes only the answers that the run itself had; to try another "
                "one, fork the checkpoint and answer the fork. Nothing was changed."
            )

    # ------------------------------------------------------------------------------------ superstep

    async def superstep(self) -> None:
        """Deliver what is in flight, run the handlers, merge, commit, announce.

        Raises:
            WorkflowConvergenceError: The limit of supersteps is reached.
            CheckpointSaveError: The commit failed; the run stays at its last checkpoint.
            Exception: What a handler raised; its siblings have finished and are journalled.
        """
        is_stale = self._hooks.claim()
        if self._store is not None:
            await self._store.own()
        if is_stale or self._interrupted:
            await self._recover()
        self._interrupted = True
        planned = await self._plan()
        try:
            self._check_limits(planned)
        except WorkflowConvergenceError:
            self._interrupted = False
            raise
        if self._store is None:
            await self._advance(planned)
        else:
            self._store.working(True)
            try:
                await self._advance(planned)
                await self._store.tidy()
            finally:
                self._store.working(False)
        self._interrupted = False

    async def _plan(self) -> Plan:
        state = self.state
        if self._replay is not None:
            step = self.iteration + 1
            answers = await self._replay.answers(step, state, self._sealer)
            is_alone = not (state.messages or state.replies or answers)
            due = await self._replay.timers(step, state, alone=is_alone)
            return plan(self._levels, state, answers, due)
        if state.requests:
            await self._inbox.refresh(state)
            await self._inbox.expire(state)
        due = due_timers(state, utc_now()) if state.timers else []
        late = expired_requests(state.intercepted.values(), utc_now()) if state.intercepted else []
        defaults = {request.request_id: request.default for request in late if request.default is not None}
        return plan(self._levels, state, tuple(self._inbox.answers), due, defaults)

    async def _recover(self) -> None:
        """Get ready to go on after a superstep was cut short, or after another run has had this one's instances."""
        if self._interrupted and self._store is not None:
            await self._read_journal(self._store)
        await self._hooks.restore(self._recorded.finished)

    def _check_limits(self, planned: Plan) -> None:
        """Refuse a superstep too many, of the workflow or of a sub-workflow; each counts those in which it moves."""
        if self.iteration == 0 or planned.answers or planned.replies or planned.timers:
            return
        for path in sorted(moving(planned, self.state) - {""}) if self.state.sub_runs else ():
            limit = self._levels.at(path).stand_in.workflow.max_iterations
            if self.state.sub_runs[path].steps > limit:  # the very first does not count
                raise WorkflowConvergenceError(
                    f"sub-workflow {path!r} of run {self._run_id!r} did not converge after {limit} iterations "
                    "(max_iterations of the inner workflow). Raise it if it should, and resume the run."
                )
        if self._steps_since_input < self._max_iterations or not self._moves_root(planned):
            return
        targets = ", ".join(sorted(map(repr, planned.calls)))
        resume = (
            "Its checkpoint is saved: resume it with a workflow whose max_iterations is higher."
            if self._store is not None
            else "Raise max_iterations if it should."
        )
        raise WorkflowConvergenceError(
            f"run {self._run_id!r} of workflow {self._workflow_id!r} did not converge after {self._max_iterations} "
            f"iterations (max_iterations): messages are still on their way to {targets}. {resume}"
        )

    def _moves_root(self, planned: Plan) -> bool:
        """Return whether the superstep moves the workflow itself and not only sub-workflows."""
        return "" in moving(planned, self.state)

    async def _advance(self, planned: Plan) -> None:
        step = self.iteration + 1
        ran = tuple(planned.calls)
        self._emit(SuperStepStartedEvent(step, SuperStepStartInfo(ran, bool(planned.answers))))
        results = await self._execute(planned)
        merged = await self._merge(planned, results)
        count = self._next_count(planned)
        if self._replay is not None:
            await self._replay.take_times(merged, step)
            closed_at = self._replay.closed_at(step)
            encode_changes(merged, self.state, self._levels, step=step, now=closed_at).apply(self._parts)
        info = await self._commit(merged, planned, count)
        self._recorded = Recorded()
        self._fitted = None
        for path in merged.ended:
            self._executors.forget(path)
        apply(merged, self.state, self._levels, self._sealer)
        self._steps_since_input = count
        self.iteration = step
        if planned.answers:
            self._inbox.consume(planned.answers)
        if self._store is None:
            self._outputs += [value for _source, value in merged.outputs]
        self._announcer.announce(merged, planned, self.state, step, info)

    def _next_count(self, planned: Plan) -> int:
        """Return the supersteps since the last input: the very first of a run does not count, an answer begins anew.

        So does a timer: what waits for its time does not run in circles, and repeated calls have a limit of their own.
        """
        if planned.answers or planned.timers:
            return 1
        return self._steps_since_input + (1 if self.iteration and self._moves_root(planned) else 0)

    async def _execute(self, planned: Plan) -> list[Effects]:
        names = self._fitted.fingerprint if self._fitted is not None else ""
        if self._store is not None and self._recorded.graph != names:
            await Journal(self._store).note(Note("graph", key=names))
            self._recorded.graph = names
        self._execution = Execution(
            planned,
            self._executors,
            self._backend,
            site=lambda address, sleeper: self._site(address, self._view(address), self.iteration + 1, sleeper),
            emit=self._emit,
            recorded=self._recorded,
            journal=Journal(self._store) if self._store is not None else None,
            restore=self._hooks.restore_one,
            asleep=self._asleep,
        )
        try:
            return await self._execution.run()
        finally:
            self._execution = None

    async def _merge(self, planned: Plan, results: Sequence[Effects]) -> Merged:
        try:
            return merge(self._levels, self.state, planned, results, self._sealer, self.iteration + 1)
        except Exception:
            # The records would lead into the same failure for ever; without them a mended program can go on.
            if self._store is not None and self._recorded.started:
                await Journal(self._store).note(Note("void"))  # what must not run twice has begun all the same
            elif self._store is not None:
                await self._store.discard_journal()
            raise

    async def _commit(self, merged: Merged, planned: Plan, count: int) -> CheckpointInfo | None:
        if self._store is None:
            return None
        more = bool(merged.messages or merged.replies) or len(self._inbox.answers) > len(planned.answers)
        inside = [*merged.intercepted, *(r for k, r in self.state.intercepted.items() if k not in planned.replies)]
        goes_on = more or bool(merged.timers) or len(self.state.timers) > len(planned.timers)
        goes_on = goes_on or any(request.deadline is not None for request in inside)
        waiting = len(self.state.requests) + len(merged.opened) > len(merged.closed)
        step = self.iteration + 1
        return await self._store.commit(
            encode_changes(merged, self.state, self._levels, step=step, now=utc_now() if merged.closed else ""),
            iteration=step,
            steps_since_input=count,
            max_iterations=self._max_iterations,
            status=_status(goes_on, waiting).value,
            more=more,
            inbox_read=planned.answers[-1].number if planned.answers else 0,
        )

    def _view(self, address: str) -> View:
        level = self._levels.of(address)
        return View(self.state, level.graph.reducers, self._sealer, level.shared)

    def _site(self, address: str, view: View, step: int = 0, sleeper: Sleeper | None = None) -> CallSite:
        if self._replay is not None:
            branch = self._replay.branch(step)
        else:
            branch = self._store.branch if self._store is not None else 0
        level = self._levels.of(address)
        return CallSite(
            address=address,
            level=level,
            run_id=self._run_id,
            workflow_id=level.stand_in.workflow.workflow_id if level.parent is not None else self._workflow_id,
            step_number=step,
            key_prefix=f"{self._run_id}:{branch}:{step}:{address}",
            view=view,
            sealer=self._sealer,
            emit=self._emit,
            is_replaying=self._replay is not None,
            sleeper=sleeper,
        )


def _status(has_work: bool, is_waiting: bool) -> WorkflowRunState:
    if has_work:
        return WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS if is_waiting else WorkflowRunState.IN_PROGRESS
    return WorkflowRunState.IDLE_WITH_PENDING_REQUESTS if is_waiting else WorkflowRunState.IDLE
