"""Reading a store that may be damaged: pages of runs, quiet listings."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Generator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

from supersteps.errors import (
    CheckpointVersionError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
)

T = TypeVar("T")

UNREADABLE = (CorruptCheckpointError, CheckpointVersionError)
"""Errors of a storage for a checkpoint that exists and cannot be read."""


def age(timestamp: str, now: datetime | None = None) -> str:
    """Return how long ago a time was: "3 minutes ago"."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


class Unwarned(Generic[T]):
    """Awaits something and collects its warnings of damage instead of showing them.

    Warning filters are global to the process, so they are changed only while the awaitable runs,
    never while it waits: other tasks of the loop see their own filters.

    Args:
        awaitable: The awaitable.

    Attributes:
        problems: The warnings, after awaiting.
    """

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable = awaitable
        self.problems: list[str] = []

    def __await__(self) -> Generator[Any, Any, T]:
        inner: Any = self._awaitable.__await__()
        step: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                waited = self._advance(step)
            except StopIteration as done:
                result: T = done.value
                return result
            try:
                sent = yield waited
            except (
                BaseException
            ) as error:  # including a cancellation, which the inner coroutine handles
                step = partial(inner.throw, error)
            else:
                step = partial(inner.send, sent)

    def _advance(self, step: Callable[[], Any]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CorruptCheckpointWarning)
            show = warnings.showwarning

            def note(
                message: Warning | str, category: type[Warning], *where: Any, **more: Any
            ) -> None:
                if issubclass(category, CorruptCheckpointWarning):
                    self.problems.append(str(message))
                else:
                    show(message, category, *where, **more)

            warnings.showwarning = note  # restored by catch_warnings, like the filters
            return step()
