"""Databases that a forked process must not open.

Those are the databases that were open when it was forked.

SQLite has one table of open files and locks per process. A forked process inherits the table, but
not the locks. While a file is in it, further connections to the file assume that it is already
locked and take no lock. Then another process may delete the log while this one uses it: commits are
lost, or the process dies by SIGBUS.

The library closes its own connections before a fork. The databases found here are those that it
could not close in time, and those that the program or another library has opened.
"""

from __future__ import annotations

import os
import sys

from supersteps._process_fork import in_child
from supersteps.errors import StorageError

_barred: set[str] = set()
_GONE = " (deleted)"  # what Linux appends to the name of a deleted file
_SHARED = "-shm"  # the ending of the shared memory's name, which is open as long as a connection


@in_child
def _note_inherited() -> None:
    """Record the databases whose shared memory was open at the fork, if the system reports it."""
    if not sys.platform.startswith("linux"):
        return
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return
    for number in numbers:
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the descriptor of the listing itself
            continue
        name = name.removesuffix(_GONE)
        if name.endswith(_SHARED):
            _barred.add(name.removesuffix(_SHARED))


def bar(path: str) -> None:
    """Forbid this process to open a database.

    Args:
        path: The database, absolute and without symbolic links.
    """
    _barred.add(path)


def check_not_barred(path: str) -> None:
    """Refuse a database that was open when the process was forked.

    Raises:
        StorageError: It was.
    """
    if path in _barred:
        raise StorageError(
            f"{path} was open when this process ({os.getpid()}) was forked, so SQLite cannot lock "
            "it here: written data could be lost. Close every connection to it before the fork "
            "(`await storage.aclose()`; the storage can be used again afterwards), or start "
            "processes without a fork (multiprocessing.set_start_method('spawn'), or "
            "'forkserver'). Nothing was read or changed."
        )
