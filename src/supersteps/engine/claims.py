"""Claims: which run an executor instance with hooks belongs to at the moment.

Such an instance keeps attributes of its own between calls, so it can be in one run at a time. A run that is idle gives
its instances up to the next that comes; when it goes on, its attributes are brought back from its state.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar, cast

from supersteps._process_fork import in_child
from supersteps.define.executor import Executor
from supersteps.engine.effects import Effects
from supersteps.errors import ConcurrentRunError

T = TypeVar("T")


class Holder(Protocol):
    """A run handle that may hold instances."""

    run_id: str

    def is_active(self) -> bool:
        """Return whether somebody is driving the run at this moment."""


class _Known(Generic[T]):
    """What is known of instances, while they live. They may compare by value, or have no hash."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Executor], T]] = {}

    def get(self, executor: Executor) -> T | None:
        entry = self._entries.get(id(executor))
        return entry[1] if entry is not None and entry[0]() is executor else None

    def set(self, executor: Executor, value: T) -> None:
        key, entries = id(executor), self._entries
        entries[key] = (weakref.ref(executor, lambda _gone: entries.pop(key, None)), value)

    def all(self) -> Iterator[tuple[Executor, T]]:
        for reference, value in list(self._entries.values()):
            executor = reference()
            if executor is not None:
                yield executor, value


_holders: _Known[weakref.ref[Holder]] = _Known()
_fresh: _Known[Effects] = _Known()

_nobody: weakref.ref[Holder] = weakref.ref(cast(Holder, type("Nobody", (), {})()))
"""Stands for a run that is no more; that of a class without any other instance."""


@in_child
def _let_go() -> None:
    """Take instances from runs that the parent process drives: here nobody does."""
    for executor, reference in _holders.all():
        holder = reference()
        if holder is not None and holder.is_active():
            _holders.set(executor, _nobody)


def claim(executors: Iterable[Executor], holder: Holder) -> bool:
    """Let a run have its instances.

    Args:
        executors: Instances with hooks that serve more than one run.
        holder: The run's handle.

    Returns:
        Whether another run has had one of them since: then its attributes are not this run's.

    Raises:
        ConcurrentRunError: Another run is being driven with one of them.
    """
    changed = False
    for executor in executors:
        reference = _holders.get(executor)
        other = reference() if reference is not None else None
        if other is not holder:
            if other is not None and other.is_active():
                raise ConcurrentRunError(
                    f"executor {executor.id!r} keeps attributes of its own (it has checkpoint "
                    f"hooks) and is at work in run {other.run_id!r}, so run {holder.run_id!r} "
                    "cannot use the same instance. Give the builder a factory (register_executor) "
                    "instead, then every run gets an instance of its own."
                )
            changed = changed or reference is not None
            _holders.set(executor, weakref.ref(holder))
    return changed


def remember_fresh(executor: Executor, effects: Effects) -> None:
    """Remember what an unused instance puts into its first checkpoint."""
    if _fresh.get(executor) is None:
        _fresh.set(executor, effects)


def fresh_effects(executor: Executor) -> Effects | None:
    """Return what the instance put into its first checkpoint when it was unused, None if it never did."""
    return _fresh.get(executor)
