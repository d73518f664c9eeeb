"""Large values and lists in their tables; see `storage/delta/parts.py` for the rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from supersteps.checkpoint.chunks import Tree
from supersteps.checkpoint.parts import ListPart
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import Entry, Listed
from supersteps.storage.delta.parts import (
    item_checksum,
    needed_lengths,
    read_value,
    unneeded_chunks,
)
from supersteps.storage.sqlite.tables import SqliteTables

SQL = load_statements("supersteps.storage.sqlite", "parts.sql")


# ----------------------------------------------------------------------------------------- writing


def store_value(db: sqlite3.Connection, owner: int, tree: Tree) -> None:
    """Store the chunks of a value, as far as they are not stored yet."""
    insert = SQL["insert_chunk"]
    for hash, piece in tree.new_chunks():
        if not db.execute(insert, (hash, owner, piece)).rowcount:
            _borrow(db, owner, hash)


def _borrow(db: sqlite3.Connection, owner: int, hash: bytes) -> None:
    chunk, holder = db.execute(SQL["find_chunk"], (hash,)).fetchone()
    if holder != owner:
        db.execute(SQL["borrow"], (chunk, owner))


def append(
    db: sqlite3.Connection, owner: int, before: Entry | None, items: Sequence[bytes]
) -> Listed:
    """Add elements after those of a list's view, which stays as it is, and return the new view.

    The view may be older than the list (after a restore): then a list begins that goes on from
    there. A value that was put as a whole becomes a list.
    """
    if before is not None and not isinstance(before, Listed):
        items = [*ListPart.from_json(read_value(SqliteTables(db), before)), *items]
        before = None
    if before is None or _is_outgrown(db, before):
        before = _begin_list(db, owner, before)
    key = before.list
    db.executemany(
        SQL["insert_item"],
        [
            (key, position, item, item_checksum(item, position))
            for position, item in enumerate(items, before.length)
        ],
    )
    return Listed(key, before.length + len(items))


def _is_outgrown(db: sqlite3.Connection, entry: Listed) -> bool:
    return db.execute(SQL["has_item"], (entry.list, entry.length)).fetchone() is not None


def _begin_list(db: sqlite3.Connection, owner: int, base: Listed | None) -> Listed:
    length = base.length if base else 0
    key = db.execute(SQL["insert_list"], (owner, base.list if base else None, length)).lastrowid
    assert key is not None
    return Listed(key, length)


# ---------------------------------------------------------------------------------------- removing


def collect(
    db: sqlite3.Connection, owner: int, gone: Iterable[Entry], kept: Collection[Entry]
) -> None:
    """Remove what only the entries of an owner that are `gone` needed."""
    tables = SqliteTables(db)
    for hash in unneeded_chunks(tables, gone, kept):
        _release(db, owner, hash)
    needed = needed_lengths(tables, kept)
    if needed is not None:
        _cut_lists(db, owner, needed)


def _release(db: sqlite3.Connection, owner: int, hash: bytes) -> None:
    row = db.execute(SQL["find_chunk"], (hash,)).fetchone()
    if row is None:
        return
    chunk, holder = row
    if holder != owner:
        db.execute(SQL["give_back"], (chunk, owner))
        return
    heir = db.execute(SQL["borrower"], (chunk,)).fetchone()
    if heir is None:
        db.execute(SQL["delete_chunk"], (chunk,))
    else:
        db.execute(SQL["pass_on"], (heir[0], chunk))
        db.execute(SQL["give_back"], (chunk, heir[0]))


def _cut_lists(db: sqlite3.Connection, owner: int, needed: Mapping[int, int]) -> None:
    for (key,) in db.execute(SQL["lists_of_owner"], (owner,)).fetchall():
        db.execute(SQL["delete_items"], (key, needed.get(key, 0)))
        if key not in needed:
            db.execute(SQL["delete_list"], (key,))
