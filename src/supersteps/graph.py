"""The frozen graph of a workflow: executors, edges, start; its description and fingerprint."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from supersteps._annotations import is_main_file
from supersteps._typing import display_name
from supersteps.context import MISSING
from supersteps.edges import EdgeGroup, ErrorEdgeGroup, FanInEdgeGroup, SingleEdgeGroup
from supersteps.executor import Executor
from supersteps.policies import ExecutorFailure, FailurePolicy
from supersteps.requests import RequestResponse
from supersteps.subworkflow import (
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
    WorkflowExecutor,
)

_NAME = re.compile(r"[^\W\d][\w.<>]*")
_MAIN = "__main__."


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


@dataclass(frozen=True, slots=True)
class Way:
    """An edge that is the only one of its source.

    Attributes:
        executor: To whom it leads.
        source_ids: Its source.
        target_ids: Its target.
    """

    executor: Executor
    source_ids: tuple[str]
    target_ids: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The structure of a workflow, immutable once built.

    Attributes:
        nodes: Every executor by id, in the order in which they were added.
        groups: Every edge group, in the order in which they were added.
        start_id: The executor that gets the input.
        reducers: Reducers by shared key.
        policies: Failure policies by executor id; those that have none are called once.
    """

    nodes: Mapping[str, Node]
    groups: Sequence[EdgeGroup]
    start_id: str
    reducers: Mapping[str, Reducer]
    policies: Mapping[str, FailurePolicy] = field(default_factory=dict)

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[EdgeGroup, ...]]:
        """Edge groups by the executor whose messages they carry; error edges carry none."""
        table: dict[str, list[EdgeGroup]] = {node_id: [] for node_id in self.nodes}
        for group in self.groups:
            if not isinstance(group, ErrorEdgeGroup):
                for source in group.source_ids:
                    table[source].append(group)
        return {source: tuple(groups) for source, groups in table.items()}

    @cached_property
    def ways(self) -> Mapping[str, Way]:
        """The way of messages from an executor with one edge, which has no condition: nothing is to be chosen."""
        ways = {}
        for source, groups in self.outgoing.items():
            if (
                len(groups) == 1
                and isinstance(groups[0], SingleEdgeGroup)
                and groups[0].condition is None
            ):
                target = self.nodes[groups[0].target_ids[0]].executor
                if not isinstance(target, WorkflowExecutor):
                    ways[source] = Way(target, (source,), groups[0].target_ids)
        return ways

    @cached_property
    def error_targets(self) -> Mapping[str, tuple[str, ...]]:
        """For each executor, the ids to which its failures go; none where they fail the superstep."""
        errors = [group for group in self.groups if isinstance(group, ErrorEdgeGroup)]
        return {
            node_id: tuple(
                target
                for group in errors
                if node_id in group.source_ids
                for target in group.target_ids
            )
            for node_id in self.nodes
        }

    @cached_property
    def reachable(self) -> Mapping[str, frozenset[str]]:
        """For each executor, the ids to which an edge for messages leads."""
        return {
            source: frozenset(target for group in groups for target in group.target_ids)
            for source, groups in self.outgoing.items()
        }

    @cached_property
    def fan_ins(self) -> Mapping[str, FanInEdgeGroup]:
        """Fan-in groups by id."""
        return {group.id: group for group in self.groups if isinstance(group, FanInEdgeGroup)}

    @cached_property
    def nested(self) -> Mapping[str, WorkflowExecutor]:
        """Executors that stand for sub-workflows, by id."""
        return {
            node_id: node.executor
            for node_id, node in self.nodes.items()
            if isinstance(node.executor, WorkflowExecutor)
        }

    @cached_property
    def annotations(self) -> list[Any]:
        """Every type annotation of the handlers, and what error edges deliver: what the codec may rebuild."""
        found: list[Any] = []
        for node in self.nodes.values():
            for spec in node.executor.specs:
                found += (spec.message_type, *spec.sends, *spec.yields)
            for answer in node.executor.response_specs:
                found += (answer.request_type, answer.response_type, *answer.sends, *answer.yields)
        if any(isinstance(group, ErrorEdgeGroup) for group in self.groups):
            found += [ExecutorFailure, RequestResponse]  # the latter is what a failed answer was
        for inner in self.nested.values():
            found += [*inner.graph.annotations, *inner.workflow.types]
            if inner.may_ask:
                found += [SubWorkflowRequestMessage, SubWorkflowResponseMessage]
        return found

    @cached_property
    def description(self) -> GraphDescription:
        """The structure as plain data: executors, handled types, edges, names of conditions; no limits, no looks.

        Failure policies are limits: they may change between two runs of a workflow.
        """
        return GraphDescription(
            start=self.start_id,
            executors={
                node_id: sorted(display_name(kind) for kind in node.executor.input_types)
                for node_id, node in self.nodes.items()
            },
            edges=sorted(
                f"{group.id} [{', '.join(name or '' for name in group.names)}]"
                for group in self.groups
            ),
            responses={
                node_id: sorted(
                    f"{display_name(spec.request_type)} -> {display_name(spec.response_type)}"
                    for spec in node.executor.response_specs
                )
                for node_id, node in self.nodes.items()
                if node.executor.response_specs
            },
            sub_workflows={
                node_id: inner.graph.description for node_id, inner in self.nested.items()
            },
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the description, as 64 hexadecimal digits."""
        from hashlib import sha256  # wanted only by runs with a storage, and slow to import

        return sha256(msgspec.json.encode(self.description, order="deterministic")).hexdigest()


class GraphDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """A graph's structure as stored beside a checkpoint.

    What a graph does without is left out of the stored form, so that its fingerprint does not change when the library
    learns to describe more.

    Attributes:
        start: Id of the start executor.
        executors: Handled types by executor id.
        edges: One line for each edge group.
        responses: Answers by id of the executor that has handlers for them, as "question -> answer".
        sub_workflows: Structures of sub-workflows by the id of the executor that stands for them.
    """

    start: str
    executors: dict[str, list[str]]
    edges: list[str]
    responses: dict[str, list[str]] = {}  # msgspec gives every description a dict of its own
    sub_workflows: dict[str, GraphDescription] = {}

    def differences(self, now: GraphDescription) -> list[str]:
        """Return what has changed since this description, one sentence for each thing.

        The classes of a script are the same whether it runs as `__main__` or is imported.
        """
        found = [f"executor {i!r} was removed" for i in self.executors if i not in now.executors]
        found += [f"executor {i!r} was added" for i in now.executors if i not in self.executors]
        found += [
            f"executor {i!r} handled {', '.join(before)} and now handles {', '.join(now.executors[i])}"
            for i, before in self.executors.items()
            if i in now.executors and not _same_types(before, now.executors[i])
        ]
        found += [
            f"executor {i!r} took {_answers(self, i)} and now takes {_answers(now, i)}"
            for i in self.executors
            if i in now.executors
            and not _same_types(self.responses.get(i, []), now.responses.get(i, []))
        ]
        found += [f"edge {edge} was removed" for edge in self.edges if edge not in now.edges]
        found += [f"edge {edge} was added" for edge in now.edges if edge not in self.edges]
        if self.start != now.start:
            found.append(f"the start was {self.start!r} and is now {now.start!r}")
        return [*found, *self._differences_inside(now)]

    def _differences_inside(self, now: GraphDescription) -> list[str]:
        """Return what has changed inside sub-workflows, and which executors are sub-workflows now or no longer."""
        found = []
        for node_id in self.executors.keys() & now.executors.keys():
            before, after = self.sub_workflows.get(node_id), now.sub_workflows.get(node_id)
            if before is not None and after is not None:
                found += [
                    f"in sub-workflow {node_id!r}: {what}" for what in before.differences(after)
                ]
            elif before is not after:
                found.append(
                    f"executor {node_id!r} {'was' if after is None else 'is now'} a sub-workflow"
                )
        return sorted(found)


def _same_types(before: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether the same types are named, when either may have been written by a script as `__main__`.

    A class that one side knows as one of `__main__` has a module on the other: with a stored `__main__`, whatever
    module it is, as for the codec; with a present one, the module whose file is the script.
    """
    if before == now:
        return True
    stored, present = _names_in_main(before), _names_in_main(now)
    if not (stored or present):
        return False
    was = sorted(
        _NAME.sub(lambda name: _as_main(name[0], present, is_main_file), kind) for kind in before
    )
    return was == sorted(
        _NAME.sub(lambda name: _as_main(name[0], stored, lambda _module: True), kind)
        for kind in now
    )


def _names_in_main(kinds: Iterable[str]) -> set[str]:
    names = (match[0] for kind in kinds for match in _NAME.finditer(kind))
    return {name.removeprefix(_MAIN) for name in names if name.startswith(_MAIN)}


def _as_main(name: str, in_main: Collection[str], is_wanted: Callable[[str], bool]) -> str:
    for qualname in in_main:
        module = name.removesuffix(f".{qualname}")
        if module != name and is_wanted(module):
            return f"{_MAIN}{qualname}"
    return name


def _answers(description: GraphDescription, executor_id: str) -> str:
    lines = description.responses.get(executor_id)
    return f"the answers {', '.join(lines)}" if lines else "no answers"
