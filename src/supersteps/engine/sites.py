"""`Sites`: what an executor's calls need to know of the run, and see of its state."""

from __future__ import annotations

from typing import NamedTuple

from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.levels import Level
from supersteps.engine.position import Position
from supersteps.engine.setting import Setting
from supersteps.engine.view import View


class _Post(NamedTuple):
    """What is the same of an executor in every superstep."""

    executor_id: str
    level: Level
    workflow_id: str


class Sites:
    """Makes call sites and views of a run, by the paths of executors."""

    def __init__(self, setting: Setting, position: Position) -> None:
        self._setting = setting
        self._position = position
        self._posts: dict[
            str, _Post
        ] = {}  # of the root's executors; those of sub-workflows come and go

    def view(self, address: str) -> View:
        """Return a fresh view of the state as an executor sees it."""
        level = self._post(address).level
        return View(self._position.state, level.graph.reducers, self._setting.sealer, level.shared)

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

    def _post(self, address: str) -> _Post:
        post = self._posts.get(address)
        if post is None:
            level = self._setting.levels.of(address)
            is_root = level.parent is None
            workflow_id = (
                self._setting.workflow_id if is_root else level.stand_in.workflow.workflow_id
            )
            post = _Post(level.local(address), level, workflow_id)
            if is_root:
                self._posts[address] = post
        return post

    def _site(
        self, address: str, view: View, step: int, sleeper: Sleeper | None = None
    ) -> CallSite:
        setting = self._setting
        store, replay = setting.store, setting.replay
        if replay is not None:
            branch = replay.branch(step)
        elif store is not None:
            branch = store.branch
        else:
            branch = 0
        post = self._post(address)
        return CallSite(
            address,
            post.executor_id,
            post.level,
            setting.run_id,
            post.workflow_id,
            branch,
            step,
            view,
            setting.sealer,
            setting.emit,
            replay is not None,
            sleeper,
            setting.reader,
        )
