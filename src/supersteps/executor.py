"""`Executor` and `@handler`: a node of the graph and the methods that handle its messages."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from supersteps._ids import check_id
from supersteps._typing import display_name, matches, unwrap
from supersteps.context import WorkflowContext, context_types
from supersteps.errors import HandlerDefinitionError

if TYPE_CHECKING:
    from supersteps.context import ContextTypes

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_MARK = "__supersteps_handler__"


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


def handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of one message type: `(self, message: T, ctx: WorkflowContext[...])`.

    An executor may have several; a message goes to the handler of its exact type first, then of its nearest base.

    Args:
        function: The method, async or plain; a plain one runs in a thread.

    Returns:
        The method itself.
    """
    # Annotations written as strings may name classes of the enclosing function; only its frame knows them.
    frame = sys._getframe(1)
    scopes: list[Mapping[str, Any]] = []
    if "<locals>" in function.__qualname__:
        while frame is not None and frame.f_code.co_name != "<module>" and len(scopes) < 8:
            scopes.append(dict(frame.f_locals))
            if frame.f_back is None:
                break
            frame = frame.f_back
    setattr(function, _MARK, scopes)
    return function


class Executor:
    """A node of the graph: subclass it and write `@handler` methods.

    Keep what must survive in the run's state (`ctx.set_state`), or override `on_checkpointing` and
    `on_checkpoint_restored` to move attributes of the instance there and back.

    Attributes:
        id: Names the executor in its workflow, in events and in checkpoints.
    """

    _specs: ClassVar[tuple[HandlerSpec, ...]] = ()

    def __init__(self, id: str, *, specs: Sequence[HandlerSpec] | None = None) -> None:
        """Name the executor.

        Args:
            id: Unique within a workflow; the same in every process that runs it.
            specs: Handlers of this instance, for classes that find them otherwise than by `@handler`.

        Raises:
            ValueError: The id is empty or cannot be stored.
            HandlerDefinitionError: The class has no handlers.
        """
        self.id = check_id(id, "executor id")
        self._table = DispatchTable(self._specs if specs is None else specs, type(self).__name__)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        specs: dict[str, HandlerSpec] = {}
        for base in reversed(cls.__mro__):
            for name, member in vars(base).items():
                function = inspect.unwrap(member) if callable(member) else None
                scopes = getattr(member, _MARK, None)
                if function is not None and scopes is not None:
                    specs[name] = _method_spec(cls.__qualname__, function, scopes, member)
                else:
                    specs.pop(name, None)  # a subclass may overwrite a handler with something else
        cls._specs = tuple(specs.values())
        _refuse_twins(cls.__qualname__, cls._specs)

    @property
    def specs(self) -> Sequence[HandlerSpec]:
        """The executor's handlers."""
        return self._table.specs

    @property
    def input_types(self) -> list[Any]:
        """Types of the messages it handles."""
        return [spec.message_type for spec in self.specs]

    @property
    def output_types(self) -> list[Any]:
        """Types of the messages it may send."""
        return _unique(item for spec in self.specs for item in spec.sends)

    @property
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return _unique(item for spec in self.specs for item in spec.yields)

    def can_handle(self, message: Any) -> bool:
        """Return whether a handler takes this message."""
        return self._table.find(message) is not None

    def find_handler(self, message: Any) -> HandlerSpec | None:
        """Return the handler that takes this message: exact type, nearest base, then `Any`."""
        return self._table.find(message)

    @property
    def has_hooks(self) -> bool:
        """Whether the class overrides a checkpoint hook, that is, keeps state of its own between calls."""
        return (
            type(self).on_checkpointing is not Executor.on_checkpointing
            or type(self).on_checkpoint_restored is not Executor.on_checkpoint_restored
        )

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to put attributes into the state (`ctx.queue_state_update`) before a checkpoint is taken."""

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to take attributes out of the state (`ctx.read_state`) after a checkpoint was restored."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"


# -------------------------------------------------------------------------------------- definitions


def _method_spec(
    owner: str, function: Callable[..., Any], scopes: Sequence[Mapping[str, Any]], member: Callable[..., Any]
) -> HandlerSpec:
    """Return what a handler method's signature says, or refuse it; `member` is the function as decorators made it."""
    where = f"handler {owner}.{function.__name__}"
    shape = f"{where} must be written (self, message: T, ctx: WorkflowContext[...])"
    parameters = _positional(function)
    if len(parameters) != 3:
        raise HandlerDefinitionError(f"{shape}; it takes {len(parameters)} positional parameters")
    message, ctx = parameters[1], parameters[2]
    hints = _hints(function, scopes, where)
    if message.name not in hints:
        raise HandlerDefinitionError(f"{shape}; parameter {message.name!r} has no type annotation")
    sends, yields = _context_hint(hints, ctx.name, shape)
    return HandlerSpec(
        name=function.__name__,
        function=member,
        message_type=hints[message.name],
        sends=sends,
        yields=yields,
        is_async=inspect.iscoroutinefunction(member),
    )


def function_spec(function: Callable[..., Any], scopes: Sequence[Mapping[str, Any]]) -> HandlerSpec:
    """Return what the signature of an `@executor` function says, or refuse it.

    Args:
        function: The function: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`.
        scopes: Local names in which annotations may be resolved.

    Raises:
        HandlerDefinitionError: The signature cannot be understood.
    """
    where = f"executor function {function.__qualname__}"
    shape = f"{where} must be written (message: T) or (message: T, ctx: WorkflowContext[...])"
    parameters = _positional(function)
    if len(parameters) not in (1, 2):
        raise HandlerDefinitionError(f"{shape}; it takes {len(parameters)} positional parameters")
    hints = _hints(function, scopes, where)
    if parameters[0].name not in hints:
        raise HandlerDefinitionError(f"{shape}; parameter {parameters[0].name!r} has no type annotation")
    types: ContextTypes = ((), ()) if len(parameters) == 1 else _context_hint(hints, parameters[1].name, shape)
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


def _hints(function: Callable[..., Any], scopes: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for scope in reversed(scopes):
        names.update(scope)
    try:
        hints = get_type_hints(function, localns=names or None, include_extras=True)
    except NameError as error:
        raise HandlerDefinitionError(
            f"{where}: its annotations name {error.name!r}, which is not defined at this point. Define it above the "
            "handler (and outside `if TYPE_CHECKING:`): the engine chooses handlers by these types."
        ) from error
    except TypeError as error:
        raise HandlerDefinitionError(f"{where}: its annotations cannot be evaluated: {error}") from error
    hints.pop("return", None)
    return hints


def _context_hint(hints: Mapping[str, Any], name: str, shape: str) -> ContextTypes:
    if name not in hints:
        raise HandlerDefinitionError(
            f"{shape}; parameter {name!r} has no annotation: use WorkflowContext, WorkflowContext[T] (sends T) or "
            "WorkflowContext[T, U] (sends T, yields U)"
        )
    types = context_types(hints[name])
    if types is None:
        raise HandlerDefinitionError(
            f"{shape}; parameter {name!r} is annotated {display_name(hints[name])}: use WorkflowContext, "
            "WorkflowContext[T] (sends T) or WorkflowContext[T, U] (sends T, yields U)"
        )
    for item in (*types[0], *types[1]):
        if not (isinstance(item, type | TypeVar) or get_origin(item) is not None or item is Any):
            raise HandlerDefinitionError(f"{shape}; {item!r} inside the annotation of {name!r} is not a type")
    return types


def _refuse_twins(owner: str, specs: Iterable[HandlerSpec]) -> None:
    seen: dict[Any, str] = {}
    for spec in specs:
        for member in _union_members(spec.message_type):
            if member in seen:
                raise HandlerDefinitionError(
                    f"handlers {owner}.{seen[member]} and {owner}.{spec.name} both take {display_name(member)}; a "
                    "message type has one handler. Merge them, or narrow one annotation."
                )
            seen[member] = spec.name


def _union_members(annotation: Any) -> tuple[Any, ...]:
    annotation = unwrap(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in _union_members(part))
    return (annotation,)


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


# ----------------------------------------------------------------------------------------- dispatch


class DispatchTable:
    """Chooses the handler of a message: exact type, nearest base class, anything else that matches, `Any` last.

    At one class, annotations that look inside the value (`list[int]`) come before the bare class (`list`).
    """

    __slots__ = ("_bare", "_cache", "_inside", "_last", "_other", "specs")

    def __init__(self, specs: Sequence[HandlerSpec], owner: str) -> None:
        if not specs:
            raise HandlerDefinitionError(
                f"executor class {owner} has no handlers; mark at least one method with @handler: "
                "async def handle(self, message: str, ctx: WorkflowContext[str]) -> None"
            )
        self.specs = tuple(specs)
        self._bare: dict[type, HandlerSpec] = {}
        self._inside: dict[type, list[tuple[Any, HandlerSpec]]] = {}
        self._other: list[tuple[Any, HandlerSpec]] = []
        self._last: HandlerSpec | None = None
        self._cache: dict[type, HandlerSpec | None] = {}
        for spec in specs:
            for member in _union_members(spec.message_type):
                self._add(type(None) if member is None else member, spec)

    def _add(self, annotation: Any, spec: HandlerSpec) -> None:
        origin = get_origin(annotation)
        if annotation is Any or annotation is object:
            self._last = self._last or spec
        elif is_typeddict(annotation):
            self._inside.setdefault(dict, []).append((annotation, spec))
        elif isinstance(origin, type):
            self._inside.setdefault(origin, []).append((annotation, spec))
            if _has_virtual_subclasses(origin):
                self._other.append((annotation, spec))
        elif isinstance(annotation, type):
            self._bare[annotation] = spec
            if _has_virtual_subclasses(annotation):
                self._other.append((annotation, spec))
        else:
            self._other.append((annotation, spec))  # Literal, Annotated, NewType, type variables

    def find(self, message: Any) -> HandlerSpec | None:
        """Return the handler for a message, None when there is none."""
        kind = type(message)
        try:
            return self._cache[kind]
        except KeyError:
            pass
        for base in kind.__mro__:
            for annotation, spec in self._inside.get(base, ()):
                if matches(message, annotation):
                    return spec
            if base in self._bare:
                return self._remember(kind, self._bare[base])
        for annotation, spec in self._other:
            if matches(message, annotation):
                return spec
        return self._remember(kind, self._last)

    def _remember(self, kind: type, spec: HandlerSpec | None) -> HandlerSpec | None:
        """Cache a choice that depends on nothing but the message's class."""
        looks_inside = any(base in self._inside for base in kind.__mro__)
        if not looks_inside and not self._other:
            self._cache[kind] = spec
        return spec


def _has_virtual_subclasses(annotation: type) -> bool:
    """Return whether isinstance() can hold without inheritance (abstract base classes, protocols)."""
    return type(annotation).__instancecheck__ is not type.__instancecheck__


AsyncHandler = Callable[..., Awaitable[None]]
