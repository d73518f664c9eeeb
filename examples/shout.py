"""A workflow with state of two kinds and a checkpoint after each superstep.

python -m examples.shout
"""

import asyncio
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


class UpperCase(Executor):
    @handler
    async def to_upper(self, text: str, ctx: WorkflowContext[str]) -> None:
        prev = await ctx.get_state() or {}
        await ctx.set_state(
            {"count": int(prev.get("count", 0)) + 1, "last": text}
        )  # executor state
        await ctx.set_shared_state("original_input", text)  # shared state
        await ctx.send_message(text.upper())


@executor
async def reverse(text: str, ctx: WorkflowContext[Never, str]) -> None:
    original = await ctx.get_shared_state("original_input")
    await ctx.yield_output(f"{original} -> {text[::-1]}")


def build(storage: CheckpointStorage) -> Workflow:
    upper = UpperCase("upper")
    return (
        WorkflowBuilder(max_iterations=5, name="shout")
        .add_edge(upper, reverse)
        .set_start_executor(upper)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    storage = FileCheckpointStorage(storage_path="./checkpoints")
    result = await build(storage).run("hello")
    print("outputs:", result.get_outputs())
    print("final state:", result.get_final_state())

    for checkpoint in await storage.list_checkpoints(workflow_id="shout", run_id=result.run_id):
        print(
            f"superstep {checkpoint.iteration_count}: {checkpoint.shared_state} "
            f"{checkpoint.executor_states}"
        )


if __name__ == "__main__":
    asyncio.run(main())
