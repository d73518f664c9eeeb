"""Databases that can be read but not written."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from supersteps.errors import StorageError

_BARRED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)

Stamp = tuple[tuple[int, ...] | None, ...]


class StillConnection(sqlite3.Connection):
    """A connection without locks and log: its reads are valid while the file is unchanged.

    Attributes:
        stamp: The state of the files before it was opened.
    """

    stamp: Stamp = ()


def may_only_look(path: Path) -> bool:
    """Return whether a database exists, but it or its log cannot be written."""
    as_file_systems_ask = os.access in os.supports_effective_ids
    return path.exists() and not all(
        os.access(place, os.W_OK, effective_ids=as_file_systems_ask)
        for place in (path, path.parent)
    )


def is_alone(path: Path) -> bool:
    """Return whether only the database itself exists: no other process writes, no log is needed."""
    return _found(f"{path}-shm") is None and not any(
        _size(f"{path}{end}") for end in ("-wal", "-journal")
    )


def is_barred(error: sqlite3.Error) -> bool:
    """Return whether an error says that the log or its shared memory needs write access."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BARRED


def stamp_of(path: Path) -> Stamp:
    """Return the state of the files, which shows whether they were written.

    Raises:
        StorageError: Some written data is not in the database itself.
    """
    for end in ("-wal", "-journal"):
        if _size(f"{path}{end}"):
            names = ", ".join(path.name + end for end in ("", "-wal", "-shm"))
            raise StorageError(
                f"{path} can only be read, and {path.name}{end} beside it has data that is not in "
                f"it yet; that cannot be read without writing there. Copy all of them ({names}) to "
                "a folder where you may write, and open the copy."
            )
    found = _found(str(path))
    return (
        None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns),
    )


def check_still(db: StillConnection, path: Path) -> None:
    """Refuse data that was read during a write.

    Raises:
        StorageError: The files were written.
    """
    if stamp_of(path) != db.stamp:
        raise StorageError(
            f"{path} was written by another process while it was being read. Try again."
        )


def _size(path: str) -> int:
    found = _found(path)
    return 0 if found is None else found.st_size


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
