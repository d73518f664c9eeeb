"""A workflow whose steps leave files, and a worker for it, as a program of their own.

python -m tests.acceptance.fleet DATABASE FOLDER
"""

import asyncio
import sys
from pathlib import Path

from supersteps import (
    Executor,
    SqliteCheckpointStorage,
    Worker,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)

STEPS = 4


class Step(Executor):
    """Leaves a file for each step of each run: its name is the step, its content who did it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("step")
        self.folder = folder

    @handler
    async def do(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        with (self.folder / f"{ctx.run_id}-{number}").open("a") as file:
            file.write(f"{ctx.idempotency_key}\n")
        await asyncio.sleep(0.01)
        if number < STEPS:
            await ctx.send_message(number + 1)
        else:
            await ctx.yield_output(number)


def fleet_workflow(storage: SqliteCheckpointStorage, folder: Path) -> Workflow:
    step = Step(folder)
    return (
        WorkflowBuilder(name="fleet")
        .set_start_executor(step)
        .add_edge(step, step)
        .with_checkpointing(storage)
        .build()
    )


async def main(database: str, folder: str) -> None:
    storage = SqliteCheckpointStorage(database)
    async with (
        storage,
        Worker(storage, [fleet_workflow(storage, Path(folder))], concurrency=10) as worker,
    ):
        print("ready", flush=True)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
