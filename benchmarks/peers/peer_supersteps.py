"""This library: two executors of a workflow graph."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.passing import passing
from benchmarks.peers.protocol import Run, main
from supersteps import CheckpointStorage, InMemoryCheckpointStorage, SqliteCheckpointStorage

LIMIT = 1_000_000


def runner(storage: CheckpointStorage | None) -> Run:
    """Return what runs the workflow."""
    workflow = passing(LIMIT, storage)

    async def run(steps: int) -> None:
        result = await workflow.run(steps)
        assert result.get_outputs() == [0]

    return run


@asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[Run]:
    """No storage."""
    yield runner(None)


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Run]:
    """InMemoryCheckpointStorage."""
    yield runner(InMemoryCheckpointStorage())


@asynccontextmanager
async def durable(folder: Path) -> AsyncIterator[Run]:
    """SqliteCheckpointStorage."""
    async with SqliteCheckpointStorage(folder / "checkpoints.db") as storage:
        yield runner(storage)


if __name__ == "__main__":
    main({"bare": bare, "memory": memory, "durable": durable})
