"""State: keys and values by scope.

An executor has a scope of its own; all share one; the others have names. A scope is a prefix of
part keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.edits import DELETE, Path, how_to_write, listed, refusal
from supersteps.checkpoint.parts import ListPart, Part, PartKey, Scope
from supersteps.checkpoint.sections.section import (
    Editing,
    Names,
    PresentGraph,
    Section,
    ValueReader,
)
from supersteps.checkpoint.stored import as_json
from supersteps.checkpoint.values import Sealed, Sealer, is_text
from supersteps.paths import path_of

SHARED = "shared_state"
EXECUTORS = "executor_states"
SCOPES = "scopes"
SUB_WORKFLOWS = "sub_workflows"


class _State(Protocol):
    def set(self, scope: Scope, key: str, value: Sealed, /) -> None: ...


class Keys(Section):
    """One key of a scope in each part."""

    own_names = 1

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.set(key[:-1], key[-1], sealer.load(part))

    def check_owner(self, editing: Editing, given: Any, owner: str) -> None:
        """Refuse a scope that no executor and no run of a sub-workflow has.

        Raises:
            ForkError: It does not exist.
        """

    def edit(self, editing: Editing, given: Any, path: Path, new: Any) -> None:
        hint = how_to_write(f"{self.name}.{self.place}")
        if len(path) <= self.depth:
            keys = self._keys_there(editing, path)
            raise refusal(given, f"this names a whole section or scope. {keys} {hint}")
        key: PartKey = tuple(map(str, path[: self.depth + 1]))
        inner = path[self.depth + 1 :]
        self.check_owner(editing, given, key[1])
        if not all(map(is_text, key)):
            raise refusal(given, "a name must be Unicode text, without half of a surrogate pair.")
        old = editing.parts.get(key)
        if old is None and (inner or new is DELETE):
            keys = self._keys_there(editing, path)
            raise refusal(given, f"there is no key {key[-1]!r}. {keys} {hint}")
        if new is DELETE and not inner:
            del editing.parts[key]
            return
        value = new
        if inner:
            assert old is not None
            value = editing.inside(given, ".".join(key), as_json(old), inner, new)
        if isinstance(old, ListPart) and isinstance(value, list):  # it keeps growing
            editing.parts[key] = ListPart(
                editing.codec.encode(item, f"{given!r}[{i}]") for i, item in enumerate(value)
            )
        else:
            editing.parts[key] = editing.codec.encode(value, f"{given!r}")

    def _keys_there(self, editing: Editing, path: Path) -> str:
        """Return a sentence with the keys of the scope, or of all scopes, that a path names."""
        names = (self.name, *map(str, path[1 : self.depth]))
        found = [key for key in editing.parts if key[: len(names)] == names and key[-1]]
        if len(path) > self.depth or self.depth == 1:
            return f"Keys there: {', '.join(repr(key[-1]) for key in found) or 'none'}."
        return f"Keys there: {', '.join(sorted('.'.join(key[1:]) for key in found)) or 'none'}."


class SharedState(Keys):
    """The scope that all executors share."""

    name = SHARED
    title = "Shared state"
    brief = "state"
    content = "shared_state"
    place = "KEY"

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
    place = "ID.KEY"

    def check_owner(self, editing: Editing, given: Any, owner: str) -> None:
        check_sub_run(editing, given, path_of(owner))
        if not editing.graph.has_executor(owner):
            known = listed(editing.graph.executors_at(path_of(owner)))
            raise refusal(given, f"there is no executor {owner!r}; {known}.")

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
    own_names = 2
    title = "Named scopes"
    brief = "scopes"
    content = "scopes"
    place = "NAME.KEY"


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


def check_sub_run(editing: Editing, given: Any, path: str) -> None:
    """Refuse a path at which no sub-workflow is running; the root, which is empty, is fine.

    Raises:
        ForkError: None is running there.
    """
    running = [key[1] for key in editing.parts if key[0] == SUB_WORKFLOWS]
    if path and path not in running:
        raise refusal(given, f"no sub-workflow {path!r} is running; {listed(running)}.")
