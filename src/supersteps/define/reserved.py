"""Reserved names of executors: what classes and instances may define.

All other names are free: the engine's own attributes are called `__supersteps…__`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Any, NoReturn

from supersteps._user_functions import unusual_form
from supersteps.errors import HandlerDefinitionError
from supersteps.ids import check_id

HANDLER_MARK = "__supersteps_handler__"
RESPONSE_MARK = "__supersteps_response_handler__"
"""Attributes with which the decorators mark methods."""
HOOKS = ("on_checkpointing", "on_checkpoint_restored")
TYPE_LISTS = ("input_types", "output_types", "workflow_output_types")
_METHODS = ("can_handle", *HOOKS)


if TYPE_CHECKING:
    TypeList = property
else:

    class TypeList(property):
        """A property that lists the types that an executor handles, sends or yields."""

        def __set_name__(self, owner: type, name: str) -> None:
            self._name = name

        def __set__(self, instance: Any, value: Any) -> NoReturn:
            raise AttributeError(
                f"{self._name} of an executor lists types and is derived from the annotations of "
                f"its handlers: give this attribute of {type(instance).__name__} another name"
            )


def check_names(cls: type) -> None:
    """Refuse an executor class that uses a reserved name for something else.

    Raises:
        HandlerDefinitionError: It does; the message says what to do.
    """
    for name, member in vars(cls).items():
        problem = None
        if name == "__supersteps__":
            problem = "is reserved for the engine: give it another name"
        elif name == "id":
            problem = _problem_of_id(member)
        elif name in TYPE_LISTS and not _is_type_list(member):
            problem = "is reserved for a list of types: give your attribute another name"
        elif name in _METHODS:
            problem = _problem_of_method(name, member)
        if problem is not None:
            raise HandlerDefinitionError(f"executor class {cls.__qualname__}: {name} {problem}")


def _problem_of_id(member: Any) -> str | None:
    """Return why a class cannot define this where its instances have their id."""
    if isinstance(member, property) and member.fset is not None:
        return None
    if isinstance(member, property | functools.cached_property) or callable(member):
        return (
            "is the executor's id, which is set when it is created: pass it to "
            "super().__init__(id), and give this another name"
        )
    return None


def _is_type_list(member: Any) -> bool:
    if isinstance(member, property | functools.cached_property | dataclasses.Field):
        return True
    return isinstance(member, list | tuple) and not any(isinstance(kind, str) for kind in member)


def _problem_of_method(name: str, member: Any) -> str | None:
    if isinstance(member, property) or not callable(getattr(member, "__func__", member)):
        return "is a method that the engine calls: give your attribute another name"
    if hasattr(member, HANDLER_MARK) or hasattr(member, RESPONSE_MARK):
        return "is a method that the engine calls, not a handler: give the handler another name"
    form = unusual_form(getattr(member, "__func__", member))
    if form is not None and (name not in HOOKS or "generator" in form):
        wanted = "`def`, or `async def` without yield" if name in HOOKS else "`def`"
        return f"is {form}, which does nothing when the engine calls it: write {wanted}"
    return None


def check_instance(executor: Any) -> None:
    """Refuse an executor that cannot be part of a graph.

    Raises:
        HandlerDefinitionError: Its class has no handlers, its `__init__` does not pass on the id,
            or it has an attribute with the name of a method.
        ValueError: Its id is empty or cannot be stored.
    """
    cls = type(executor)
    own = vars(executor)
    if "__supersteps_id__" not in own:  # its __init__ has not called Executor's
        executor.__supersteps__.require(cls)
        check_id(executor.id, "executor id")
        if executor.id == cls.__name__ and "id" in inspect.signature(cls.__init__).parameters:
            raise HandlerDefinitionError(
                f"{cls.__qualname__}.__init__ has a parameter `id` but does not pass it on: call "
                "super().__init__(id)"
            )
    for name in _METHODS:
        if name in own and (name in HOOKS or not callable(own[name])):
            raise HandlerDefinitionError(
                f"executor {executor.id!r} has an attribute {name}, which is a method: "
                + ("define it in the class" if callable(own[name]) else "give it another name")
            )
