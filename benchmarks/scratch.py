"""Folders on the file system that is measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder, in BENCH_DIR where that is set: measure on the disk that matters."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="supersteps-bench-") as folder:
        yield Path(folder)


def file_system() -> str:
    """Return the kind of the file system that is measured: in memory, a sync costs nothing."""
    folder = Path(os.environ.get("BENCH_DIR") or gettempdir()).resolve()
    mounts = Path("/proc/mounts")
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []
    return kind_of(folder, [tuple(line.split()[1:3]) for line in lines])


def kind_of(folder: Path, mounts: Iterable[tuple[str, ...]]) -> str:
    """Return the kind of a folder's file system, given places and kinds of all that are mounted."""
    around = [(len(place), kind) for place, kind in mounts if folder.is_relative_to(place)]
    # Of two at one place, the later one covers the other.
    return max(reversed(around), key=lambda each: each[0])[1] if around else "an unknown disk"
