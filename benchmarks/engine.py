"""How much a superstep costs without storage, as a ratio to the least that asyncio can do: one task per step."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from benchmarks.table import Row
from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

STEPS = 300
RUNS = 20
ROUNDS = 7
TARGET = 0.18


class Countdown(Executor):
    """Sends itself one less until nothing is left."""

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        """Take a step."""
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(0)


def workflow() -> Workflow:
    """Return a workflow of one executor that loops."""
    countdown = Countdown("countdown")
    builder = WorkflowBuilder(max_iterations=STEPS).add_edge(countdown, countdown)
    return builder.set_start_executor(countdown).build()


async def bare_tasks() -> float:
    """Return steps per second of a loop that makes one task per step and does nothing else."""

    async def step() -> None:
        pass

    begun = time.perf_counter()
    for _ in range(STEPS * RUNS):
        await asyncio.create_task(step())
    return STEPS * RUNS / (time.perf_counter() - begun)


async def supersteps_run() -> float:
    """Return supersteps per second of `run()`."""
    looping = workflow()
    begun = time.perf_counter()
    for _ in range(RUNS):
        await looping.run(STEPS)
    return STEPS * RUNS / (time.perf_counter() - begun)


async def supersteps_stream() -> float:
    """Return supersteps per second of `run_stream()`, every event consumed."""
    looping = workflow()
    begun = time.perf_counter()
    for _ in range(RUNS):
        async for _event in looping.run_stream(STEPS):
            pass
    return STEPS * RUNS / (time.perf_counter() - begun)


def main() -> list[Row]:
    """Measure side by side, round by round, and return the medians."""
    ratios: dict[str, list[float]] = {"run()": [], "run_stream()": []}
    rates: dict[str, list[float]] = {"run()": [], "run_stream()": []}
    floors = []
    for _ in range(ROUNDS):
        floor = asyncio.run(bare_tasks())
        floors.append(floor)
        for name, measure in (("run()", supersteps_run), ("run_stream()", supersteps_stream)):
            rate = asyncio.run(measure())
            rates[name].append(rate)
            ratios[name].append(rate / floor)
    return [
        Row(
            f"{STEPS} supersteps without storage, {name}",
            f"{median(rates[name]):,.0f}/s beside {median(floors):,.0f} bare tasks/s",
            median(ratios[name]),
            TARGET if name == "run()" else None,
        )
        for name in ratios
    ]
