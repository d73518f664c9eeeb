"""The workload that everything is measured with: two executors that pass a number to and fro.

One message, one call and one route per superstep: the least that a superstep can hold, so that
what is measured is the engine and the storage.
"""

from __future__ import annotations

from supersteps import (
    CheckpointStorage,
    Executor,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)


class Player(Executor):
    """Passes one less on, until nothing is left."""

    @handler
    async def pass_on(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        """Pass the number on."""
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(0)


def passing(steps: int, storage: CheckpointStorage | None = None) -> Workflow:
    """Return the workflow; its input is the number of supersteps to run.

    Args:
        steps: The most supersteps of a run.
        storage: Where its checkpoints go; None to run without any.
    """
    one, other = Player("one"), Player("other")
    builder = WorkflowBuilder(max_iterations=steps + 1, name="passing").set_start_executor(one)
    builder.add_edge(one, other).add_edge(other, one)
    if storage is not None:
        builder.with_checkpointing(checkpoint_storage=storage)
    return builder.build()
