"""`Schedule`: items by id that knows its earliest one at any time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from typing import TypeVar

T = TypeVar("T")

_SPARE = 64
"""The heap is rebuilt when it has this many entries more than twice the items."""


class Schedule(dict[str, T]):
    """Items by id, in the order in which they were put in; some of them have a moment.

    Put items in by `schedule[id] = item` only, and take them out as from any dict: that one is gone
    is noticed when its moment comes up.

    Args:
        moment_of: Returns the moment of an item, ISO 8601 in UTC; None if it has none.
    """

    __slots__ = ("_added", "_heap", "_moment_of")

    def __init__(self, moment_of: Callable[[T], str | None]) -> None:
        super().__init__()
        self._moment_of = moment_of
        self._heap: list[tuple[str, int, str, T]] = []
        self._added = 0

    def __setitem__(self, key: str, item: T) -> None:
        super().__setitem__(key, item)
        moment = self._moment_of(item)
        if moment is not None:
            self._added += 1  # of those that are due at once the first comes first
            heappush(self._heap, (moment, self._added, key, item))
            if len(self._heap) > 2 * len(self) + _SPARE:
                self._heap = [entry for entry in self._heap if self.get(entry[2]) is entry[3]]
                heapify(self._heap)

    def earliest(self) -> str | None:
        """Return the earliest moment, None if nothing has one."""
        heap = self._heap
        while heap and self.get(heap[0][2]) is not heap[0][3]:
            heappop(heap)
        return heap[0][0] if heap else None

    def is_timed_without(self, gone: Collection[str]) -> bool:
        """Return whether anything has a moment, except items with these ids."""
        if not gone:
            return self.earliest() is not None
        return any(
            key not in gone and self.get(key) is item for _moment, _, key, item in self._heap
        )

    def due(self, now: str, also: Collection[str] = ()) -> list[T]:
        """Return the items whose moment has come, the earliest first; they stay in.

        Args:
            now: The present.
            also: Ids of items with a moment that are due whatever the time.
        """
        if also:
            return self._due_of_all(now, also)
        heap = self._heap
        if not heap or heap[0][0] > now:
            return []
        found: dict[str, tuple[str, int, str, T]] = {}
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if self.get(entry[2]) is entry[3]:
                found.setdefault(entry[2], entry)
        for entry in found.values():
            heappush(heap, entry)
        return [entry[3] for entry in found.values()]

    def _due_of_all(self, now: str, also: Collection[str]) -> list[T]:
        moments = ((key, self._moment_of(item), item) for key, item in self.items())
        timed = [(moment, key, item) for key, moment, item in moments if moment is not None]
        due = [entry for entry in timed if entry[0] <= now or entry[1] in also]
        return [item for _moment, _key, item in sorted(due, key=lambda entry: entry[0])]
