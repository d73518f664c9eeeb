"""`Sites`: what an executor's calls need to know of the run, and see of its state."""

from __future__ import annotations

from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.position import Position
from supersteps.engine.setting import Setting
from supersteps.engine.view import View


class Sites:
    """Makes call sites and views of a run, by the paths of executors."""

    def __init__(self, setting: Setting, position: Position) -> None:
        self._setting = setting
        self._position = position

    def view(self, address: str) -> View:
        """Return a fresh view of the state as an executor sees it."""
        setting = self._setting
        level = setting.levels.of(address)
        return View(self._position.state, level.graph.reducers, setting.sealer, level.shared)

    def present(self, address: str, view: View) -> CallSite:
        """Return the site of what is called at the barrier itself: hooks."""
        return self._site(address, view, self._position.iteration)

    def coming(self, address: str, sleeper: Sleeper) -> CallSite:
        """Return the site of an executor's calls in the superstep that follows the barrier.

        Args:
            address: The executor's path.
            sleeper: Lets handlers sleep.
        """
        return self._site(address, self.view(address), self._position.iteration + 1, sleeper)

    def _site(self, address: str, view: View, step: int, sleeper: Sleeper | None = None) -> CallSite:
        setting = self._setting
        store, replay = setting.store, setting.replay
        if replay is not None:
            branch = replay.branch(step)
        elif store is not None:
            branch = store.branch
        else:
            branch = 0
        level = setting.levels.of(address)
        return CallSite(
            address,
            level.local(address),
            level,
            setting.run_id,
            level.stand_in.workflow.workflow_id if level.parent is not None else setting.workflow_id,
            branch,
            step,
            view,
            setting.sealer,
            setting.emit,
            replay is not None,
            sleeper,
            setting.reader,
        )
