"""`Hooks`: executors that keep attributes between calls.

An executor with checkpoint hooks saves its attributes to the state before a checkpoint and loads
them after a restore. Its instance can be in one run at a time. An idle run passes its instances to
the next run that needs them; when it continues, their attributes are loaded from its state again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar, cast

from supersteps._process_fork import in_child
from supersteps.checkpoint.sections.state import EXECUTORS
from supersteps.define.executor import Executor
from supersteps.engine.effects import Effects
from supersteps.engine.position import Position
from supersteps.engine.setting import Setting
from supersteps.engine.view import View, Write
from supersteps.errors import ConcurrentRunError

T = TypeVar("T")


class Hooks:
    """A run's executors with hooks.

    Attributes:
        are_shared: Whether some of their instances also serve other runs.
    """

    def __init__(
        self, setting: Setting, position: Position, holder: Holder, shared: Iterable[str]
    ) -> None:
        """Collect the executors with hooks.

        Args:
            setting: The run's setting.
            position: The run's position.
            holder: The run's handle.
            shared: Ids of executors of the root whose instance also serves other runs.
        """
        self._setting = setting
        self._position = position
        self._holder = holder
        roots = setting.executors.roots
        self._hooked = [id for id, root in roots.items() if root.__supersteps__.has_hooks]
        ids = frozenset(shared)
        self._shared = {id: roots[id] for id in self._hooked if id in ids}
        self.are_shared = bool(self._shared)

    @property
    def may_restore(self) -> bool:
        """Whether executors may have attributes to load, also from the journal."""
        return bool(self._hooked or self._position.state.sub_runs)

    def claim(self) -> bool:
        """Acquire the instances for this run; return whether another run has used one meanwhile.

        Raises:
            ConcurrentRunError: Another run is being driven with one of them.
        """
        return self.are_shared and claim(self._shared.values(), self._holder)

    async def begin(self) -> list[Effects]:
        """Run every checkpoint hook once, for the first checkpoint.

        Instances that other runs have used start with their first state.
        """
        used = self.claim()
        results = []
        for address in self._hooked:
            post = self._setting.executors[address]
            fresh = fresh_effects(post.executor) if used and address in self._shared else None
            if fresh is not None:
                await self._restore(address, fresh.writes)
            effects = Effects(address, "")
            site = self._position.site(post, self._position.view(post))
            await self._setting.backend.checkpoint(site, effects)
            remember_fresh(post.executor, effects)
            results.append(effects)
        return results

    async def restore(self) -> None:
        """Let executors load their attributes.

        They load them from the state, and from what the journal adds to it.
        """
        replayed = self._position.recorded.finished
        self._setting.executors.forget_inner()
        for address in (*self._hooked, *self._inner(replayed)):
            places = [place for place in replayed if place[0] == address]
            await self._restore(
                address, [write for place in places for write in replayed[place].writes]
            )

    def _inner(self, replayed: Mapping[tuple[str, str], Effects]) -> list[str]:
        """Return the executors of sub-workflows whose attributes the state or the journal has."""
        recorded = {address for address, _key in replayed}
        state = self._position.state
        return [
            address
            for address in self._setting.executors.hooked_inner(iter(state.sub_runs))
            if (EXECUTORS, address) in state.scopes or address in recorded
        ]

    async def _restore(self, address: str, writes: list[Write]) -> None:
        view = self._position.view(self._setting.executors[address])
        view.accept(writes)
        await self.restore_one(address, view)

    async def restore_one(self, address: str, view: View) -> None:
        """Let an executor load its attributes from its view."""
        site = self._position.site(self._setting.executors[address], view)
        await self._setting.backend.restore(site)


# ------------------------------------------------------------------------- whose the instances are


class Holder(Protocol):
    """A run handle that may hold instances."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    def is_active(self) -> bool:
        """Return whether a task is driving the run now."""


class _Known(Generic[T]):
    """Facts about living instances, which may compare by value or be unhashable."""

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
"""Replaces a run that was deleted."""


@in_child
def _let_go() -> None:
    """Free instances of runs of the parent process, which are not driven here."""
    for executor, reference in _holders.all():
        holder = reference()
        if holder is not None and holder.is_active():
            _holders.set(executor, _nobody)


def claim(executors: Iterable[Executor], holder: Holder) -> bool:
    """Acquire instances for a run.

    Args:
        executors: Instances with hooks that serve more than one run.
        holder: The run's handle.

    Returns:
        Whether another run has used one meanwhile, so that its attributes are not this run's.

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
                    f"executor {executor.id!r} keeps its own attributes (it has checkpoint "
                    f"hooks) and is in use by run {other.run_id!r}, so run {holder.run_id!r} "
                    "cannot use the same instance. Give the builder a factory (register_executor) "
                    "instead, so that every run gets its own instance."
                )
            changed = changed or reference is not None
            _holders.set(executor, weakref.ref(holder))
    return changed


def remember_fresh(executor: Executor, effects: Effects) -> None:
    """Remember what an unused instance saves in its first checkpoint."""
    if _fresh.get(executor) is None:
        _fresh.set(executor, effects)


def fresh_effects(executor: Executor) -> Effects | None:
    """Return what an unused instance saved in its first checkpoint, None if it never did."""
    return _fresh.get(executor)
