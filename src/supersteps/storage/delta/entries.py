"""Entries: a small value itself, of a large one where it is.

A row holds all entries, or what differs from its parent's; the second kind costs what changed, the
first lets a reader stop. Entries are read in the order: deletes, then puts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from supersteps.checkpoint.chunks import Root
from supersteps.checkpoint.parts import PartKey

INLINE_BYTES = 2048
"""Values up to this size are kept in the row: the row and the value then fit in one page."""

WHOLE_AFTER_ROWS = 32
"""So many rows may follow one that holds everything, however little they hold."""


class Stored(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A value in chunks; see `chunks.Root`."""

    hashes: bytes
    height: int
    size: int

    @property
    def root(self) -> Root:
        """What `chunks` calls it."""
        return Root(self.hashes, self.height, self.size)


class Listed(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The first elements of a list.

    Attributes:
        list: Key of the list.
        length: How many of its elements.
    """

    list: int
    length: int


Entry: TypeAlias = bytes | Stored | Listed


class Difference(msgspec.Struct, array_like=True, gc=False):
    """What a row adds to its parent's entries.

    Attributes:
        puts: New and replaced entries.
        deletes: Keys of entries that are no more.
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
    """Return what a row stores."""
    return _encode((list(puts.items()), list(deletes)))


def decode_entries(data: bytes) -> Difference:
    """Return what a row stores.

    Raises:
        msgspec.MsgspecError: It is not of that shape.
    """
    row = _decode(data)
    return Difference(dict(row.puts), row.deletes)


def entry_size(key: PartKey, entry: Entry) -> int:
    """Return about how many bytes an entry takes in a row."""
    if isinstance(entry, Stored):
        return sum(map(len, key)) + 12 + len(entry.hashes)
    return sum(map(len, key)) + (4 + len(entry) if isinstance(entry, bytes) else 12)
