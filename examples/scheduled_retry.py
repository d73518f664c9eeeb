"""A service that fails now and then is tried again; then a parcel is looked after until it has
arrived.

    python -m examples.scheduled_retry

Both waits survive a crash: that before the next attempt, and that of a scheduled message, which is
durable and delivered once. Here an hour takes a tenth of a second; EXAMPLES_HOUR=3600 makes it a
real one.
"""

import asyncio
from dataclasses import dataclass
from typing import Never

from examples._play import HOUR, play, read_options, say, show
from supersteps import (
    CheckpointStorage,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
)

STATIONS = ("packed", "on the ferry", "delivered")


@dataclass(frozen=True)
class Parcel:
    number: int


@dataclass(frozen=True)
class Look:
    """A note to oneself: see where the parcel is."""

    parcel: Parcel
    times: int


class Registrar(Executor):
    """Registers the parcel with a service that answers only at the third attempt."""

    @handler
    async def register(self, parcel: Parcel, ctx: WorkflowContext[Parcel]) -> None:
        if ctx.attempt < 3:
            raise ConnectionError(f"the service did not answer attempt {ctx.attempt}")
        await ctx.send_message(parcel)


class Tracker(Executor):
    """Looks at the parcel every hour."""

    @handler
    async def begin(self, parcel: Parcel, ctx: WorkflowContext[Look, str]) -> None:
        await ctx.yield_output(f"parcel {parcel.number} is registered")
        await ctx.schedule(Look(parcel, 0), delay=HOUR, target_id=self.id)

    @handler
    async def look(self, look: Look, ctx: WorkflowContext[Look, str]) -> None:
        station = STATIONS[look.times]
        await ctx.yield_output(f"parcel {look.parcel.number} is {station}")
        if station != STATIONS[-1]:
            await ctx.schedule(Look(look.parcel, look.times + 1), delay=HOUR, target_id=self.id)


@executor
async def give_up(failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(f"given up after {failure.attempts} attempts: {failure.error_message}")


def build_workflow(storage: CheckpointStorage) -> Workflow:
    registrar, tracker = Registrar("registrar"), Tracker("tracker")
    patience = FailurePolicy(max_attempts=4, backoff=HOUR / 2, retry_on=(ConnectionError,))
    return (
        WorkflowBuilder(name="scheduled-retry")
        .set_start_executor(registrar)
        .add_edge(registrar, tracker)
        .with_failure_policy(registrar, patience)
        .add_error_edge(registrar, give_up)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


async def main() -> None:
    place = read_options("scheduled_retry", __doc__)
    outputs = await play(build_workflow(place.storage), Parcel(17), place)
    say(f"{len(outputs)} messages about the parcel:")
    show(outputs)


if __name__ == "__main__":
    asyncio.run(main())
