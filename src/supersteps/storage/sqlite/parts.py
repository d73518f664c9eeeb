"""Rows of large values and lists; the rules are in `storage/delta`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from supersteps.checkpoint.chunks import Tree
from supersteps.storage._statements import load_statements

SQL = load_statements("supersteps.storage.sqlite", "parts.sql")


# ----------------------------------------------------------------------------------------- writing


def store_value(db: sqlite3.Connection, owner: int, tree: Tree) -> None:
    """Store the chunks of a value that are not stored yet."""
    insert = SQL["insert_chunk"]
    for hash, piece in tree.new_chunks():
        if not db.execute(insert, (hash, owner, piece)).rowcount:
            _borrow(db, owner, hash)


def _borrow(db: sqlite3.Connection, owner: int, hash: bytes) -> None:
    chunk, holder = db.execute(SQL["find_chunk"], (hash,)).fetchone()
    if holder != owner:
        db.execute(SQL["borrow"], (chunk, owner))


def insert_list(db: sqlite3.Connection, owner: int, base: int | None, base_length: int) -> int:
    """Create a list and return its key."""
    key = db.execute(SQL["insert_list"], (owner, base, base_length)).lastrowid
    assert key is not None
    return key


def has_item(db: sqlite3.Connection, key: int, position: int) -> bool:
    """Return whether a list has an element at a position."""
    return db.execute(SQL["has_item"], (key, position)).fetchone() is not None


def insert_items(db: sqlite3.Connection, key: int, rows: Iterable[tuple[int, bytes, int]]) -> None:
    """Store elements of a list."""
    db.executemany(SQL["insert_item"], [(key, *row) for row in rows])


# ---------------------------------------------------------------------------------------- removing


def release_chunk(db: sqlite3.Connection, owner: int, hash: bytes) -> None:
    """Delete a chunk that its owner no longer needs, or pass it to a borrower."""
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


def cut_lists(db: sqlite3.Connection, owner: int, needed: Mapping[int, int]) -> None:
    """Cut the lists of an owner to these lengths, and delete the others."""
    for (key,) in db.execute(SQL["lists_of_owner"], (owner,)).fetchall():
        db.execute(SQL["delete_items"], (key, needed.get(key, 0)))
        if key not in needed:
            db.execute(SQL["delete_list"], (key,))
