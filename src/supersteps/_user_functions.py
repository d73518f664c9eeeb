"""Functions passed by users: which may be called, and how.

Some are called where nothing can be awaited, so they have to be plain functions. A coroutine that
is not awaited is a value like any other, and a true one: a condition that is `async def` by mistake
would hold for every message.

Each call runs in a context (`contextvars`) of its own, so what it sets there affects no other code.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from decimal import getcontext, setcontext
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def unusual_form(function: Any) -> str | None:
    """Return what a function is if calling it does not run it.

    Args:
        function: A function, a method, a partial of one, or an object that can be called.

    Returns:
        Such as "a generator function"; None for a plain function.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = getattr(type(function), "__call__", function)  # noqa: B004  # it is inspected
    if inspect.iscoroutinefunction(function):
        return "a coroutine function (async def)"
    if inspect.isasyncgenfunction(function):
        return "an async generator function (async def with yield)"
    if inspect.isgeneratorfunction(function) and not _gives_awaitables(function):
        return "a generator function (def with yield)"
    return None


def _gives_awaitables(function: Any) -> bool:
    """Return whether a generator function was made one of coroutines by `types.coroutine`."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def check_plain(function: Any, what: str, remedy: str) -> None:
    """Refuse a function that cannot be used where its result is wanted at once.

    Args:
        function: The function.
        what: What it is, at the beginning of the error's text.
        remedy: What to do instead, a sentence.

    Raises:
        TypeError: It cannot be called, or calling it does not run it.
    """
    if not callable(function):
        raise TypeError(f"{what} is a function, not {function!r:.200}")
    form = unusual_form(function)
    if form is not None:
        raise TypeError(f"{what} is {form}, but has to be a plain function (def). {remedy}")


def is_unfinished(value: Any) -> bool:
    """Return whether a value stands for work still to be done: awaited, or iterated over."""
    return isinstance(value, Awaitable | Generator | AsyncGenerator)


def discard(value: Any) -> None:
    """Close a coroutine or generator that will not run, so that Python does not warn of it."""
    if isinstance(value, Coroutine | Generator):
        value.close()


def _decimal_variable() -> ContextVar[Any] | None:
    """Return the variable in which `decimal` keeps its context: the one that its first use sets."""
    context = Context()
    context.run(getcontext)
    return next(iter(context), None)


DECIMALS = _decimal_variable() or ContextVar[Any]("no decimals")
"""Holds the context of `decimal`."""


def own_context() -> Context:
    """Return a copy of the present context: what is set in it affects no other code.

    The values themselves are shared with the caller, as everywhere in Python. The exception is the
    context of `decimal`: programs change it in place (`getcontext().prec = 50`), so each call has
    its own.
    """
    context = copy_context()
    if DECIMALS in context:
        renew_decimals(context)
    return context


def renew_decimals(context: Context) -> None:
    """Give a copied context a copy of the context of `decimal`, too."""
    context.run(setcontext, context[DECIMALS].copy())


def call_apart(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function in a context of its own."""
    return own_context().run(function, *arguments, **options)
