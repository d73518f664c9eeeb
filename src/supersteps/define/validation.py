"""The rules of a graph, each with a function and an error class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from supersteps.define.edges import EdgeGroup, ErrorEdgeGroup, FanInEdgeGroup, SwitchCaseEdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.graph import Graph
from supersteps.define.policies import ExecutorFailure
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.errors import (
    EdgeDuplicationError,
    FanInTypeError,
    GraphConnectivityError,
    TypeCompatibilityError,
    UnanswerableQuestionError,
    WorkflowValidationError,
)
from supersteps.paths import PATH_MARK
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
)
from supersteps.typing import display_name, is_subtype, overlaps


def validate(graph: Graph) -> None:
    """Check every rule.

    Raises:
        WorkflowValidationError: A rule is broken; the class is that of the first such rule.
    """
    check_duplicate_edges(graph.groups)
    check_connectivity(graph)
    check_nested(graph)
    check_concurrency(graph)
    check_questions(graph)
    for group in graph.groups:
        check_types(graph, group)


def check_concurrency(graph: Graph) -> None:
    """Refuse concurrent calls of executors whose attributes are saved between calls."""
    for node_id, limit in graph.concurrency.items():
        executor = graph.nodes[node_id].executor
        if executor.__supersteps__.has_hooks:
            raise WorkflowValidationError(
                f"executor {node_id!r} is set to handle {limit} messages at a time, but has "
                "checkpoint hooks: its attributes would be saved in the middle of other calls. "
                "Keep them in the state (ctx.set_shared_state with a reducer), or let it handle "
                "one at a time."
            )
        if node_id in graph.nested:
            raise WorkflowValidationError(
                f"executor {node_id!r} is a sub-workflow, which has no calls of its own, so "
                f"it cannot have max_concurrency={limit}: use with_concurrency() in the builder of "
                "the sub-workflow."
            )


def check_duplicate_edges(groups: Sequence[EdgeGroup]) -> None:
    """Refuse an edge that was added twice: its messages, or failures, would be delivered twice."""
    edges = Counter(
        (isinstance(group, FanInEdgeGroup), isinstance(group, ErrorEdgeGroup), source, target)
        for group in groups
        for source in group.source_ids
        # a message takes one edge of a switch, so two cases may have the same target
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
            f"{', '.join(map(repr, lost))}; they would never run. Add an edge to each, or remove "
            "them out."
        )


def check_nested(graph: Graph) -> None:
    """Check ids, policies and error edges in a graph with sub-workflows.

    An id must not look like a path. The executor of a sub-workflow has no calls that could fail.

    Raises:
        WorkflowValidationError: One of these rules is broken.
    """
    for node_id, inner in graph.nested.items():
        _check_paths([*graph.nodes, *inner.graph.nodes])
        if node_id in graph.policies or graph.error_targets.get(node_id):
            raise WorkflowValidationError(
                f"executor {node_id!r} is a sub-workflow and has no calls of its own, so a "
                "failure policy or an error edge would have no effect: add them to the "
                "executors inside"
            )


def _check_paths(ids: Sequence[str]) -> None:
    """Refuse ids that could be taken for paths, in a graph that has sub-workflows.

    Raises:
        WorkflowValidationError: An id contains a slash.
    """
    for node_id in ids:
        if PATH_MARK in node_id:
            raise WorkflowValidationError(
                f"executor id {node_id!r} contains {PATH_MARK!r}, which separates the names of "
                "nested sub-workflows; give it another id, because this workflow has or is a "
                "sub-workflow"
            )


def check_types(graph: Graph, group: EdgeGroup) -> None:
    """Refuse an edge along which no message could ever be accepted.

    A source that declares no message types may send anything and is not checked.
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
                    f"add a handler to {target_id!r}, or add an executor between them that "
                    "converts.",
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
    # Not overlaps(): a handler for a derived class would never be called, because the engine
    # delivers an ExecutorFailure.
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


# ---------------------------------------------------------------------------------------- questions


def check_questions(graph: Graph) -> None:
    """Refuse questions whose answer could never reach the executor that asks.

    Only certain cases are refused: an executor whose annotations do not say what it sends may ask
    everything that it has a handler for.

    Raises:
        UnanswerableQuestionError: There is such a question.
    """
    for node_id, node in graph.nodes.items():
        if isinstance(node.executor, RequestInfoExecutor):
            _check_port(graph, node_id)
        elif _may_ask(node.executor):
            _check_interceptors(graph, node_id)


def _check_port(graph: Graph, port: str) -> None:
    """Refuse executors that ask through a port but could not receive the answer."""
    takers = graph.reachable[port]
    if any(_may_ask(graph.nodes[taker].executor) for taker in takers):
        return  # it also passes on questions of that sub-workflow
    for source, targets in graph.reachable.items():
        executor = graph.nodes[source].executor
        asked = [] if isinstance(executor, WorkflowExecutor) else _questions_of(executor)
        if port not in targets or not asked:
            continue
        names = " or ".join(map(display_name, asked))
        if source not in takers:
            raise UnanswerableQuestionError(
                f"executor {source!r} asks {names} through {port!r}, but no edge leads back, so no "
                f"answer could reach it: add_edge({port}, {source})"
            )
        if not any(_takes_answer(executor, question) for question in asked):
            raise UnanswerableQuestionError(
                f"executor {source!r} asks {names} through {port!r}, but has no handler for the "
                f"answer: add a @handler for RequestResponse[{display_name(asked[0])}, T]"
            )


def _check_interceptors(graph: Graph, node: str) -> None:
    """Refuse executors that get a sub-workflow's questions but could not answer them."""
    targets = graph.reachable[node]
    if any(isinstance(graph.nodes[target].executor, RequestInfoExecutor) for target in targets):
        return  # the questions also go to the outside world
    questions = [*_questions_inside(graph.nested[node].graph)]
    for target in targets:
        executor = graph.nodes[target].executor
        if isinstance(executor, WorkflowExecutor) or _leads_to(graph, target, node):
            continue
        taken = next((kind for kind in _kinds(executor) if _is_taken(kind, questions)), None)
        if taken is not None:
            raise UnanswerableQuestionError(
                f"executor {target!r} would get the questions of sub-workflow {node!r} (it handles "
                f"{display_name(taken)}), but no edges lead from it to {node!r}, so it could not "
                f"answer them: add_edge({target}, {node}), or send the questions to the outside "
                f"world too, by an edge from {node!r} to a RequestInfoExecutor"
            )


def _is_taken(kind: Any, questions: list[Any]) -> bool:
    if SubWorkflowRequestMessage in (kind, get_origin(kind)):
        return True
    return _is_question(kind) and any(overlaps(question, kind) for question in questions)


def _leads_to(graph: Graph, source: str, target: str) -> bool:
    """Return whether messages or failures can get from one executor to another."""
    seen, frontier = {source}, [source]
    while frontier:
        here = frontier.pop()
        for onward in (*graph.reachable[here], *graph.error_targets[here]):
            if onward == target:
                return True
            if onward not in seen:
                seen.add(onward)
                frontier.append(onward)
    return False


def _questions_inside(graph: Graph) -> Iterator[Any]:
    """Yield the types of the questions that a workflow asks through ports, at any depth."""
    for node in graph.nodes.values():
        if isinstance(node.executor, WorkflowExecutor):
            yield from _questions_inside(node.executor.__supersteps__.graph)
        else:
            yield from _questions_of(node.executor)


def _questions_of(executor: Executor) -> list[Any]:
    """Return the types of the questions that an executor is annotated to send."""
    return [kind for kind in executor.output_types if _is_question(kind)]


def _may_ask(executor: Executor) -> bool:
    return isinstance(executor, WorkflowExecutor) and executor.__supersteps__.may_ask


def _is_question(kind: Any) -> bool:
    return kind is not Any and is_subtype(kind, RequestInfoMessage)


def _takes_answer(executor: Executor, question: Any) -> bool:
    for kind in _kinds(executor):
        if kind is RequestResponse:
            return True
        if get_origin(kind) is RequestResponse and overlaps(question, get_args(kind)[0]):
            return True
    return False


def _kinds(executor: Executor) -> Iterator[Any]:
    """Yield the types that an executor handles, with the members of unions."""
    for kind in executor.input_types:
        yield from get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
