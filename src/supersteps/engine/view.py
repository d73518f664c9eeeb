"""`View`: an executor's view of the state, with its changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from supersteps._error_texts import described
from supersteps._user_functions import call_apart, discard, is_unfinished
from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.values import Sealed, SealedList, Sealer
from supersteps.define.context import MISSING
from supersteps.define.graph import Reducer
from supersteps.engine.levels import SHARED_STATE
from supersteps.errors import ReducerError

SCOPE_MARK = ""
"""A key of every scope that was set, even if empty; users cannot use this name."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """One change of one key, in the order in which a handler made it.

    Attributes:
        scope: The scope.
        key: The key.
        value: The new value or the update; None deletes the key.
        is_update: Whether the value is an update for the key's reducer, or an item to append if
            there is none.
    """

    scope: Scope
    key: str
    value: Sealed | None
    is_update: bool = False


Overlay: TypeAlias = dict[Scope, dict[str, list[Sealed] | Sealed | None]]
"""Keys as one executor has changed them since the barrier, by scope.

Each has a value, None if it was deleted, or a list of updates.
"""


_NOTHING: Mapping[str, list[Sealed] | Sealed | None] = {}


class View(msgspec.Struct, eq=False):
    """An executor's view during a superstep.

    That is the barrier's state, overlaid by the writes of its own finished calls.

    Attributes:
        scopes: The state at the barrier.
        reducers: Reducers by shared key.
        sealer: Freezes results of reducers.
        shared: The shared scope of the executor's level.
        overlay: The changes of its finished calls.
    """

    scopes: Mapping[Scope, Mapping[str, Sealed]]
    reducers: Mapping[str, Reducer]
    sealer: Sealer
    shared: Scope = SHARED_STATE
    overlay: Overlay = {}

    def fresh(self) -> View:
        """Return the view of a call that runs concurrently with the executor's others."""
        return View(self.scopes, self.reducers, self.sealer, self.shared)

    def note(self, write: Write, overlay: Overlay) -> None:
        """Add a write to an overlay."""
        changed = overlay.get(write.scope)
        if changed is None:
            changed = overlay[write.scope] = {}
        if write.value is None or not write.is_update:
            changed[write.key] = write.value
            return
        before = changed.setdefault(write.key, [])
        if isinstance(before, list):
            before.append(
                write.value
            )  # in place: ten thousand calls may append to one list in one superstep
        else:  # set or deleted before in the same overlay
            value = updated(write.key, self.reducers.get(write.key), before, [write.value])
            changed[write.key] = self.sealer.seal(value, "shared key {!r}", write.key)

    def accept(self, writes: list[Write]) -> None:
        """Add the writes of a call that succeeded."""
        for write in writes:
            self.note(write, self.overlay)

    def read(self, scope: Scope, key: str, calls: Overlay) -> Any:
        """Return a key's value for a call with its own writes, `MISSING` if there is none."""
        updates: list[Sealed] = []
        for overlay in (calls, self.overlay):
            changed = overlay.get(scope)
            if changed and key in changed:
                found = changed[key]
                if not isinstance(found, list):
                    return self._fold(key, found, updates)
                updates = [*found, *updates]
        return self._fold(key, self.scopes.get(scope, {}).get(key), updates)

    def _fold(self, key: str, base: Sealed | None, updates: list[Sealed]) -> Any:
        if not updates:
            return MISSING if base is None else base.open()
        return updated(key, self.reducers.get(key), base, updates)

    def has_reducer(self, key: str) -> bool:
        """Return whether a shared key has a reducer."""
        return key in self.reducers

    def is_list(self, key: str, calls: Overlay) -> bool:
        """Return whether a shared key can be appended to: it is a list, or missing."""
        for overlay in (calls, self.overlay):
            changed = overlay.get(self.shared)
            if changed and key in changed and not isinstance(changed[key], list):
                break
        else:
            base = self.scopes.get(self.shared, {}).get(key)
            if base is None or isinstance(base, SealedList):
                return True  # the usual case, known without decoding
        value = self.read(self.shared, key, calls)
        return value is MISSING or type(value) is list

    def keys(self, scope: Scope, calls: Overlay) -> list[str]:
        """Return the keys of a scope, in the order in which they were first written."""
        names = dict.fromkeys(self.scopes.get(scope, ()))
        for overlay in (self.overlay, calls):
            for key, value in overlay.get(scope, _NOTHING).items():
                if value is None:
                    names.pop(key, None)
                else:
                    names.setdefault(key)
        return list(names)

    def sealed(self, scope: Scope, key: str) -> Sealed | None:
        """Return a key's value as the next call sees it, None if there is none."""
        changed = self.overlay.get(scope, _NOTHING)
        if key not in changed:
            return self.scopes.get(scope, {}).get(key)
        value = changed[key]
        if not isinstance(value, list):
            return value
        return self.sealer.seal(self.read(scope, key, {}), "state key {!r}", key)


def updated(key: str, reducer: Reducer | None, base: Sealed | None, updates: list[Sealed]) -> Any:
    """Return a shared key's value after updates.

    They are combined by its reducer, or appended if it has none.

    Raises:
        ReducerError: The reducer raised.
    """
    if reducer is None:
        return [*(() if base is None else base.open()), *(update.open() for update in updates)]
    value = MISSING if base is None else base.open()
    for update in updates:
        try:
            value = call_apart(reducer.fold, value, update.open())
        except Exception as error:
            raise ReducerError(
                f"the reducer of shared key {key!r} raised {described(error)}. Nothing of this "
                "superstep was committed; fix the reducer and resume the run."
            ) from error
        if is_unfinished(value):
            discard(value)
            raise ReducerError(
                f"the reducer of shared key {key!r} returned a {type(value).__name__}, which would "
                "have to be awaited or iterated; it must return the value itself. Nothing of this "
                "superstep was committed; fix the reducer and resume the run."
            )
    return value
