"""`Executor`, a node of the graph; `@handler` and `@response_handler`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Self, TypeVar

from supersteps.define.context import WorkflowContext
from supersteps.define.dispatch import refuse_response_twins, refuse_twins
from supersteps.define.handler_spec import HandlerSpec, ResponseSpec
from supersteps.define.handlers import Handlers
from supersteps.define.reserved import HANDLER_MARK, HOOKS, RESPONSE_MARK, TypeList, check_names
from supersteps.define.signature import handlers_of
from supersteps.define.snapshots import snapshot_of
from supersteps.ids import check_id

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


def handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of one message type.

    It is written `(self, message: T, ctx: WorkflowContext[...])`. An executor may have several; a
    message goes to the handler of its exact type, otherwise of its nearest base class.

    Args:
        function: The method, async or plain; a plain one runs in a thread, so it may block.

    Returns:
        The method itself.
    """
    setattr(function, HANDLER_MARK, _local_scopes(function, sys._getframe(1)))
    return function


def response_handler(function: HandlerT) -> HandlerT:
    """Mark a method as the handler of answers to the executor's questions.

    It is written `(self, original_request: Q, response: A, ctx: WorkflowContext[...])` and takes
    answers of type A to questions of type Q that were asked with `ctx.request_info`. An executor
    may have several; an answer goes to the handler of the question's exact type, otherwise of its
    nearest base class, and among those likewise by the type of the answer.

    Args:
        function: The method, async or plain; a plain one runs in a thread, so it may block.

    Returns:
        The method itself.
    """
    setattr(function, RESPONSE_MARK, _local_scopes(function, sys._getframe(1)))
    return function


def _local_scopes(function: Callable[..., Any], frame: FrameType | None) -> list[Mapping[str, Any]]:
    """Return the local names around a method's definition, innermost first."""
    # Annotations that are strings may name classes of the enclosing function, as in tests.
    scopes: list[Mapping[str, Any]] = []
    if "<locals>" in function.__qualname__:
        while frame is not None and frame.f_code.co_name != "<module>" and len(scopes) < 8:
            scopes.append(dict(frame.f_locals))
            frame = frame.f_back
    return scopes


class Executor:
    """A node of the graph: subclass it and write `@handler` and `@response_handler` methods.

    State that must survive a restart belongs to the run: use `ctx.set_state`. If you need
    attributes of the instance instead, override `on_checkpointing` and `on_checkpoint_restored` to
    save and restore them. The equivalent methods of Agent Framework are called as well:
    `snapshot_state` and `restore_state`, or `on_checkpoint_save` and `on_checkpoint_restore`. For a
    node without attributes, `@executor` on a function is shorter.

    Your own attributes, methods and fields may have any name except `id`, `can_handle`,
    `input_types`, `output_types`, `workflow_output_types` and the names of the hooks.

    Attributes:
        id: Identifies the executor in its workflow, in events and in checkpoints.
    """

    __supersteps__: Handlers

    id: str

    def __new__(cls, *_args: Any, **_settings: Any) -> Self:
        self = super().__new__(cls)
        vars(self)["id"] = cls.__name__  # the default, for a class whose __init__ passes no id
        return self

    def __init__(self, id: str, **_settings: Any) -> None:
        """Each executor has an id, which is part of everything that is saved.

        Args:
            id: Unique in a workflow; must be the same in every process that runs it.
            _settings: Other arguments are ignored, as in Agent Framework.

        Raises:
            ValueError: The id is empty or cannot be stored.
            HandlerDefinitionError: The class has no handlers.
        """
        equip(self, id, type(self).__supersteps__)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_names(cls)
        found = handlers_of(cls)
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
        """Return whether a handler accepts this message."""
        return self.__supersteps__.find(message) is not None

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to save attributes to the state (`ctx.queue_state_update`) before a checkpoint.

        The override may be `async def` or a plain function.
        """
        snapshot = self.__supersteps__.snapshot
        if snapshot is not None:
            await snapshot.keep(self, ctx)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Override to load attributes from the state (`ctx.read_state`) after a restore.

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
    """Set the id and the handlers of an executor.

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
