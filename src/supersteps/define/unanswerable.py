"""The rule that each question of a graph can be answered: checked when it is built."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from supersteps.define.executor import Executor
from supersteps.define.graph import Graph
from supersteps.define.requests import RequestInfoExecutor, RequestInfoMessage, RequestResponse
from supersteps.define.subworkflow import SubWorkflowRequestMessage, WorkflowExecutor
from supersteps.errors import UnanswerableQuestionError
from supersteps.typing import display_name, is_subtype, overlaps


def check_questions(graph: Graph) -> None:
    """Refuse questions that nobody could ever answer.

    Only what is sure is refused: an executor that does not say by type what it sends may ask
    whatever it has a handler for.

    Raises:
        UnanswerableQuestionError: There is one.
    """
    for node_id, node in graph.nodes.items():
        if isinstance(node.executor, RequestInfoExecutor):
            _check_port(graph, node_id)
        elif _may_ask(node.executor):
            _check_interceptors(graph, node_id)


def _check_port(graph: Graph, port: str) -> None:
    """Refuse executors that ask through a port and could not take the answer."""
    takers = graph.reachable[port]
    if any(_may_ask(graph.nodes[taker].executor) for taker in takers):
        return  # it also passes questions of that sub-workflow on, whoever sends them
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
    """Refuse executors that would get a sub-workflow's questions and could not answer them."""
    targets = graph.reachable[node]
    if any(isinstance(graph.nodes[target].executor, RequestInfoExecutor) for target in targets):
        return  # the outside world is asked as well
    questions = [*_questions_inside(graph.nested[node].__supersteps__.graph)]
    for target in targets:
        executor = graph.nodes[target].executor
        if isinstance(executor, WorkflowExecutor) or _leads_to(graph, target, node):
            continue
        taken = next((kind for kind in _kinds(executor) if _is_taken(kind, questions)), None)
        if taken is not None:
            raise UnanswerableQuestionError(
                f"executor {target!r} would get the questions of sub-workflow {node!r} (it handles "
                f"{display_name(taken)}), but no edges lead from it to {node!r}, so nobody could "
                f"answer them: add_edge({target}, {node}), or let the outside world be asked as "
                f"well by an edge from {node!r} to a RequestInfoExecutor"
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
    """Return the types of the questions that an executor says it sends."""
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
    """Yield the types that an executor handles, members of unions one by one."""
    for kind in executor.input_types:
        yield from get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
