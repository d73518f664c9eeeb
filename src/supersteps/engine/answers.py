"""Which type an answer must have, and whether a given one has it."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

from supersteps._matching import matches
from supersteps._typing import display_name
from supersteps.engine.state import Request
from supersteps.errors import ResponseTypeError, UnanswerableRequestError
from supersteps.executor import Executor
from supersteps.graph import Graph
from supersteps.requests import RequestResponse


def response_type(graph: Graph, request_executor_id: str, source_executor_id: str, question: Any) -> Any:
    """Return the annotation of the answer to a question: T of the asker's `RequestResponse[Question, T]` handler.

    Raises:
        UnanswerableRequestError: The asker has no such handler, or no edge leads back to it.
    """
    asker = graph.nodes[source_executor_id].executor
    if source_executor_id not in graph.reachable[request_executor_id]:
        raise UnanswerableRequestError(
            f"executor {source_executor_id!r} asks through {request_executor_id!r}, but no edge leads back: add "
            f"add_edge({request_executor_id}, {source_executor_id}) so that the answer can reach it"
        )
    for annotation in _members(asker):
        if annotation is RequestResponse:
            return Any
        if get_origin(annotation) is RequestResponse:
            wanted, answer = get_args(annotation)
            if matches(question, wanted):
                return answer
    kind = display_name(type(question))
    raise UnanswerableRequestError(
        f"executor {source_executor_id!r} asks a {kind} but has no handler for the answer: add a @handler for "
        f"RequestResponse[{kind}, T]"
    )


def check_response(graph: Graph, request: Request, value: Any, run_id: str) -> None:
    """Refuse an answer of the wrong type.

    Raises:
        ResponseTypeError: The asker's handler does not take it.
    """
    wanted = response_type(graph, request.request_executor_id, request.source_executor_id, request.data.open())
    if not matches(value, wanted):
        raise ResponseTypeError(
            f"request {request.request_id!r} of run {run_id!r} (asked by {request.source_executor_id!r}) wants an "
            f"answer of type {display_name(wanted)}, not {display_name(type(value))}: {value!r:.200}. Nothing was "
            "changed; answer again."
        )


def _members(executor: Executor) -> list[Any]:
    found: list[Any] = []
    for annotation in executor.input_types:
        found += get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    return found
