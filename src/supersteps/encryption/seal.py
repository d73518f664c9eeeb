"""Sealing: what a superstep changed becomes sealed parts, at a cost that follows the change.

The parts of a checkpoint are bound together by a sum over all of them that its header carries,
sealed: of each part a keyed hash of place, commit and content, added modulo 2**256 (an incremental
multiset hash, MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, 2003). Taking a part
away, putting an older one back or exchanging two changes the sum, which nobody can mend without the
key. A superstep adds what it puts and subtracts what it removes. The hash is over the content and
not over the envelope, because a commit that is tried again is sealed again, and whichever attempt
was written has to fit.

The elements of a list have a sum of their own, in the list's facts, so that checking a checkpoint
reads no long list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from supersteps.checkpoint import chunks
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, PartKey
from supersteps.encryption.envelope import seal_with
from supersteps.encryption.keys import RunKeys, frame
from supersteps.encryption.names import block_key, hide, is_list_facts, list_key, pack_names

LARGE_BYTES = 4096
"""Values above this are split, so that a change inside one seals the pieces around it again, and no others."""

MODULUS = 1 << 256

VALUE, SPLIT, LIST = b"v", b"s", b"l"
"""The first byte of what is sealed in a part: a whole value, one in pieces, the facts of a list."""


class ListFacts(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a list beside its elements: their number and their sum."""

    length: int
    sum: bytes


class Entry:
    """What is remembered of a part.

    Attributes:
        weight: What it adds to the sum over all parts.
        blocks: Of a large value: the address of each piece, by its hash in `chunks`.
        tree: Of a large value: its pieces, so that a new version can be compared; None when not at
            hand.
        length: Of a list: how many elements it has, else -1.
        sum: Of a list: the sum over them.
        names: Of a list: its hidden names.
    """

    __slots__ = ("blocks", "length", "names", "sum", "tree", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.blocks: dict[bytes, str] = {}
        self.tree: chunks.Tree | None = None
        self.length = -1
        self.sum = 0
        self.names = b""


class Block:
    """What is remembered of a piece of large values."""

    __slots__ = ("users", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.users = 0


def part_place(family: str, key: PartKey) -> bytes:
    """Return what binds a part to its place."""
    return frame("part", family, *key)


def element_place(family: str, key: PartKey, ordinal: int) -> bytes:
    """Return what binds an element of a list to its place."""
    return frame("element", family, *key, ordinal)


class Head:
    """The sealed parts at a checkpoint, as far as the next commit has to know them. Used by one commit at a time.

    Attributes:
        keys: Those that hide names and make sums; the ones that the run began with.
        checkpoint_id: The checkpoint.
        commit_id: Identity of the commit that made it; empty when it was read.
        total: The sum over all parts.
        entries: By where the parts stand.
        blocks: Pieces of large values, by address.
        tree_bytes: What the large values weigh whose pieces are at hand.
    """

    def __init__(self, keys: RunKeys) -> None:
        self.keys = keys
        self.checkpoint_id = ""
        self.commit_id = ""
        self.total = 0
        self.entries: dict[PartKey, Entry] = {}
        self.blocks: dict[str, Block] = {}
        self.tree_bytes = 0

    @property
    def bytes_kept(self) -> int:
        """About how much it takes to remember this."""
        return 500 * (len(self.entries) + len(self.blocks)) + 2 * self.tree_bytes

    def is_growing(self, key: PartKey) -> bool:
        """Return whether there is a list at a key, or nothing: then appending needs no old value."""
        entry = self.entries.get(hide(key, self.keys))
        return entry is None or entry.length >= 0


class Sealing:
    """One commit's work on a head.

    Args:
        head: The state before; it becomes the one after.
        writer: The keys for what is new.
        letter: The algorithm for what is new.
        sequence: Number of the commit.
    """

    def __init__(self, head: Head, writer: RunKeys, letter: str, sequence: int) -> None:
        self._head = head
        self._writer = writer
        self._letter = letter
        self._sequence = sequence
        self._puts: dict[PartKey, bytes] = {}
        self._appends: dict[PartKey, list[bytes]] = {}
        self._deletes: dict[PartKey, None] = {}
        self._fresh: dict[str, bytes] = {}
        self._idle: set[str] = set()

    def seal(self, changes: Changes, old_value: Callable[[PartKey], bytes]) -> Changes:
        """Return changes sealed.

        Args:
            changes: What the superstep changed.
            old_value: Gives a part's present value; asked only for arrays that become lists.
        """
        head = self._head
        for key in changes.deletes:
            hidden = hide(key, head.keys)
            if hidden in head.entries:
                self._remove(hidden)
                self._deletes[hidden] = None
        for key, value in changes.puts.items():
            if key not in changes.appends:
                self._put(key, value)
        for key, items in changes.appends.items():
            hidden = hide(key, head.keys)
            entry = head.entries.get(hidden)
            if key in changes.puts:
                self._begin_list(key, hidden, [*ListPart.from_json(changes.puts[key]), *items])
            elif entry is not None and entry.length < 0:
                self._begin_list(key, hidden, [*ListPart.from_json(old_value(key)), *items])
            else:
                self._append(key, hidden, items)
        self._settle_blocks()
        # A key that goes and comes again has another place afterwards; what only the wrapper needs
        # has none.
        deletes = [key for key in self._deletes if not (is_list_facts(key) and key in self._puts)]
        return Changes(puts=self._puts, appends=self._appends, deletes=deletes)

    # --------------------------------------------------------------------------------------- values

    def _put(self, key: PartKey, value: bytes) -> None:
        head = self._head
        hidden = hide(key, head.keys)
        before = head.entries.get(hidden)
        names = pack_names(key)
        if len(value) <= LARGE_BYTES:
            plain = VALUE + names + value
            blocks: dict[bytes, str] = {}
            tree: chunks.Tree | None = None
        else:
            plain, blocks, tree = self._split(names, value, before)
        if before is not None:
            self._remove(hidden)
        entry = self._set(hidden, plain)
        entry.blocks, entry.tree = blocks, tree
        head.tree_bytes += len(tree.data) if tree else 0

    def _split(
        self, names: bytes, value: bytes, before: Entry | None
    ) -> tuple[bytes, dict[bytes, str], chunks.Tree]:
        head = self._head
        known = before.blocks if before is not None else {}
        tree = chunks.split(value, before.tree if before is not None else None)
        hashes = {hash for level in tree.levels for hash in level.hashes}
        blocks = {hash: known.get(hash) or head.keys.address("block", hash) for hash in hashes}
        if any(address not in head.blocks for address in blocks.values()):
            for hash, piece in tree.new_chunks():
                self._add_block(blocks[hash], piece)
        for address in blocks.values():
            head.blocks[address].users += 1
        return SPLIT + names + msgspec.msgpack.encode(tree.root), blocks, tree

    def _add_block(self, address: str, piece: bytes) -> None:
        head = self._head
        if address in head.blocks:
            return
        key = block_key(address)
        block = head.blocks[address] = Block(head.keys.weight(key, self._sequence, 0, piece))
        head.total = (head.total + block.weight) % MODULUS
        self._fresh[address] = piece
        self._idle.add(address)

    def _settle_blocks(self) -> None:
        """Put the pieces that are new, delete those that nothing needs any more."""
        head = self._head
        for address, piece in self._fresh.items():
            if head.blocks[address].users:
                self._puts[block_key(address)] = self._sealed(block_key(address), piece)
        for address in sorted(self._idle):
            block = head.blocks[address]
            if not block.users:
                head.total = (head.total - block.weight) % MODULUS
                del head.blocks[address]
                if address not in self._fresh:
                    self._deletes[block_key(address)] = None

    # ---------------------------------------------------------------------------------------- lists

    def _begin_list(self, key: PartKey, hidden: PartKey, items: Sequence[bytes]) -> None:
        if hidden in self._head.entries:
            self._remove(hidden)
        self._puts[hidden] = (
            b"[]"  # what is appended to an array that was put is a list, in the array's place
        )
        self._append(key, hidden, items)

    def _append(self, key: PartKey, hidden: PartKey, items: Sequence[bytes]) -> None:
        head = self._head
        entry = head.entries.get(hidden)
        if entry is None:
            entry = head.entries[hidden] = Entry(0)
            entry.length = 0
            entry.names = pack_names(key)
        elements = []
        for ordinal, item in enumerate(items, entry.length):
            entry.sum = (
                entry.sum + head.keys.weight(hidden, self._sequence, ordinal + 1, item)
            ) % MODULUS
            place = element_place(head.keys.family, hidden, ordinal)
            elements.append(seal_with(self._writer, self._letter, item, place, self._sequence))
        entry.length += len(elements)
        self._appends[hidden] = elements
        facts = (
            LIST
            + entry.names
            + msgspec.msgpack.encode(ListFacts(entry.length, entry.sum.to_bytes(32, "big")))
        )
        where = list_key(hidden, head.keys)
        head.total = (head.total - entry.weight) % MODULUS
        entry.weight = head.keys.weight(where, self._sequence, 0, facts)
        head.total = (head.total + entry.weight) % MODULUS
        self._puts[where] = self._sealed(where, facts)

    # ----------------------------------------------------------------------------------------- both

    def _set(self, hidden: PartKey, plain: bytes) -> Entry:
        head = self._head
        entry = head.entries[hidden] = Entry(head.keys.weight(hidden, self._sequence, 0, plain))
        head.total = (head.total + entry.weight) % MODULUS
        self._puts[hidden] = self._sealed(hidden, plain)
        return entry

    def _remove(self, hidden: PartKey) -> None:
        head = self._head
        entry = head.entries.pop(hidden)
        head.total = (head.total - entry.weight) % MODULUS
        head.tree_bytes -= len(entry.tree.data) if entry.tree else 0
        if entry.length >= 0:
            self._deletes[list_key(hidden, head.keys)] = None
        for address in entry.blocks.values():
            block = head.blocks[address]
            block.users -= 1
            if not block.users:
                self._idle.add(address)

    def _sealed(self, key: PartKey, plain: bytes) -> bytes:
        return seal_with(
            self._writer,
            self._letter,
            plain,
            part_place(self._head.keys.family, key),
            self._sequence,
        )
