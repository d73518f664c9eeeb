"""Three bookings, of which the last one fails: what was booked is undone in reverse order.

    python -m examples.saga

The world outside is a folder with one file for each booking. Booking and undoing are idempotent,
because a call that a crash cut short is made again.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from examples._play import Place, nowhere, play, read_options, show
from supersteps import (
    Executor,
    ExecutorFailure,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
)


@dataclass(frozen=True)
class Trip:
    """A trip, with what is booked of it so far."""

    where: str
    booked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undo:
    """What is still to be undone, the last booking first."""

    trip: Trip
    left: tuple[str, ...]
    reason: str


class FullyBookedError(Exception):
    """The other side has nothing left."""


class Booker(Executor):
    """Books one thing, then hands the trip on."""

    def __init__(self, id: str, world: Path, *, is_full: bool = False) -> None:
        super().__init__(id)
        self.world = world
        self.is_full = is_full

    @handler
    def book(self, trip: Trip, ctx: WorkflowContext[Trip]) -> None:
        if self.is_full:
            raise FullyBookedError(f"no {self.id} in {trip.where}")
        (self.world / self.id).write_text(f"{trip.where}, reference {ctx.idempotency_key}\n")
        ctx.send_message(Trip(trip.where, (*trip.booked, self.id)))


class Undoer(Executor):
    """Stands at the end of every error edge; undoes one booking in each superstep."""

    def __init__(self, id: str, world: Path) -> None:
        super().__init__(id)
        self.world = world

    @handler
    async def begin(self, failure: ExecutorFailure, ctx: WorkflowContext[Undo]) -> None:
        trip: Trip = failure.message
        await ctx.send_message(Undo(trip, tuple(reversed(trip.booked)), failure.error_message))

    @handler
    def undo(self, undo: Undo, ctx: WorkflowContext[Undo, str]) -> None:
        if not undo.left:
            ctx.yield_output(f"no trip to {undo.trip.where}: {undo.reason}")
            ctx.yield_output(f"bookings left: {sorted(path.name for path in self.world.iterdir())}")
            return
        (self.world / undo.left[0]).unlink(missing_ok=True)
        ctx.yield_output(f"undone: {undo.left[0]}")
        ctx.send_message(Undo(undo.trip, undo.left[1:], undo.reason))


@executor
async def confirm(trip: Trip, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(f"a trip to {trip.where}: {', '.join(trip.booked)}")


def build_workflow(place: Place, *, is_full: bool = True) -> Workflow:
    flight, hotel = Booker("flight", place.world), Booker("hotel", place.world)
    car, undoer = Booker("car", place.world, is_full=is_full), Undoer("undoer", place.world)
    return (
        WorkflowBuilder(name="saga")
        .set_start_executor(flight)
        .add_chain([flight, hotel, car, confirm])
        .add_error_edge(flight, undoer)
        .add_error_edge(hotel, undoer)
        .add_error_edge(car, undoer)
        .add_edge(undoer, undoer)
        .with_checkpointing(place.storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(nowhere())


async def main() -> None:
    place = read_options("saga", __doc__)
    show(await play(build_workflow(place), Trip("Lisbon"), place))


if __name__ == "__main__":
    asyncio.run(main())
