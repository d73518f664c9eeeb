"""`Executor`, `@handler` and `@response_handler`: a node of the graph, and its methods for messages and answers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_origin, get_type_hints

from supersteps._callables import unusual_form
from supersteps.define.context import WorkflowContext, context_types
from supersteps.define.dispatch import refuse_response_twins, refuse_twins
from supersteps.define.handlers import Handlers
from supersteps.define.reserved import HANDLER_MARK, HOOKS, RESPONSE_MARK, TypeList, check_names
from supersteps.define.snapshots import snapshot_of
from supersteps.errors import HandlerDefinitionError
from supersteps.ids import check_id
from supersteps.typing import display_name

if TYPE_CHECKING:
    from supersteps.define.context import ContextTypes

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler as the engine calls it.

    Attributes:
        name: The method's or function's name.
        function: The plain function.
        message_type: Annotation of the messages it takes.
        sends: Message types it may send.
        yields: Output types it may yield.
        is_async: Whether it is a coroutine function; others run in a thread.
        takes_context: Whether it wants the context as well (functions may do without).
        takes_self: Whether it is a method.
    """

    name: str
    function: Callable[..., Any]
    message_type: Any
    sends: Sequence[Any]
    yields: Sequence[Any]
    is_async: bool
    takes_context: bool = True
    takes_self: bool = True

    def call(self, executor: Executor, message: Any, ctx: WorkflowContext[Any, Any]) -> Any:
        """Call the handler; what an async one returns is to be awaited."""
        if self.takes_self:
            return self.function(executor, message, ctx)
        return self.function(message, ctx) if self.takes_context else self.function(message)


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response handler as the engine calls it.

    Attributes:
        name: The method's name.
        function: The plain function.
        request_type: Annotation of the questions whose answers it takes.
        response_type: Annotation of the answers.
        sends: Message types it may send.
        yields: Output types it may yield.
        is_async: Whether it is a coroutine function; others run in a thread.
    """

    name: str
    function: Callable[..., Any]
    request_type: Any
    response_type: Any
    sends: Sequence[Any]
    yields: Sequence[Any]
    is_async: bool

    def call(
        self, executor: Executor, question: Any, answer: Any, ctx: WorkflowContext[Any, Any]
    ) -> Any:
        """Call the response handler; what an async one returns is to be awaited."""
        return self.function(executor, question, answer, ctx)


def handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of one message type: `(self, message: T, ctx: WorkflowContext[...])`.

    An executor may have several; a message goes to the handler of its exact type first, then of its
    nearest base.

    Args:
        function: The method, async or plain; a plain one runs in a thread.

    Returns:
        The method itself.
    """
    setattr(function, HANDLER_MARK, _local_scopes(function, sys._getframe(1)))
    return function


def response_handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of answers to the executor's own questions.

    It is written `(self, original_request: Q, response: A, ctx: WorkflowContext[...])` and takes
    answers of type A to questions of type Q that were asked with `ctx.request_info`. An executor
    may have several; an answer goes to the handler of the question's exact type first, then of its
    nearest base, and among those likewise by the answer.

    Args:
        function: The method, async or plain; a plain one runs in a thread.

    Returns:
        The method itself.
    """
    setattr(function, RESPONSE_MARK, _local_scopes(function, sys._getframe(1)))
    return function


def _local_scopes(function: Callable[..., Any], frame: FrameType | None) -> list[Mapping[str, Any]]:
    """Return the local names around a method's definition, innermost first."""
    # Annotations written as strings may name classes of the enclosing function; only its frame
    # knows them.
    scopes: list[Mapping[str, Any]] = []
    if "<locals>" in function.__qualname__:
        while frame is not None and frame.f_code.co_name != "<module>" and len(scopes) < 8:
            scopes.append(dict(frame.f_locals))
            frame = frame.f_back
    return scopes


class Executor:
    """A node of the graph: subclass it and write `@handler` methods, and `@response_handler` methods for answers.

    Keep what must survive in the run's state (`ctx.set_state`), or override `on_checkpointing` and
    `on_checkpoint_restored` to move attributes of the instance there and back. The methods of Agent
    Framework that do the same with one dict are called as well: `snapshot_state` and
    `restore_state`, or `on_checkpoint_save` and `on_checkpoint_restore`.

    Attributes, methods and fields of your own may have any name but `id`, `can_handle`,
    `input_types`, `output_types`, `workflow_output_types` and those of the hooks.

    Attributes:
        id: Names the executor in its workflow, in events and in checkpoints.
    """

    __supersteps__: Handlers

    id: str

    def __new__(cls, *_args: Any, **_settings: Any) -> Self:
        self = super().__new__(cls)
        vars(self)["id"] = cls.__name__  # of a class whose __init__ does not say another one
        return self

    def __init__(self, id: str, **_settings: Any) -> None:
        """Each executor has an id, which names it in its workflow and in everything that is saved.

        Args:
            id: Unique within a workflow; the same in every process that runs it.
            _settings: Further arguments have no effect, as in Agent Framework.

        Raises:
            ValueError: The id is empty or cannot be stored.
            HandlerDefinitionError: The class has no handlers.
        """
        equip(self, id, type(self).__supersteps__)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_names(cls)
        found = _handlers_of(cls)
        specs = [spec for spec in found if isinstance(spec, HandlerSpec)]
        response_specs = [spec for spec in found if isinstance(spec, ResponseSpec)]
        refuse_twins(cls.__qualname__, specs)
        refuse_response_twins(cls.__qualname__, response_specs)
        overrides = any(getattr(cls, hook) is not getattr(Executor, hook) for hook in HOOKS)
        snapshot = snapshot_of(cls, overrides_hooks=overrides)
        has_hooks = overrides or snapshot is not None
        cls.__supersteps__ = Handlers(specs, response_specs, has_hooks=has_hooks, snapshot=snapshot)

    @TypeList
    def input_types(self) -> list[Any]:
        """Types of the messages it handles."""
        return self.__supersteps__.input_types

    @TypeList
    def output_types(self) -> list[Any]:
        """Types of the messages it may send."""
        return self.__supersteps__.output_types

    @TypeList
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return self.__supersteps__.workflow_output_types

    def can_handle(self, message: Any) -> bool:
        """Return whether a handler takes this message."""
        return self.__supersteps__.find(message) is not None

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to put attributes into the state (`ctx.queue_state_update`) before a checkpoint.

        The override may be `async def` or a plain function.
        """
        snapshot = self.__supersteps__.snapshot
        if snapshot is not None:
            await snapshot.keep(self, ctx)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to take attributes out of the state (`ctx.read_state`) after a restore.

        The override may be `async def` or a plain function, which uses
        `ctx.read_state(key).result()`.
        """
        snapshot = self.__supersteps__.snapshot
        if snapshot is not None:
            await snapshot.bring_back(self, ctx)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"


Executor.__supersteps__ = Handlers(())


def equip(executor: Executor, id: str, handlers: Handlers) -> None:
    """Give an executor its id and its handlers.

    Raises:
        ValueError: The id is empty or cannot be stored.
        HandlerDefinitionError: There are no handlers.
    """
    checked = check_id(id, "executor id")
    handlers.require(type(executor))
    object.__setattr__(executor, "id", checked)  # the class may be a frozen dataclass
    own = vars(executor)
    own["__supersteps_id__"] = checked
    if handlers is not executor.__supersteps__:
        own["__supersteps__"] = handlers


# -------------------------------------------------------------------------------------- definitions


def _handlers_of(cls: type) -> list[HandlerSpec | ResponseSpec]:
    """Return the handlers of a class, its own and those of its bases.

    Raises:
        HandlerDefinitionError: A method overrides a handler and is none itself.
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
                    f"is not marked with @handler, so nothing would call it. Mark it, or write "
                    f"`{name} = None` to do without this handler."
                )
    return list(found.values())


def _spec_of(owner: str, member: Any) -> HandlerSpec | ResponseSpec | None:
    """Return what a member of an executor class handles, None when it is not marked as a handler."""
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
    """Return what a handler method's signature says, or refuse it; `member` is the function as decorators made it."""
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
    """Return what a response handler's signature says, or refuse it; see `_method_spec`."""
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
    """Refuse a function whose body runs only while somebody iterates over what it gives.

    Raises:
        HandlerDefinitionError: It is a generator function.
    """
    form = unusual_form(function)
    if form is not None and not inspect.iscoroutinefunction(function):
        raise HandlerDefinitionError(
            f"{where} is {form}, and nothing would iterate over it. Send each message with "
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
    """Return the types of a method's parameters between `self` and the context, and what the context allows."""
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
    """Return what the signature of an `@executor` function says, or refuse it.

    Args:
        function: The function: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`.
        scopes: Local names in which annotations may be resolved.

    Raises:
        HandlerDefinitionError: The signature cannot be understood.
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
