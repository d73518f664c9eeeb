"""How the cost of a superstep grows with what surrounds it: not at all, if it follows change.

An exponent of 0 means no growth, 1 growth in proportion.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial

from benchmarks import durable
from benchmarks.figures import Figure, growth
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from benchmarks.speed import run_rate
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

LENGTHS = (500, 2000, 8000)
FAN_OUTS = (30, 100, 300, 1000)
SIDE_BY_SIDE = (10, 100, 1000)
STATE_KEYS = (10, 100, 1000)
KEY_BYTES = 1000
STATE_STEPS = 300


class Sender(Executor):
    """Sends many messages at once, as often as its input says."""

    def __init__(self, messages: int) -> None:
        super().__init__("sender")
        self.messages = messages

    @handler
    async def send(self, times: str, ctx: WorkflowContext[int]) -> None:
        """Send them."""
        for number in range(self.messages):
            await ctx.send_message(number)


class Receiver(Executor):
    """Takes the messages."""

    @handler
    async def take(self, number: int, ctx: WorkflowContext[int]) -> None:
        """Take one."""


def fan_out(messages: int, storage: CheckpointStorage | None) -> Workflow:
    """Return a workflow that sends so many messages in a superstep and takes them in the next."""
    sender = Sender(messages)
    builder = WorkflowBuilder(name="fan-out").set_start_executor(sender)
    builder.add_edge(sender, Receiver("receiver"))
    if storage is not None:
        builder.with_checkpointing(checkpoint_storage=storage)
    return builder.build()


class Keeper(Executor):
    """Sets many keys in the first superstep, then one of them in each, and notes when."""

    def __init__(self, keys: int) -> None:
        super().__init__("keeper")
        self.keys = keys
        self.times: list[float] = []

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int]) -> None:
        """Set a key."""
        for number in range(1 if self.times else self.keys):
            await ctx.set_shared_state(f"key {number}", os.urandom(KEY_BYTES // 2).hex())
        self.times.append(time.perf_counter())
        if left > 1:
            await ctx.send_message(left - 1)


def keeping(keeper: Keeper, storage: CheckpointStorage | None) -> Workflow:
    """Return a workflow of a keeper that loops."""
    builder = WorkflowBuilder(max_iterations=STATE_STEPS + 1, name="keeping")
    builder.add_edge(keeper, keeper).set_start_executor(keeper)
    if storage is not None:
        builder.with_checkpointing(checkpoint_storage=storage)
    return builder.build()


def _sqlite(measure: Callable[[CheckpointStorage | None], float]) -> float:
    """Measure with a database that is made and open."""
    with scratch() as folder:
        storage = SqliteCheckpointStorage(folder / "growing.db")
        asyncio.run(passing(20, storage).run(20))
        try:
            return measure(storage)
        finally:
            asyncio.run(storage.aclose())


def _memory(measure: Callable[[CheckpointStorage | None], float]) -> float:
    return measure(InMemoryCheckpointStorage())


def _bare(measure: Callable[[CheckpointStorage | None], float]) -> float:
    return measure(None)


Place = Callable[[Callable[[CheckpointStorage | None], float]], float]
PLACES: dict[str, Place] = {"bare": _bare, "memory": _memory, "sqlite": _sqlite}


def per_superstep(place: Place, steps: int) -> float:
    """Return the µs of a superstep of a run of this length."""
    return 1e6 / place(lambda storage: run_rate(passing(steps, storage), steps))


def per_message(place: Place, messages: int) -> float:
    """Return the µs of a message of a superstep that sends, and one that takes, so many."""

    def measure(storage: CheckpointStorage | None) -> float:
        workflow = fan_out(messages, storage)

        async def run() -> float:
            times = 3000 // messages
            started = time.perf_counter()
            for _ in range(times):
                await workflow.run("once")
            return (time.perf_counter() - started) / times / messages * 1e6

        return asyncio.run(run())

    return place(measure)


def per_change(place: Place, keys: int) -> float:
    """Return the µs of a superstep that replaces one key of so many."""

    def measure(storage: CheckpointStorage | None) -> float:
        keeper = Keeper(keys)
        asyncio.run(keeping(keeper, storage).run(STATE_STEPS))
        times = keeper.times[3:]  # the state is made, and taken into account once, before these
        return (times[-1] - times[0]) / (len(times) - 1) * 1e6

    return place(measure)


def per_superstep_of_many(runs: int) -> float:
    """Return the µs of a superstep of concurrent runs in SQLite."""
    return 1e6 / durable.rate(runs, 20, times=1000 // runs)


def growth_figures(rounds: int) -> list[Figure]:
    """All exponents."""
    figures = []
    for name, place in PLACES.items():
        figures += [
            growth(
                f"{name}: superstep, by the run's length",
                rounds,
                LENGTHS,
                partial(per_superstep, place),
                at_most=0.1,
            ),
            growth(
                f"{name}: message, by messages in a superstep",
                rounds,
                FAN_OUTS,
                partial(per_message, place),
                at_most=0.1,
            ),
            growth(
                f"{name}: superstep, by keys of 1 KB beside the changed one",
                rounds,
                STATE_KEYS,
                partial(per_change, place),
                at_most=0.1,
            ),
        ]
    figures.append(
        growth(
            "sqlite: superstep, by runs side by side",
            rounds,
            SIDE_BY_SIDE,
            per_superstep_of_many,
            at_most=0.1,
        )
    )
    return figures
