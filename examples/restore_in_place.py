"""Restore a run to one of its checkpoints and continue on a new branch; the old one stays readable.

python -m examples.restore_in_place
"""

import asyncio

from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)


class Wallet:
    """The world outside: it is not rewound."""

    price = 10


class Shopper(Executor):
    """Buys one thing in each superstep, at the price of the day."""

    @handler
    async def buy(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        state = await ctx.get_state() or {"spent": 0}
        await ctx.set_state({"spent": state["spent"] + Wallet.price})
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(f"spent {state['spent'] + Wallet.price}")


def build(storage: CheckpointStorage) -> Workflow:
    shopper = Shopper("shopper")
    return (
        WorkflowBuilder(name="shopping")
        .set_start_executor(shopper)
        .add_edge(shopper, shopper)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build(InMemoryCheckpointStorage())


async def main() -> None:
    storage = InMemoryCheckpointStorage()
    run = build(storage).run_stream(6)
    result = await run.wait_for_completion()
    print("first:", result.get_outputs(), "after superstep", run.checkpoints[-1].step_number)

    Wallet.price = 1
    await run.restore_checkpoint(
        run.checkpoints[4]
    )  # after the 4th thing; in place: it is the same run
    print("rewound to superstep", run.checkpoints[-1].step_number)

    async for _event in run:
        pass
    print("again:", (await storage.list_checkpoints())[-1].outputs)

    branches: dict[int, list[int]] = {}
    for checkpoint in await storage.list_checkpoints(run_id=run.run_id):
        branches.setdefault(checkpoint.branch, []).append(checkpoint.iteration_count)
    for branch, steps in branches.items():
        print(f"branch {branch}: supersteps {steps}")


if __name__ == "__main__":
    asyncio.run(main())
