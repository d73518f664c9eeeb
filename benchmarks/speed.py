"""How many supersteps there are per second without a disk, beside one bare task per step."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from benchmarks.figures import Figure, figure, interleaved, ratios
from benchmarks.floors import bare_tasks
from benchmarks.passing import passing
from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)

STEPS = 2000
LOOP_STEPS = 300
LOOP_RUNS = 7


class Countdown(Executor):
    """Sends itself one less until nothing is left."""

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        """Take a step."""
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.yield_output(0)


def self_loop() -> Workflow:
    """Return a workflow of one executor that loops."""
    countdown = Countdown("countdown")
    builder = WorkflowBuilder(max_iterations=LOOP_STEPS).add_edge(countdown, countdown)
    return builder.set_start_executor(countdown).build()


def floor() -> float:
    """Return bare tasks per second."""
    return asyncio.run(bare_tasks(10 * STEPS))


def run_rate(workflow: Workflow, steps: int = STEPS, runs: int = 1) -> float:
    """Return supersteps per second of `run()`."""

    async def run() -> float:
        started = time.perf_counter()
        for _ in range(runs):
            await workflow.run(steps)
        return steps * runs / (time.perf_counter() - started)

    return asyncio.run(run())


def stream_rate(workflow: Workflow, steps: int = STEPS, runs: int = 1) -> float:
    """Return supersteps per second of `run_stream()`, every event consumed."""

    async def run() -> float:
        started = time.perf_counter()
        for _ in range(runs):
            async for _event in workflow.run_stream(steps):
                pass
        return steps * runs / (time.perf_counter() - started)

    return asyncio.run(run())


def beside_tasks(
    name: str, rates: list[float], floors: list[float], at_least: float | None
) -> Figure:
    """Return rates as a figure: their ratio to those of bare tasks."""
    detail = f"{median(rates):,.0f} supersteps/s beside {median(floors):,.0f} bare tasks/s"
    return figure(name, ratios(rates, floors), at_least=at_least, detail=detail)


def passing_figures(rounds: int) -> list[Figure]:
    """Two executors, without a storage and with one in memory."""
    rates = interleaved(
        rounds,
        {
            "floor": floor,
            "bare": lambda: run_rate(passing(STEPS)),
            "stream": lambda: stream_rate(passing(STEPS)),
            "memory": lambda: run_rate(passing(STEPS, InMemoryCheckpointStorage())),
        },
    )
    floors = rates["floor"]
    return [
        beside_tasks("bare: run() without storage", rates["bare"], floors, 0.35),
        beside_tasks("stream: run_stream(), every event", rates["stream"], floors, 0.25),
        beside_tasks("memory: InMemoryCheckpointStorage", rates["memory"], floors, None),
    ]


def self_loop_figures(rounds: int) -> list[Figure]:
    """One executor that sends to itself, in short runs."""
    rates = interleaved(
        rounds,
        {
            "floor": floor,
            "run": lambda: run_rate(self_loop(), LOOP_STEPS, LOOP_RUNS),
            "stream": lambda: stream_rate(self_loop(), LOOP_STEPS, LOOP_RUNS),
        },
    )
    floors, what = rates["floor"], f"{LOOP_STEPS} supersteps to itself"
    return [
        beside_tasks(f"{what}, run()", rates["run"], floors, 0.18),
        beside_tasks(f"{what}, run_stream()", rates["stream"], floors, None),
    ]
