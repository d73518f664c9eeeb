"""The frozen graph of a workflow: executors, edges, start; its description and fingerprint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from supersteps._typing import display_name
from supersteps.context import MISSING
from supersteps.edges import EdgeGroup, FanInEdgeGroup
from supersteps.executor import Executor


@dataclass(frozen=True)
class Reducer:
    """How updates of a shared key are folded into its value.

    Attributes:
        function: `(value so far, update) -> value`.
        initial: The value before the first update; without one, the first update is the value.
    """

    function: Callable[[Any, Any], Any]
    initial: Any = MISSING

    def fold(self, value: Any, update: Any) -> Any:
        """Return the value after an update; `value` is `MISSING` before the first."""
        if value is MISSING:
            if self.initial is MISSING:
                return update
            value = copy.deepcopy(self.initial)
        return self.function(value, update)


@dataclass(frozen=True)
class Node:
    """A place in the graph.

    Attributes:
        executor: The executor; with a factory, one specimen of what it makes.
        factory: Makes a fresh executor for each run; None when the instance serves all runs.
        position: Place in the order in which executors were added; merges follow it.
    """

    executor: Executor
    factory: Callable[[], Executor] | None
    position: int


@dataclass(frozen=True)
class Graph:
    """The structure of a workflow, immutable once built.

    Attributes:
        nodes: Every executor by id, in the order in which they were added.
        groups: Every edge group, in the order in which they were added.
        start_id: The executor that gets the input.
        reducers: Reducers by shared key.
    """

    nodes: Mapping[str, Node]
    groups: Sequence[EdgeGroup]
    start_id: str
    reducers: Mapping[str, Reducer]

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[EdgeGroup, ...]]:
        """Edge groups by the executor whose messages they carry."""
        table: dict[str, list[EdgeGroup]] = {node_id: [] for node_id in self.nodes}
        for group in self.groups:
            for source in group.source_ids:
                table[source].append(group)
        return {source: tuple(groups) for source, groups in table.items()}

    @cached_property
    def reachable(self) -> Mapping[str, frozenset[str]]:
        """For each executor, the ids to which an edge leads."""
        return {
            source: frozenset(target for group in groups for target in group.target_ids)
            for source, groups in self.outgoing.items()
        }

    @cached_property
    def fan_ins(self) -> Mapping[str, FanInEdgeGroup]:
        """Fan-in groups by id."""
        return {group.id: group for group in self.groups if isinstance(group, FanInEdgeGroup)}

    @cached_property
    def annotations(self) -> list[Any]:
        """Every type annotation of the handlers: what the codec may rebuild."""
        return [
            annotation
            for node in self.nodes.values()
            for spec in node.executor.specs
            for annotation in (spec.message_type, *spec.sends, *spec.yields)
        ]

    @cached_property
    def description(self) -> GraphDescription:
        """The structure as plain data: executors, handled types, edges, names of conditions; no limits, no looks."""
        return GraphDescription(
            start=self.start_id,
            executors={
                node_id: sorted(display_name(kind) for kind in node.executor.input_types)
                for node_id, node in self.nodes.items()
            },
            edges=sorted(f"{group.id} [{', '.join(name or '' for name in group.names)}]" for group in self.groups),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the description, as 64 hexadecimal digits."""
        from hashlib import sha256  # wanted only by runs with a storage, and slow to import

        return sha256(msgspec.json.encode(self.description, order="deterministic")).hexdigest()


class GraphDescription(msgspec.Struct, frozen=True):
    """A graph's structure as stored beside a checkpoint.

    Attributes:
        start: Id of the start executor.
        executors: Handled types by executor id.
        edges: One line for each edge group.
    """

    start: str
    executors: dict[str, list[str]]
    edges: list[str]

    def differences(self, now: GraphDescription) -> list[str]:
        """Return what has changed since this description, one sentence for each thing."""
        found = [f"executor {i!r} was removed" for i in self.executors if i not in now.executors]
        found += [f"executor {i!r} was added" for i in now.executors if i not in self.executors]
        found += [
            f"executor {i!r} handled {', '.join(before)} and now handles {', '.join(now.executors[i])}"
            for i, before in self.executors.items()
            if i in now.executors and before != now.executors[i]
        ]
        found += [f"edge {edge} was removed" for edge in self.edges if edge not in now.edges]
        found += [f"edge {edge} was added" for edge in now.edges if edge not in self.edges]
        if self.start != now.start:
            found.append(f"the start was {self.start!r} and is now {now.start!r}")
        return found
