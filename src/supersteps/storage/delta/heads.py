"""Heads of runs, remembered so that a commit reads nothing.

A commit costs what it changes: `Head.begin` says what that is, the storage writes it with its own
SQL, and `Head.follow` takes it over and gives what the new checkpoint's row says.
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
"""About how many bytes of entries and earlier values are remembered, over all runs."""


class Append(NamedTuple):
    """Elements to be stored at the end of a list.

    Attributes:
        key: The list's part key.
        before: What is there: a `Listed`, a value that becomes a list now, None for nothing.
        items: The elements.
    """

    key: PartKey
    before: Entry | None
    items: Sequence[bytes]


class Step(NamedTuple):
    """What a commit changes.

    To be written in this order, in the commit's transaction: the new chunks of the values, then the
    elements of the lists, each of whose new entries is put into the difference, then the row, with
    what `Head.follow` returns.

    Attributes:
        difference: New entries and deleted ones, those of lists that are appended to excepted.
        values: Large values; only their new chunks may not be stored yet.
        appends: What is appended to lists.
    """

    difference: Difference
    values: list[Tree]
    appends: list[Append]


class Head:
    """A run and the entries at its head.

    It is true of the revision of `run`, and used only in a transaction that has found the run at
    that revision.

    Attributes:
        run: The run as it was read or written last.
        key: What its checkpoints have in common.
        entries: The entries at the head.
        size: About how many bytes they take in a row.
        rows: Rows since the last whole one.
        bytes: What those hold.
        trees: Large values at the head in pieces, so that a new version of one is compared with it.
        has_namesakes: Whether checkpoints that were saved by hand have ids like those that the run
            gives.
        is_journalled: Whether there may be records of finished calls, which the next commit makes
            void.
        weight: About how many bytes it takes to remember it, as of when it was last weighed.

    Args:
        run: The run.
        key: What its checkpoints have in common.
        chain: What its head is made of; nothing for a new run.
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
        self.rows = len(chain) - 1  # -1 for a new run, whose first row is whole by itself
        self.bytes = sum(len(row.entries) for row, _ in chain[1:])
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

    def begin(self, changes: Changes) -> Step:
        """Return what a commit changes, and what of it has to be stored apart from its row."""
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
                    # Its earlier version may be pruned from now on: nothing may be taken to be
                    # stored because of it.
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
        """Take over what a commit has changed.

        Args:
            difference: That of the step, with an entry for each list that was appended to.

        Returns:
            Whether the new checkpoint's row is whole, and what it says.
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
