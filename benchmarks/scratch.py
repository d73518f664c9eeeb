"""A folder on the file system that is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder, in BENCH_DIR where that is set: measure on the disk that matters."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="supersteps-bench-") as folder:
        yield Path(folder)
