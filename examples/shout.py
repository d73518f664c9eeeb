"""A workflow with state of two kinds and a checkpoint after each superstep.

python -m examples.shout
"""

import asyncio
from typing import Never

from supersteps import Executor, FileCheckpointStorage, WorkflowBuilder, WorkflowContext, executor, handler


class UpperCase(Executor):
    @handler
    async def to_upper(self, text: str, ctx: WorkflowContext[str]) -> None:
        prev = await ctx.get_state() or {}
        await ctx.set_state({"count": int(prev.get("count", 0)) + 1, "last": text})  # executor state
        await ctx.set_shared_state("original_input", text)  # shared state
        await ctx.send_message(text.upper())


@executor
async def reverse(text: str, ctx: WorkflowContext[Never, str]) -> None:
    original = await ctx.get_shared_state("original_input")
    await ctx.yield_output(f"{original} -> {text[::-1]}")


async def main() -> None:
    upper = UpperCase("upper")
    storage = FileCheckpointStorage(storage_path="./checkpoints")
    workflow = (
        WorkflowBuilder(max_iterations=5, name="shout")
        .add_edge(upper, reverse)
        .set_start_executor(upper)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )

    result = await workflow.run("hello")
    print("outputs:", result.get_outputs())
    print("final state:", result.get_final_state())

    for checkpoint in await storage.list_checkpoints(workflow_id="shout", run_id=result.run_id):
        print(f"superstep {checkpoint.iteration_count}: {checkpoint.shared_state} {checkpoint.executor_states}")


if __name__ == "__main__":
    asyncio.run(main())
