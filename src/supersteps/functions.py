"""`@executor`: a function as a node of the graph."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, overload

from supersteps.executor import Executor, equip, function_spec
from supersteps.handlers import Handlers


class FunctionExecutor(Executor):
    """A node made of one function, async or plain, with or without a context.

    Attributes:
        id: The given id, else the function's name.
    """

    def __init__(self, func: Callable[..., Any], id: str | None = None, *, _depth: int = 1) -> None:
        """`@executor` makes one of the function that it stands above.

        Args:
            func: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`; a plain function runs in a thread.
            id: The executor's id; the function's name when None.

        Raises:
            HandlerDefinitionError: The signature cannot be understood.
        """
        scopes = [dict(sys._getframe(_depth).f_locals)] if "<locals>" in func.__qualname__ else []
        self.func = func
        handlers = Handlers([function_spec(func, scopes)])
        equip(self, id if id is not None else func.__name__, handlers)
        self.__doc__ = inspect.getdoc(func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the wrapped function, as in a unit test of it."""
        return self.func(*args, **kwargs)


@overload
def executor(func: Callable[..., Any], *, id: str | None = None) -> FunctionExecutor: ...
@overload
def executor(
    func: None = None, *, id: str | None = None
) -> Callable[[Callable[..., Any]], FunctionExecutor]: ...
def executor(
    func: Callable[..., Any] | None = None, *, id: str | None = None
) -> FunctionExecutor | Callable[[Callable[..., Any]], FunctionExecutor]:
    """Make a function a node of the graph: `@executor` or `@executor(id="name")`.

    Args:
        func: `(message: T)` or `(message: T, ctx: WorkflowContext[...])`, async or plain.
        id: The executor's id; the function's name when None.

    Returns:
        The executor, or the decorator that makes it.

    Raises:
        HandlerDefinitionError: The signature cannot be understood.
        TypeError: `func` is not a function.
    """
    if func is None:
        return lambda function: FunctionExecutor(function, id, _depth=2)
    if not callable(func) or isinstance(func, type):
        raise TypeError(f"@executor takes a function; use @executor(id={func!r}) to give an id")
    return FunctionExecutor(func, id, _depth=2)
