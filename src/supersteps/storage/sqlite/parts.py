"""Values and lists that are too large for a checkpoint's row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from supersteps.checkpoint import chunks
from supersteps.checkpoint.chunks import DamagedChunkError, Fetch, Tree
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import Entry, Listed, Stored, is_intact

SQL = load_statements("supersteps.storage.sqlite", "parts.sql")


class DamagedPartError(ValueError):
    """A stored value or list is not what was saved."""


# -------------------------------------------------------------------------------------------------- values in chunks


def write_value(
    db: sqlite3.Connection, owner: int, data: bytes, before: Tree | None
) -> tuple[Stored, Tree]:
    """Store a value, as far as it is not stored yet.

    Args:
        db: The database, in a transaction.
        owner: Whose it is.
        data: The value.
        before: The owner's earlier version of it, if it is remembered.
    """
    tree = chunks.split(data, before)
    insert = SQL["insert_chunk"]
    for hash, piece in tree.new_chunks():
        if not db.execute(insert, (hash, owner, piece)).rowcount:
            _borrow(db, owner, hash)
    return Stored(*tree.root), tree


def _borrow(db: sqlite3.Connection, owner: int, hash: bytes) -> None:
    chunk, holder = db.execute(SQL["find_chunk"], (hash,)).fetchone()
    if holder != owner:
        db.execute(SQL["borrow"], (chunk, owner))


def chunk_reader(db: sqlite3.Connection) -> Fetch:
    """Return a function that reads chunks by their hashes."""
    read = SQL["read_chunk"]

    def fetch(hash: bytes) -> bytes | None:
        row = db.execute(read, (hash,)).fetchone()
        return None if row is None else row[0]

    return fetch


def read_value(db: sqlite3.Connection, entry: bytes | Stored) -> bytes:
    """Return a value.

    Raises:
        DamagedPartError: A chunk of it is missing or damaged.
    """
    if isinstance(entry, bytes):
        return entry
    try:
        return chunks.join(entry.root, chunk_reader(db))
    except DamagedChunkError as error:
        raise DamagedPartError(str(error)) from error


# -------------------------------------------------------------------------------------------------------------- lists


def append_items(
    db: sqlite3.Connection, owner: int, entry: Listed | None, items: Sequence[bytes]
) -> Listed:
    """Add elements after those of a list's view, which stays as it is.

    The view may be older than the list (after a restore): then a list begins that goes on from there.
    """
    if entry is None or _is_outgrown(db, entry):
        entry = _begin_list(db, owner, entry)
    key = entry.list
    rows = [(key, at, item, crc32(item, at)) for at, item in enumerate(items, entry.length)]
    db.executemany(SQL["insert_item"], rows)
    return Listed(entry.list, entry.length + len(items))


def _is_outgrown(db: sqlite3.Connection, entry: Listed) -> bool:
    return db.execute(SQL["has_item"], (entry.list, entry.length)).fetchone() is not None


def _begin_list(db: sqlite3.Connection, owner: int, base: Listed | None) -> Listed:
    length = base.length if base else 0
    key = db.execute(SQL["insert_list"], (owner, base.list if base else None, length)).lastrowid
    assert key is not None
    return Listed(key, length)


def segments(db: sqlite3.Connection, entry: Listed) -> Iterator[tuple[int, int, int]]:
    """Give the lists that a view consists of, last first: key, first and last position but one."""
    key: int | None = entry.list
    end = entry.length
    while key is not None:
        row = db.execute(SQL["read_list"], (key,)).fetchone()
        if row is None:
            raise DamagedPartError(f"list {key} is missing")
        base, begin = row
        if base is not None and base >= key:
            raise DamagedPartError(f"list {key} goes on from list {base}, which is no older one")
        yield key, min(begin, end), end
        key, end = base, min(begin, end)


def read_list(db: sqlite3.Connection, entry: Listed) -> list[bytes]:
    """Return the elements of a list's view.

    Raises:
        DamagedPartError: Elements are missing or damaged.
    """
    items: list[bytes] = []
    for key, begin, end in reversed(list(segments(db, entry))):
        expected = begin
        for position, data, checksum in db.execute(SQL["read_items"], (key, begin, end)):
            if position != expected or not is_intact(checksum, crc32, data, position):
                raise DamagedPartError(
                    f"element {position} of list {key} has been altered, or one before is gone"
                )
            items.append(data)
            expected += 1
    if len(items) != entry.length:
        raise DamagedPartError(
            f"list {entry.list} has {len(items)} elements instead of {entry.length}"
        )
    return items


def count_intact(db: sqlite3.Connection, key: int) -> tuple[int, str]:
    """Return up to which position a list's own elements are intact, and what is wrong with the next one."""
    row = db.execute(SQL["read_list"], (key,)).fetchone()
    expected = row[1] if row else 0
    for position, data, checksum in db.execute(SQL["read_items"], (key, expected, 1 << 62)):
        if position != expected or not is_intact(checksum, crc32, data, position):
            break
        expected += 1
    return expected, f"element {expected} of list {key} has been altered or is gone"


# --------------------------------------------------------------------------------------------- what nothing needs more


def collect(
    db: sqlite3.Connection, owner: int, gone: Iterable[Entry], kept: Sequence[Entry]
) -> None:
    """Remove what only `gone` entries of an owner refer to.

    Where damage hides what is still referred to, it stays.
    """
    fetch = chunk_reader(db)
    needed: set[bytes] = set()
    try:
        for entry in kept:
            if isinstance(entry, Stored):
                for _hash in chunks.hashes(entry.root, fetch, needed):
                    pass
    except DamagedChunkError:
        return
    unneeded = needed
    for entry in gone:
        if isinstance(entry, Stored):
            _release(db, owner, _readable(entry, fetch, unneeded))
    _collect_lists(db, owner, kept)


def _readable(entry: Stored, fetch: Fetch, known: set[bytes]) -> list[bytes]:
    found = []
    try:
        for hash in chunks.hashes(entry.root, fetch, known):
            found.append(hash)
    except DamagedChunkError:
        pass  # what is below it cannot be found any more
    return found


def _release(db: sqlite3.Connection, owner: int, hashes: Iterable[bytes]) -> None:
    for hash in hashes:
        row = db.execute(SQL["find_chunk"], (hash,)).fetchone()
        if row is None:
            continue
        chunk, holder = row
        if holder != owner:
            db.execute(SQL["give_back"], (chunk, owner))
            continue
        heir = db.execute(SQL["borrower"], (chunk,)).fetchone()
        if heir is None:
            db.execute(SQL["delete_chunk"], (chunk,))
        else:
            db.execute(SQL["pass_on"], (heir[0], chunk))
            db.execute(SQL["give_back"], (chunk, heir[0]))


def _collect_lists(db: sqlite3.Connection, owner: int, kept: Iterable[Entry]) -> None:
    needed: dict[int, int] = {}  # how much of each list
    for entry in {entry for entry in kept if isinstance(entry, Listed)}:
        try:
            for key, _begin, end in segments(db, entry):
                needed[key] = max(needed.get(key, 0), end)
        except DamagedPartError:
            return
    for (key,) in db.execute(SQL["lists_of_owner"], (owner,)).fetchall():
        db.execute(SQL["delete_items"], (key, needed.get(key, 0)))
        if key not in needed:
            db.execute(SQL["delete_list"], (key,))
