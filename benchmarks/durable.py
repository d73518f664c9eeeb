"""What durable supersteps cost in SQLite, beside a loop that does the same by hand."""

from __future__ import annotations

import asyncio
import time
from statistics import median

from benchmarks.figures import Figure, figure, interleaved, ratios
from benchmarks.floors import WARM_UP, raw_commits
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

STEPS = 1000
MANY_STEPS = 100
CROWD_STEPS = 20


def floor(warm_up: int) -> float:
    """Return transactions per second of the loop by hand, after so many that are not counted."""
    with scratch() as folder:
        return raw_commits(folder, STEPS, warm_up)


def rate(runs: int, steps: int, times: int = 1) -> float:
    """Return supersteps per second of concurrent runs in one database.

    Args:
        runs: How many.
        steps: How many supersteps each has.
        times: How often that many runs are started, one group after the other.
    """

    async def measure() -> float:
        with scratch() as folder:
            async with SqliteCheckpointStorage(folder / "runs.db") as storage:
                # As for the loop by hand: the log is as long as it gets.
                await passing(WARM_UP, storage).run(WARM_UP)
                workflow = passing(steps, storage)
                started = time.perf_counter()
                for _ in range(times):
                    await asyncio.gather(*(workflow.run(steps) for _ in range(runs)))
                return runs * steps * times / (time.perf_counter() - started)

    return asyncio.run(measure())


def commit_figures(rounds: int) -> list[Figure]:
    """One run, and fifty at once.

    A log that grows is slower to sync than one that has its final length. The log of a hand-written
    loop grows first and is reused later; the library sets its final length at once.
    """
    rates = interleaved(
        rounds,
        {
            "floor": lambda: floor(0),
            "warm": lambda: floor(WARM_UP),
            "one": lambda: rate(1, STEPS),
            "fifty": lambda: rate(50, MANY_STEPS),
        },
    )

    def beside(name: str, which: str, by: str, at_least: float | None) -> Figure:
        shown = f"{median(rates[which]):,.0f} supersteps/s"
        detail = f"{shown} beside {median(rates[by]):,.0f} transactions/s by hand"
        return figure(name, ratios(rates[which], rates[by]), at_least=at_least, detail=detail)

    return [
        beside("sqlite: one run, beside a loop in a new file", "one", "floor", 0.9),
        beside("  beside a loop whose log no longer grows", "one", "warm", None),
        beside("sqlite: 50 runs at once, beside a loop in a new file", "fifty", "floor", 4.0),
        beside("  beside a loop whose log no longer grows", "fifty", "warm", None),
    ]


def crowd_figures(rounds: int) -> list[Figure]:
    """A thousand runs at once, beside ten times a hundred."""
    rates = interleaved(
        rounds,
        {
            "hundred": lambda: rate(100, CROWD_STEPS, times=10),
            "thousand": lambda: rate(1000, CROWD_STEPS),
        },
    )
    shown = [f"{median(rates[name]):,.0f}" for name in ("thousand", "hundred")]
    return [
        figure(
            "sqlite: rate of 1,000 runs beside 100",
            ratios(rates["thousand"], rates["hundred"]),
            at_least=1.0,
            detail=f"{shown[0]} beside {shown[1]} supersteps/s",
        )
    ]
