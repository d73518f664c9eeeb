"""Saves, or resumes, a state of 100 MB: run in a process of its own by `storage`, which wants its peak of memory.

`save` prints the encoded size, `resume` by how many bytes the process has grown at most.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys

from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler
from supersteps.storage.sqlite import SqliteCheckpointStorage

RUN = "large"


class Large(Executor):
    """Sets a large key, then reads it."""

    @handler
    async def step(self, what: str, ctx: WorkflowContext[str]) -> None:
        """Set, or read."""
        if what == "set":
            await ctx.set_shared_state("large", [os.urandom(500).hex() for _ in range(100_000)])
            await ctx.send_message("read")
        else:
            assert len(await ctx.get_shared_state("large")) == 100_000


def workflow(storage: SqliteCheckpointStorage) -> Workflow:
    """Return the workflow."""
    large = Large("large")
    builder = WorkflowBuilder(name="large").add_edge(large, large).set_start_executor(large)
    return builder.with_checkpointing(checkpoint_storage=storage).build()


async def save(path: str) -> int:
    """Save the state; return its encoded size."""
    async with SqliteCheckpointStorage(path) as storage:
        await workflow(storage).run("set", run_id=RUN)
        record = await storage.load_record(f"{RUN}-000001")
        assert record is not None
        return sum(len(part) for part in record.parts.values())


async def resume(path: str) -> int:
    """Resume the state; return by how many bytes the process has grown at most."""
    before = peak()
    async with SqliteCheckpointStorage(path) as storage:
        await workflow(storage).run_from_checkpoint(f"{RUN}-000001")
    return peak() - before


def peak() -> int:
    """Return the most memory that this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(asyncio.run((save if sys.argv[2] == "save" else resume)(sys.argv[1])))
