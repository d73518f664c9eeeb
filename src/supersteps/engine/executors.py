"""`Executors`: the executors of one run, each with its post in a graph.

Those of the root exist from the start, those of sub-workflows are created when needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from supersteps.define.executor import Executor
from supersteps.define.graph import Node
from supersteps.define.policies import FailurePolicy
from supersteps.engine.levels import Level, Levels
from supersteps.engine.user_code import UserCodeError, as_error, is_foreign
from supersteps.events import ExecutorCompleted, ExecutorInvoked


def made(node: Node) -> Executor:
    """Return a node's executor for one run: its instance, or a new one from its factory.

    Raises:
        UserCodeError: The factory raised.
    """
    if node.factory is None:
        return node.executor
    try:
        return node.factory()
    except BaseException as error:
        if is_foreign(error):
            raise
        who = f"the factory of executor {node.executor.id!r}"
        raise UserCodeError(as_error(error, who)) from None


class Post(msgspec.Struct, frozen=True, eq=False):
    """An executor of a run, with what is the same in every superstep.

    Attributes:
        address: Its path.
        executor_id: Its id in its own workflow.
        level: Its level.
        workflow_id: The name of its workflow.
        executor: The executor.
        policy: Its failure policy; None if it is called once.
        limit: How many messages it handles concurrently.
        has_hooks: Whether it keeps its own attributes, with checkpoint hooks.
        keeps_each: Whether its hook runs after each call: if a failed call does not fail the
            superstep, its attributes are reset to those after the call before it.
        invoked: The event that a call starts.
        completed: The event that a call has succeeded.
    """

    address: str
    executor_id: str
    level: Level
    workflow_id: str
    executor: Executor
    policy: FailurePolicy | None
    limit: int
    has_hooks: bool
    keeps_each: bool
    invoked: ExecutorInvoked
    completed: ExecutorCompleted

    @classmethod
    def of(cls, executor: Executor, address: str, level: Level, workflow_id: str) -> Post:
        """Return the post of an executor at a level."""
        graph, executor_id = level.graph, level.local(address)
        policy = graph.policies.get(executor_id)
        has_hooks = executor.__supersteps__.has_hooks
        may_fail = policy is not None or bool(graph.error_targets.get(executor_id))
        return cls(
            address,
            executor_id,
            level,
            workflow_id,
            executor,
            policy,
            graph.concurrency.get(executor_id, 1),
            has_hooks,
            has_hooks and may_fail,
            ExecutorInvoked(address),
            ExecutorCompleted(address),
        )


class Executors:
    """The executors of a run, by path.

    Attributes:
        roots: Those of the workflow itself, by id.
    """

    def __init__(
        self, levels: Levels, roots: Mapping[str, Executor], workflow_id: str = ""
    ) -> None:
        """Collect the executors.

        Args:
            levels: The graph and those of its sub-workflows.
            roots: The executors of the workflow itself, by id.
            workflow_id: The workflow's name.
        """
        self.roots = roots
        self._levels = levels
        self._workflow_id = workflow_id
        self._posts: dict[str, Post] = {}
        self._inner: dict[str, dict[str, Post]] = {}  # by run of a sub-workflow

    def __getitem__(self, address: str) -> Post:
        return self._posts.get(address) or self._find(address)

    def _find(self, address: str) -> Post:
        level = self._levels.of(address)
        if level.parent is None:
            executor = self.roots[address]
            post = self._posts[address] = Post.of(executor, address, level, self._workflow_id)
            return post
        posts = self._inner.setdefault(level.path, {})
        inner = posts.get(address)
        if inner is None:
            executor = made(level.graph.nodes[level.local(address)])
            workflow_id = level.stand_in.__supersteps__.workflow.workflow_id
            inner = posts[address] = Post.of(executor, address, level, workflow_id)
        return inner

    def forget_inner(self) -> None:
        """Drop the executors of sub-workflows, whose attributes may be inconsistent.

        That is the case after an interrupted superstep.
        """
        self._inner.clear()

    def forget(self, path: str) -> None:
        """Drop the executors of a sub-workflow's run that has ended."""
        self._inner.pop(path, None)

    def hooked_inner(self, paths: Iterator[str]) -> Iterator[str]:
        """Yield the paths of executors with hooks in these runs of sub-workflows."""
        for path in paths:
            level = self._levels.at(path)
            for node_id, node in level.graph.nodes.items():
                if node.executor.__supersteps__.has_hooks:
                    yield level.prefix + node_id
