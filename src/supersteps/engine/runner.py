"""`Runner`: one run: started or loaded, answered, advanced.

The runner knows nothing of streams and consumers: its caller has it start, load or run a superstep,
and it passes events on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointRecord, utc_now
from supersteps.checkpoint.sections.outputs import OUTPUTS, load_outputs
from supersteps.checkpoint.values import Sealer
from supersteps.define.definition import Definition
from supersteps.define.subworkflow import takes_input
from supersteps.engine.alarm import Alarm
from supersteps.engine.announcer import Announcer
from supersteps.engine.backends import Backend
from supersteps.engine.barrier import Barrier, Step
from supersteps.engine.executors import Executors, made
from supersteps.engine.hooks import Holder, Hooks
from supersteps.engine.inbox import Inbox
from supersteps.engine.journal import Recorded
from supersteps.engine.levels import Levels
from supersteps.engine.merge import enter, merge
from supersteps.engine.observer import Observation, ObservedBackend, Observer
from supersteps.engine.plan import Plan, due_timers, late_questions
from supersteps.engine.position import Position
from supersteps.engine.run_store import Beginning, RunStore
from supersteps.engine.setting import Setting, Stream
from supersteps.engine.state import State
from supersteps.engine.superstep import Supersteps
from supersteps.engine.time_travel.migration import Fitted
from supersteps.engine.time_travel.receivers import INPUT_SOURCE
from supersteps.engine.time_travel.replay import Replay
from supersteps.errors import (
    CheckpointingDisabledError,
    RequestError,
    RunFencedError,
    UndeliveredMessageWarning,
    UnhandledMessageError,
)
from supersteps.events import (
    RequestInfoEvent,
    WorkflowWarningEvent,
)
from supersteps.ids import new_id
from supersteps.requests import RequestInfoMessage
from supersteps.secrets import redact
from supersteps.states import WorkflowRunState, state_at_barrier
from supersteps.storage.rules import RunRecord
from supersteps.typing import display_name, twin_of


def _incarnation(store: RunStore | None, replay: Replay | None) -> Callable[[], str]:
    """Return what gives the incarnation of a run; one without storage has one of its own."""
    if replay is not None:
        known = replay.start.header.incarnation
    elif store is None:
        known = new_id()
    else:
        return lambda: store.incarnation
    return lambda: known


class Runner:
    """One run: its setting, its position, and what advances it.

    Attributes:
        at_work: Entered while supersteps are taken, so that the run counts as running.
    """

    def __init__(
        self,
        definition: Definition,
        run_id: str,
        *,
        codec: Codec,
        store: RunStore | None,
        backend: Backend,
        stream: Stream,
        holder: Holder,
        replay: Replay | None = None,
        fit: Callable[[CheckpointRecord], Fitted] = Fitted,
        observer: Observer | None = None,
    ) -> None:
        """Prepare a run, with executors of its own where they come from factories.

        Args:
            definition: Its workflow.
            run_id: The run.
            codec: Encodes and decodes its values.
            store: Its hold on the storage, None without one.
            backend: Makes its calls.
            stream: Takes its events.
            holder: Its handle, which holds executor instances.
            replay: The lineage that it repeats, None if it does not.
            fit: Makes a checkpoint fit the workflow's graph.
            observer: Is called for what it does.

        Raises:
            UserCodeError: A factory raised.
        """
        graph, workflow_id = definition.graph, definition.workflow_id
        levels, executors = Levels(graph), {key: made(node) for key, node in graph.nodes.items()}
        most = definition.max_iterations
        observation = None if observer is None else Observation(observer, run_id, workflow_id)
        if observation is not None:
            backend = ObservedBackend(backend, observation)
        self._setting = setting = Setting(
            run_id=run_id,
            incarnation=_incarnation(store, replay),
            workflow_id=workflow_id,
            max_iterations=max(most, 0 if replay is None else replay.max_iterations),
            levels=levels,
            executors=Executors(levels, executors, workflow_id),
            sealer=Sealer(codec, encoding=store is not None or replay is not None),
            store=store,
            replay=replay,
            is_replaying=replay is not None,
            backend=backend,
            emit=stream.emit,
            notes=stream,
            reader=stream,
            observation=observation,
        )
        self._opening = nullcontext if observation is None else observation.opening
        self.graph = graph
        self._fit = fit
        self._store = store
        self._replay = replay
        self._position = position = Position(setting)
        self._inbox = Inbox(levels, setting.sealer, store, run_id)
        self._announcer = Announcer(levels, run_id, stream.emit, stream)
        self._barrier = Barrier(setting, position, self._inbox, self._announcer)
        self._alarm = Alarm()
        self.at_work: AbstractContextManager[object] = (
            nullcontext() if store is None else store.at_work()
        )
        shared = (node_id for node_id, node in graph.nodes.items() if node.factory is None)
        self._hooks = Hooks(setting, position, holder, shared)
        self._supersteps = Supersteps(
            setting, position, self._barrier, inbox=self._inbox, hooks=self._hooks
        )

    @property
    def state(self) -> State:
        """The state at the last barrier."""
        return self._position.state

    # --------------------------------------------------------------------------- beginning, loading

    async def begin(
        self,
        message: Any,
        metadata: dict[str, Any],
        tags: Sequence[str],
        queue: QueueEntry | None = None,
    ) -> None:
        """Start the run: its first checkpoint holds the input, before any handler ran.

        Args:
            message: The input.
            metadata: The user's metadata.
            tags: The user's labels.
            queue: The run's place in the queue, if it is left to workers.

        Raises:
            UnhandledMessageError: The start executor does not take such an input.
            RunExistsError: The run's id is taken.
        """
        with self._opening():
            if self._barrier.cut is None:
                await self._begin(message, Beginning(self.graph, metadata, tags, queue=queue))
            else:  # an earlier attempt was interrupted in its commit
                await self._barrier.settle()

    async def _begin(self, message: Any, beginning: Beginning) -> None:
        setting = self._setting
        start = setting.executors.roots[self.graph.start_id]
        if not takes_input(start, message):
            handles = ", ".join(map(display_name, start.input_types))
            handles += twin_of(type(message), start.input_types)
            raise UnhandledMessageError(
                f"workflow {setting.workflow_id!r} cannot start with a "
                f"{display_name(type(message))}: its start executor {start.id!r} handles "
                f"{handles}. Nothing was started."
            )
        payload = setting.sealer.seal(message, "the input of workflow {!r}", setting.workflow_id)
        results = await self._hooks.begin()
        planned = Plan({})
        state = self._position.state
        merged = merge(setting.levels, state, planned, results, setting.sealer, 0)
        merged.messages = [enter(setting.levels, state, payload, (INPUT_SOURCE,), merged)]
        await self._barrier.reach(Step(0, planned, merged, (), 0, beginning))

    @property
    def is_beginning(self) -> bool:
        """Whether an attempt to begin was interrupted in its commit; `begin` again to settle it."""
        cut = self._barrier.cut
        return cut is not None and cut.beginning is not None

    async def load(
        self, record: CheckpointRecord, run: RunRecord, fitted: Fitted | None = None
    ) -> None:
        """Continue from a checkpoint.

        Its state comes first, then what the journal adds, then the executors' hooks, then the
        inbox.
        """
        assert self._store is not None
        with self._opening():
            await self._store.load(record.header, run)
            await self._load(fitted or self._fit(record))

    async def restore(self, checkpoint_id: str) -> None:
        """Make a checkpoint of this run its head and continue from it.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        assert self._store is not None
        record = await self._store.read(checkpoint_id)
        fitted = None if record is None else self._fit(record)  # refused before anything is moved
        restored = await self._store.restore(checkpoint_id)
        await self._load(fitted or self._fit(restored))

    def show(self, record: CheckpointRecord) -> None:
        """Move to a checkpoint only for reading, without restoring executors."""
        self._position.take(record)

    async def load_replay(self) -> None:
        """Start to repeat a lineage in memory."""
        assert self._replay is not None
        record = self._replay.start
        with self._opening():
            self._position.take(record)
            self._position.parts = dict(record.parts)
            self._hooks.claim()
            await self._hooks.restore()

    async def _load(self, fitted: Fitted) -> None:
        assert self._store is not None
        here = self._position
        self._barrier.forget()
        here.fitted = None if fitted.changes is None else fitted
        self._store.migrate(fitted.changes, fitted.fingerprint)
        here.take(fitted.record)
        here.recorded = Recorded()
        is_read = bool(self._hooks.may_restore or here.state.timers or here.state.intercepted)
        if is_read:
            await here.read_journal(self._store)
        self._hooks.claim()
        await self._hooks.restore()
        await self._inbox.load(here.state.requests, self._store)  # last: hooks may take their time
        here.is_interrupted = not is_read  # then the next superstep reads it, once the run is held
        for text in fitted.warnings:
            self._setting.emit(WorkflowWarningEvent(text))
        for text in fitted.warnings:  # last: a filter may turn it into an error
            said = redact(f"run {self._setting.run_id!r}: {text}")
            warnings.warn(said, UndeliveredMessageWarning, stacklevel=2)

    # ----------------------------------------------------------------------------------- looking at

    def outputs(self) -> list[Any]:
        """Return every output of a run without storage."""
        return self.earlier_outputs() + [output.open() for output in self._position.outputs]

    def earlier_outputs(self) -> list[Any]:
        """Return the outputs that the lineage had yielded when it was loaded."""
        return load_outputs(self._position.earlier_outputs, self._setting.sealer)

    async def stored_outputs(self) -> list[Any] | None:
        """Return every output of the lineage, as stored; None without storage."""
        if self._store is None or self._store.head is None:
            return None
        record = await self._store.read(self._store.head.checkpoint_id)
        return (
            None
            if record is None
            else load_outputs(record.parts.get(OUTPUTS), self._setting.sealer)
        )

    def coming_questions(self) -> set[str]:
        """Return the ids of questions in flight, as messages to the executors that ask them."""
        payloads = [message.payload.open() for message in self._position.state.messages]
        return {value.request_id for value in payloads if isinstance(value, RequestInfoMessage)}

    def snapshot(self) -> WorkflowCheckpoint:
        """Return the state that a replay has reached, as a checkpoint that is nowhere stored.

        Raises:
            CheckpointingDisabledError: This is not a replay.
        """
        if self._replay is None:
            raise CheckpointingDisabledError(
                f"run {self._setting.run_id!r} is not a replay, so it has no snapshot: what it is "
                "at a barrier is in its checkpoints; see run.latest_checkpoint"
            )
        here = self._position
        start, parts = self._replay.start.header, dict(here.parts)
        header = msgspec.structs.replace(
            start,
            checkpoint_id=f"replay-{here.iteration}-of-{start.checkpoint_id}",
            parent_id=start.checkpoint_id,
            branch=self._replay.branch(here.iteration),
            iteration_count=here.iteration,
            max_iterations=self._setting.max_iterations,
            steps_since_input=here.steps_since_input,
            timestamp=utc_now(),
            status=self.status.value,
        )
        return WorkflowCheckpoint.from_record(header, lambda: parts, self._setting.sealer.codec)

    def leftovers(self) -> list[str]:
        """Return a sentence for each fan-in and intercepted question that still waits.

        To be asked when nothing else does.
        """
        return self._announcer.leftovers(self._position.state)

    @property
    def has_work(self) -> bool:
        """Whether a superstep has anything to do."""
        state = self._position.state
        if self._replay is not None:
            return self._replay.has_work(self._position.iteration, state)
        if state.messages or self._inbox.answers or state.replies:
            return True
        if not (state.timers or state.requests or state.intercepted):
            return False
        now, begun = utc_now(), self._position.recorded.begun
        return bool(
            due_timers(state, now, begun)
            or state.requests.due(now)
            or late_questions(state, now, begun)
        )

    @property
    def flows(self) -> bool:
        """Whether there are messages to deliver and nothing else to consider.

        No answers, deadlines, timers, replay; questions may wait.
        """
        state = self._position.state
        return bool(state.messages) and not (
            state.intercepted
            or state.timers
            or self._replay
            or (state.requests and (self._inbox.answers or state.requests.earliest()))
        )

    @property
    def next_due(self) -> str | None:
        """When the next timer is due, or a question inside the run has to be answered.

        None if there is neither. Questions to the outside world alone do not keep a run going.
        """
        state = self._position.state
        if not (state.timers or state.intercepted):
            return None
        moments = [m for m in (state.timers.earliest(), state.intercepted.earliest()) if m]
        if not moments or self._replay is not None:
            return None
        return min([*moments, state.requests.earliest() or moments[0]])

    @property
    def wakes_at(self) -> str | None:
        """When something is due by itself: a timer, or a question's deadline, also outside."""
        state = self._position.state
        moments = (
            state.timers.earliest(),
            state.intercepted.earliest(),
            state.requests.earliest(),
        )
        return min((moment for moment in moments if moment), default=None)

    @property
    def status(self) -> WorkflowRunState:
        """The run's state at this barrier."""
        state = self._position.state
        goes_on = (
            bool(state.messages or state.replies or self.next_due or state.timers) or self.has_work
        )
        is_waiting = bool(state.requests) and self._inbox.is_waiting(state.requests)
        return state_at_barrier(goes_on=goes_on, is_waiting=is_waiting)

    def waiting_requests(self) -> list[RequestInfoEvent]:
        """Return an event for each question that waits and whose deadline has not passed."""
        requests = self._position.state.requests
        late = {request.request_id for request in requests.due(utc_now())}
        return [
            self._announcer.request_event(requests[request_id])
            for request_id in self._inbox.waiting(requests)
            if request_id not in late
        ]

    @property
    def has_questions(self) -> bool:
        """Whether any question waits, answered or not."""
        return bool(self._position.state.requests)

    # ------------------------------------------------------------------------------------ answering

    async def accept(self, responses: Mapping[str, Any]) -> None:
        """Take answers, durably; the next superstep consumes them.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        self._refuse_in_replay()
        await self._inbox.accept(self._position.state.requests, responses)
        self.wake()

    async def cancel_request(self, request_id: str) -> None:
        """Take a question back, durably; the next superstep closes it.

        Raises:
            RequestError: It does not wait.
        """
        self._refuse_in_replay()
        await self._inbox.cancel(self._position.state.requests, request_id)
        self.wake()

    def _refuse_in_replay(self) -> None:
        if self._replay is not None:
            raise RequestError(
                f"a replay of run {self._setting.run_id!r} takes only the answers that the run "
                "itself had; to try another one, fork the checkpoint and answer the fork. Nothing "
                "was changed."
            )

    # -------------------------------------------------------------------------------------- waiting

    async def look(self) -> None:
        """Learn of answers that others have put in, before the run is said to wait for them."""
        if self._store is None:
            return
        run = await self._store.look_up()
        if run is not None and self._store.is_at(run):
            await self._inbox.refresh(self._position.state.requests)

    async def wait(self) -> None:
        """Wait until a timer is due, or something else is to be done."""
        due = self.next_due
        if due is None:
            return
        self._alarm.set()
        if self._store is not None:
            await self._store.release()  # others may take the run meanwhile
        await self._alarm.wait(due)

    def wake(self) -> None:
        """End a `wait`: there may be something to do."""
        self._alarm.ring()

    # ------------------------------------------------------------------------------------ superstep

    def superstep(self) -> Coroutine[Any, Any, None]:
        """Deliver what is in flight, run the handlers, merge, commit, announce.

        Raises:
            WorkflowConvergenceError: The limit of supersteps is reached.
            CheckpointSaveError: The commit failed; the run stays at its last checkpoint.
            Exception: What a handler raised; its siblings have finished and are journalled.
        """
        return self._supersteps.take()

    def rest(self, state: WorkflowRunState, error: BaseException | None = None) -> None:
        """Report to an observer that the handle has no more work for the run, for now.

        Args:
            state: The run's state.
            error: The error that ended the work, if any.
        """
        observation = self._setting.observation
        if observation is not None:
            if isinstance(error, RunFencedError):
                observation.lost(error)
            observation.rest(state, error)

    def stop(self) -> None:
        """Start no further call, and void those that still end: the work is cancelled."""
        self._supersteps.stop()

    @property
    def is_here(self) -> bool:
        """Whether the present code is a handler of this run, or was started by one."""
        return self._supersteps.is_here

    @property
    def is_asleep(self) -> bool:
        """Whether a superstep can be interrupted without loss.

        Then handlers only sleep, and everything else is recorded.
        """
        return self._supersteps.is_asleep

    async def asleep(self) -> None:
        """Wait until `is_asleep`.

        Raises:
            CheckpointError: A finished call could not be recorded.
        """
        await self._supersteps.asleep()
