"""Where the time of a superstep goes: the share of each module, by samples of the stack.

A timer interrupts the run every millisecond; the sample counts for the module of the library that
was at work, or had called whatever was. What the event loop does by itself is counted as asyncio.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import supersteps
from benchmarks.figures import Figure, figure
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps import CheckpointStorage, InMemoryCheckpointStorage
from supersteps.storage.sqlite import writer
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

LIBRARY = Path(supersteps.__file__).parent
PERIOD = 0.001
STEPS = {"bare": 20_000, "memory": 10_000, "sqlite": 4000}
SHOWN = 9
"""How many modules of each run are shown; the others are summed up."""

REST = "all others"


def module_of(frame: FrameType | None) -> str:
    """Return the innermost module of the library on a stack; asyncio if there is none."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(LIBRARY):
            return path.relative_to(LIBRARY).as_posix()
        frame = frame.f_back
    return "asyncio"


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Sample this thread; give how often each module was at work."""
    counts: Counter[str] = Counter()

    def count(_number: int, frame: FrameType | None) -> None:
        counts[module_of(frame)] += 1

    before = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
    try:
        yield counts
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shares(counts: Counter[str], shown: int = SHOWN) -> dict[str, float]:
    """Return the largest shares in percent, largest first, and the sum of the others."""
    whole = sum(counts.values())
    largest = {name: 100 * count / whole for name, count in counts.most_common(shown)}
    rest = 100 - sum(largest.values())
    return largest | ({REST: rest} if len(counts) > shown else {})


async def _run(storage: CheckpointStorage | None, steps: int) -> Counter[str]:
    workflow = passing(steps, storage)
    await workflow.run(400)  # files are opened and everything is imported
    with sampled() as counts:
        await workflow.run(steps)
    return counts


async def _run_in(where: str) -> Counter[str]:
    if where != "sqlite":
        storage = InMemoryCheckpointStorage() if where == "memory" else None
        return await _run(storage, STEPS[where])
    with patch.object(writer, "_SLOW_SECONDS", math.inf), scratch() as folder:
        # Each commit is made on this thread, however slow the disk: another one is not sampled.
        async with SqliteCheckpointStorage(folder / "shares.db") as database:
            return await _run(database, STEPS[where])


def share_figures(rounds: int) -> list[Figure]:
    """Where the time of a superstep goes, in percent for each module."""
    figures = []
    for where in STEPS:
        counts: Counter[str] = Counter()
        for _ in range(rounds):
            counts += asyncio.run(_run_in(where))
        figures += [
            figure(f"{where}: {module}", [share], unit="%")
            for module, share in shares(counts).items()
        ]
    return figures
