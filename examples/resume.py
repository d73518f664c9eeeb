"""A handler fails; the run is resumed from its last checkpoint, and what was done is not done
again.

python -m examples.resume
"""

import asyncio
import tempfile
from typing import Never

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
)


class Service:
    """Something outside that is down at first."""

    is_up = False


@executor
async def split(order: str, ctx: WorkflowContext[str]) -> None:
    print("  split the order")
    await ctx.send_message(order)


@executor
async def reserve(order: str, ctx: WorkflowContext[str]) -> None:
    print("  reserve the goods")
    await ctx.send_message(f"reserved {order}")


@executor
async def charge(order: str, ctx: WorkflowContext[str]) -> None:
    print("  charge the card")
    if not Service.is_up:
        raise ConnectionError("the payment service does not answer")
    await ctx.send_message(f"charged {order}")


class Confirm(Executor):
    @handler
    async def confirm(self, parts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(" and ".join(parts))


def build(storage: CheckpointStorage) -> Workflow:
    confirm = Confirm("confirm")
    return (
        WorkflowBuilder(name="order")
        .set_start_executor(split)
        .add_fan_out_edges(split, [reserve, charge])
        .add_fan_in_edges([reserve, charge], confirm)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with FileCheckpointStorage(folder) as storage:
            print("first attempt:")
            try:
                await build(storage).run("3 books")
            except ConnectionError as error:
                print("  failed:", error)

            Service.is_up = True
            newest = (await storage.list_checkpoints(workflow_id="order"))[-1]
            print(
                f"resumed after superstep {newest.iteration_count}:"
            )  # only the call that failed runs again
            result = await build(storage).run_from_checkpoint(newest.checkpoint_id)
            print("  output:", result.get_outputs()[0])


if __name__ == "__main__":
    asyncio.run(main())
