"""Rows of large values and lists; the rules are in `storage/delta`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping

from supersteps.checkpoint.chunks import Tree
from supersteps.storage._statements import load_statements

SQL = load_statements("supersteps.storage.sqlite", "parts.sql")


class PartRows:
    """Reads and writes the rows of large values and lists."""

    __slots__ = ()

    db: sqlite3.Connection

    # ------------------------------------------------------------------------------------- writing

    def store_value(self, owner: int, tree: Tree) -> None:
        """Store the chunks of a value that are not stored yet."""
        insert = SQL["insert_chunk"]
        for hash, piece in tree.new_chunks():
            if not self.db.execute(insert, (hash, owner, piece)).rowcount:
                self._borrow(owner, hash)

    def _borrow(self, owner: int, hash: bytes) -> None:
        chunk, holder = self.db.execute(SQL["find_chunk"], (hash,)).fetchone()
        if holder != owner:
            self.db.execute(SQL["borrow"], (chunk, owner))

    def insert_list(self, owner: int, base: int | None, base_length: int) -> int:
        """Create a list and return its key."""
        key = self.db.execute(SQL["insert_list"], (owner, base, base_length)).lastrowid
        assert key is not None
        return key

    def has_item(self, key: int, position: int) -> bool:
        """Return whether a list has an element at a position."""
        return self.db.execute(SQL["has_item"], (key, position)).fetchone() is not None

    def insert_items(self, key: int, rows: Iterable[tuple[int, bytes, int]]) -> None:
        """Store elements of a list."""
        self.db.executemany(SQL["insert_item"], [(key, *row) for row in rows])

    # ------------------------------------------------------------------------------------ removing

    def _release_chunk(self, owner: int, hash: bytes) -> None:
        """Delete a chunk that its owner no longer needs, or pass it to a borrower."""
        row = self.db.execute(SQL["find_chunk"], (hash,)).fetchone()
        if row is None:
            return
        chunk, holder = row
        if holder != owner:
            self.db.execute(SQL["give_back"], (chunk, owner))
            return
        heir = self.db.execute(SQL["borrower"], (chunk,)).fetchone()
        if heir is None:
            self.db.execute(SQL["delete_chunk"], (chunk,))
        else:
            self.db.execute(SQL["pass_on"], (heir[0], chunk))
            self.db.execute(SQL["give_back"], (chunk, heir[0]))

    def cut_lists(self, owner: int, needed: Mapping[int, int]) -> None:
        """Cut the lists of an owner to these lengths, and delete the others."""
        for (key,) in self.db.execute(SQL["lists_of_owner"], (owner,)).fetchall():
            self.db.execute(SQL["delete_items"], (key, needed.get(key, 0)))
            if key not in needed:
                self.db.execute(SQL["delete_list"], (key,))

    def release_chunks(self, owner: int, hashes: Collection[bytes]) -> None:
        """Delete chunks that an owner no longer needs, unless another one does."""
        for hash in hashes:
            self._release_chunk(owner, hash)

    # ------------------------------------------------------------------------------------- reading

    def chunk(self, hash: bytes) -> bytes | None:
        """Return a chunk by its hash, None if there is none."""
        row = self.db.execute(SQL["read_chunk"], (hash,)).fetchone()
        return None if row is None else row[0]

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        """Return the list on which a list is based, and how many of its elements it shares."""
        found: tuple[int | None, int] | None
        found = self.db.execute(SQL["read_list"], (key,)).fetchone()
        return found

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        """Return stored elements of a list, unchecked."""
        return self.db.execute(SQL["read_items"], (key, begin, end))
