"""Agent Framework: two executors of a workflow graph.

Its only storage that outlives a process is one of JSON files. No `from __future__ import
annotations` here: the version of 2025 reads the annotations of handlers as they are.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent_framework import (
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)

from benchmarks.peers.protocol import Run, main


class Player(Executor):
    """Passes one less on, until nothing is left."""

    @handler
    async def pass_on(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        """Pass the number on."""
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(0)


def passing(storage: Any = None) -> Any:
    """Return the workflow."""
    one, other = Player(id="one"), Player(id="other")
    limit = 1_000_000
    if "start_executor" in inspect.signature(WorkflowBuilder).parameters:
        builder = WorkflowBuilder(limit, start_executor=one, checkpoint_storage=storage)
    else:
        builder = WorkflowBuilder(limit).set_start_executor(one)
        if storage is not None:
            builder = builder.with_checkpointing(storage)
    return builder.add_edge(one, other).add_edge(other, one).build()


def runner(workflow: Any) -> Run:
    """Return what runs a workflow."""

    async def run(steps: int) -> None:
        result = await workflow.run(steps)
        assert result.get_outputs() == [0]

    return run


@asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[Run]:
    """No storage."""
    yield runner(passing())


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Run]:
    """InMemoryCheckpointStorage."""
    yield runner(passing(InMemoryCheckpointStorage()))


@asynccontextmanager
async def durable(folder: Path) -> AsyncIterator[Run]:
    """FileCheckpointStorage."""
    yield runner(passing(FileCheckpointStorage(str(folder))))


if __name__ == "__main__":
    main({"bare": bare, "memory": memory, "durable": durable})
