"""Parts too large for a row: values in chunks, lists of elements.

A chunk is stored once, under its hash. It belongs to the *owner* that stored it first (a run, or a
directly saved checkpoint); other owners *borrow* it. When its owner no longer needs it, it passes
to a borrower, or is deleted if there is none.

A list belongs to one owner. An entry names a list and its number of elements, so appending costs
what is appended. A list that was appended to is never changed: appending to an older view of it
creates a list that continues from there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from zlib import crc32

from supersteps.checkpoint import chunks
from supersteps.checkpoint.chunks import DamagedChunkError
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.delta.entries import Entry, Listed, Stored
from supersteps.storage.delta.rows import is_intact
from supersteps.storage.delta.tables import StoredTables, Tables, WritableTables

OpenList = Callable[[Listed, str], ListPart]
"""Returns a list part whose elements are read when needed; the text describes it for errors."""

_ALL = 1 << 62


class DamagedPartError(ValueError):
    """A stored value or list is damaged."""


def damaged_part(where: str, error: DamagedPartError) -> CorruptCheckpointError:
    """Return the error for a damaged value or list."""
    return CorruptCheckpointError(f"{where}, is damaged: {error}")


# ------------------------------------------------------------------------------------------ reading


def read_parts(
    tables: StoredTables, entries: Mapping[PartKey, Entry], where: str, open_list: OpenList
) -> dict[PartKey, Part]:
    """Return the parts of entries.

    Raises:
        CorruptCheckpointError: One is damaged.
    """
    tables.fetch_values(entries.values())
    parts: dict[PartKey, Part] = {}
    for key, entry in entries.items():
        if isinstance(entry, Listed):
            parts[key] = open_list(entry, f"{where}, part {key!r}")
            continue
        try:
            parts[key] = read_value(tables, entry)
        except DamagedPartError as error:
            raise damaged_part(f"{where}, part {key!r}", error) from error
    return parts


_IN_COMMON: Part = b"null"
"""Replaces a part that two checkpoints have in common, which is not read."""


def read_unlike(
    tables: StoredTables,
    entries: Mapping[PartKey, Entry],
    others: Mapping[PartKey, Entry],
    where: str,
    open_list: OpenList,
) -> dict[PartKey, Part]:
    """Return the parts of entries, without reading those that are the same in `others`.

    Raises:
        CorruptCheckpointError: One is damaged.
    """
    common = {key for key, entry in entries.items() if others.get(key) == entry}
    rest = {key: entry for key, entry in entries.items() if key not in common}
    return read_parts(tables, rest, where, open_list) | dict.fromkeys(common, _IN_COMMON)


def read_value(tables: Tables, entry: bytes | Stored) -> bytes:
    """Return a value.

    Raises:
        DamagedPartError: A chunk of it is missing or damaged.
    """
    if isinstance(entry, bytes):
        return entry
    try:
        return chunks.join(entry.root, tables.chunk)
    except DamagedChunkError as error:
        raise DamagedPartError(str(error)) from error


def read_list(tables: Tables, entry: Listed) -> list[bytes]:
    """Return the elements of a list's view.

    Raises:
        DamagedPartError: Elements are missing or damaged.
    """
    items: list[bytes] = []
    for key, begin, end in reversed(list(segments(tables, entry))):
        expected = begin
        for position, data, checksum in tables.items(key, begin, end):
            if position != expected or not is_intact(checksum, item_checksum, data, position):
                raise DamagedPartError(
                    f"element {position} of list {key} has been altered, or an earlier one is "
                    "missing"
                )
            items.append(data)
            expected += 1
    if len(items) != entry.length:
        raise DamagedPartError(
            f"list {entry.list} has {len(items)} elements instead of {entry.length}"
        )
    return items


def item_checksum(data: bytes, position: int) -> int:
    """Return the checksum that is stored with an element."""
    return crc32(data, position)


def segments(tables: Tables, entry: Listed) -> Iterator[tuple[int, int, int]]:
    """Yield the lists of a view, last first: key, first position, end position.

    Raises:
        DamagedPartError: One of them is missing.
    """
    key: int | None = entry.list
    end = entry.length
    while key is not None:
        found = tables.list_base(key)
        if found is None:
            raise DamagedPartError(f"list {key} is missing")
        base, begin = found
        if base is not None and base >= key:
            raise DamagedPartError(f"list {key} continues list {base}, which is not older")
        yield key, min(begin, end), end
        key, end = base, min(begin, end)


def count_intact(tables: Tables, key: int) -> tuple[int, str]:
    """Return the number of a list's own intact elements, and the problem of the next one."""
    found = tables.list_base(key)
    expected = found[1] if found else 0
    for position, data, checksum in tables.items(key, expected, _ALL):
        if position != expected or not is_intact(checksum, item_checksum, data, position):
            break
        expected += 1
    return expected, f"element {expected} of list {key} has been altered or is missing"


# ------------------------------------------------------------------------------------------ writing


def append(
    tables: WritableTables, owner: int, before: Entry | None, items: Sequence[bytes]
) -> Listed:
    """Append elements to a list's view, which is unchanged, and return the new view.

    The view may be older than the list (after a restore): then a new list is created that continues
    from there. A value that was stored as a whole becomes a list.
    """
    if before is not None and not isinstance(before, Listed):
        items = [*ListPart.from_json(read_value(tables.of_owner(owner), before)), *items]
        before = None
    if before is None:
        before = Listed(tables.insert_list(owner, None, 0), 0)
    elif tables.has_item(before.list, before.length):
        key = tables.insert_list(owner, before.list, before.length)
        before = Listed(key, before.length)
    tables.insert_items(before.list, item_rows(items, before.length))
    return Listed(before.list, before.length + len(items))


def item_rows(items: Iterable[bytes], first: int) -> list[tuple[int, bytes, int]]:
    """Return the rows of elements: position, data, checksum."""
    return [
        (position, item, item_checksum(item, position))
        for position, item in enumerate(items, first)
    ]


# ------------------------------------------------------------------------- what is no longer needed


def unneeded_chunks(tables: Tables, gone: Iterable[Entry], kept: Iterable[Entry]) -> list[bytes]:
    """Return the hashes of chunks that an owner no longer needs.

    If damage hides what is still needed, none is returned: it is safer to keep too much.

    Args:
        tables: Reads the values' nodes.
        gone: The owner's entries that are deleted.
        kept: Its retained entries.
    """
    known: set[bytes] = set()
    try:
        for entry in kept:
            if isinstance(entry, Stored):
                for _hash in chunks.hashes(entry.root, tables.chunk, known):
                    pass
    except DamagedChunkError:
        return []
    found: list[bytes] = []
    for entry in gone:
        if not isinstance(entry, Stored):
            continue
        try:
            for hash in chunks.hashes(entry.root, tables.chunk, known):
                found.append(hash)
        except DamagedChunkError:
            continue  # its descendants can no longer be found
    return found


def needed_lengths(tables: Tables, kept: Iterable[Entry]) -> dict[int, int] | None:
    """Return the needed length of each list of an owner; other lists are not needed.

    Returns:
        None if damage hides it.
    """
    needed: dict[int, int] = {}
    for entry in {entry for entry in kept if isinstance(entry, Listed)}:
        try:
            for key, _begin, end in segments(tables, entry):
                needed[key] = max(needed.get(key, 0), end)
        except DamagedPartError:
            return None
    return needed


def collect(
    tables: WritableTables, owner: int, gone: Iterable[Entry], kept: Collection[Entry]
) -> None:
    """Delete what only the deleted entries (`gone`) of an owner need."""
    gone = list(gone)
    tables.fetch_values([*gone, *kept], leaves=False)
    tables.release_chunks(owner, unneeded_chunks(tables, gone, kept))
    needed = needed_lengths(tables, kept)
    if needed is not None:
        tables.cut_lists(owner, needed)
