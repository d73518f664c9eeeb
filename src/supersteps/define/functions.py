"""`@executor`: a function as a node of the graph."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, overload

from supersteps.define.executor import Executor, equip
from supersteps.define.handlers import Handlers
from supersteps.define.signature import function_spec


def check_concurrency(value: Any) -> int:
    """Return a number of concurrent calls, if it is valid.

    Raises:
        ValueError: It is not an int of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"max_concurrency must be an int of at least 1, not {value!r}")
    return value


class FunctionExecutor(Executor):
    """An executor that is one function, async or plain, with or without a context.

    Attributes:
        id: The given id, otherwise the function's name.
        max_concurrency: How many messages of a superstep it handles at a time.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        id: str | None = None,
        *,
        max_concurrency: int = 1,
        _depth: int = 1,
    ) -> None:
        """Use the decorator `@executor` instead of calling this.

        Args:
            func: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`; a plain function runs
                in a thread.
            id: The executor's id; by default the function's name.
            max_concurrency: How many messages of a superstep it handles at a time.

        Raises:
            HandlerDefinitionError: The signature cannot be understood.
            ValueError: `max_concurrency` is less than 1.
        """
        self.max_concurrency = check_concurrency(max_concurrency)
        scopes = [dict(sys._getframe(_depth).f_locals)] if "<locals>" in func.__qualname__ else []
        self.func = func
        handlers = Handlers([function_spec(func, scopes)])
        equip(self, id if id is not None else func.__name__, handlers)
        self.__doc__ = inspect.getdoc(func)

    def __reduce__(self) -> Any:
        """Pickle it by its name, like a function."""
        module, name = self.func.__module__, self.func.__qualname__
        if _named(module, name) is not self:
            raise TypeError(
                f"executor {self.id!r} cannot be pickled: {module}.{name} is not this executor; "
                "define it at the top level of a module, under its own name"
            )
        return _named, (module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, for example in a unit test."""
        return self.func(*args, **kwargs)


def _named(module: str, name: str) -> Any:
    """Return a module's attribute by its path, None if there is none."""
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


@overload
def executor(
    func: Callable[..., Any], *, id: str | None = None, max_concurrency: int = 1
) -> FunctionExecutor: ...
@overload
def executor(
    func: None = None, *, id: str | None = None, max_concurrency: int = 1
) -> Callable[[Callable[..., Any]], FunctionExecutor]: ...
def executor(
    func: Callable[..., Any] | None = None, *, id: str | None = None, max_concurrency: int = 1
) -> FunctionExecutor | Callable[[Callable[..., Any]], FunctionExecutor]:
    """Turn a function into an executor: `@executor` or `@executor(id="name")`.

    The simplest way to write a node; use a class if it has several handlers or asks questions.

    Args:
        func: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`, async or plain.
        id: The executor's id; by default the function's name.
        max_concurrency: How many messages of a superstep it handles at a time; see
            `WorkflowBuilder.with_concurrency`, which takes precedence.

    Returns:
        The executor, or a decorator that returns it.

    Raises:
        HandlerDefinitionError: The signature cannot be understood.
        TypeError: `func` is not a function.
        ValueError: `max_concurrency` is less than 1.
    """
    limit = check_concurrency(max_concurrency)
    if func is None:
        return lambda function: FunctionExecutor(function, id, max_concurrency=limit, _depth=2)
    if not callable(func) or isinstance(func, type):
        raise TypeError(f"@executor takes a function; use @executor(id={func!r}) to give an id")
    return FunctionExecutor(func, id, max_concurrency=limit, _depth=2)
