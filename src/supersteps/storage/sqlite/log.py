"""The length of the write-ahead log, limited as far as readers permit.

SQLite restarts a log only when all of it is in the database and no connection reads from it. So a
transaction that was left open, in a shell or a viewer, makes it grow with every commit.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from supersteps._thread_warnings import warn_from_thread
from supersteps.errors import StorageWarning

LIMIT_BYTES = 32 << 20
"""The length at which a log is emptied, and to which its file is cut."""

_PATIENCE_SECONDS = 1.0
"""How long commits wait, at most, for readers of a log that is too long."""

_FRAME_HEADER = 24
_READ_MARKS = range(123, 128)
"""Bytes of the shared memory that a reading connection locks.

The first one is for readers that started when the whole log had been moved: they read only the
database, and meanwhile the log cannot be moved into it.
"""


class Log:
    """The log beside a database, maintained by its writer.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound = LIMIT_BYTES  # at this length, wait for readers to empty it

    def limit(self, db: sqlite3.Connection) -> None:
        """Cut the log to the limit whenever this connection restarts it."""
        db.execute(f"PRAGMA journal_size_limit = {LIMIT_BYTES}")

    def move(self, db: sqlite3.Connection) -> bool:
        """Move the log's content into the database, as far as no connection reads from it.

        A log that is too long is emptied, if its readers end soon; otherwise a warning names them,
        and again whenever it has grown by the limit.

        Args:
            db: The writer's connection, outside a transaction.

        Returns:
            Whether the log is empty now.
        """
        _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        page_size: int = db.execute("PRAGMA page_size").fetchone()[0]
        length = max(0, pages) * (page_size + _FRAME_HEADER)
        if length < self._bound:
            self._bound = LIMIT_BYTES if length < LIMIT_BYTES else self._bound
            return False
        with _patience(db):
            is_busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        self._bound = length + LIMIT_BYTES if is_busy else LIMIT_BYTES
        if is_busy:
            warn_from_thread(self._complaint(length), StorageWarning)
        return not is_busy

    def _complaint(self, length: int) -> str:
        return (
            f"{self._path}-wal has grown to {length / 1e6:.0f} MB and cannot be emptied, because "
            f"{_readers(self._path)} reads from it in a transaction that was left open. Nothing is "
            "lost, but it grows with every commit until that transaction ends: end the program "
            "or close the connection that reads. Then the file shrinks by itself."
        )


_LOOKS = 5
"""The system's list of locks is read in pieces, and may miss some while others change."""


@contextmanager
def _patience(db: sqlite3.Connection) -> Iterator[None]:
    before = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute(f"PRAGMA busy_timeout = {_PATIENCE_SECONDS * 1000:.0f}")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {before}")


def _readers(path: Path) -> str:
    """Return the readers of the log, as far as the system reports them.

    The file's locks show them too, but opening and closing it would drop this process's own.
    """
    found: set[int] = set()
    for _ in range(_LOOKS):
        try:
            found = found or _look_for_readers(os.stat(f"{path}-shm").st_ino)
        except (OSError, ValueError):
            break
    named = [_named(pid) for pid in sorted(found) if pid > 0]
    return " and ".join(named) or "another connection"


def _look_for_readers(inode: int) -> set[int]:
    with open("/proc/locks", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return {
        int(line[4])
        for line in lines
        if len(line) == 8
        and line[3] == "READ"
        and line[5].rpartition(":")[2] == str(inode)
        and int(line[6]) < _READ_MARKS.stop
        and (not line[7].isdecimal() or int(line[7]) >= _READ_MARKS.start)
    }


def _named(pid: int) -> str:
    if pid == os.getpid():
        return "another connection of this process"
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read(200).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        command = ""
    return f"process {pid} ({command})" if command else f"process {pid}"
