"""`Barrier`: encodes, commits, applies and announces a superstep.

A run starts here too: its first checkpoint is committed like any other.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.record import utc_now
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.announcer import Announcer
from supersteps.engine.encode import encode_changes
from supersteps.engine.inbox import Inbox
from supersteps.engine.journal import Recorded
from supersteps.engine.merged import Merged, apply
from supersteps.engine.plan import Plan
from supersteps.engine.position import Position
from supersteps.engine.run_store import Beginning, RunStore
from supersteps.engine.setting import Setting
from supersteps.states import state_at_barrier


class Step(msgspec.Struct, frozen=True, eq=False):
    """A superstep whose handlers have run, or the start of a run.

    Attributes:
        number: Its number in the lineage; 0 for the start.
        planned: Who handled what.
        merged: What it changes.
        ran: Which executors ran.
        since_input: How many supersteps since the last input there are with it.
        beginning: At the start: the data of only a run's first commit.
    """

    number: int
    planned: Plan
    merged: Merged
    ran: tuple[str, ...]
    since_input: int
    beginning: Beginning | None = None


class Barrier:
    """Takes a run over the end of a superstep: to its next position, durably.

    Attributes:
        cut: The superstep whose commit was interrupted, None if there is none.
    """

    def __init__(
        self, setting: Setting, position: Position, inbox: Inbox, announcer: Announcer
    ) -> None:
        """Prepare.

        Args:
            setting: What the run works with.
            position: The run's position, which each superstep moves.
            inbox: Its accepted answers.
            announcer: Called for each superstep once it is committed.
        """
        self._setting = setting
        self._position = position
        self._inbox = inbox
        self._announcer = announcer
        self.cut: Step | None = None

    def forget(self) -> None:
        """Forget a superstep whose commit was interrupted: the run continues elsewhere."""
        self.cut = None

    async def reach(self, step: Step) -> None:
        """Encode what a superstep changes, commit it, stand at the new barrier, announce it.

        Raises:
            CheckpointSaveError: The commit failed; the run stays at its last checkpoint.
            RunExistsError: The run is new, but its id is already used.
        """
        setting, state, merged = self._setting, self._position.state, step.merged
        info = None
        if setting.store is not None:
            now = utc_now() if merged.closed else ""
            changes = encode_changes(merged, state, setting.levels, step=step.number, now=now)
            begun = time.perf_counter() if setting.observation is not None else 0.0
            try:
                info = await self._commit(setting.store, step, changes)
            except Exception:
                raise
            except BaseException:  # such as the end of the event loop
                self.cut = step
                raise
            if setting.observation is not None:
                seconds = time.perf_counter() - begun
                setting.observation.committed(info, changes.size, seconds)
        elif setting.replay is not None:
            await setting.replay.take_times(merged, step.number)
            now = setting.replay.closed_at(step.number)
            changes = encode_changes(merged, state, setting.levels, step=step.number, now=now)
            changes.apply(self._position.parts)
        self._land(step, info)

    async def settle(self) -> None:
        """Find out the outcome of an interrupted commit, and continue after it."""
        step, store = self.cut, self._setting.store
        assert step is not None
        assert store is not None
        self.cut = None
        if store.is_cut:
            self._land(step, await store.settle())
            self._position.is_interrupted = False

    def _commit(
        self, store: RunStore, step: Step, changes: Changes
    ) -> Coroutine[Any, Any, CheckpointInfo]:
        state, merged, planned = self._position.state, step.merged, step.planned
        more = bool(merged.messages or merged.replies) or len(self._inbox.answers) > len(
            planned.answers
        )
        goes_on = (
            more
            or bool(merged.timers)
            or len(state.timers) > len(planned.timers)
            or any(request.deadline is not None for request in merged.intercepted)
            or state.intercepted.is_timed_without(planned.replies)
        )
        waiting = len(state.requests) + len(merged.opened) > len(merged.closed)
        return store.commit(
            changes,
            iteration=step.number,
            steps_since_input=step.since_input,
            max_iterations=self._setting.max_iterations,
            status=state_at_barrier(goes_on=goes_on, is_waiting=waiting).value,
            more=more,
            inbox_read=planned.answers[-1].number if planned.answers else 0,
            beginning=step.beginning,
        )

    def _land(self, step: Step, info: CheckpointInfo | None) -> None:
        """Move to the next barrier, and report it."""
        here, setting, merged = self._position, self._setting, step.merged
        here.recorded = Recorded()
        here.fitted = None
        for path in merged.ended:
            setting.executors.forget(path)
        apply(merged, here.state, setting.levels, setting.sealer)
        here.steps_since_input = step.since_input
        here.iteration = step.number
        if step.planned.answers:
            self._inbox.consume(step.planned.answers)
        if merged.closed:
            inside = [c.request.request_id for c in merged.closed if c.outcome == "intercepted"]
            self._inbox.pass_over(inside)
        if setting.store is None and merged.outputs:
            here.outputs += [value for _source, value in merged.outputs]
        if step.beginning is None:
            self._announcer.announce(merged, step.planned, step.ran, here.state, step.number, info)
