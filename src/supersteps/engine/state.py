"""The state of a run at a barrier, and what one executor sees of it during a superstep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from supersteps.checkpoint.record import EXECUTORS, SCOPES, SHARED
from supersteps.context import MISSING, SHARED_SCOPE
from supersteps.engine.values import Sealed, SealedList, Sealer
from supersteps.errors import ReducerError
from supersteps.graph import Reducer

Scope: TypeAlias = tuple[str, ...]
"""A scope as the beginning of its keys' part keys: a section and, except for the shared scope, a name."""

SHARED_STATE: Scope = (SHARED,)

SCOPE_MARK = ""
"""A key that says that a scope was set, though it holds no other key; users cannot name it."""


class Message:
    """A message in flight.

    Attributes:
        payload: The message itself.
        source_ids: Executors that sent it.
        target_ids: Executors that get it in the next superstep.
    """

    __slots__ = ("payload", "source_ids", "target_ids")

    def __init__(self, payload: Sealed, source_ids: tuple[str, ...], target_ids: tuple[str, ...]) -> None:
        self.payload = payload
        self.source_ids = source_ids
        self.target_ids = target_ids


@dataclass(frozen=True, slots=True)
class Request:
    """A question that waits for its answer.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asks and gets the answer.
        request_executor_id: The executor through which it went out.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: Annotation of the answer.
        data: The question.
    """

    request_id: str
    source_executor_id: str
    request_executor_id: str
    iteration: int
    timestamp: str
    response_type: Any
    data: Sealed


@dataclass(slots=True)
class State:
    """Everything that a run is at a barrier.

    Attributes:
        scopes: Keys and values by scope.
        messages: Messages in flight, in the order in which they will be handled.
        fan_in: What waits in fan-ins: by group, by source, oldest first.
        requests: Questions that wait for answers, by id.
    """

    scopes: dict[Scope, dict[str, Sealed]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    fan_in: dict[str, dict[str, list[Sealed]]] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)


def resolve_scope(scope: str | None, executor_id: str) -> Scope:
    """Return the scope that a handler of `executor_id` means by a name (None: its own)."""
    if scope is None:
        return (EXECUTORS, executor_id)
    return SHARED_STATE if scope == SHARED_SCOPE else (SCOPES, scope)


class Write(msgspec.Struct, frozen=True):
    """One change of one key, in the order in which a handler made it.

    Attributes:
        scope: The scope.
        key: The key.
        value: The new value or the update; None deletes the key.
        is_update: Whether the value is to be folded in by the key's reducer, or appended where there is none.
    """

    scope: Scope
    key: str
    value: Sealed | None
    is_update: bool = False


Overlay: TypeAlias = dict[tuple[Scope, str], list[Sealed] | Sealed | None]
"""Keys as one executor has changed them since the barrier: a value, None for deleted, or updates."""


class View:
    """What one executor sees during a superstep: the barrier's state under its own finished calls' writes."""

    __slots__ = ("_reducers", "_sealer", "overlay", "state")

    def __init__(self, state: State, reducers: Mapping[str, Reducer], sealer: Sealer) -> None:
        self.state = state
        self.overlay: Overlay = {}
        self._reducers = reducers
        self._sealer = sealer

    def note(self, write: Write, overlay: Overlay) -> None:
        """Add a write to an overlay."""
        place = (write.scope, write.key)
        if write.value is None or not write.is_update:
            overlay[place] = write.value
            return
        before = overlay.get(place, ())
        if isinstance(before, list | tuple):
            overlay[place] = [*before, write.value]
        else:  # set or deleted before in the same overlay
            value = updated(write.key, self._reducers.get(write.key), before, [write.value])
            overlay[place] = self._sealer.seal(value, "shared key {!r}", write.key)

    def accept(self, writes: list[Write]) -> None:
        """Take over the writes of a call that succeeded."""
        for write in writes:
            self.note(write, self.overlay)

    def read(self, scope: Scope, key: str, calls: Overlay) -> Any:
        """Return a key's value for a call with writes of its own; `MISSING` when there is none."""
        place = (scope, key)
        updates: list[Sealed] = []
        for overlay in (calls, self.overlay):
            if place in overlay:
                found = overlay[place]
                if not isinstance(found, list):
                    return self._fold(key, found, updates)
                updates = [*found, *updates]
        return self._fold(key, self.state.scopes.get(scope, {}).get(key), updates)

    def _fold(self, key: str, base: Sealed | None, updates: list[Sealed]) -> Any:
        if not updates:
            return MISSING if base is None else base.open()
        return updated(key, self._reducers.get(key), base, updates)

    def has_reducer(self, key: str) -> bool:
        """Return whether updates of a shared key are folded in by a reducer."""
        return key in self._reducers

    def is_list(self, key: str, calls: Overlay) -> bool:
        """Return whether one can append to a shared key: it is a list, or missing."""
        place = (SHARED_STATE, key)
        for overlay in (calls, self.overlay):
            if place in overlay and not isinstance(overlay[place], list):
                break
        else:
            base = self.state.scopes.get(SHARED_STATE, {}).get(key)
            if base is None or isinstance(base, SealedList):
                return True  # the usual case, told without looking inside
        value = self.read(SHARED_STATE, key, calls)
        return value is MISSING or type(value) is list

    def keys(self, scope: Scope, calls: Overlay) -> list[str]:
        """Return the keys of a scope, in the order in which they were first written."""
        names = dict.fromkeys(self.state.scopes.get(scope, ()))
        for overlay in (self.overlay, calls):
            for (place, key), value in overlay.items():
                if place == scope:
                    if value is None:
                        names.pop(key, None)
                    else:
                        names.setdefault(key)
        return list(names)


def updated(key: str, reducer: Reducer | None, base: Sealed | None, updates: list[Sealed]) -> Any:
    """Return a shared key's value after updates: folded in by its reducer, or appended where there is none.

    Raises:
        ReducerError: The reducer raised.
    """
    if reducer is None:
        return [*(() if base is None else base.open()), *(update.open() for update in updates)]
    value = MISSING if base is None else base.open()
    for update in updates:
        try:
            value = reducer.fold(value, update.open())
        except Exception as error:
            raise ReducerError(
                f"the reducer of shared key {key!r} raised {type(error).__name__}: {error}. Nothing of this superstep "
                "was committed; mend the reducer and resume the run."
            ) from error
    return value
