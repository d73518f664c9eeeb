"""`Position`: the state of a run between two supersteps."""

from __future__ import annotations

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.values import Sealed
from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.executors import Post
from supersteps.engine.journal import Recorded
from supersteps.engine.run_store import RunStore
from supersteps.engine.setting import Setting
from supersteps.engine.state import State
from supersteps.engine.time_travel.migration import Fitted
from supersteps.engine.view import View


class Position:
    """The position of a run.

    That is the state at its last barrier, and the progress of an earlier attempt at the next
    superstep.

    Attributes:
        state: The state at the last barrier.
        iteration: Supersteps done on this lineage.
        steps_since_input: Number of those since the last input from outside.
        recorded: The journal of an earlier attempt at the next superstep.
        fitted: The migration that the next commit stores, None if there is none.
        is_interrupted: Whether a superstep was started and has not ended, or may have been: the
            journal is still to be read.
        earlier_outputs: The outputs of the lineage when it was loaded, as stored.
        outputs: Later outputs, for a run without storage.
        parts: For a replay: the parts that a storage would have.
    """

    def __init__(self, setting: Setting) -> None:
        self.state = State()
        self.iteration = 0
        self.steps_since_input = 0
        self.recorded = Recorded()
        self.fitted: Fitted | None = None
        self.is_interrupted = False
        self.earlier_outputs: Part | None = None
        self.outputs: list[Sealed] = []
        self.parts: dict[PartKey, Part] = {}
        self._setting = setting

    def take(self, record: CheckpointRecord) -> None:
        """Move to a checkpoint."""
        self.state = State.load(record.parts, self._setting.sealer)
        self.iteration = record.header.iteration_count
        self.steps_since_input = record.header.steps_since_input
        self.earlier_outputs = record.parts.get(OUTPUTS)

    async def read_journal(self, store: RunStore) -> None:
        """Load which calls of the next superstep have already started or finished."""
        fitted, records = self.fitted, await store.read_journal()
        sealer = self._setting.sealer
        if fitted is None:
            self.recorded = Recorded.read(records, sealer)
        else:
            self.recorded = Recorded.read(records, sealer, fitted.fingerprint, fitted.translate)

    # ------------------------------------------------------------------------------- what is called

    def view(self, post: Post) -> View:
        """Return a new view of the state for an executor."""
        level = post.level
        return View(self.state.scopes, level.graph.reducers, self._setting.sealer, level.shared)

    def site(self, post: Post, view: View) -> CallSite:
        """Return the site of calls at the barrier itself: hooks."""
        return self._site(post, view, self.iteration)

    def coming_site(self, post: Post, sleeper: Sleeper) -> CallSite:
        """Return the site of an executor's calls in the superstep that follows the barrier.

        Args:
            post: The executor.
            sleeper: Lets handlers sleep.
        """
        return self._site(post, self.view(post), self.iteration + 1, sleeper)

    def _site(self, post: Post, view: View, step: int, sleeper: Sleeper | None = None) -> CallSite:
        setting = self._setting
        if setting.replay is not None:
            branch = setting.replay.branch(step)
        else:
            branch = 0 if setting.store is None else setting.store.branch
        return CallSite(post, setting, view, step, branch, sleeper)
