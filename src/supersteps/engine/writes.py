"""`WriteMerge`: merges the writes of a superstep.

Reducers combine updates, lists grow, and two writers of one key are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.state import EXECUTORS
from supersteps.checkpoint.values import Sealed, SealedList, Sealer
from supersteps.engine.effects import Effects
from supersteps.engine.levels import Level, Levels
from supersteps.engine.state import State
from supersteps.engine.view import updated
from supersteps.errors import StateConflictError

Place = tuple[Scope, str]

Writer = tuple[str, str]
"""An executor, by path, and the key of its call if its calls ran concurrently."""


class WriteMerge:
    """The writes of a superstep.

    Attributes:
        writes: Final values of changed keys; None for deleted ones.
        appends: Items to append to lists.
    """

    def __init__(self, levels: Levels, state: State, sealer: Sealer) -> None:
        self.writes: dict[Place, Sealed | None] = {}
        self.appends: dict[Place, list[Sealed]] = {}
        self._levels = levels
        self._state = state
        self._sealer = sealer
        self._writers: dict[Place, Writer] = {}
        self._updates: dict[Place, list[Sealed]] = {}
        self._updaters: dict[Place, set[Writer]] = {}

    def run(self, results: Sequence[Effects]) -> None:
        """Merge all writes; updates of a key are combined or appended in the order of the plan.

        Raises:
            StateConflictError: Two executors wrote one shared key that has no reducer.
            ReducerError: A reducer raised.
        """
        for effects in results:
            self._take(effects)
        for place, values in self._updates.items():
            self._fold(place, values)

    def _take(self, effects: Effects) -> None:
        writes, is_apart = effects.writes, effects.is_apart
        if not writes:
            return
        writer = (effects.executor_id, effects.key if is_apart else "")
        for write in writes:
            place = (write.scope, write.key)
            if write.is_update and write.value is not None:
                self._updates.setdefault(place, []).append(write.value)
                self._updaters.setdefault(place, set()).add(writer)
                continue
            if write.scope[0] != EXECUTORS or is_apart:
                first = self._writers.setdefault(place, writer)
                if first != writer:
                    raise self._conflict(place, first, writer)
                if place in self._updates:
                    others = self._updaters[place] - {writer}
                    if others:
                        raise self._conflict(place, min(others), writer)
                    self._updates.pop(
                        place
                    )  # setting or deleting wipes what the same executor updated before
            self.writes[place] = write.value

    def _fold(self, place: Place, values: list[Sealed]) -> None:
        scope, key = place
        writer = self._writers.get(place)
        if writer is not None and self._updaters[place] != {writer}:
            raise self._conflict(place, writer, min(self._updaters[place] - {writer}))
        is_written = place in self.writes
        base = self.writes[place] if is_written else self._state.scopes.get(scope, {}).get(key)
        reducer = self._level(place).graph.reducers.get(key)
        if reducer is None and (base is None or isinstance(base, SealedList)) and not is_written:
            self.appends[place] = values
            return
        value: Any = updated(key, reducer, base, values)
        where = "shared_state key {!r} after its updates"
        seal = self._sealer.seal if reducer else self._sealer.seal_list
        self.writes[place] = seal(value, where, key)

    def _level(self, place: Place) -> Level:
        """Return the level to which a shared scope belongs: only shared keys are updated."""
        scope = place[0]
        return self._levels.at(scope[1]) if len(scope) > 1 else self._levels.root

    def _conflict(self, place: Place, first: Writer, second: Writer) -> StateConflictError:
        scope, key = place
        level = self._levels.of(first[0])
        is_shared = scope == level.shared
        if scope[0] == EXECUTORS:
            what = f"key {key!r} of its state" if key else "its state"
        else:
            what = f"shared state {key!r}" if is_shared else f"key {key!r} of scope {scope[-1]!r}"
        if first[0] == second[0]:
            who = (
                f"two calls of executor {first[0]!r} (for messages {first[1]} and {second[1]}), "
                "which ran concurrently and did not see each other's writes,"
            )
            last = "send results as messages, or let it handle one message at a time"
        else:
            who = f"executors {first[0]!r} and {second[0]!r} both"
            last = "or let one executor run after the other"
        if not is_shared:
            remedy = "Write different keys"
        elif key in level.graph.reducers:
            remedy = (
                "Its reducer combines updates, but not an update and a deletion: delete it in "
                "another superstep"
            )
        else:
            remedy = (
                f"Give the key a reducer (WorkflowBuilder.with_reducer({key!r}, ...)), write "
                "different keys"
            )
        return StateConflictError(
            f"{who} wrote {what} in one superstep, and one of the writes would be lost. {remedy}, "
            f"{last}. Nothing of this superstep was committed."
        )
