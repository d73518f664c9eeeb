"""The types of answers, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from supersteps.checkpoint.sections.question import Ask, Request, opened
from supersteps.define.executor import Executor
from supersteps.engine.levels import Levels
from supersteps.errors import ResponseTypeError, UnanswerableRequestError
from supersteps.requests import RequestResponse
from supersteps.typing import display_name, is_subtype
from supersteps.typing.matching import matches
from supersteps.typing.schema import schema_of


def open_request(levels: Levels, asked_through: str, ask: Ask, step: int) -> Request:
    """Return the question that a call has asked.

    Args:
        levels: The graph and those of its sub-workflows.
        asked_through: The executor of the call, by path.
        ask: The question of the call.
        step: The superstep.

    Raises:
        UnanswerableRequestError: The executor has no handler for the answer, or no edge leads back.
    """
    direct = ask.response_name is not None
    question = ask.data.open()
    if ask.response_type is not None:
        wanted = ask.response_type
    elif direct:
        wanted = direct_type(levels.specimen(ask.source_executor_id), question, ask.response_name)
    else:
        wanted = ported_type(levels, asked_through, ask.source_executor_id, question)
    return opened(ask, asked_through, wanted, step)


def response_type(levels: Levels, request: Request) -> Any:
    """Return the annotation of the answer to a question.

    Raises:
        UnanswerableRequestError: The executor has no handler for the answer.
    """
    if request.response_type is not None:
        return request.response_type
    question = request.data.open()
    if request.direct:
        return direct_type(
            levels.specimen(request.source_executor_id), question, request.response_name
        )
    return ported_type(levels, request.request_executor_id, request.source_executor_id, question)


def response_schema(levels: Levels, request: Request) -> dict[str, Any] | None:
    """Return the JSON Schema of the answer to a question, None if its type has none."""
    return schema_of(response_type(levels, request))


def direct_type(asker: Executor, question: Any, name: str | None) -> Any:
    """Return the annotation of a name in the executor's `@response_handler`s.

    Raises:
        UnanswerableRequestError: None of them accepts an answer to such a question.
    """
    options = asker.__supersteps__.response_types(question)
    if not options:
        raise no_response_handler(asker, question, name or "T")
    for option in options:
        for annotation in (option, *_members_of(option)):
            if display_name(annotation) == name:
                return annotation
    if name is not None:  # it was a narrower type, or of several handlers
        from supersteps.engine.type_names import annotation_named  # needed only on resume

        narrower = annotation_named(name, options)
        if narrower is not None and is_answerable(narrower, options):
            return narrower
    return Union[tuple(options)]  # noqa: UP007  # whatever one of the handlers accepts


def is_answerable(wanted: Any, options: Sequence[Any]) -> bool:
    """Return whether every answer of a type is accepted by one of some handlers.

    Args:
        wanted: The type of the answers.
        options: What the handlers accept.
    """
    return all(
        any(is_subtype(member, option) for option in options)
        for member in (_members_of(wanted) or (wanted,))
    )


def no_response_handler(asker: Executor, question: Any, name: str) -> UnanswerableRequestError:
    """Return the error for a question whose answer has no handler."""
    kind = display_name(type(question))
    return UnanswerableRequestError(
        f"executor {asker.id!r} asks a {kind} for an answer of type {name}, but has no handler for "
        f"that: add @response_handler async def answered(self, original_request: {kind}, response: "
        f"{name}, ctx: WorkflowContext[...]) -> None"
    )


def ported_type(
    levels: Levels, request_executor_id: str, source_executor_id: str, question: Any
) -> Any:
    """Return T of the executor's `RequestResponse[Question, T]` handler.

    Raises:
        UnanswerableRequestError: The executor has no such handler, or no edge leads back to it.
    """
    level = levels.of(source_executor_id)
    port, source = level.local(request_executor_id), level.local(source_executor_id)
    if source not in level.graph.nodes:
        raise UnanswerableRequestError(
            f"a question that came from outside (from {source!r}) was sent directly to "
            f"{request_executor_id!r}, so no executor could get the answer: let an executor in "
            "between ask it"
        )
    asker = level.graph.nodes[source].executor
    if source not in level.graph.reachable[port]:
        raise UnanswerableRequestError(
            f"executor {source_executor_id!r} asks through {request_executor_id!r}, but no edge "
            f"leads back: add add_edge({port}, {source}) so that the answer can reach it"
        )
    for annotation in (
        member for kind in asker.input_types for member in (_members_of(kind) or (kind,))
    ):
        if annotation is RequestResponse:
            return Any
        if get_origin(annotation) is RequestResponse:
            wanted, answer = get_args(annotation)
            if matches(question, wanted):
                return answer
    kind = display_name(type(question))
    raise UnanswerableRequestError(
        f"executor {source_executor_id!r} asks a {kind} but has no handler for the answer: add a "
        f"@handler for RequestResponse[{kind}, T]"
    )


def check_response(levels: Levels, request: Request, value: Any, run_id: str) -> None:
    """Refuse an answer of the wrong type.

    Raises:
        ResponseTypeError: The executor's handler does not accept it.
    """
    wanted = response_type(levels, request)
    if not matches(value, wanted):
        raise ResponseTypeError(
            f"request {request.request_id!r} of run {run_id!r} (asked by "
            f"{request.source_executor_id!r}) needs an answer of type {display_name(wanted)}, not "
            f"{display_name(type(value))}: {value!r:.200}. Nothing was changed; answer again."
        )


def check_reply(levels: Levels, request: Request, value: Any) -> None:
    """Refuse an answer of the wrong type from an executor of the outer workflow.

    Raises:
        ResponseTypeError: The executor's handler does not accept it.
    """
    wanted = response_type(levels, request)
    if not matches(value, wanted):
        raise ResponseTypeError(
            f"request {request.request_id!r} of {request.source_executor_id!r} needs an answer of "
            f"type {display_name(wanted)}, but an executor of the outer workflow answers with a "
            f"{display_name(type(value))}: {value!r:.200}. Nothing of this superstep was committed."
        )


def _members_of(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
