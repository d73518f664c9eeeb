"""What questions cost: thousands that wait while a run continues, and thousands asked at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from benchmarks.figures import Figure, figure, growth, interleaved, ratios
from benchmarks.scratch import scratch
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
)
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

WAITING = 4000
STEPS = 400
ASKED = (1250, 2500, 5000, 10_000)


class Asker(Executor):
    """Asks questions in the first superstep, then passes a number on, and notes when."""

    def __init__(self, questions: int) -> None:
        super().__init__("asker")
        self.questions = questions
        self.times: list[float] = []

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int]) -> None:
        """Ask, or pass the number on."""
        if not self.times:
            for number in range(self.questions):
                await ctx.request_info(f"question {number}", str)
        self.times.append(time.perf_counter())
        if left > 1:
            await ctx.send_message(left - 1)

    @response_handler
    async def take(self, asked: str, answer: str, ctx: WorkflowContext[int]) -> None:
        """Take an answer; none comes here."""


class Echo(Executor):
    """Passes a number back."""

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int]) -> None:
        """Pass the number back."""
        await ctx.send_message(left - 1)


def asking(asker: Asker, storage: CheckpointStorage) -> Workflow:
    """Return a workflow of an asker and another executor that pass a number to and fro."""
    echo = Echo("echo")
    builder = WorkflowBuilder(max_iterations=STEPS + 2, name="asking").set_start_executor(asker)
    builder.add_edge(asker, echo).add_edge(echo, asker)
    return builder.with_checkpointing(checkpoint_storage=storage).build()


def in_sqlite(questions: int, steps: int) -> tuple[Asker, float]:
    """Run in SQLite; return the asker, and how many seconds the run took."""

    async def run() -> tuple[Asker, float]:
        with scratch() as folder:
            async with SqliteCheckpointStorage(folder / "questions.db") as storage:
                return await _run(storage, questions, steps)

    return asyncio.run(run())


def in_memory(questions: int, steps: int) -> tuple[Asker, float]:
    """Run in memory; return the asker, and how many seconds the run took."""
    return asyncio.run(_run(InMemoryCheckpointStorage(), questions, steps))


async def _run(storage: CheckpointStorage, questions: int, steps: int) -> tuple[Asker, float]:
    asker = Asker(questions)
    workflow = asking(asker, storage)
    await asking(Asker(1), storage).run(1)  # the file is made and open, everything imported
    started = time.perf_counter()
    await workflow.run(steps)
    return asker, time.perf_counter() - started


Run = Callable[[int, int], tuple[Asker, float]]
PLACES: dict[str, Run] = {"memory": in_memory, "sqlite": in_sqlite}


def _superstep(run: Run, questions: int) -> float:
    """Return the µs of a superstep beside so many questions, once the first ones are over."""
    times = run(questions, STEPS)[0].times[10:]
    return (times[-1] - times[0]) / (2 * (len(times) - 1)) * 1e6


def _asking_superstep(run: Run, questions: int) -> float:
    """Return the ms of a run whose only superstep asks so many questions."""
    return run(questions, 1)[1] * 1000


def waiting_figures(rounds: int) -> list[Figure]:
    """The cost of a superstep beside thousands of questions, and beside none."""
    figures = []
    for where, run in PLACES.items():
        taken = interleaved(
            rounds,
            {
                "none": partial(_superstep, run, 0),
                "many": partial(_superstep, run, WAITING),
            },
        )
        figures.append(
            figure(
                f"{where}: a superstep beside {WAITING:,} questions, times one beside none",
                ratios(taken["many"], taken["none"]),
                at_most=1.1,
                detail=f"{median(taken['many']):.0f} µs beside {median(taken['none']):.0f}",
            )
        )
    return figures


def asking_figures(rounds: int) -> list[Figure]:
    """The growth of a superstep that asks more and more."""
    return [
        growth(
            f"{where}: growth of a superstep that asks {ASKED[0]:,} to {ASKED[-1]:,} questions",
            rounds,
            ASKED,
            partial(_asking_superstep, run),
            at_most=1.15,
            unit="ms",
        )
        for where, run in PLACES.items()
    ]
