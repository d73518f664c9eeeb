"""The frozen graph of a workflow, and of the workflows inside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from supersteps.define.context import MISSING
from supersteps.define.edges import EdgeGroup, ErrorEdgeGroup, FanInEdgeGroup, SingleEdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.handler_spec import HandlerSpec
from supersteps.define.handlers import Handlers
from supersteps.define.policies import ExecutorFailure, FailurePolicy
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
)
from supersteps.typing import display_name

if TYPE_CHECKING:
    from supersteps.checkpoint.sections.graph import GraphDescription


@dataclass(frozen=True)
class Reducer:
    """How updates of a shared key are combined with its value.

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
    """An executor in the graph.

    Attributes:
        executor: The executor; with a factory, an example of what it returns.
        factory: Creates an executor for each run; None if the instance serves all runs.
        position: Position in the order of adding; merges follow it.
    """

    executor: Executor
    factory: Callable[[], Executor] | None
    position: int


@dataclass(frozen=True, slots=True)
class Way:
    """The only edge of its source.

    Attributes:
        executor: The target.
        source_ids: Its source.
        target_ids: Its target.
        find: Finds the handler that will take a message; None where only the target's own
            `can_handle` can tell, or where each run has an instance of its own.
        specs: The target's handlers.
    """

    executor: Executor
    source_ids: tuple[str]
    target_ids: tuple[str, ...]
    find: Callable[[Any], HandlerSpec | None] | None
    specs: Sequence[HandlerSpec]


@dataclass(frozen=True)
class Graph:
    """The structure of a workflow, immutable once built.

    Attributes:
        nodes: Every executor by id, in the order in which they were added.
        groups: Every edge group, in the order in which they were added.
        start_id: The executor that gets the input.
        reducers: Reducers by shared key.
        policies: Failure policies by executor id; executors without one are called once.
        concurrency: By executor id, how many messages it handles at a time; others handle one.
    """

    nodes: Mapping[str, Node]
    groups: Sequence[EdgeGroup]
    start_id: str
    reducers: Mapping[str, Reducer]
    policies: Mapping[str, FailurePolicy] = field(default_factory=dict)
    concurrency: Mapping[str, int] = field(default_factory=dict)

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
        """Executors that have one edge, without a condition, and where it leads."""
        ways = {}
        for source, groups in self.outgoing.items():
            if (
                len(groups) == 1
                and isinstance(groups[0], SingleEdgeGroup)
                and groups[0].condition is None
            ):
                node = self.nodes[groups[0].target_ids[0]]
                target, handlers = node.executor, node.executor.__supersteps__
                if not isinstance(handlers, Inner):
                    is_plain = type(target).can_handle is Executor.can_handle
                    find = handlers.find if is_plain and node.factory is None else None
                    target_ids = groups[0].target_ids
                    ways[source] = Way(target, (source,), target_ids, find, handlers.specs)
        return ways

    @cached_property
    def error_targets(self) -> Mapping[str, tuple[str, ...]]:
        """Targets of error edges by executor; failures of others fail the superstep."""
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
    def nested(self) -> Mapping[str, Inner]:
        """The sub-workflows by id of the executor that stands for each."""
        return {
            node_id: inner
            for node_id, node in self.nodes.items()
            if isinstance(inner := node.executor.__supersteps__, Inner)
        }

    @cached_property
    def annotations(self) -> list[Any]:
        """Every annotation of the handlers and of error edges, whose values the codec rebuilds.

        Those of sub-workflows are included, once for each graph.
        """
        found: list[Any] = []
        seen: set[int] = set()
        pending: list[Graph | list[Any]] = [self]
        while pending:
            item = pending.pop()
            if isinstance(item, list):
                found += item
            elif id(item) not in seen:
                seen.add(id(item))
                found += item._own_annotations
                for inner in reversed(list(item.nested.values())):
                    pending += (inner.workflow.given_types, inner.graph)
        return found

    @cached_property
    def _own_annotations(self) -> list[Any]:
        found: list[Any] = []
        for node in self.nodes.values():
            for spec in node.executor.__supersteps__.specs:
                found += (spec.message_type, *spec.sends, *spec.yields)
            for answer in node.executor.__supersteps__.response_specs:
                found += (answer.request_type, answer.response_type, *answer.sends, *answer.yields)
        if any(isinstance(group, ErrorEdgeGroup) for group in self.groups):
            found += [ExecutorFailure, RequestResponse]  # the latter for a failed answer
        if any(inner.may_ask for inner in self.nested.values()):
            found += [SubWorkflowRequestMessage, SubWorkflowResponseMessage]
        return found

    @cached_property
    def description(self) -> GraphDescription:
        """The structure as plain data: executors, handled types, edges, names of conditions.

        Limits may change between two runs, so they are left out: failure policies, concurrency.
        """
        # Imports msgspec, which only runs with a storage and pictures need.
        from supersteps.checkpoint.sections.graph import GraphDescription

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
                    for spec in node.executor.__supersteps__.response_specs
                )
                for node_id, node in self.nodes.items()
                if node.executor.__supersteps__.response_specs
            },
            sub_workflows={
                node_id: inner.graph.description for node_id, inner in self.nested.items()
            },
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the description, as 64 hexadecimal digits."""
        return self.description.fingerprint


class InnerWorkflow(Protocol):
    """What a graph needs to know about a workflow that is one of its nodes."""

    @property
    def workflow_id(self) -> str:
        """The workflow's name."""

    @property
    def max_iterations(self) -> int:
        """How many supersteps each of its runs may take."""

    @property
    def graph(self) -> Graph:
        """Its structure."""

    @property
    def output_types(self) -> list[Any]:
        """Types of the outputs that it may yield."""

    @property
    def given_types(self) -> list[Any]:
        """Types that were passed in addition to the annotations of its handlers."""


class Inner(Handlers):
    """What a sub-workflow handles, sends and yields: the `Handlers` of its node.

    Attributes:
        workflow: The inner workflow.
        allow_direct_output: Whether what it yields are outputs of the outer workflow.
        may_ask: Whether anything inside can ask a question.
    """

    __slots__ = ("allow_direct_output", "may_ask", "workflow")

    def __init__(self, workflow: InnerWorkflow, *, allow_direct_output: bool) -> None:
        self.workflow = workflow
        self.allow_direct_output = allow_direct_output
        nodes = workflow.graph.nodes
        self.may_ask = any(_asks(node.executor) for node in nodes.values())
        taken = list(self.start.input_types)
        if self.may_ask:
            answers = (RequestResponse, SubWorkflowResponseMessage)
            taken += [kind for kind in answers if kind not in taken]
        super().__init__(
            HandlerSpec(f"input_{number}", _never_called, kind, (), (), is_async=True)
            for number, kind in enumerate(taken)
        )

    @property
    def graph(self) -> Graph:
        """The inner workflow's structure."""
        return self.workflow.graph

    @property
    def start(self) -> Executor:
        """The executor that gets the node's messages."""
        graph = self.workflow.graph
        return graph.nodes[graph.start_id].executor

    @property
    def output_types(self) -> list[Any]:
        """Types of the messages it may send: what the inner workflow yields, and questions."""
        outputs = self.workflow.output_types
        if not outputs and not self.allow_direct_output:
            return []
        questions: list[Any] = (
            [RequestInfoMessage, SubWorkflowRequestMessage] if self.may_ask else []
        )
        return [*([] if self.allow_direct_output else outputs), *questions]

    @property
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return self.workflow.output_types if self.allow_direct_output else []


def _asks(executor: Executor) -> bool:
    """Return whether an executor, or anything inside a sub-workflow, may ask a question."""
    handlers = executor.__supersteps__
    if isinstance(handlers, Inner):
        return handlers.may_ask
    return isinstance(executor, RequestInfoExecutor) or bool(handlers.response_specs)


async def _never_called(*_arguments: Any) -> None:
    raise AssertionError("the messages of a sub-workflow's node go straight to its start executor")
