"""`Tables`: what the rules of this folder read of a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from supersteps.storage.delta.rows import Row


class Tables(Protocol):
    """One state of a database, as a transaction sees it; each storage has its own SQL for it.

    What it gives has not been checked. Runs, lists and the owners of values are numbers that the
    database has given them.
    """

    def row(self, run: int, sequence: int) -> Row | None:
        """Return a checkpoint of a run, None where there is none with this number."""
        ...

    def chunk(self, hash: bytes) -> bytes | None:
        """Return a piece of a value, None where there is none with this hash."""
        ...

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        """Return the list that one goes on from, if any, and after how many of its elements.

        None where there is no list with this key.
        """
        ...

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        """Give a list's own elements from one position to another: position, data, checksum."""
        ...
