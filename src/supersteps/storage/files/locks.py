"""A lock against threads and processes, by a file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supersteps.errors import StorageError
from supersteps.storage import _files

LOCK_SECONDS = 10.0
"""How long an operation waits for another process; each holds the lock for a few syncs of the disk."""


class ProcessLock:
    """Keeps threads of this process and other processes on this machine off each other.

    The system lets go of the lock of a process that ends, however it ends. The file is never
    deleted: whoever waits for it must not find another one in its place.

    Args:
        path: The lock file; its folder must be there when the lock is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: Any = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock; it cannot be taken twice by one thread.

        Raises:
            StorageError: Somebody else holds it for longer than any operation takes.
        """
        import filelock  # here, because `import supersteps` should not pay for it

        # Threads of this process queue up here; the file lock, which has to look again and again,
        # is for the others.
        with self._threads:
            if self._file is None:
                self._file = filelock.FileLock(
                    self._path, mode=_files.FILE_MODE, thread_local=False
                )
            with _files.explained("lock", self._path):
                try:
                    self._file.acquire(timeout=LOCK_SECONDS, poll_interval=0.005)
                except filelock.Timeout as error:
                    raise StorageError(
                        f"{self._path} has been held by another process for {LOCK_SECONDS:.0f} "
                        "seconds; nothing was written. A process that is stopped, or hangs while "
                        "it writes, keeps it: end it and try again."
                    ) from error
            try:
                yield
            finally:
                self._file.release()
