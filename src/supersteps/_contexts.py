"""The context (`contextvars`) in which code of users is called: each call has a copy of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from decimal import getcontext, setcontext  # msgspec has imported it
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def _decimal_variable() -> ContextVar[Any] | None:
    """Return the variable in which `decimal` keeps its context: the one that its first use sets."""
    context = Context()
    context.run(getcontext)
    return next(iter(context), None)


DECIMALS = _decimal_variable() or ContextVar[Any]("no decimals")
"""Holds the context of `decimal`."""


def own_context() -> Context:
    """Return a copy of the present context: what is set in it reaches nobody else.

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
