"""Ids of runs and checkpoints, and safe file names made of ids."""

from __future__ import annotations

import os
import time

from supersteps._process_fork import forkable_lock

MAX_ID_LENGTH = 200
"""Longest id a user may choose, in characters; beyond that file systems and indexes suffer."""

_lock = forkable_lock()
_last_ms = 0


def new_run_id() -> str:
    """Return a fresh id whose text order is its order of creation.

    Returns:
        24 hexadecimal digits: 48 bits of Unix time in milliseconds, then 48 random bits. Within a
        process the time part never goes back, whatever the clock does.
    """
    global _last_ms
    with _lock:
        _last_ms = max(_last_ms + 1, time.time_ns() // 1_000_000)
        return f"{_last_ms:012x}{os.urandom(6).hex()}"


def new_id() -> str:
    """Return a fresh random id of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def checkpoint_id(run_id: str, sequence: int) -> str:
    """Return the id of a run's checkpoint number `sequence`; a run's ids sort in commit order."""
    return f"{run_id}-{sequence:06d}"


def split_checkpoint_id(identifier: str) -> tuple[str, int] | None:
    """Return the run and the number in a checkpoint's id; None if it is not an id that a run gives.

    Checkpoints that were saved by hand may have any id, also one that a run could have given.
    """
    run_id, _, digits = identifier.rpartition("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        return None
    number = int(digits)
    return (run_id, number) if checkpoint_id(run_id, number) == identifier else None


def checkpoint_number(identifier: str, run_id: str) -> int:
    """Return the number of a checkpoint that is known to be one of this run's commits."""
    return int(identifier[len(run_id) + 1 :])


def check_id(value: object, what: str, max_length: int = MAX_ID_LENGTH) -> str:
    """Refuse an id that no storage could keep.

    Args:
        value: The id to check.
        what: What it names, for the message ("run_id", "executor id").
        max_length: The most characters it may have.

    Returns:
        The id itself.

    Raises:
        ValueError: It is not a non-empty printable string of at most `max_length` characters.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be a non-empty string, not {value!r}")
    if len(value) > max_length:
        raise ValueError(
            f"{what} has {len(value)} characters; at most {max_length} are allowed: "
            f"{value[:40]!r}..."
        )
    if not value.isprintable():
        raise ValueError(f"{what} contains control or unprintable characters: {value!r}")
    return value


_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_MAX_FILE_STEM = 150


def file_stem(identifier: str) -> str:
    """Return a file name stem for an id: the id itself if it is safe, else escaped.

    Every byte outside `[A-Za-z0-9_.-]`, and a leading dot, is written as %XX, so that the file
    stays in its folder. An escaped id that is too long for a file system is cut and ends with a
    hash of the whole, so that two ids never share a name.
    """
    stem = "".join(
        c if c in _SAFE else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass"))
        for c in identifier
    )
    if stem.startswith("."):
        stem = "%2E" + stem[1:]
    if len(stem) > _MAX_FILE_STEM:
        from hashlib import blake2b  # slow to import, and seldom needed

        digest = blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        stem = f"{stem[: _MAX_FILE_STEM - 33]}~{digest}"
    return stem
