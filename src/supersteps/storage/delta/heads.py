"""Heads of runs in memory, so that a commit reads nothing.

A commit costs what it changes: `Head.begin` returns the changes, the storage writes them with its
own SQL, and `Head.follow` applies them and returns the content of the new checkpoint's row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.chunks import Tree, split
from supersteps.checkpoint.parts import PartKey
from supersteps.storage.delta.chains import Chain
from supersteps.storage.delta.entries import (
    INLINE_BYTES,
    WHOLE_AFTER_ROWS,
    Difference,
    Entry,
    Stored,
    encode_entries,
    entry_size,
)
from supersteps.storage.delta.rows import RunKey, StoredRun

_BUDGET = 64 << 20
"""Approximate memory for entries and earlier values of all runs, in bytes."""


class Append(NamedTuple):
    """Elements to append to a list.

    Attributes:
        key: The list's part key.
        before: The present value: a `Listed`, a value that becomes a list now, None for nothing.
        items: The elements.
    """

    key: PartKey
    before: Entry | None
    items: Sequence[bytes]


class Step(NamedTuple):
    """The changes of a commit.

    Write them in this order, in the commit's transaction: the new chunks of the values, then the
    elements of the lists (adding each list's new entry to the difference), then the row, with the
    result of `Head.follow`.

    Attributes:
        difference: New entries and deleted ones, without those of lists that are appended to.
        values: Large values; all but their new chunks are stored already.
        appends: Elements to append to lists.
    """

    difference: Difference
    values: list[Tree]
    appends: list[Append]


class Head:
    """A run and the entries at its head.

    It is valid for the revision of `run`, and used only in a transaction that has found the run at
    that revision.

    Attributes:
        run: The run as last read or written.
        key: The common columns of its checkpoints.
        entries: The entries at the head.
        size: Their approximate size in a row, in bytes.
        rows: Number of rows since the last complete one.
        bytes: Size of the entries in those rows.
        trees: Large values at the head in pieces, for comparison with new versions.
        has_namesakes: Whether directly saved checkpoints have ids like those of the run's
            checkpoints.
        is_journalled: Whether there may be records of finished calls, which the next commit voids.
        weight: Its approximate memory in bytes, when it was last weighed.

    Args:
        run: The run.
        key: The common columns of its checkpoints.
        chain: The rows of its head; empty for a new run.
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

    def __init__(self, run: StoredRun, key: RunKey, chain: Chain = ()) -> None:
        self.run = run
        self.key = key
        self.entries: dict[PartKey, Entry] = {}
        self.trees: dict[PartKey, Tree] = {}
        self.rows = len(chain) - 1  # -1 for a new run, whose first row is always complete
        self.bytes = sum(len(row.entries) for row, _ in chain[1:])
        for _, difference in chain:
            difference.apply(self.entries)
        self.size = sum(entry_size(key, entry) for key, entry in self.entries.items())
        self.has_namesakes = False
        self.is_journalled = bool(chain)
        self.weight = 0

    def weigh(self) -> int:
        """Return the change of the weight since it was last weighed."""
        before = self.weight
        self.weight = (
            2000
            + self.size
            + (sum(len(tree.data) for tree in self.trees.values()) if self.trees else 0)
        )
        return self.weight - before

    def begin(self, changes: Changes) -> Step:
        """Return the changes of a commit, with those that are stored outside its row."""
        entries = self.entries
        puts: dict[PartKey, Entry] = {}
        deletes: list[PartKey] = []
        step = Step(Difference(puts, deletes), [], [])
        if changes.deletes:
            deletes += [key for key in dict.fromkeys(changes.deletes) if key in entries]
            for key in deletes:
                self.trees.pop(key, None)
        for key, data in changes.puts.items():
            if len(data) <= INLINE_BYTES:
                if self.trees:
                    # Its earlier version may be pruned from now on, so it no longer shows which
                    # chunks are stored.
                    self.trees.pop(key, None)
                entry: Entry = data
            else:
                tree = self.trees[key] = split(data, self.trees.get(key))
                step.values.append(tree)
                entry = Stored(*tree.root)
            if key in deletes or entry != entries.get(key):
                puts[key] = entry
        for key, items in changes.appends.items():
            before = puts[key] if key in puts else None if key in deletes else entries.get(key)
            step.appends.append(Append(key, before, items))
            self.trees.pop(key, None)
        return step

    def follow(self, difference: Difference) -> tuple[bool, bytes]:
        """Apply the changes of a commit.

        Args:
            difference: The step's difference, with an entry for each list that was appended to.

        Returns:
            Whether the new checkpoint's row is complete, and its entries.
        """
        self._apply(difference)
        data = encode_entries(difference.puts, difference.deletes)
        self.rows += 1
        self.bytes += len(data)
        if self.rows > WHOLE_AFTER_ROWS and self.bytes >= self.size:
            self.rows = 0
            data = encode_entries(self.entries)
        if self.rows == 0:
            self.bytes = 0
        return self.rows == 0, data

    def _apply(self, difference: Difference) -> None:
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
    """The heads of the most recently written runs."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._total = 0

    def get(self, run_id: str) -> Head | None:
        """Return a run's head if it is in memory; it may be out of date."""
        return self._heads.get(run_id)

    def keep(self, run_id: str, head: Head) -> None:
        """Keep a run's head, and forget the least recently used ones above the limit."""
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
        """Forget all heads."""
        self._heads.clear()
        self._total = 0
