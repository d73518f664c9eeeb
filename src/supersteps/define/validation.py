"""The rules that a graph must keep before it may run, one function and one error class for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_origin

from supersteps.define.edges import EdgeGroup, ErrorEdgeGroup, FanInEdgeGroup, SwitchCaseEdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph
from supersteps.define.policies import ExecutorFailure
from supersteps.define.subworkflow import check_paths
from supersteps.define.unanswerable import check_questions
from supersteps.errors import (
    EdgeDuplicationError,
    FanInTypeError,
    GraphConnectivityError,
    TypeCompatibilityError,
    WorkflowValidationError,
)
from supersteps.typing import display_name, is_subtype, overlaps


def validate(graph: Graph) -> None:
    """Check every rule.

    Raises:
        WorkflowValidationError: The first rule that is broken, as the error class of that rule.
    """
    check_duplicate_edges(graph.groups)
    check_connectivity(graph)
    check_nested(graph)
    check_concurrency(graph)
    check_questions(graph)
    for group in graph.groups:
        check_types(graph, group)


def check_concurrency(graph: Graph) -> None:
    """Refuse calls side by side where nobody could say what the executor's state is meanwhile."""
    for node_id, limit in graph.concurrency.items():
        executor = graph.nodes[node_id].executor
        if executor.__supersteps__.has_hooks:
            raise WorkflowValidationError(
                f"executor {node_id!r} is to handle {limit} messages at a time, but has checkpoint "
                "hooks: its attributes would be saved amid the other calls. Keep what it keeps in "
                "the state (ctx.set_shared_state with a reducer), or let it handle one at a time."
            )
        if node_id in graph.nested:
            raise WorkflowValidationError(
                f"executor {node_id!r} stands for a sub-workflow, which handles nothing itself, so "
                f"it cannot have max_concurrency={limit}: use with_concurrency() in the builder of "
                "the sub-workflow."
            )


def check_duplicate_edges(groups: Sequence[EdgeGroup]) -> None:
    """Refuse an edge that was added twice: its messages, or failures, would be delivered twice."""
    edges = Counter(
        (isinstance(group, FanInEdgeGroup), isinstance(group, ErrorEdgeGroup), source, target)
        for group in groups
        for source in group.source_ids
        # of a switch only one way is taken, so two cases may lead to one target
        for target in (
            set(group.target_ids) if isinstance(group, SwitchCaseEdgeGroup) else group.target_ids
        )
    )
    for (_fan_in, is_error, source, target), count in edges.items():
        if count > 1 and is_error:
            raise EdgeDuplicationError(
                f"error edge {source} -> {target} was added {count} times; each failure would be "
                f"delivered {count} times. Keep one.",
                f"{source}->{target}",
            )
        if count > 1:
            raise EdgeDuplicationError(
                f"edge {source} -> {target} was added {count} times; its messages would be "
                f"delivered {count} times. Keep one (join conditions with `or`, or use "
                "add_switch_case_edge_group).",
                f"{source}->{target}",
            )


def check_connectivity(graph: Graph) -> None:
    """Refuse executors that no path from the start reaches: they would never run."""
    seen = {graph.start_id}
    frontier = [graph.start_id]
    while frontier:
        onward = {
            target
            for source in frontier
            for target in (*graph.reachable[source], *graph.error_targets[source])
        }
        frontier = [target for target in onward if target not in seen]
        seen.update(frontier)
    lost = [node_id for node_id in graph.nodes if node_id not in seen]
    if lost:
        raise GraphConnectivityError(
            f"no path leads from the start executor {graph.start_id!r} to "
            f"{', '.join(map(repr, lost))}; they would never run. Add an edge to each, or leave "
            "them out."
        )


def check_nested(graph: Graph) -> None:
    """Refuse ids that could be taken for paths, and policies and error edges of a sub-workflow's node: it runs nothing.

    Raises:
        WorkflowValidationError: One of these rules is broken.
    """
    for node_id, inner in graph.nested.items():
        check_paths([*graph.nodes, *inner.__supersteps__.graph.nodes])
        if node_id in graph.policies or graph.error_targets.get(node_id):
            raise WorkflowValidationError(
                f"executor {node_id!r} stands for a sub-workflow and runs nothing itself, so a "
                "failure policy or an error edge of it would have no effect: give them to the "
                "executors inside"
            )


def check_types(graph: Graph, group: EdgeGroup) -> None:
    """Refuse an edge along which no message could ever be accepted.

    A source that declares no message types is not judged: it may send anything.
    """
    for target_id in group.target_ids:
        target = graph.nodes[target_id].executor
        if isinstance(group, FanInEdgeGroup):
            _check_fan_in(graph, group, target)
            continue
        if isinstance(group, ErrorEdgeGroup):
            _check_error_edge(group, target)
            continue
        for source_id in group.source_ids:
            source = graph.nodes[source_id].executor
            sends = source.output_types
            if sends and not _any_overlap(sends, target.input_types):
                raise TypeCompatibilityError(
                    f"edge {source_id} -> {target_id}: {source_id!r} sends {_names(sends)}, but "
                    f"{target_id!r} handles {_names(target.input_types)}. Change an annotation, "
                    f"add a handler to {target_id!r}, or put an executor in between that converts.",
                    source_id,
                    target_id,
                    sends,
                    target.input_types,
                )


def _check_fan_in(graph: Graph, group: FanInEdgeGroup, target: Executor) -> None:
    sends = [
        item for source in group.source_ids for item in graph.nodes[source].executor.output_types
    ]
    lists = [
        kind
        for kind in target.input_types
        if kind is Any or kind is list or get_origin(kind) is list
    ]
    accepts = bool(lists) or _any_overlap([list], target.input_types)
    if accepts and sends:
        accepts = _any_overlap([list.__class_getitem__(item) for item in sends], target.input_types)
    if not accepts:
        wanted = " | ".join(sorted({display_name(item) for item in sends})) or "T"
        sources = ", ".join(group.source_ids)
        raise FanInTypeError(
            f"fan-in {sources} -> {target.id}: the target gets a list of one message from each "
            f"source, but {target.id!r} handles {_names(target.input_types)}. Give it a handler "
            f"for list[{wanted}].",
            sources,
            target.id,
            sends,
            target.input_types,
        )


def _check_error_edge(group: ErrorEdgeGroup, target: Executor) -> None:
    # Not overlaps(): a handler for something more special would never be given what the engine
    # delivers.
    if any(is_subtype(ExecutorFailure, kind) for kind in target.input_types):
        return
    source_id = group.source_ids[0]
    raise TypeCompatibilityError(
        f"error edge {source_id} -> {target.id}: {target.id!r} gets an ExecutorFailure when "
        f"{source_id!r} fails, but handles {_names(target.input_types)}. Give it a handler: async "
        "def failed(self, failure: ExecutorFailure, ctx: WorkflowContext) -> None, marked with "
        "@handler.",
        source_id,
        target.id,
        [ExecutorFailure],
        target.input_types,
    )


def _any_overlap(sources: Sequence[Any], targets: Sequence[Any]) -> bool:
    return any(overlaps(source, target) for source in sources for target in targets)


def _names(types: Sequence[Any]) -> str:
    return ", ".join(display_name(kind) for kind in types) or "nothing"
