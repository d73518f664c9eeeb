"""Which databases a forked process may not open: those that were open when it was forked.

SQLite keeps one table of open files and locks per process. A forked process inherits the table,
but none of the locks. While a file is in it, further connections to the file believe that it is
locked already and take no lock. Then another process may remove the log while this one uses it:
commits are lost, or the process dies by SIGBUS.

The library closes its own connections before a fork. What is found here is what it could not
close in time, and connections that the program or another library has opened to the same file.
"""

from __future__ import annotations

import os
import sys

from supersteps._process_fork import in_child
from supersteps.errors import StorageError

_barred: set[str] = set()
_GONE = " (deleted)"  # what Linux puts behind the name of a file that was deleted
_SHARED = (
    "-shm"  # ends the name of the memory that connections share; it is open as long as any of them
)


@in_child
def _note_inherited() -> None:
    """Note every database whose shared memory was open at the fork, where the system tells."""
    if not sys.platform.startswith("linux"):
        return
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return
    for number in numbers:
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # that of the listing itself
            continue
        name = name.removesuffix(_GONE)
        if name.endswith(_SHARED):
            _barred.add(name.removesuffix(_SHARED))


def bar(path: str) -> None:
    """Keep this process from opening a database.

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
            "it here: what is written could be lost. Close every connection to it before the fork "
            "(`await storage.aclose()`; the storage can be used again afterwards), or start "
            "processes without a fork (multiprocessing.set_start_method('spawn'), or "
            "'forkserver'). Nothing was read or changed."
        )
