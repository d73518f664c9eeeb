"""Durable files: all changes that storages make to the file system.

A file that others may read is replaced as a whole: written under another name, synced, renamed, and
the rename synced. A log is written in place, after its valid content. The file of an interrupted
write has a name that starts with a dot and is the same for every attempt, so that the next attempt
removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from supersteps.errors import StorageError

if sys.platform == "darwin":
    import fcntl

FILE_MODE = 0o600
FOLDER_MODE = 0o700

_NO_PERMISSION = (
    "Permission is missing: check the owner and the mode of the file and its folder, or choose "
    "another folder."
)

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space. Everything saved before is intact.",
    errno.EDQUOT: "The disk quota is used up: free some space. Everything saved before is intact.",
    errno.EFBIG: "The file would exceed the system's limit. Everything saved before is intact.",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: "The file system is read-only: choose another folder or remount it.",
    errno.ENOTDIR: "There is a file where a folder is needed: remove it or choose another folder.",
    errno.EEXIST: "There is a file where a folder is needed: remove it or choose another folder.",
    errno.EISDIR: "There is a folder where a file is needed: remove it or choose another folder.",
    errno.ENAMETOOLONG: "The path is too long for this file system: choose a shorter folder or id.",
    errno.EMFILE: "This process has too many open files: raise its limit (ulimit -n).",
    errno.ELOOP: (
        "There is a symbolic link where a file is needed: remove the link. Its target was not "
        "changed."
    ),
    errno.ENXIO: "There is a pipe or a device where a file is needed: remove it.",
    errno.EIO: (
        "The disk failed: check it before you continue, and what was saved before with "
        "`supersteps verify`."
    ),
}


@contextlib.contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that names the file and what to do.

    Args:
        action: What is being done ("write", "read").
        path: The file or folder.

    Raises:
        StorageError: The system refused.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise StorageError(
            f"cannot {action} {path}: {error.strerror or error}. {advice}".rstrip()
        ) from error


# --------------------------------------------- the system calls, one by one: where faults are tried


def _open(path: Path, flags: int) -> int:
    return os.open(
        path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), FILE_MODE
    )


_INTO_FILES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Writing never follows a link to a file elsewhere, and never waits for the reader of a pipe."""


def _write(fd: int, data: memoryview) -> int:
    return os.write(fd, data)


def _truncate(fd: int, length: int) -> None:
    os.ftruncate(fd, length)


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        # On macOS, fsync leaves the data in the drive's cache, which a power cut empties.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (
                errno.ENOTSUP,
                errno.EINVAL,
            ):  # a file system without a stronger sync than fsync
                raise
    os.fsync(fd)


def _replace(source: Path, target: Path) -> None:
    os.replace(source, target)


def _unlink(path: Path) -> None:
    os.unlink(path)


def _make_folder(path: Path) -> None:
    os.mkdir(path, FOLDER_MODE)


# -------------------------------------------------------------------------------- what they make up


def read(path: Path, most: int = -1) -> bytes | None:
    """Return a file's content, or `most` bytes of it, None if there is no such file.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        with explained("read", path), open(path, "rb", opener=_open_file) as file:
            return file.read(most)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _open_file(path: str, flags: int) -> int:
    """Open a regular file for reading.

    Reading a pipe might wait forever, and a device might have no end.
    """
    fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISDIR(
        os.fstat(fd).st_mode
    ):  # `open` itself refuses a folder
        return fd
    os.close(fd)
    raise OSError(errno.ENXIO, "it is not a regular file")


def exists(path: Path) -> bool:
    """Return whether a file exists.

    Raises:
        StorageError: The system does not permit it.
    """
    with explained("look at", path):
        try:
            os.stat(path)
        except FileNotFoundError:
            return False
        return True


def draft_of(path: Path) -> Path:
    """Return the path under which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.tmp")


def write_durably(path: Path, data: bytes) -> None:
    """Create or replace a file as a whole and durably; it is never visible half written.

    Two writers must not write one path at the same time.

    Raises:
        StorageError: It cannot be written. Unless only the last step failed, the old file is
            unchanged.
    """
    draft = draft_of(path)
    with explained("write", path):
        try:
            fd = _open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _INTO_FILES)
            try:
                _write_all(fd, data)
                _sync(fd)
            finally:
                os.close(fd)
            _replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):  # report the failure that led here, not this one
                os.unlink(draft)
            raise
        sync_folder(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Create a file and sync it; its name is durable once its folder is synced.

    Raises:
        StorageError: It cannot be written, or exists already.
    """
    with explained("write", path):
        fd = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _INTO_FILES)
        try:
            _write_all(fd, data)
            _sync(fd)
        finally:
            os.close(fd)


def rename_durably(path: Path, target: Path) -> None:
    """Rename a file in its folder durably, replacing an existing one.

    Raises:
        StorageError: It cannot be renamed.
    """
    with explained("rename", path):
        _replace(path, target)
        sync_folder(path.parent)


def append_durably(path: Path, data: bytes, at: int) -> None:
    """Write `data` after the first `at` bytes of a file and cut the file there, durably.

    Raises:
        StorageError: It cannot be written; the first `at` bytes are unchanged.
    """
    with explained("write", path):
        is_new = at == 0 and not path.exists()
        fd = _open(path, os.O_WRONLY | os.O_CREAT | _INTO_FILES)
        try:
            _truncate(fd, at)
            os.lseek(fd, at, os.SEEK_SET)
            try:
                _write_all(fd, data)
                _sync(fd)
            except OSError:
                # Data that the system may have failed to save must not count as saved later.
                with contextlib.suppress(OSError):
                    _truncate(fd, at)
                raise
        finally:
            os.close(fd)
        if is_new:
            sync_folder(path.parent)


def remove_durably(*paths: Path) -> bool:
    """Delete files durably; return whether any existed.

    Raises:
        StorageError: One cannot be deleted.
    """
    folders = set()
    for path in paths:
        with explained("delete", path), contextlib.suppress(FileNotFoundError):
            _unlink(path)
            folders.add(path.parent)
    for folder in folders:
        with explained("sync", folder):
            sync_folder(folder)
    return bool(folders)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents durably.

    Raises:
        StorageError: It cannot be created, or there is a file of this name.
    """
    with explained("create the folder", path):
        _make_missing(path)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Windows has no such call and does it by itself."""
    if sys.platform == "win32":
        return
    fd = _open(path, os.O_RDONLY)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _make_missing(path: Path) -> None:
    if path.is_dir():
        return
    if path.parent != path:
        _make_missing(path.parent)
    try:
        _make_folder(path)
    except FileExistsError:
        if not path.is_dir():  # otherwise another process was faster
            raise
    sync_folder(path.parent)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[_write(fd, rest) :]
