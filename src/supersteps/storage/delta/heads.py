"""What is remembered of the runs at work, so that a commit reads nothing and costs what it changes."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.chunks import Tree
from supersteps.checkpoint.parts import ListPart, PartKey
from supersteps.storage.delta.entries import (
    INLINE_BYTES,
    WHOLE_AFTER_ROWS,
    Difference,
    Entry,
    Listed,
    encode_entries,
    entry_size,
)
from supersteps.storage.sqlite.checkpoint_rows import RunKey
from supersteps.storage.sqlite.parts import append_items, read_value, write_value
from supersteps.storage.sqlite.run_rows import StoredRun

_BUDGET = 64 << 20
"""About how many bytes of entries and earlier values are remembered, over all runs."""


class Head:
    """A run and the entries at its head.

    It is true of the revision of `run`, and used only in a transaction that has found the run at that revision.

    Attributes:
        run: The run as it was read or written last.
        key: What its checkpoints have in common.
        entries: The entries at the head.
        size: About how many bytes they take in a row.
        rows: Rows since the last whole one.
        bytes: What those hold.
        trees: Large values at the head in pieces, so that a new version of one is compared with it.
        has_namesakes: Whether checkpoints that were saved by hand have ids like those that the run gives.
        is_journalled: Whether there may be records of finished calls, which the next commit makes void.
        weight: About how many bytes it takes to remember it, as of when it was last weighed.
    """

    __slots__ = (
        "bytes",
        "entries",
        "has_namesakes",
        "is_journalled",
        "key",
        "rows",
        "run",
        "size",
        "trees",
        "weight",
    )

    def __init__(
        self, run: StoredRun, key: RunKey, chain: Sequence[tuple[int, Difference]] = ()
    ) -> None:
        """Begin with what rows hold: the size of each, and its difference; none for a new run."""
        self.run = run
        self.key = key
        self.entries: dict[PartKey, Entry] = {}
        self.trees: dict[PartKey, Tree] = {}
        self.rows = len(chain) - 1  # -1 for a new run, whose first row is whole by itself
        self.bytes = sum(size for size, _ in chain[1:])
        for _, difference in chain:
            difference.apply(self.entries)
        self.size = sum(entry_size(key, entry) for key, entry in self.entries.items())
        self.has_namesakes = False
        self.is_journalled = bool(chain)
        self.weight = 0

    def weigh(self) -> int:
        """Return by how much the weight has changed since it was last weighed."""
        before = self.weight
        self.weight = (
            2000
            + self.size
            + (sum(len(tree.data) for tree in self.trees.values()) if self.trees else 0)
        )
        return self.weight - before

    def write(self, db: sqlite3.Connection, changes: Changes) -> tuple[bool, bytes]:
        """Store what changes and follow it; return whether the new checkpoint's row is whole, and its entries."""
        difference = self._store(db, changes)
        self._follow(difference)
        data = encode_entries(difference.puts, difference.deletes)
        self.rows += 1
        self.bytes += len(data)
        if self.rows > WHOLE_AFTER_ROWS and self.bytes >= self.size:
            self.rows = 0
            data = encode_entries(self.entries)
        if self.rows == 0:
            self.bytes = 0
        return self.rows == 0, data

    def _store(self, db: sqlite3.Connection, changes: Changes) -> Difference:
        difference = Difference({}, [])
        if changes.deletes:
            difference.deletes = [
                key for key in dict.fromkeys(changes.deletes) if key in self.entries
            ]
            for key in difference.deletes:
                self.trees.pop(key, None)
        for key, data in changes.puts.items():
            if len(data) <= INLINE_BYTES:
                if self.trees:
                    # Its earlier version may be pruned from now on: nothing may be taken to be stored because of it.
                    self.trees.pop(key, None)
                entry: Entry = data
            else:
                entry, self.trees[key] = write_value(db, self.run.key, data, self.trees.get(key))
            if entry != self._entry(key, difference):
                difference.puts[key] = entry
        for key, items in changes.appends.items():
            difference.puts[key] = self._append(db, self._entry(key, difference), items)
            self.trees.pop(key, None)
        return difference

    def _entry(self, key: PartKey, difference: Difference) -> Entry | None:
        if key in difference.puts:
            return difference.puts[key]
        return None if key in difference.deletes else self.entries.get(key)

    def _append(
        self, db: sqlite3.Connection, entry: Entry | None, items: Sequence[bytes]
    ) -> Listed:
        if entry is not None and not isinstance(entry, Listed):
            items = [*ListPart.from_json(read_value(db, entry)), *items]
            entry = None
        return append_items(db, self.run.key, entry, items)

    def _follow(self, difference: Difference) -> None:
        entries = self.entries
        for key in difference.deletes:
            self.size -= entry_size(key, entries.pop(key))
        for key, entry in difference.puts.items():
            old = entries.get(key)
            if old is None:
                self.size += entry_size(key, entry)
            elif isinstance(entry, bytes) and isinstance(old, bytes):
                self.size += len(entry) - len(old)
            else:
                self.size += entry_size(key, entry) - entry_size(key, old)
            entries[key] = entry


class Heads:
    """The heads of the runs that were written last."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._total = 0

    def get(self, run_id: str) -> Head | None:
        """Return a run's head if it is remembered; it may be out of date."""
        return self._heads.get(run_id)

    def keep(self, run_id: str, head: Head) -> None:
        """Remember a run's head, and forget the ones used longest ago if it gets too much."""
        if self._heads.get(run_id) is not head:
            self.forget(run_id)
            self._heads[run_id] = head
        self._heads.move_to_end(run_id)
        self._total += head.weigh()
        if head.weight > _BUDGET:
            head.trees.clear()
            self._total += head.weigh()
        while self._total > _BUDGET and len(self._heads) > 1:
            self.forget(next(iter(self._heads)))

    def forget(self, run_id: str) -> None:
        """Forget a run's head."""
        head = self._heads.pop(run_id, None)
        if head is not None:
            self._total -= head.weight

    def clear(self) -> None:
        """Forget all."""
        self._heads.clear()
        self._total = 0
