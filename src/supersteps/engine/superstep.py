"""`Supersteps`: takes a run from one barrier to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from supersteps.checkpoint.record import utc_now
from supersteps.engine.barrier import Barrier, Step
from supersteps.engine.effects import Effects
from supersteps.engine.event_loops import LoopEvent
from supersteps.engine.execution import Execution
from supersteps.engine.hooks import Hooks
from supersteps.engine.inbox import Inbox
from supersteps.engine.journal import Journal, Note
from supersteps.engine.merge import merge
from supersteps.engine.merged import Merged
from supersteps.engine.plan import Plan, due_timers, late_questions, moving, plan
from supersteps.engine.position import Position
from supersteps.engine.setting import Setting
from supersteps.engine.user_code import Stretch, is_inside
from supersteps.errors import WorkflowConvergenceError
from supersteps.events import SuperStepStarted


class Supersteps:
    """Takes a run from one barrier to the next."""

    def __init__(
        self,
        setting: Setting,
        position: Position,
        barrier: Barrier,
        *,
        inbox: Inbox,
        hooks: Hooks,
    ) -> None:
        """Prepare.

        Args:
            setting: What the run works with.
            position: The run's position, which each superstep moves.
            barrier: Takes it over the end of each superstep.
            inbox: Its accepted answers.
            hooks: Its executors that keep attributes of their own.
        """
        self._setting = setting
        self._position = position
        self._barrier = barrier
        self._inbox = inbox
        self._hooks = hooks
        self._levels = setting.levels
        self._store = setting.store
        self._replay = setting.replay
        self._journal = None if setting.store is None else Journal(setting.store)
        self._execution: Execution | None = None
        self._asleep = LoopEvent()
        self._recovering = Stretch()
        self._is_stopped = False

    def stop(self) -> None:
        """Start no further call, and void those that end from now on."""
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
        """Whether a superstep can be interrupted without loss.

        Then handlers only sleep, and everything else is recorded.
        """
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
        if self._barrier.cut is not None:
            await self._barrier.settle()
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
            here.is_interrupted = True  # while it is read: then the event loop may end
            # Others may have started this superstep after it was read.
            await here.read_journal(store)
            here.is_interrupted = False
            is_stale = is_stale or set(here.recorded.finished) != known
        if is_stale or here.is_interrupted:
            await self._recover()
        here.is_interrupted = True
        requests = here.state.requests
        planned = (
            await self._plan()
            if self._replay is not None or (requests and self._inbox.is_due(requests))
            else self._plan_at_once()
        )
        if self._replay is None and not (
            planned.answers or planned.timers or here.state.messages or planned.replies
        ):
            here.is_interrupted = False
            return  # there were only answers to handle, and a restore has dropped them
        try:
            since_input = self._count(planned)
        except WorkflowConvergenceError:
            here.is_interrupted = False
            raise
        observation, work = self._setting.observation, self._advance(planned, since_input)
        if observation is None:
            await work
        else:
            calls = sum(map(len, planned.calls.values()))
            await observation.superstep(work, here.iteration + 1, calls)
        if store is not None and store.is_untidy:
            await store.tidy()
        here.is_interrupted = False

    async def _recover(self) -> None:
        """Prepare to continue after an interrupted superstep.

        So it is after another run has had this one's executor instances.
        """
        here = self._position
        if here.is_interrupted and self._store is not None:
            await here.read_journal(self._store)
        with self._recovering:
            await self._hooks.restore()

    async def _plan(self) -> Plan:
        state = self._position.state
        if self._replay is not None:
            step = self._position.iteration + 1
            answers = await self._replay.answers(step, state, self._setting.sealer)
            is_alone = not (state.messages or state.replies or answers)
            due = await self._replay.timers(step, state, alone=is_alone)
            return plan(self._levels, state, answers, due)
        if self._inbox.may_have_news:
            await self._inbox.refresh(state.requests)
        await self._inbox.expire(state.requests)
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

    async def _advance(self, planned: Plan, since_input: int) -> None:
        here, setting = self._position, self._setting
        number = here.iteration + 1
        ran = tuple(planned.calls)
        finished = here.recorded.finished
        recorded = dict(Counter(address for address, _key in finished)) if finished else None
        setting.notes.sink.note(SuperStepStarted(number, ran, bool(planned.answers), recorded))
        if self._journal is not None:
            if here.fitted is not None or here.recorded.graph:
                await self._note_names(self._journal)
            self._journal.begin()
        # What the calls did is let go of: a thousand runs may wait for their commits.
        merged = await self._merge(planned, await self._execute(planned))
        await self._barrier.reach(Step(number, planned, merged, ran, since_input))

    async def _note_names(self, journal: Journal) -> None:
        """Note in the journal whose names follow: those of the head's graph, or of another one."""
        here = self._position
        names = here.fitted.fingerprint if here.fitted is not None else ""
        if here.recorded.graph != names:
            await journal.note(Note("graph", key=names))
            here.recorded.graph = names

    async def _execute(self, planned: Plan) -> list[Effects]:
        execution = self._execution = Execution(
            planned,
            self._setting,
            self._position.coming_site,
            self._position.recorded,
            self._journal,
            self._hooks.restore_one,
            self._asleep,
            self._is_stopped,
        )
        try:
            return await execution.run()
        finally:
            self._execution = None

    async def _merge(self, planned: Plan, results: Sequence[Effects]) -> Merged:
        here = self._position
        sealer, number = self._setting.sealer, here.iteration + 1
        try:
            return merge(self._levels, here.state, planned, results, sealer, number)
        except Exception:
            # The records would lead into the same failure for ever; without them a fixed program
            # can go on.
            if self._journal is not None and here.recorded.started:
                await self._journal.note(Note("void"))  # an at-most-once call has started
            elif self._store is not None:
                await self._store.discard_journal()
            raise

    # ------------------------------------------------------------------------------ max_iterations

    def _count(self, planned: Plan) -> int:
        """Return how many supersteps since the last input there are once this one is done.

        The very first of a run does not count. An answer or a timer restarts the count: work that
        waits for its time is not an endless loop, and repeated calls have a limit of their own. A
        sub-workflow counts those in which it is active.

        Raises:
            WorkflowConvergenceError: It would be one too many, of the workflow or of a
                sub-workflow.
        """
        here = self._position
        if planned.answers or planned.timers:
            return 1
        if not here.iteration:
            return here.steps_since_input
        is_moved = not here.state.sub_runs or "" in moving(planned, here.state)
        if not planned.replies:
            if here.state.sub_runs:
                self._check_inner_limits(planned)
            if is_moved and here.steps_since_input >= self._setting.max_iterations:
                raise self._not_converged(planned)
        return here.steps_since_input + is_moved

    def _check_inner_limits(self, planned: Plan) -> None:
        here, setting = self._position, self._setting
        for path in sorted(moving(planned, here.state) - {""}):
            limit = self._levels.at(path).stand_in.__supersteps__.workflow.max_iterations
            if here.state.sub_runs[path].steps > limit:  # the very first does not count
                raise WorkflowConvergenceError(
                    f"sub-workflow {path!r} of run {setting.run_id!r} did not converge after "
                    f"{limit} iterations (max_iterations of the inner workflow). Raise it if it "
                    "should, and resume the run."
                )

    def _not_converged(self, planned: Plan) -> WorkflowConvergenceError:
        setting = self._setting
        targets = ", ".join(sorted(map(repr, planned.calls)))
        resume = (
            "Its checkpoint is saved: resume it with a workflow whose max_iterations is higher."
            if setting.store is not None
            else "Raise max_iterations if it should."
        )
        return WorkflowConvergenceError(
            f"run {setting.run_id!r} of workflow {setting.workflow_id!r} did not converge after "
            f"{setting.max_iterations} iterations (max_iterations): messages are still on their "
            f"way to {targets}. {resume}"
        )
