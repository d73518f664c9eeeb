"""`Definition`: the name, graph and types of a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supersteps.define.edges import EdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph


class Definition:
    """An immutable graph with a name.

    Attributes:
        workflow_id: The workflow's name, the same in every process: the one that the builder was
            given, else the start executor's id.
        max_iterations: How many supersteps a run may take after an input from outside, its very
            first not counted.
    """

    def __init__(
        self, graph: Graph, *, workflow_id: str, max_iterations: int, types: Sequence[Any] = ()
    ) -> None:
        """Create a definition of a graph that has passed all checks.

        Args:
            graph: The validated graph.
            workflow_id: The name.
            max_iterations: The limit of supersteps.
            types: Types of values beyond those that the handlers' annotations reach.
        """
        self.workflow_id = workflow_id
        self.max_iterations = max_iterations
        self._graph = graph
        self._given_types = list(types)
        self._types = [*graph.annotations, *types]
        # Now, while those of sub-workflows are known: asked later, each level would ask the next.
        kinds = (k for node in graph.nodes.values() for k in node.executor.workflow_output_types)
        self._output_types = list(dict.fromkeys(kinds))

    @property
    def id(self) -> str:
        """The same as `workflow_id`, for scripts written for Agent Framework."""
        return self.workflow_id

    @property
    def name(self) -> str:
        """The same as `workflow_id`, for scripts written for Agent Framework."""
        return self.workflow_id

    @property
    def graph(self) -> Graph:
        """The frozen structure."""
        return self._graph

    @property
    def executors(self) -> dict[str, Executor]:
        """Every executor by id, in the order in which they were added."""
        return {node_id: node.executor for node_id, node in self._graph.nodes.items()}

    @property
    def edge_groups(self) -> list[EdgeGroup]:
        """Every edge group, in the order in which they were added."""
        return list(self._graph.groups)

    @property
    def start_executor_id(self) -> str:
        """Id of the executor that gets the input."""
        return self._graph.start_id

    @property
    def types(self) -> list[Any]:
        """Types that the codec may rebuild: those of annotations, and those passed explicitly."""
        return list(self._types)

    @property
    def given_types(self) -> list[Any]:
        """Types that were passed explicitly."""
        return list(self._given_types)

    @property
    def graph_signature_hash(self) -> str:
        """Hash of the structure: executors, handled types, edges, conditions' names; no limits."""
        return self._graph.fingerprint

    @property
    def input_types(self) -> list[Any]:
        """Types of the inputs that it accepts."""
        return self.get_start_executor().input_types

    @property
    def output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return list(self._output_types)

    def get_start_executor(self) -> Executor:
        """Return the executor that gets the input."""
        return self._graph.nodes[self._graph.start_id].executor

    def get_executors_list(self) -> list[Executor]:
        """Return every executor, in the order in which they were added."""
        return [node.executor for node in self._graph.nodes.values()]

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as JSON-ready builtins, for display."""
        groups = [
            {
                "kind": g.kind,
                "id": g.id,
                "sources": list(g.source_ids),
                "targets": list(g.target_ids),
                "names": g.names,
            }
            for g in self._graph.groups
        ]
        return {
            "id": self.workflow_id,
            "start_executor_id": self._graph.start_id,
            "max_iterations": self.max_iterations,
            "edge_groups": groups,
            "executors": {
                node_id: {"id": node_id, "type": type(node.executor).__name__}
                for node_id, node in self._graph.nodes.items()
            },
        }

    def to_json(self) -> str:
        """Return the definition as JSON, for display."""
        return msgspec.json.encode(self.to_dict()).decode()
