"""An executor that keeps what it knows in attributes, and hooks that move them into checkpoints
and back.

python -m examples.hooks
"""

import asyncio
from typing import Any

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)


class Thermometer(Executor):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.readings: list[float] = []

    @handler
    async def read(self, left: int, ctx: WorkflowContext[int, float]) -> None:
        self.readings.append(20.0 + left / 2)
        if left:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(sum(self.readings) / len(self.readings))

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        await ctx.queue_state_update("readings", self.readings)
        await ctx.queue_state_update(
            "latest", self.readings[-1:], scope="weather"
        )  # a scope with a name of its own

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.readings = await ctx.read_state("readings") or []


def build(storage: InMemoryCheckpointStorage) -> Workflow:
    """With a factory each run gets an instance of its own, so that many can run at once."""
    return (
        WorkflowBuilder(name="weather")
        .register_executor(lambda: Thermometer("thermometer"), name="thermometer")
        .set_start_executor("thermometer")
        .add_edge("thermometer", "thermometer")
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    storage = InMemoryCheckpointStorage()
    result = await build(storage).run(4)
    print("mean:", result.get_outputs())

    checkpoints = await storage.list_checkpoints(workflow_id="weather")
    for checkpoint in checkpoints:
        print(
            f"superstep {checkpoint.iteration_count}: {checkpoint.executor_states} "
            f"{checkpoint.scopes}"
        )

    again = await build(storage).run_from_checkpoint(
        checkpoints[2]
    )  # the attribute comes back with the checkpoint
    print("mean, from superstep 2 on once more:", again.get_outputs())


if __name__ == "__main__":
    asyncio.run(main())
