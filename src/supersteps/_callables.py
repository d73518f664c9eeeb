"""Functions that users hand over: which of them can be called where nothing is awaited.

A coroutine or a generator that nobody runs is a value like any other, and a true one: a condition
that is `async def` by mistake would hold for every message.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from typing import Any


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
        function = getattr(type(function), "__call__", function)  # noqa: B004  # it is looked at
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
