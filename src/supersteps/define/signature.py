"""A handler's signature: the types it accepts, sends and yields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, get_type_hints

from supersteps._user_functions import unusual_form
from supersteps.define.context import context_types
from supersteps.define.handler_spec import HandlerSpec, ResponseSpec
from supersteps.define.reserved import HANDLER_MARK, RESPONSE_MARK
from supersteps.errors import HandlerDefinitionError
from supersteps.typing import display_name

if TYPE_CHECKING:
    from supersteps.define.context import ContextTypes


def handlers_of(cls: type) -> list[HandlerSpec | ResponseSpec]:
    """Return the handlers of a class, its own and those of its bases.

    Raises:
        HandlerDefinitionError: A method overrides a handler but is not marked as one.
    """
    found: dict[str, HandlerSpec | ResponseSpec] = {}
    owners: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            spec = _spec_of(cls.__qualname__, member)
            if spec is not None:
                found[name] = spec
                owners[name] = base.__qualname__
            elif found.pop(name, None) is not None and callable(member):
                raise HandlerDefinitionError(
                    f"{base.__qualname__}.{name} overrides the handler {owners[name]}.{name} and "
                    "is not marked with @handler, so it would never be called. Mark it, or write "
                    f"`{name} = None` to remove this handler."
                )
    return list(found.values())


def _spec_of(owner: str, member: Any) -> HandlerSpec | ResponseSpec | None:
    """Return what a member of an executor class handles, None if it is not marked as a handler."""
    if not callable(member):
        return None
    for mark, read in ((HANDLER_MARK, _method_spec), (RESPONSE_MARK, _response_spec)):
        scopes = getattr(member, mark, None)
        if scopes is not None:
            return read(owner, inspect.unwrap(member), scopes, member)
    return None


def _method_spec(
    owner: str,
    function: Callable[..., Any],
    scopes: Sequence[Mapping[str, Any]],
    member: Callable[..., Any],
) -> HandlerSpec:
    """Return what the signature of a handler method says.

    Args:
        owner: The class, for error messages.
        function: The undecorated method.
        scopes: Local names in which annotations may be resolved.
        member: The decorated method.

    Raises:
        HandlerDefinitionError: The signature is not supported.
    """
    form = "(self, message: T, ctx: WorkflowContext[...])"
    where = f"handler {owner}.{function.__name__}"
    _refuse_generator(where, member)
    types = _parameter_types(where, form, function, scopes, count=3)
    (message_type,), (sends, yields) = types
    return HandlerSpec(
        name=function.__name__,
        function=member,
        message_type=message_type,
        sends=sends,
        yields=yields,
        is_async=inspect.iscoroutinefunction(member),
    )


def _response_spec(
    owner: str,
    function: Callable[..., Any],
    scopes: Sequence[Mapping[str, Any]],
    member: Callable[..., Any],
) -> ResponseSpec:
    """Return what the signature of a response handler says; see `_method_spec`."""
    form = "(self, original_request: Q, response: A, ctx: WorkflowContext[...])"
    where = f"response handler {owner}.{function.__name__}"
    _refuse_generator(where, member)
    types = _parameter_types(where, form, function, scopes, count=4)
    (request_type, response_type), (sends, yields) = types
    return ResponseSpec(
        name=function.__name__,
        function=member,
        request_type=request_type,
        response_type=response_type,
        sends=sends,
        yields=yields,
        is_async=inspect.iscoroutinefunction(member),
    )


def _refuse_generator(where: str, function: Callable[..., Any]) -> None:
    """Refuse a generator function, whose body would never run.

    Raises:
        HandlerDefinitionError: It is a generator function.
    """
    form = unusual_form(function)
    if form is not None and not inspect.iscoroutinefunction(function):
        raise HandlerDefinitionError(
            f"{where} is {form}, which would never be iterated. Send each message with "
            "ctx.send_message(...), yield each output with ctx.yield_output(...), and leave out "
            "the yield."
        )


def _parameter_types(
    where: str,
    form: str,
    function: Callable[..., Any],
    scopes: Sequence[Mapping[str, Any]],
    *,
    count: int,
) -> tuple[list[Any], ContextTypes]:
    """Return the types of a method's parameters, without `self`, and what its context allows."""
    shape = f"{where} must be written {form}"
    parameters = _positional(function)
    if len(parameters) != count:
        raise HandlerDefinitionError(f"{shape}; it takes {len(parameters)} positional parameters")
    *taken, ctx = parameters[1:]
    hints = _hints(function, scopes, where)
    for parameter in taken:
        if parameter.name not in hints:
            raise HandlerDefinitionError(
                f"{shape}; parameter {parameter.name!r} has no type annotation"
            )
    return [hints[parameter.name] for parameter in taken], _context_hint(hints, ctx.name, shape)


def function_spec(function: Callable[..., Any], scopes: Sequence[Mapping[str, Any]]) -> HandlerSpec:
    """Return what the signature of an `@executor` function says.

    Args:
        function: The function: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`.
        scopes: Local names in which annotations may be resolved.

    Raises:
        HandlerDefinitionError: The signature is not supported.
    """
    where = f"executor function {function.__qualname__}"
    _refuse_generator(where, function)
    shape = f"{where} must be written (message: T) or (message: T, ctx: WorkflowContext[...])"
    parameters = _positional(function)
    if len(parameters) not in (1, 2):
        raise HandlerDefinitionError(f"{shape}; it takes {len(parameters)} positional parameters")
    hints = _hints(function, scopes, where)
    if parameters[0].name not in hints:
        raise HandlerDefinitionError(
            f"{shape}; parameter {parameters[0].name!r} has no type annotation"
        )
    types: ContextTypes = (
        ((), ()) if len(parameters) == 1 else _context_hint(hints, parameters[1].name, shape)
    )
    return HandlerSpec(
        name=function.__name__,
        function=function,
        message_type=hints[parameters[0].name],
        sends=types[0],
        yields=types[1],
        is_async=inspect.iscoroutinefunction(function),
        takes_context=len(parameters) == 2,
        takes_self=False,
    )


def _positional(function: Callable[..., Any]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]


def _hints(
    function: Callable[..., Any], scopes: Sequence[Mapping[str, Any]], where: str
) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for scope in reversed(scopes):
        names.update(scope)
    try:
        hints = get_type_hints(function, localns=names or None, include_extras=True)
    except NameError as error:
        raise HandlerDefinitionError(
            f"{where}: its annotations name {error.name!r}, which is not defined at this point. "
            "Define it above the handler (and outside `if TYPE_CHECKING:`): the engine chooses "
            "handlers by these types."
        ) from error
    except TypeError as error:
        raise HandlerDefinitionError(
            f"{where}: its annotations cannot be evaluated: {error}"
        ) from error
    hints.pop("return", None)
    return hints


def _context_hint(hints: Mapping[str, Any], name: str, shape: str) -> ContextTypes:
    if name not in hints:
        raise HandlerDefinitionError(
            f"{shape}; parameter {name!r} has no annotation: use WorkflowContext, "
            "WorkflowContext[T] (sends T) or WorkflowContext[T, U] (sends T, yields U)"
        )
    types = context_types(hints[name])
    if types is None:
        raise HandlerDefinitionError(
            f"{shape}; parameter {name!r} is annotated {display_name(hints[name])}: use "
            "WorkflowContext, WorkflowContext[T] (sends T) or WorkflowContext[T, U] (sends T, "
            "yields U)"
        )
    for item in (*types[0], *types[1]):
        if not (isinstance(item, type | TypeVar) or get_origin(item) is not None or item is Any):
            raise HandlerDefinitionError(
                f"{shape}; {item!r} inside the annotation of {name!r} is not a type"
            )
    return types
