"""`Sites`: what an executor's calls need to know of the run, and see of its state."""

from __future__ import annotations

from typing import NamedTuple

from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.equipment import Setting
from supersteps.engine.levels import Level
from supersteps.engine.position import Position
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
        # Of the root's executors; those of sub-workflows come and go.
        self._posts: dict[str, _Post] = {}

    def view(self, address: str) -> View:
        """Return a fresh view of the state as an executor sees it."""
        return self._view(self._posts.get(address) or self._find_post(address))

    def present(self, address: str, view: View) -> CallSite:
        """Return the site of what is called at the barrier itself: hooks."""
        post = self._posts.get(address) or self._find_post(address)
        return self._site(address, post, view, self._position.iteration)

    def coming(self, address: str, sleeper: Sleeper) -> CallSite:
        """Return the site of an executor's calls in the superstep that follows the barrier.

        Args:
            address: The executor's path.
            sleeper: Lets handlers sleep.
        """
        post = self._posts.get(address) or self._find_post(address)
        step = self._position.iteration + 1
        return self._site(address, post, self._view(post), step, sleeper)

    def _find_post(self, address: str) -> _Post:
        level = self._setting.levels.of(address)
        if level.parent is not None:
            return _Post(
                level.local(address), level, level.stand_in.__supersteps__.workflow.workflow_id
            )
        post = self._posts[address] = _Post(address, level, self._setting.workflow_id)
        return post

    def _view(self, post: _Post) -> View:
        graph, shared = post.level.graph, post.level.shared
        return View(self._position.state, graph.reducers, self._setting.sealer, shared)

    def _site(
        self, address: str, post: _Post, view: View, step: int, sleeper: Sleeper | None = None
    ) -> CallSite:
        setting = self._setting
        branch = 0 if setting.store is None else setting.store.branch
        if setting.replay is not None:
            branch = setting.replay.branch(step)
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
            setting.incarnation,
            setting.replay is not None,
            sleeper,
            setting.reader,
        )
