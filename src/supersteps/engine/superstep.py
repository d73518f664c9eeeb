"""`Supersteps`: advances a run by one superstep: plan, execute, merge, commit, announce."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from supersteps.checkpoint.record import utc_now
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.announcer import Announcer
from supersteps.engine.apply import apply
from supersteps.engine.convergence import Convergence
from supersteps.engine.effects import Effects
from supersteps.engine.equipment import Setting
from supersteps.engine.event_loops import LoopEvent
from supersteps.engine.execution import Execution
from supersteps.engine.hooks import Hooks
from supersteps.engine.inbox import Inbox
from supersteps.engine.inside import Stretch, is_inside
from supersteps.engine.journal import Journal, Note, Recorded
from supersteps.engine.merge import merge
from supersteps.engine.merged import Merged
from supersteps.engine.parts import encode_changes
from supersteps.engine.plan import Plan, due_timers, late_questions, plan
from supersteps.engine.position import Position
from supersteps.engine.run_store import RunStore
from supersteps.engine.sites import Sites
from supersteps.errors import WorkflowConvergenceError
from supersteps.events import SuperStepStarted
from supersteps.states import state_at_barrier

Landing = tuple[Plan, Merged, tuple[str, ...], int, int]
"""A superstep whose handlers have run: who handled what, what it changes, which executors ran, its
number, and how many supersteps since the last input there are then."""


class Supersteps:
    """Takes a run from one barrier to the next."""

    def __init__(
        self,
        setting: Setting,
        position: Position,
        *,
        sites: Sites,
        inbox: Inbox,
        hooks: Hooks,
        announcer: Announcer,
    ) -> None:
        """Prepare.

        Args:
            setting: What the run works with.
            position: Where it stands; moved by each superstep.
            sites: Gives its calls what they need to know.
            inbox: Its accepted answers.
            hooks: Its executors that keep attributes of their own.
            announcer: Told of each superstep once it is committed.
        """
        self._position = position
        self._max_iterations = setting.max_iterations
        self._levels = setting.levels
        self._executors = setting.executors
        self._sealer = setting.sealer
        self._store = setting.store
        self._journal = None if setting.store is None else Journal(setting.store)
        self._replay = setting.replay
        self._backend = setting.backend
        self._emit = setting.emit
        self._notes = setting.notes
        self._convergence = Convergence(setting, position)
        self._sites = sites
        self._inbox = inbox
        self._hooks = hooks
        self._announcer = announcer
        self._execution: Execution | None = None
        self._asleep = LoopEvent()
        self._recovering = Stretch()
        self._is_stopped = False
        self._cut: Landing | None = None

    def stop(self) -> None:
        """Begin no further call, and let none count that ends from now on."""
        self._is_stopped = True
        if self._execution is not None:
            self._execution.is_stopped = True

    @property
    def is_here(self) -> bool:
        """Whether the present code is a handler of this superstep, or was started by one."""
        execution = self._execution
        return (execution is not None and is_inside(execution)) or self._recovering.is_here

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

    async def take(self) -> None:
        """Deliver what is in flight, run the handlers, merge, commit, announce.

        Raises:
            WorkflowConvergenceError: The limit of supersteps is reached.
            CheckpointSaveError: The commit failed; the run stays at its last checkpoint.
            Exception: What a handler raised; its siblings have finished and are journalled.
        """
        here = self._position
        self._is_stopped = False
        if self._cut is not None:
            await self._settle(self._cut)
            return
        is_stale = self._hooks.are_shared and self._hooks.claim()
        store = self._store
        if (
            store is not None
            and not store.is_held
            and await store.own()
            and not here.is_interrupted
        ):
            known = set(here.recorded.finished)
            await here.read_journal(store)  # others may have begun this superstep since it was read
            is_stale = is_stale or set(here.recorded.finished) != known
        if is_stale or here.is_interrupted:
            await self._recover()
        here.is_interrupted = True
        planned = (
            await self._plan()
            if self._replay is not None or (here.state.requests and self._inbox.is_due(here.state))
            else self._plan_at_once()
        )
        if self._replay is None and not (
            planned.answers or planned.timers or here.state.messages or planned.replies
        ):
            here.is_interrupted = False
            return  # what there was to do were answers that somebody has dropped by a restore
        try:
            count = self._convergence.count(planned)
        except WorkflowConvergenceError:
            here.is_interrupted = False
            raise
        await self._advance(planned, count)
        if store is not None and store.is_untidy:
            await store.tidy()
        here.is_interrupted = False

    async def _recover(self) -> None:
        """Get ready to go on after a superstep was cut short, or after another run has had this one's instances."""
        here = self._position
        if here.is_interrupted and self._store is not None:
            await here.read_journal(self._store)
        with self._recovering:
            await self._hooks.restore(here.recorded.finished)

    async def _plan(self) -> Plan:
        state = self._position.state
        if self._replay is not None:
            step = self._position.iteration + 1
            answers = await self._replay.answers(step, state, self._sealer)
            is_alone = not (state.messages or state.replies or answers)
            due = await self._replay.timers(step, state, alone=is_alone)
            return plan(self._levels, state, answers, due)
        if self._inbox.may_have_news:
            await self._inbox.refresh(state)
        await self._inbox.expire(state)
        return self._plan_at_once()

    def _plan_at_once(self) -> Plan:
        state = self._position.state
        if not (state.requests or state.timers or state.intercepted):
            return plan(self._levels, state, ())
        now, begun = utc_now(), self._position.recorded.begun
        due = due_timers(state, now, begun) if state.timers else []
        late = late_questions(state, now, begun) if state.intercepted else []
        defaults = {
            request.request_id: request.default for request in late if request.default is not None
        }
        return plan(self._levels, state, tuple(self._inbox.answers), due, defaults)

    async def _advance(self, planned: Plan, count: int) -> None:
        here = self._position
        step = here.iteration + 1
        ran = tuple(planned.calls)
        finished = here.recorded.finished
        recorded = dict(Counter(address for address, _key in finished)) if finished else None
        self._notes.sink.note(SuperStepStarted(step, ran, bool(planned.answers), recorded))
        # What the calls did is let go of: a thousand runs may wait for their commits.
        merged = await self._merge(planned, await self._execute(planned))
        if self._replay is not None:
            await self._replay.take_times(merged, step)
            closed_at = self._replay.closed_at(step)
            encode_changes(merged, here.state, self._levels, step=step, now=closed_at).apply(
                here.parts
            )
        store = self._store
        info = None
        if store is not None:
            try:
                info = await self._commit(store, merged, planned, count)
            except Exception:
                raise
            except BaseException:  # such as the end of the event loop
                self._cut = planned, merged, ran, step, count
                raise
        self._land(planned, merged, ran, step, count, info)

    async def _settle(self, landing: Landing) -> None:
        """Learn what has become of a superstep whose commit was cut short, and go on after it."""
        assert self._store is not None
        self._cut = None
        if self._store.is_cut:
            self._land(*landing, await self._store.settle())
            self._position.is_interrupted = False

    def forget(self) -> None:
        """Forget a superstep whose commit was cut short: the run goes on elsewhere."""
        self._cut = None

    def _land(
        self,
        planned: Plan,
        merged: Merged,
        ran: tuple[str, ...],
        step: int,
        count: int,
        info: CheckpointInfo | None,
    ) -> None:
        """Stand at the next barrier, and tell of it."""
        here = self._position
        here.recorded = Recorded()
        here.fitted = None
        for path in merged.ended:
            self._executors.forget(path)
        apply(merged, here.state, self._levels, self._sealer)
        here.steps_since_input = count
        here.iteration = step
        if planned.answers:
            self._inbox.consume(planned.answers)
        if merged.closed:
            inside = [c.request.request_id for c in merged.closed if c.outcome == "intercepted"]
            self._inbox.pass_over(inside)
        if self._store is None:
            here.outputs += [value for _source, value in merged.outputs]
        self._announcer.announce(merged, planned, ran, here.state, step, info)

    async def _execute(self, planned: Plan) -> list[Effects]:
        here = self._position
        names = here.fitted.fingerprint if here.fitted is not None else ""
        if self._journal is not None and here.recorded.graph != names:
            await self._journal.note(Note("graph", key=names))
            here.recorded.graph = names
        if self._journal is not None:
            self._journal.begin()
        self._execution = Execution(
            planned,
            self._executors,
            self._backend,
            self._sites.coming,
            self._emit,
            self._notes,
            here.recorded,
            self._journal,
            self._hooks.restore_one,
            self._asleep,
        )
        self._execution.is_stopped = self._is_stopped
        try:
            return await self._execution.run()
        finally:
            self._execution = None

    async def _merge(self, planned: Plan, results: Sequence[Effects]) -> Merged:
        here = self._position
        try:
            return merge(
                self._levels, here.state, planned, results, self._sealer, here.iteration + 1
            )
        except Exception:
            # The records would lead into the same failure for ever; without them a mended program can go on.
            if self._journal is not None and here.recorded.started:
                await self._journal.note(
                    Note("void")
                )  # what must not run twice has begun all the same
            elif self._store is not None:
                await self._store.discard_journal()
            raise

    def _commit(
        self, store: RunStore, merged: Merged, planned: Plan, count: int
    ) -> Coroutine[Any, Any, CheckpointInfo]:
        state = self._position.state
        more = bool(merged.messages or merged.replies) or len(self._inbox.answers) > len(
            planned.answers
        )
        goes_on = more or bool(merged.timers) or len(state.timers) > len(planned.timers)
        goes_on = goes_on or any(request.deadline is not None for request in merged.intercepted)
        goes_on = goes_on or state.intercepted.is_timed_without(planned.replies)
        waiting = len(state.requests) + len(merged.opened) > len(merged.closed)
        step = self._position.iteration + 1
        return store.commit(
            encode_changes(
                merged, state, self._levels, step=step, now=utc_now() if merged.closed else ""
            ),
            iteration=step,
            steps_since_input=count,
            max_iterations=self._max_iterations,
            status=state_at_barrier(goes_on=goes_on, is_waiting=waiting).value,
            more=more,
            inbox_read=planned.answers[-1].number if planned.answers else 0,
        )
