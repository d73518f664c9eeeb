"""`Executor`, `@handler` and `@response_handler`: a node of the graph, and its methods for messages and answers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_origin, get_type_hints

from supersteps._callables import unusual_form
from supersteps._ids import check_id
from supersteps._typing import display_name
from supersteps.context import WorkflowContext, context_types
from supersteps.dispatch import DispatchTable, refuse_response_twins, refuse_twins, specificity
from supersteps.errors import HandlerDefinitionError

if TYPE_CHECKING:
    from supersteps.context import ContextTypes

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_MARK = "__supersteps_handler__"
_RESPONSE_MARK = "__supersteps_response_handler__"


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

    An executor may have several; a message goes to the handler of its exact type first, then of its nearest base.

    Args:
        function: The method, async or plain; a plain one runs in a thread.

    Returns:
        The method itself.
    """
    setattr(function, _MARK, _local_scopes(function, sys._getframe(1)))
    return function


def response_handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of answers to the executor's own questions.

    It is written `(self, original_request: Q, response: A, ctx: WorkflowContext[...])` and takes answers of type A to
    questions of type Q that were asked with `ctx.request_info`. An executor may have several; an answer goes to the
    handler of the question's exact type first, then of its nearest base, and among those likewise by the answer.

    Args:
        function: The method, async or plain; a plain one runs in a thread.

    Returns:
        The method itself.
    """
    setattr(function, _RESPONSE_MARK, _local_scopes(function, sys._getframe(1)))
    return function


def _local_scopes(function: Callable[..., Any], frame: FrameType | None) -> list[Mapping[str, Any]]:
    """Return the local names around a method's definition, innermost first."""
    # Annotations written as strings may name classes of the enclosing function; only its frame knows them.
    scopes: list[Mapping[str, Any]] = []
    if "<locals>" in function.__qualname__:
        while frame is not None and frame.f_code.co_name != "<module>" and len(scopes) < 8:
            scopes.append(dict(frame.f_locals))
            frame = frame.f_back
    return scopes


class Executor:
    """A node of the graph: subclass it and write `@handler` methods, and `@response_handler` methods for answers.

    Keep what must survive in the run's state (`ctx.set_state`), or override `on_checkpointing` and
    `on_checkpoint_restored` to move attributes of the instance there and back.

    Attributes:
        id: Names the executor in its workflow, in events and in checkpoints.
        has_hooks: Whether the class overrides a checkpoint hook, that is, keeps state of its own between calls.
    """

    has_hooks: ClassVar[bool] = False

    _specs: ClassVar[tuple[HandlerSpec, ...]] = ()
    _response_specs: ClassVar[tuple[ResponseSpec, ...]] = ()

    def __init__(self, id: str, *, specs: Sequence[HandlerSpec] | None = None) -> None:
        """Each executor has an id, which names it in its workflow and in everything that is saved.

        Args:
            id: Unique within a workflow; the same in every process that runs it.
            specs: Handlers of this instance, for classes that find them otherwise than by `@handler`.

        Raises:
            ValueError: The id is empty or cannot be stored.
            HandlerDefinitionError: The class has no handlers.
        """
        self.id = check_id(id, "executor id")
        self._table = DispatchTable(self._specs if specs is None else specs, type(self).__name__)
        self._find = self._table.find

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, HandlerSpec | ResponseSpec] = {}
        for base in reversed(cls.__mro__):
            for name, member in vars(base).items():
                spec = _spec_of(cls.__qualname__, member)
                if spec is not None:
                    found[name] = spec
                else:
                    found.pop(name, None)  # a subclass may overwrite a handler with something else
        cls.has_hooks = (
            cls.on_checkpointing is not Executor.on_checkpointing
            or cls.on_checkpoint_restored is not Executor.on_checkpoint_restored
        )
        for name in ("on_checkpointing", "on_checkpoint_restored"):
            form = unusual_form(getattr(cls, name))
            if form is not None and "generator" in form:
                raise HandlerDefinitionError(
                    f"{cls.__qualname__}.{name} is {form}, and nothing would iterate over it: "
                    "write `async def` or `def` without yield."
                )
        cls._specs = tuple(spec for spec in found.values() if isinstance(spec, HandlerSpec))
        cls._response_specs = tuple(
            spec for spec in found.values() if isinstance(spec, ResponseSpec)
        )
        refuse_twins(cls.__qualname__, cls._specs)
        refuse_response_twins(cls.__qualname__, cls._response_specs)

    @property
    def specs(self) -> Sequence[HandlerSpec]:
        """The executor's handlers."""
        return self._table.specs

    @property
    def response_specs(self) -> Sequence[ResponseSpec]:
        """The executor's response handlers."""
        return self._response_specs

    @property
    def _all_specs(self) -> list[HandlerSpec | ResponseSpec]:
        return [*self.specs, *self.response_specs]

    @property
    def input_types(self) -> list[Any]:
        """Types of the messages it handles."""
        return [spec.message_type for spec in self.specs]

    @property
    def output_types(self) -> list[Any]:
        """Types of the messages it may send."""
        return _unique(item for spec in self._all_specs for item in spec.sends)

    @property
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return _unique(item for spec in self._all_specs for item in spec.yields)

    def can_handle(self, message: Any) -> bool:
        """Return whether a handler takes this message."""
        return self._find(message) is not None

    def find_handler(self, message: Any) -> HandlerSpec | None:
        """Return the handler that takes this message: exact type, nearest base, then `Any`."""
        return self._find(message)

    def find_response_handler(self, question: Any, answer: Any) -> ResponseSpec | None:
        """Return the response handler for an answer: the closest to the question's type, then to the answer's."""
        fitting = [
            ((of_question, of_answer), spec)
            for spec in self.response_specs
            if (of_question := specificity(question, spec.request_type)) is not None
            and (of_answer := specificity(answer, spec.response_type)) is not None
        ]
        return min(fitting, key=lambda found: found[0])[1] if fitting else None

    def response_types(self, question: Any) -> list[Any]:
        """Return the annotations of the answers it takes to a question; the closest to the question's type first."""
        fitting = [
            (rank, spec.response_type)
            for spec in self.response_specs
            if (rank := specificity(question, spec.request_type)) is not None
        ]
        kinds = [kind for _rank, kind in sorted(fitting, key=lambda found: found[0])]
        # Compared, not hashed: what is inside an Annotated[...] may have no hash.
        return [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to put attributes into the state (`ctx.queue_state_update`) before a checkpoint.

        The override may be `async def` or a plain function.
        """

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to take attributes out of the state (`ctx.read_state`) after a restore.

        The override may be `async def` or a plain function, which uses
        `ctx.read_state(key).result()`.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r})"


# -------------------------------------------------------------------------------------- definitions


def _spec_of(owner: str, member: Any) -> HandlerSpec | ResponseSpec | None:
    """Return what a member of an executor class handles, None when it is not marked as a handler."""
    if not callable(member):
        return None
    for mark, read in ((_MARK, _method_spec), (_RESPONSE_MARK, _response_spec)):
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
            f"{where}: its annotations name {error.name!r}, which is not defined at this point. Define it above the "
            "handler (and outside `if TYPE_CHECKING:`): the engine chooses handlers by these types."
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
            raise HandlerDefinitionError(
                f"{shape}; {item!r} inside the annotation of {name!r} is not a type"
            )
    return types


def _unique(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))
