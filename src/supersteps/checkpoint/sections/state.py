"""State: keys and values by scope.

An executor has a scope of its own; all share one; the others have names. A scope is a prefix of
part keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey, Scope
from supersteps.checkpoint.sections.section import Names, PresentGraph, Section, ValueReader
from supersteps.checkpoint.values import Sealed, Sealer

SHARED = "shared_state"
EXECUTORS = "executor_states"
SCOPES = "scopes"


class _State(Protocol):
    def set(self, scope: Scope, key: str, value: Sealed, /) -> None: ...


class Keys(Section):
    """One key of a scope in each part."""

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.set(key[:-1], key[-1], sealer.load(part))


class SharedState(Keys):
    """The scope that all executors share."""

    name = SHARED
    title = "Shared state"
    brief = "state"
    content = "shared_state"

    def describe(
        self, shown: dict[str, Any], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        shown[key[1]] = reader.read(part, f"shared_state[{key[1]!r}]")

    def encode(self, shown: Mapping[str, Any], codec: Codec) -> Iterator[tuple[PartKey, Part]]:
        for name, value in shown.items():
            yield (SHARED, name), codec.encode(value, f"shared_state[{name!r}]")


class _Scopes(Keys):
    depth = 2

    def describe(
        self, shown: dict[str, dict[str, Any]], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        describe_key(shown, key, part, reader)

    def encode(
        self, shown: Mapping[str, Mapping[str, Any]], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        yield from encode_scopes((self.name,), shown, codec)


class ExecutorStates(_Scopes):
    """Each executor's own scope."""

    name = EXECUTORS
    title = "State of executors"
    brief = "executors"
    content = "executor_states"

    def rename_key(self, key: PartKey, names: Names) -> PartKey:
        return (EXECUTORS, names.address(key[1]), *key[2:])

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        if not graph.has_executor(key[1]):
            yield (
                f"executor {key[1]!r} keeps state and does not exist: rename= it, or let "
                "executor_state= return None"
            )


class NamedScopes(_Scopes):
    """Scopes with names of their own."""

    name = SCOPES
    title = "Named scopes"
    brief = "scopes"
    content = "scopes"


def describe_key(
    shown: dict[str, dict[str, Any]], key: PartKey, part: Part, reader: ValueReader
) -> None:
    """Put the value of a key into what people see of its scope."""
    entries = shown.setdefault(key[-2], {})
    if key[-1]:  # the empty name only says that the scope exists
        names = "".join(f"[{name!r}]" for name in key[1:])
        entries[key[-1]] = reader.read(part, f"{key[0]}{names}")


def encode_scopes(
    place: PartKey, scopes: Mapping[str, Mapping[str, Any]], codec: Codec
) -> Iterator[tuple[PartKey, Part]]:
    """Return the parts of scopes that people see, below the beginning of their keys."""
    for scope, entries in scopes.items():
        if not entries:
            yield (*place, scope, ""), b"null"
        for name, value in entries.items():
            yield (*place, scope, name), codec.encode(value, f"{place[0]}[{scope!r}][{name!r}]")
