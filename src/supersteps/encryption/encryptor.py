"""Encryption of a commit's parts, at a cost that follows the change.

The parts of a checkpoint are bound together by a sum over all of them that its header carries,
encrypted: of each part a keyed hash of place, commit and content, added modulo 2**256 (an
incremental multiset hash, MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, 2003).
Removing a part, putting an older one back or exchanging two changes the sum, which cannot be
corrected without the key. A superstep adds what it puts and subtracts what it removes. The hash is
over the content, not over the envelope, because a retried commit is encrypted again, and either
attempt may have been written.

The elements of a list have their own sum, in the list's facts, so that checking a checkpoint does
not read long lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from supersteps.checkpoint import chunks
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, PartKey
from supersteps.encryption.envelope import encrypt_with
from supersteps.encryption.keys import RunKeys, frame
from supersteps.encryption.names import block_key, hide, is_list_facts, list_key, pack_names

LARGE_BYTES = 4096
"""Larger values are split, so that a change inside one encrypts only the pieces around it."""

MODULUS = 1 << 256

VALUE, SPLIT, LIST = b"v", b"s", b"l"
"""The first byte of a part's plaintext: a whole value, one in pieces, the facts of a list."""


class ListFacts(msgspec.Struct, frozen=True, array_like=True):
    """The facts of a list: the number of its elements and their sum."""

    length: int
    sum: bytes


class Entry:
    """What is cached of a part.

    Attributes:
        weight: Its summand in the sum over all parts.
        blocks: Of a large value: the address of each piece, by its hash in `chunks`.
        tree: Of a large value: its pieces, to compare a new version; None if not loaded.
        length: Of a list: its number of elements, else -1.
        sum: Of a list: the sum over them.
        names: Of a list: its hashed names, encoded.
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
    """What is cached of a piece of large values."""

    __slots__ = ("users", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.users = 0


def part_place(family: str, key: PartKey) -> bytes:
    """Return the text that binds a part to its place."""
    return frame("part", family, *key)


def element_place(family: str, key: PartKey, ordinal: int) -> bytes:
    """Return the text that binds an element of a list to its place."""
    return frame("element", family, *key, ordinal)


class Head:
    """The encrypted parts at a checkpoint, as the next commit needs them.

    Used by one commit at a time.

    Attributes:
        keys: The keys for hashing names and sums; those that the run started with.
        checkpoint_id: The checkpoint.
        commit_id: Identity of the commit that wrote it; empty if it was read.
        total: The sum over all parts.
        entries: Parts by their encrypted keys.
        blocks: Pieces of large values, by address.
        tree_bytes: Memory used by the loaded trees of large values.
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
        """Approximate memory used by this object."""
        return 500 * (len(self.entries) + len(self.blocks)) + 2 * self.tree_bytes

    def is_growing(self, key: PartKey) -> bool:
        """Return whether a key holds a list or nothing, so that appending needs no old value."""
        entry = self.entries.get(hide(key, self.keys))
        return entry is None or entry.length >= 0


class PartEncryptor:
    """Encrypts the parts of one commit.

    Args:
        head: The state before the commit; updated to the state after it.
        writer: The keys for new records.
        letter: The algorithm for new records.
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

    def encrypt(self, changes: Changes, old_value: Callable[[PartKey], bytes]) -> Changes:
        """Return the changes, encrypted.

        Args:
            changes: What the superstep changed.
            old_value: Returns a part's current value; called only for arrays that become lists.
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
        # A key that is deleted and put again changes its place; the wrapper's own parts have no
        # place.
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
        """Put new pieces, delete pieces that are no longer used."""
        head = self._head
        for address, piece in self._fresh.items():
            if head.blocks[address].users:
                self._puts[block_key(address)] = self._encrypted(block_key(address), piece)
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
        self._puts[hidden] = b"[]"  # appending to an array that was put makes a list in its place
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
            elements.append(encrypt_with(self._writer, self._letter, item, place, self._sequence))
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
        self._puts[where] = self._encrypted(where, facts)

    # ----------------------------------------------------------------------------------------- both

    def _set(self, hidden: PartKey, plain: bytes) -> Entry:
        head = self._head
        entry = head.entries[hidden] = Entry(head.keys.weight(hidden, self._sequence, 0, plain))
        head.total = (head.total + entry.weight) % MODULUS
        self._puts[hidden] = self._encrypted(hidden, plain)
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

    def _encrypted(self, key: PartKey, plain: bytes) -> bytes:
        return encrypt_with(
            self._writer,
            self._letter,
            plain,
            part_place(self._head.keys.family, key),
            self._sequence,
        )
