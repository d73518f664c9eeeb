"""Databases that one may read and not write: somebody else's, or on a disk that is mounted so."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from supersteps.errors import StorageError

_BARRED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)

Stamp = tuple[tuple[int, ...] | None, ...]


class StillConnection(sqlite3.Connection):
    """A connection that takes no locks and knows of no log: what it reads holds as long as nobody writes.

    Attributes:
        stamp: How the files were before it was opened.
    """

    stamp: Stamp = ()


def may_only_look(path: Path) -> bool:
    """Return whether a database is there that cannot be written, or no log beside it."""
    as_file_systems_ask = os.access in os.supports_effective_ids
    return path.exists() and not all(
        os.access(place, os.W_OK, effective_ids=as_file_systems_ask)
        for place in (path, path.parent)
    )


def is_alone(path: Path) -> bool:
    """Return whether there is nothing but the database itself: nobody writes, and nothing needs to be put there."""
    return _found(f"{path}-shm") is None and not any(
        _size(f"{path}{end}") for end in ("-wal", "-journal")
    )


def is_barred(error: sqlite3.Error) -> bool:
    """Return whether an error says that the log or what is shared of it cannot be opened without writing."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BARRED


def stamp_of(path: Path) -> Stamp:
    """Return what tells whether anybody has written.

    Raises:
        StorageError: Something is written that is not in the database itself.
    """
    for end in ("-wal", "-journal"):
        if _size(f"{path}{end}"):
            names = ", ".join(path.name + end for end in ("", "-wal", "-shm"))
            raise StorageError(
                f"{path} may only be read here, and {path.name}{end} beside it holds what is not "
                f"in it yet; that cannot be read without writing there. Copy all of them ({names}) "
                "to where you may write, and open the copy."
            )
    found = _found(str(path))
    return (
        None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns),
    )


def check_still(db: StillConnection, path: Path) -> None:
    """Refuse what was read while somebody wrote.

    Raises:
        StorageError: Somebody has.
    """
    if stamp_of(path) != db.stamp:
        raise StorageError(
            f"{path} was written by somebody else while it was being read. Try again."
        )


def _size(path: str) -> int:
    found = _found(path)
    return 0 if found is None else found.st_size


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
