"""Runs one of the guard's workloads, in a process of its own, to have its instructions counted."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.passing import passing
from supersteps import CheckpointStorage, InMemoryCheckpointStorage
from supersteps.storage.sqlite import writer
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

WORKLOADS = ("bare", "memory", "sqlite")


async def run(workload: str, steps: int) -> None:
    """Run a workload for a number of supersteps."""
    if workload == "sqlite":
        # How long a commit takes decides which thread makes the next one. That must not depend on
        # the disk here.
        writer._SLOW_SECONDS = math.inf
        with TemporaryDirectory(prefix="supersteps-guard-") as folder:
            async with SqliteCheckpointStorage(Path(folder) / "guard.db") as storage:
                await run_in(storage, steps)
    else:
        await run_in(InMemoryCheckpointStorage() if workload == "memory" else None, steps)


async def run_in(storage: CheckpointStorage | None, steps: int) -> None:
    """Run the supersteps in a storage."""
    result = await passing(steps, storage).run(steps)
    assert result.get_outputs() == [0]


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
