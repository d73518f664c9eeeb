"""Entries of rows: small values, and references to large ones.

A row contains all entries, or the differences from its parent's: the latter costs what has changed,
the former ends the search of a reader. Entries are read in this order: deletes, then puts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from supersteps.checkpoint.chunks import Root
from supersteps.checkpoint.parts import PartKey

INLINE_BYTES = 2048
"""Values up to this size are stored in the row, so that both fit in one page."""

WHOLE_AFTER_ROWS = 32
"""Maximum number of rows after a complete one."""


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A value in chunks; see `chunks.Root`."""

    hashes: bytes
    height: int
    size: int

    @property
    def root(self) -> Root:
        """The same, as a type of `chunks`."""
        return Root(self.hashes, self.height, self.size)


class Listed(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The first elements of a list.

    Attributes:
        list: Key of the list.
        length: Number of elements.
    """

    list: int
    length: int


Entry: TypeAlias = bytes | Stored | Listed


class Difference(msgspec.Struct, array_like=True, gc=False):
    """The changes of a row to its parent's entries.

    Attributes:
        puts: New and replaced entries.
        deletes: Keys of deleted entries.
    """

    puts: dict[PartKey, Entry]
    deletes: list[PartKey]

    def apply(self, entries: dict[PartKey, Entry]) -> None:
        """Change `entries` in place."""
        for key in self.deletes:
            entries.pop(key, None)
        entries.update(self.puts)


class _Row(msgspec.Struct, array_like=True):
    puts: list[tuple[PartKey, Entry]]
    deletes: list[PartKey]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


def encode_entries(puts: Mapping[PartKey, Entry], deletes: Iterable[PartKey] = ()) -> bytes:
    """Return the encoded entries of a row."""
    return _encode((list(puts.items()), list(deletes)))


def decode_entries(data: bytes) -> Difference:
    """Decode the entries of a row.

    Raises:
        msgspec.MsgspecError: The data has a different shape.
    """
    row = _decode(data)
    return Difference(dict(row.puts), row.deletes)


def entry_size(key: PartKey, entry: Entry) -> int:
    """Return the approximate size of an entry in a row, in bytes."""
    if isinstance(entry, Stored):
        return sum(map(len, key)) + 12 + len(entry.hashes)
    return sum(map(len, key)) + (4 + len(entry) if isinstance(entry, bytes) else 12)
