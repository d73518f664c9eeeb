"""Whether the present code is part of a run's own work, so that it must not wait for the run.

Every stretch of work in which a run calls its users' code notes itself in the context of that code,
which tasks and threads that are started there inherit.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol, Self


class Inside(Protocol):
    """A stretch of work.

    Attributes:
        outer: The stretch, of this run or of another, from which it was begun.
    """

    outer: Inside | None


present: ContextVar[Inside | None] = ContextVar("supersteps_inside", default=None)
"""The innermost stretch of work to which the present code belongs."""


def is_inside(stretch: Inside) -> bool:
    """Return whether the present code belongs to a stretch of work, or was started from there."""
    here = present.get()
    while here is not None and here is not stretch:
        here = here.outer
    return here is not None


class Stretch:
    """A stretch of work; a context manager that can be entered again once it was left."""

    def __init__(self) -> None:
        self.outer: Inside | None = None
        self._is_going_on = False

    def __enter__(self) -> Self:
        self.outer = present.get()
        self._is_going_on = True
        present.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        present.set(self.outer)
        self.outer = None
        self._is_going_on = False

    @property
    def is_here(self) -> bool:
        """Whether it goes on, and the present code belongs to it."""
        return self._is_going_on and is_inside(self)
