"""What state costs in SQLite: large keys that do not change, lists that grow, bytes per step."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, figure, interleaved, ratios
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler
from supersteps.checkpoint.codec.codec import Codec
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

STEPS = 1000
LONG = 10_000
SHORT = 400


class Countdown(Executor):
    """Sends itself one less until nothing is left, and notes when."""

    def __init__(self) -> None:
        super().__init__("countdown")
        self.times: list[float] = []

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int]) -> None:
        """Take a step."""
        self.times.append(time.perf_counter())
        await self.change(ctx)
        if left > 1:
            await ctx.send_message(left - 1)

    async def change(self, ctx: WorkflowContext[int]) -> None:
        """Change some state."""


class Note(Countdown):
    """Replaces a key of 1 KB."""

    async def change(self, ctx: WorkflowContext[int]) -> None:
        await ctx.set_shared_state("note", os.urandom(500).hex())


class NoteBesideMuch(Note):
    """Replaces a key of 1 KB beside one of 1 MB that it sets once."""

    async def change(self, ctx: WorkflowContext[int]) -> None:
        if len(self.times) == 1:
            await ctx.set_shared_state("much", [os.urandom(100).hex() for _ in range(5000)])
        await super().change(ctx)


def turn(number: int) -> dict[str, object]:
    """Return 230 bytes of a conversation."""
    return {"role": "user", "content": os.urandom(95).hex(), "n": number}


class History(Countdown):
    """Appends to a list."""

    async def change(self, ctx: WorkflowContext[int]) -> None:
        await ctx.append_shared_state("history", turn(len(self.times)))


class WholeHistory(Countdown):
    """Sets the whole list each time it has grown."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[object] = []

    async def change(self, ctx: WorkflowContext[int]) -> None:
        self.history.append(turn(len(self.history)))
        await ctx.set_shared_state("history", self.history)


def looping(executor: Executor, storage: SqliteCheckpointStorage, steps: int) -> Workflow:
    """Return a workflow of one executor that loops."""
    builder = WorkflowBuilder(max_iterations=steps + 1).add_edge(executor, executor)
    return builder.set_start_executor(executor).with_checkpointing(storage).build()


async def run(path: Path, make: Callable[[], Countdown], steps: int) -> Countdown:
    """Run supersteps in a database that is made and open; return the executor."""
    async with SqliteCheckpointStorage(path) as storage:
        await looping(Countdown(), storage, 2).run(2)
        executor = make()
        await looping(executor, storage, steps).run(steps)
        return executor


def grown(path: Path, make: Callable[[], Countdown], steps: int) -> float:
    """Return by how many bytes a step makes the file grow, beyond what two steps need."""
    longer = path.with_suffix(".long.db")
    asyncio.run(run(path, make, 2))
    asyncio.run(run(longer, make, steps))
    return (longer.stat().st_size - path.stat().st_size) / (steps - 2)


def steady_rate(make: Callable[[], Countdown]) -> float:
    """Return steps per second, without the first two: they make the run and what it keeps."""
    with scratch() as folder:
        times = asyncio.run(run(folder / "steady.db", make, STEPS)).times
    return (len(times) - 3) / (times[-1] - times[2])


def window_rates(times: list[float], around: int) -> list[float]:
    """Return steps per second of ten windows of 50 steps each."""
    starts = range(around - 200, around + 300, 50)
    return [50 / (times[start + 50] - times[start]) for start in starts]


def bytes_figure(name: str, grows: float, at_most: float | None) -> Figure:
    """Return what a step adds to the file as a figure; it is the same in each round."""
    return figure(name, [grows], unit="bytes", at_most=at_most, detail="the file after aclose()")


def small_figures(rounds: int) -> list[Figure]:
    """What a step with nothing but a small message adds to the file."""
    sizes = []
    with scratch() as folder:
        for steps in (2, STEPS):
            asyncio.run(_pass(folder / f"{steps}.db", steps))
            sizes.append((folder / f"{steps}.db").stat().st_size)
    each = (sizes[1] - sizes[0]) / (STEPS - 2)
    return [bytes_figure("sqlite: bytes of a superstep with one small message", each, 250)]


async def _pass(path: Path, steps: int) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        await passing(steps, storage).run(steps)


def untouched_figures(rounds: int) -> list[Figure]:
    """A key of 1 MB that does not change."""
    rates = interleaved(
        rounds,
        {"small": partial(steady_rate, Countdown), "much": partial(steady_rate, NoteBesideMuch)},
    )
    with scratch() as folder:
        grows = grown(folder / "growth.db", NoteBesideMuch, STEPS)
    detail = f"{median(rates['much']):,.0f}/s beside {median(rates['small']):,.0f}/s of small steps"
    name = "1 KB replaced beside an untouched 1 MB"
    return [
        figure(name, ratios(rates["much"], rates["small"]), at_least=0.8, detail=detail),
        bytes_figure("  its bytes per step", grows, 2500),
    ]


def history_figures(rounds: int) -> list[Figure]:
    """A list that grows by 230 bytes a step, appended to."""
    with scratch() as folder:
        short = grown(folder / "short.db", History, SHORT)
        long = grown(folder / "long.db", History, LONG)
        times = asyncio.run(run(folder / "timed.db", History, LONG)).times
    early, late = window_rates(times, SHORT), window_rates(times, LONG - 600)
    detail = f"{median(late):,.0f}/s beside {median(early):,.0f}/s"
    name = f"  rate at {LONG:,} steps beside that at {SHORT}"
    return [
        bytes_figure(f"230 bytes appended, bytes per step at {SHORT}", short, 700),
        bytes_figure(f"  at {LONG:,}", long, 700),
        figure(name, [median(late) / median(early)], at_least=0.5, detail=detail),
    ]


def whole_history_figures(rounds: int) -> list[Figure]:
    """The same list, set as a whole."""
    with scratch() as folder:
        grows = grown(folder / "growth.db", WholeHistory, SHORT)
    taken = interleaved(
        rounds,
        {
            "small": partial(_processor_seconds, Countdown),
            "whole": partial(_processor_seconds, WholeHistory),
            "encoding": _encoding_seconds,
        },
    )
    beyond = [whole - small for whole, small in zip(taken["whole"], taken["small"], strict=True)]
    return [
        bytes_figure(f"the whole list set, bytes per step at {SHORT}", grows, 4000),
        figure(
            "  processor time, times one encoding of the list",
            ratios(beyond, taken["encoding"]),
            at_most=3.0,
            detail="beyond that of a small step",
        ),
    ]


def _processor_seconds(make: Callable[[], Countdown]) -> float:
    """Return the processor time that a run takes, on all threads."""
    with scratch() as folder:
        started = time.process_time()
        asyncio.run(run(folder / "run.db", make, SHORT))
        return time.process_time() - started


def _encoding_seconds() -> float:
    """Return the processor time that it takes to encode a list at each of its lengths, once."""
    codec, items = Codec(), list[object]()
    started = time.process_time()
    for number in range(SHORT):
        items.append(turn(number))
        codec.encode(items)
    return time.process_time() - started
