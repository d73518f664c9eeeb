"""The backup of a database while other processes write."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from supersteps.errors import StorageError
from supersteps.ids import new_id
from supersteps.storage import _files

_BESIDE = ("-wal", "-shm", "-journal")
"""The endings of names of SQLite's files beside a database in use."""


def back_up(db: sqlite3.Connection, target: Path) -> int:
    """Copy a database to a file durably; return its size in bytes.

    The file gets its name once it is complete, and replaces an existing one.

    Args:
        db: The database.
        target: The file, absolute.

    Raises:
        StorageError: It cannot be written, or is a database in use.
    """
    for end in _BESIDE:
        beside = target.with_name(target.name + end)
        if beside.exists():
            raise StorageError(
                f"{beside} exists: {target} is a database in use, or was one when its process "
                "ended, and its log would be taken for that of the backup. Choose another name. "
                "Nothing was written."
            )
    draft = target.with_name(f".{target.name}.{new_id()[:8]}.tmp")
    try:
        with _files.explained("write", target):
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _files.FILE_MODE))
            with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = FULL")
                db.backup(copy)
            size = draft.stat().st_size
            os.replace(draft, target)
            _files.sync_folder(target.parent)
    finally:
        for end in ("", *_BESIDE):
            with suppress(OSError):  # report the failure that led here, not this one
                os.unlink(f"{draft}{end}")
    return size
