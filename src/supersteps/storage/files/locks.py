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
"""How long an operation waits for another process, which holds the lock for a few syncs."""


class ProcessLock:
    """Excludes other threads of this process and other processes of this machine.

    The system releases the lock of a process that ends in any way. The file is never deleted: a
    process that waits for it must not find a different file.

    Args:
        path: The lock file; its folder must exist when the lock is acquired.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file: Any = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, which is not reentrant.

        Raises:
            StorageError: It has been held for longer than any operation takes.
        """
        import filelock  # here, to keep `import supersteps` fast

        # Threads of this process queue here; the file lock, which has to be polled, is for other
        # processes.
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
                        "seconds; nothing was written. A process that is stopped or hangs while "
                        "writing keeps it: end that process and try again."
                    ) from error
            try:
                yield
            finally:
                self._file.release()
