"""No library: a task per step, and a loop that commits by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.floors import RawCommits, bare_tasks
from benchmarks.peers.protocol import Run, main


@asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[Run]:
    """A task per step."""

    async def run(steps: int) -> None:
        await bare_tasks(steps)

    yield run


@asynccontextmanager
async def durable(folder: Path) -> AsyncIterator[Run]:
    """A fenced update and an insert per transaction."""
    commits = RawCommits(folder)

    async def run(steps: int) -> None:
        commits.commit(steps)

    yield run
    commits.close()


if __name__ == "__main__":
    main({"bare": bare, "durable": durable})
