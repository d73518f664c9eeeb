"""Differences of two checkpoints: by part, then inside unequal parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from supersteps._notebook import Shown
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.sections.table import SECTION_DEPTHS
from supersteps.checkpoint.stored import decode_json

Kind = Literal["add", "remove", "replace"]


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: Whether the value was added, removed or replaced.
        path: The location: a section, and the names and indexes inside it.
        before: The old value, as typed JSON builtins; None if there was none.
        after: The new value, likewise.
    """

    kind: Kind
    path: tuple[str | int, ...]
    before: Any = None
    after: Any = None

    @property
    def pointer(self) -> str:
        """The path as a JSON Pointer (RFC 6901)."""
        return "".join("/" + str(item).replace("~", "~0").replace("/", "~1") for item in self.path)

    def __str__(self) -> str:
        head, *inner = self.path
        place = str(head) + "".join(f"[{item!r}]" for item in inner)
        if self.kind == "add":
            return f"+ {place}: {_short(self.after)}"
        if self.kind == "remove":
            return f"- {place}: {_short(self.before)}"
        return f"~ {place}: {_short(self.before)} -> {_short(self.after)}"


@dataclass(frozen=True)
class CheckpointDiff(Shown):
    """All differences between two checkpoints, in the order of the sections.

    Attributes:
        before: Id of the first checkpoint.
        after: Id of the second one.
        changes: The changes that turn the first into the second, in this order.
    """

    before: str
    after: str
    changes: tuple[Change, ...]

    def to_json_patch(self) -> list[dict[str, Any]]:
        """Return the differences as a JSON Patch (RFC 6902) on `WorkflowCheckpoint.document()`."""
        return [
            {"op": change.kind, "path": change.pointer}
            | ({} if change.kind == "remove" else {"value": change.after})
            for change in self.changes
        ]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.before} and {self.after} have the same content"
        return "\n".join(
            [f"{self.before} -> {self.after}", *(f"  {change}" for change in self.changes)]
        )


def diff_parts(before: Mapping[PartKey, Part], after: Mapping[PartKey, Part]) -> tuple[Change, ...]:
    """Return the differences between the parts of two checkpoints.

    Parts with equal bytes are not decoded.
    """
    changes: list[Change] = []
    sections = {name: place for place, name in enumerate(SECTION_DEPTHS)}
    keys = sorted({**before, **after}, key=lambda key: (sections.get(key[0], len(sections)), key))
    scopes: set[PartKey] = set()
    for key in keys:
        old, new = before.get(key), after.get(key)
        if old is new or old == new:
            continue
        if isinstance(old, ListPart) and isinstance(new, ListPart):
            changes += _diff_lists(key, old, new)
        elif old is not None and new is not None:
            changes += _diff_values(key, _builtins(old), _builtins(new))
        elif new is None:
            assert old is not None
            changes += _diff_absent("remove", key, _builtins(old), before, after, scopes)
        else:
            changes += _diff_absent("add", key, _builtins(new), after, before, scopes)
    return tuple(changes)


def document(parts: Mapping[PartKey, Part]) -> dict[str, Any]:
    """Return the content of a checkpoint as JSON: sections, names, typed JSON values."""
    content: dict[str, Any] = {
        name: [] if depth == 0 else {} for name, depth in SECTION_DEPTHS.items()
    }
    for key, part in parts.items():
        *way, last = key
        place = content
        for name in way:
            place = place.setdefault(name, {})
        if last or len(key) == 1:  # an empty name only means that the scope exists
            place[last] = _builtins(part)
    return content


def _builtins(part: Part) -> Any:
    return decode_json(part)


def _diff_lists(key: PartKey, old: ListPart, new: ListPart) -> Iterator[Change]:
    """Compare two growing lists element by element, decoding only those that differ."""
    common = min(len(old), len(new))
    for index in range(common):
        if old[index] != new[index]:
            before, after = decode_json(old[index]), decode_json(new[index])
            yield from _diff_values((*key, index), before, after)
    for index in range(len(old) - 1, common - 1, -1):
        yield Change("remove", (*key, index), before=decode_json(old[index]))
    for index in range(common, len(new)):
        yield Change("add", (*key, index), after=decode_json(new[index]))


def _diff_absent(
    kind: Literal["add", "remove"],
    key: PartKey,
    value: Any,
    having: Mapping[PartKey, Part],
    lacking: Mapping[PartKey, Part],
    scopes: set[PartKey],
) -> Iterator[Change]:
    """Yield a change for a part that only one side has, one for a whole scope."""
    if len(key) == 1:  # the document always contains the section itself
        yield from _diff_values(key, [] if kind == "add" else value, value if kind == "add" else [])
        return
    for depth in range(2, len(key)):
        scope = key[:depth]
        if scope in scopes:
            return
        if not any(other[:depth] == scope for other in lacking):
            scopes.add(scope)
            whole = document(
                {other: part for other, part in having.items() if other[:depth] == scope}
            )
            for name in scope:
                whole = whole[name]
            yield Change(kind, scope, **({"after": whole} if kind == "add" else {"before": whole}))
            return
    if key[-1]:
        yield Change(kind, key, **({"after": value} if kind == "add" else {"before": value}))


def _diff_values(path: Sequence[str | int], old: Any, new: Any) -> Iterator[Change]:
    """Compare two JSON values, including the content of objects and arrays."""
    path = tuple(path)
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() - new.keys():
            yield Change("remove", (*path, name), before=old[name])
        for name, value in new.items():
            if name not in old:
                yield Change("add", (*path, name), after=value)
            else:
                yield from _diff_values((*path, name), old[name], value)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _diff_arrays(path, old, new)
    elif type(old) is not type(new) or old != new:
        yield Change("replace", path, before=old, after=new)


def _diff_arrays(path: tuple[str | int, ...], old: list[Any], new: list[Any]) -> Iterator[Change]:
    """Compare two arrays, skipping their common beginning and ending."""
    start = 0
    while start < min(len(old), len(new)) and _same(old[start], new[start]):
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and _same(old[-1 - end], new[-1 - end]):
        end += 1
    olds, news = old[start : len(old) - end], new[start : len(new) - end]
    common = min(len(olds), len(news))
    for index in range(common):
        yield from _diff_values((*path, start + index), olds[index], news[index])
    for index in range(len(olds) - 1, common - 1, -1):
        yield Change("remove", (*path, start + index), before=olds[index])
    for index in range(common, len(news)):
        yield Change("add", (*path, start + index), after=news[index])


def _same(old: Any, new: Any) -> bool:
    """Return whether two JSON values are equal; 1, 1.0 and True are different."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(
            _same(value, new[name]) for name, value in old.items()
        )
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _short(value: Any, width: int = 80) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= width else text[: width - 1] + "…"
