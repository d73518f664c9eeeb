"""Any checkpoint can be taken up by a new workflow object, in another process if you like.

python -m examples.rehydrate
"""

import asyncio
import tempfile
from typing import Never

from supersteps import (
    FileCheckpointStorage,
    RequestInfoExecutor,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowOutputEvent,
    executor,
)


def build() -> Workflow:
    """Return the same definition each time: the name and the graph are what must agree."""

    @executor
    async def collect(topic: str, ctx: WorkflowContext[list[str]]) -> None:
        await ctx.send_message([f"{topic}: facts"])

    @executor
    async def outline(notes: list[str], ctx: WorkflowContext[list[str]]) -> None:
        await ctx.send_message([*notes, "outline"])

    @executor
    async def write(notes: list[str], ctx: WorkflowContext[list[str]]) -> None:
        await ctx.send_message([*notes, "text"])

    @executor
    async def polish(notes: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(" + ".join(notes))

    return (
        WorkflowBuilder(name="essay")
        .add_chain([collect, outline, write, polish])
        .set_start_executor(collect)
        .build()
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with FileCheckpointStorage(folder) as storage:
            await build().run("tides", checkpoint_storage=storage)

            cps = await storage.list_checkpoints(workflow_id="essay")  # oldest first
            for cp in cps:
                summary = RequestInfoExecutor.checkpoint_summary(cp)
                print(
                    f"superstep {summary.iteration_count}: {summary.status}, next {summary.targets}"
                )

            fresh = build()
            print("from superstep 3, event by event:")
            async for event in fresh.run_stream_from_checkpoint(
                cps[3].checkpoint_id, checkpoint_storage=storage
            ):
                if isinstance(event, SuperStepCompletedEvent):
                    print("  committed: superstep", event.step_number)
                if isinstance(event, WorkflowOutputEvent):
                    print("  output:", event.data)

            result = await fresh.run_from_checkpoint(cps[1], checkpoint_storage=storage)
            print("from superstep 1, all at once:", result.get_outputs())


if __name__ == "__main__":
    asyncio.run(main())
