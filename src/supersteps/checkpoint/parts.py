"""A checkpoint's parts: their keys, and lists that grow.

A checkpoint's content is a flat map from part keys to encoded values. A key is a tuple of strings
whose first item names the section it belongs to:

    ("messages",)                    messages in flight, one JSON list
    ("fan_in", group_id)             messages that wait in a fan-in until every source has sent one
    ("shared_state", key)            one shared key
    ("executor_states", id, key)     one key of an executor's own scope
    ("scopes", name, key)            one key of a named scope
    ("requests", request_id)         a question that waits for its answer
    ("intercepted", request_id)      a sub-workflow's question that an executor around it answers
    ("replies", request_id)          such an answer, on its way in
    ("timers", timer_id)             a message that is delivered at a given time
    ("sub_workflows", path)          a run of a sub-workflow inside this one
    ("sub_state", path, key)         one shared key of it
    ("sub_scopes", path, name, key)  one key of a named scope of it
    ("answered",)                    questions of the lineage that have ended: a list that grows
    ("outputs",)                     outputs of the lineage: a list that grows
    ("graph",)                       the structure of the workflow that wrote the checkpoint

Inside a sub-workflow an executor is named by its path: the run of the sub-workflow, a slash, its
own id (`review#3/writer`: the writer of the run that node `review` began in superstep 3).

The engine hands over only the parts that a superstep changed; how unchanged ones are kept is up to
the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

import msgspec

from supersteps._process_fork import forkable_lock

PartKey: TypeAlias = tuple[str, ...]
"""A section's name followed by the names inside it."""

Scope: TypeAlias = tuple[str, ...]
"""A scope of state as the beginning of its keys' part keys."""


class _StoredElements:
    """The first elements of a list part, read on first access."""

    __slots__ = ("_items", "_load", "length")

    def __init__(self, length: int, load: Callable[[], list[bytes]]) -> None:
        self.length = length
        self._load = load
        self._items: list[bytes] | None = None

    def items(self) -> list[bytes]:
        items = self._items
        if items is None:  # two threads may both read; they get the same
            items = self._items = self._load()
        return items


class ListPart(Sequence[bytes]):
    """A part that is a growing list of encoded elements; checkpoints of a branch share them.

    Appending to the newest view costs what is appended. Appending to an older one (after a
    restore) copies first, so a list part in use elsewhere never changes. Views may be extended from
    several threads.
    """

    __slots__ = ("_items", "_length", "_stored")

    # One lock for all: it is held for an append. Two threads that extend one view must not both
    # think it the newest.
    _lock = forkable_lock()

    def __init__(self, items: Iterable[bytes] = ()) -> None:
        self._stored: _StoredElements | None = None
        self._items = list(items)  # those after the stored ones
        self._length = len(self._items)

    @classmethod
    def stored(cls, length: int, load: Callable[[], list[bytes]]) -> ListPart:
        """Return a list part whose elements are read from a storage on first access.

        Args:
            length: How many there are.
            load: Reads them all, and may block; it is called once, not for appending.
        """
        part = cls()
        part._stored = _StoredElements(length, load)
        part._length = length
        return part

    def extended(self, items: Iterable[bytes]) -> ListPart:
        """Return a list part with `items` after this one's."""
        more = list(items)
        longer = ListPart.__new__(ListPart)
        longer._stored = self._stored
        longer._length = self._length + len(more)
        own = self._length - (self._stored.length if self._stored else 0)
        with ListPart._lock:
            longer._items = self._items if len(self._items) == own else self._items[:own]
            longer._items.extend(more)
        return longer

    @classmethod
    def from_json(cls, data: bytes) -> ListPart:
        """Return the list part that a JSON array describes.

        Raises:
            ValueError: It is not a JSON array.
        """
        try:
            return cls(bytes(item) for item in msgspec.json.decode(data, type=list[msgspec.Raw]))
        except RecursionError:
            raise ValueError("the JSON is nested too deeply to be read") from None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        if self._stored is None:
            return islice(self._items, self._length)
        return chain(self._stored.items(), islice(self._items, self._length - self._stored.length))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        place: int = index if index >= 0 else self._length + index
        before = self._stored.length if self._stored else 0
        if self._stored is not None and place < before:
            return self._stored.items()[place]
        return self._items[place - before]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListPart) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares by content, like the list it stands for

    def to_json(self) -> bytes:
        """Return the whole list as one JSON array."""
        return b"[" + b",".join(self) + b"]"


Part: TypeAlias = bytes | ListPart
"""The typed JSON of one value, or of a list that grows element by element."""
