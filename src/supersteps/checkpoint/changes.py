"""`Changes`: what a superstep changed, as encoded parts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from supersteps.checkpoint.parts import ListPart, Part, PartKey


class Changes(msgspec.Struct, gc=False):
    """What a superstep changed, to be applied in the order deletes, puts, appends.

    Attributes:
        puts: New or replaced parts. A replaced part keeps its place in the order of keys.
        appends: Elements to add at the end of list parts. A missing one is created; a JSON array
            that was put as a whole becomes a list part.
        deletes: Parts that are removed.
    """

    puts: dict[PartKey, bytes] = {}
    appends: dict[PartKey, list[bytes]] = {}
    deletes: list[PartKey] = []

    @classmethod
    def between(cls, before: Mapping[PartKey, Part], after: Mapping[PartKey, Part]) -> Changes:
        """Return the changes that make some parts of others.

        A list that extends the old one is appended to; any other list is put as a whole.
        """
        changes = cls(deletes=[key for key in before if key not in after])
        for key, part in after.items():
            old = before.get(key)
            if old is part:
                continue
            if not isinstance(part, ListPart):
                if part != old:
                    changes.puts[key] = part
            elif isinstance(old, ListPart) and list(part[: len(old)]) == list(old):
                if len(part) > len(old):
                    changes.appends[key] = list(part[len(old) :])
            else:
                if old is not None:
                    changes.deletes.append(key)
                changes.appends[key] = list(part)
        return changes

    @property
    def size(self) -> int:
        """How many bytes are put or appended."""
        appended = sum(len(item) for items in self.appends.values() for item in items)
        return sum(map(len, self.puts.values())) + appended

    def apply(self, parts: dict[PartKey, Part]) -> None:
        """Change `parts` in place."""
        for key in self.deletes:
            parts.pop(key, None)
        parts.update(self.puts)
        for key, items in self.appends.items():
            old = parts.get(key)
            if not isinstance(old, ListPart):
                old = ListPart() if old is None else ListPart.from_json(old)
            parts[key] = old.extended(items)

    def then(self, other: Changes) -> Changes:
        """Return the changes that do at once what these do and `other` does after them."""
        gone = {*other.deletes}
        replaced = gone | other.puts.keys()
        appends = {key: list(items) for key, items in self.appends.items() if key not in replaced}
        for key, items in other.appends.items():
            appends[key] = [*appends.get(key, ()), *items]
        return Changes(
            puts={key: part for key, part in self.puts.items() if key not in gone} | other.puts,
            appends=appends,
            deletes=list(dict.fromkeys([*self.deletes, *other.deletes])),
        )
