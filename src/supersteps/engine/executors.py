"""The executors of one run: those of the root from the beginning, those of sub-workflows once they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supersteps.define.executor import Executor
from supersteps.define.graph import Node
from supersteps.engine.levels import Levels
from supersteps.engine.user_code import UserCodeError, as_error, is_foreign
from supersteps.paths import path_of


def made(node: Node) -> Executor:
    """Return a node's executor for one run: its instance, or what its factory makes.

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


class Executors:
    """The executors of a run, by path.

    Attributes:
        roots: Those of the workflow itself, by id.
    """

    def __init__(self, levels: Levels, roots: Mapping[str, Executor]) -> None:
        self.roots = roots
        self._levels = levels
        self._inner: dict[str, dict[str, Executor]] = {}  # by run of a sub-workflow

    def __getitem__(self, address: str) -> Executor:
        executor = self.roots.get(address)
        if executor is not None:  # not `or`: an executor may have a length
            return executor
        inner = self._inner.setdefault(path_of(address), {})
        executor = inner.get(address)
        if executor is None:
            node = self._levels.node(address)
            executor = inner[address] = made(node)
        return executor

    def forget_inner(self) -> None:
        """Drop the executors of sub-workflows: a superstep was cut short, and their attributes may be half changed."""
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
