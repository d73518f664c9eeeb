"""`Level`: a graph at the root of a run, or inside a sub-workflow.

Executors are named by paths. At the root a path is the executor's id. Inside a sub-workflow it is
the path of that sub-workflow's run, a slash, and the id. A run of a sub-workflow is named after its
node and the superstep that sent the message which started it: `review#3`, then `review#3.1` for the
second one of that superstep.
"""

from __future__ import annotations

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.state import EXECUTORS, SCOPES, SHARED
from supersteps.checkpoint.sections.sub_run import SUB_SCOPES, SUB_STATE
from supersteps.define.context import SHARED_SCOPE
from supersteps.define.edges import FanInEdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph, Node
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.paths import PATH_MARK

SHARED_STATE: Scope = (SHARED,)


class Level:
    """A graph with its position.

    Attributes:
        graph: The graph.
        path: The run of the sub-workflow, empty at the root.
        prefix: The prefix of its executors' paths.
        parent: The outer level, None at the root.
        node: Id of its executor at the outer level.
        shared: Its shared scope.
    """

    __slots__ = ("graph", "node", "parent", "path", "prefix", "shared")

    def __init__(self, graph: Graph, path: str, parent: Level | None, node: str) -> None:
        self.graph = graph
        self.path = path
        self.prefix = path + PATH_MARK if path else ""
        self.parent = parent
        self.node = node
        self.shared: Scope = (SUB_STATE, path) if path else SHARED_STATE

    @property
    def stand_in(self) -> WorkflowExecutor:
        """The executor of this level at the outer one."""
        assert self.parent is not None
        executor = self.parent.graph.nodes[self.node].executor
        assert isinstance(executor, WorkflowExecutor)
        return executor

    def local(self, address: str) -> str:
        """Return an address as executors of this level see it: their own by their ids."""
        return address[len(self.prefix) :] if address.startswith(self.prefix) else address

    def scope(self, name: str | None, executor_id: str) -> Scope:
        """Return the scope that a name means for an executor of this level (None: its own)."""
        if name is None:
            return (EXECUTORS, self.prefix + executor_id)
        if name == SHARED_SCOPE:
            return self.shared
        return (SUB_SCOPES, self.path, name) if self.path else (SCOPES, name)


class Levels:
    """All levels of a run, found by paths."""

    def __init__(self, graph: Graph) -> None:
        self.root = Level(graph, "", None, "")
        self._is_flat = not graph.nested
        self._known: dict[str, Level] = {"": self.root}

    def of(self, address: str) -> Level:
        """Return the level of an executor (or of a fan-in, which is named in the same way)."""
        return self.root if self._is_flat else self.at(address.rpartition(PATH_MARK)[0])

    def at(self, path: str) -> Level:
        """Return the level of a sub-workflow's run; the root for an empty path."""
        level = self._known.get(path)
        if level is None:
            outer, _, last = path.rpartition(PATH_MARK)
            parent = self.at(outer)
            node = last.rpartition("#")[0]
            inner = parent.graph.nodes[node].executor
            assert isinstance(inner, WorkflowExecutor)
            level = self._known[path] = Level(inner.__supersteps__.graph, path, parent, node)
        return level

    def forget(self, path: str) -> None:
        """Drop the levels of a sub-workflow's run that has ended."""
        self._known.pop(path, None)

    def node(self, address: str) -> Node:
        """Return an executor's place in its graph."""
        level = self.of(address)
        return level.graph.nodes[level.local(address)]

    def fan_in(self, address: str) -> FanInEdgeGroup | None:
        """Return the fan-in of an address, None if it is an executor's."""
        level = self.of(address)
        local = level.local(address)
        return None if local in level.graph.nodes else level.graph.fan_ins.get(local)

    def specimen(self, address: str) -> Executor:
        """Return an executor, or an example of what its factory returns."""
        return self.node(address).executor

    def position(self, address: str) -> tuple[tuple[int, ...], ...]:
        """Return the sort key of an executor.

        It consists of places in the graphs and the order in which sub-workflows started.
        """
        if self._is_flat:
            return ((self.root.graph.nodes[address].position,),)
        level = self.of(address)
        places: list[tuple[int, ...]] = [(level.graph.nodes[level.local(address)].position,)]
        while level.parent is not None:
            began = level.path.rpartition("#")[2].partition(".")
            place = level.parent.graph.nodes[level.node].position
            places.append((place, int(began[0]), int(began[2] or 0)))
            level = level.parent
        return tuple(reversed(places))
