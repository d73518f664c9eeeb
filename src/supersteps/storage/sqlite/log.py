"""The length of a write-ahead log: kept within a limit as far as those who read from it let it.

SQLite begins a log anew only when everything in it is in the database and nobody reads from it. A
transaction that somebody has left open, in a shell or a viewer, therefore makes it grow with
every commit.
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
"""How long a log may get before it is emptied, and how much of the file is kept after that."""

_PATIENCE_SECONDS = 1.0
"""How long commits wait, at most, for those who read from a log that is too long."""

_FRAME_HEADER = 24
_READ_MARKS = range(123, 128)
"""Bytes of the shared memory that a connection locks while it reads.

The first one is for readers that began when the whole log had been moved: they read the database
alone, and the log cannot be moved into it while they do.
"""


class Log:
    """The log beside a database, as its writer looks after it.

    Args:
        path: The database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bound = LIMIT_BYTES  # at this length it is emptied in earnest

    def limit(self, db: sqlite3.Connection) -> None:
        """Have the log cut to the limit whenever this connection begins it anew."""
        db.execute(f"PRAGMA journal_size_limit = {LIMIT_BYTES}")

    def move(self, db: sqlite3.Connection) -> bool:
        """Move what is in the log into the database, as far as nobody reads from it.

        A log that is too long is emptied, if its readers end soon; if not, a warning names them,
        and again whenever it has grown by the limit once more.

        Args:
            db: The writer's connection, in no transaction.

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
"""The system's list of locks comes in pieces, and may miss some where others change meanwhile."""


@contextmanager
def _patience(db: sqlite3.Connection) -> Iterator[None]:
    before = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute(f"PRAGMA busy_timeout = {_PATIENCE_SECONDS * 1000:.0f}")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {before}")


def _readers(path: Path) -> str:
    """Return who reads from the log, as far as the system tells.

    The locks on the file tell it too, but to open and close it would drop those of this process.
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
