"""Events as they happen; leaving the loop and coming back; the run's handle.

python -m examples.streaming
"""

import asyncio
from typing import Never

from supersteps import (
    CheckpointStorage,
    InMemoryCheckpointStorage,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowOutputEvent,
    executor,
)
from supersteps.events import ExecutorInvokedEvent


@executor
async def double(number: int, ctx: WorkflowContext[int]) -> None:
    await ctx.send_message(number * 2)


@executor
async def add_one(number: int, ctx: WorkflowContext[int]) -> None:
    await ctx.send_message(number + 1)


@executor
async def show(number: int, ctx: WorkflowContext[Never, int]) -> None:
    await ctx.yield_output(number)


def build(storage: CheckpointStorage) -> Workflow:
    return (
        WorkflowBuilder(name="arithmetic")
        .add_chain([double, add_one, show])
        .set_start_executor(double)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    run = build(InMemoryCheckpointStorage()).run_stream(
        20
    )  # nothing runs yet, but the run has its id
    print("run id:", len(run.run_id), "characters")

    async for event in run:
        if isinstance(event, ExecutorInvokedEvent):
            print("invoked:", event.executor_id)
        if isinstance(event, SuperStepCompletedEvent):
            print("committed: superstep", event.step_number)
            break  # the run is parked: no task is left, nothing is lost

    async for event in run:  # continues with the next event
        if isinstance(event, SuperStepCompletedEvent):
            print("committed: superstep", event.step_number)
        if isinstance(event, WorkflowOutputEvent):
            print("output:", event.data)

    for info in run.checkpoints:
        print(
            "checkpoint of superstep",
            info.step_number,
            "- first" if info.parent is None else "- follows another",
        )


if __name__ == "__main__":
    asyncio.run(main())
