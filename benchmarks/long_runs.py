"""Opening and resuming a run that has thousands of checkpoints, and listing thousands of runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure, exponent, figure, interleaved, ratios
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps import SuperStepCompletedEvent
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.record import CheckpointHeader, Commit, utc_now
from supersteps.ids import checkpoint_id
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

LENGTHS = (100, 1000, 10_000)
RUNS = 10_000
LIMIT = 1_000_000
"""The runs' limit of supersteps: more than they are resumed for here."""


async def leave(path: Path, length: int) -> None:
    """Make a run of so many checkpoints in a database, and leave it before its end."""
    async with SqliteCheckpointStorage(path) as storage:
        steps = 0
        async for event in passing(LIMIT, storage).run_stream(LIMIT):
            steps += isinstance(event, SuperStepCompletedEvent)
            if steps == length:
                break


async def open_head(path: Path) -> float:
    """Return how many ms it takes to open a database, load its newest run's head and look at it."""
    started = time.perf_counter()
    storage = SqliteCheckpointStorage(path)
    newest = (await storage.list_runs(limit=1))[0]
    checkpoint = await storage.load_checkpoint(newest.head)
    assert checkpoint is not None
    assert len(checkpoint.messages) == 1
    taken = time.perf_counter() - started
    await storage.aclose()
    return taken * 1000


async def resume(path: Path) -> float:
    """Return how many ms it takes to resume a run of an open database, up to the next commit."""
    storage = SqliteCheckpointStorage(path)
    head = (await storage.list_runs(limit=1))[0].head
    # It is open for writing, too, as where other runs are in progress.
    await passing(1, storage).run(1, run_id="other")
    await storage.delete_run("other")
    started = time.perf_counter()
    workflow = passing(LIMIT, storage)
    async for event in workflow.run_stream_from_checkpoint(head):
        if isinstance(event, SuperStepCompletedEvent):
            break
    taken = time.perf_counter() - started
    await storage.aclose()
    return taken * 1000


def opening_figures(rounds: int) -> list[Figure]:
    """Opening and resuming runs of three lengths."""
    with scratch() as folder:
        paths = {str(length): folder / f"{length}.db" for length in LENGTHS}
        for length, path in zip(LENGTHS, paths.values(), strict=True):
            asyncio.run(leave(path, length))
            asyncio.run(open_head(path))  # what is imported at the first use is imported now
            asyncio.run(resume(path))
        opened = interleaved(
            rounds, {key: partial(_timed, open_head, path) for key, path in paths.items()}
        )
        resumed = interleaved(
            rounds, {key: partial(_timed, resume, path) for key, path in paths.items()}
        )
    return [
        *_by_length("opening", "file and head", opened),
        *_by_length("resuming", "run and next commit, in a database that is open", resumed),
    ]


def _timed(what: Callable[[Path], Coroutine[Any, Any, float]], path: Path) -> float:
    return asyncio.run(what(path))


def _by_length(verb: str, what: str, taken: dict[str, list[float]]) -> list[Figure]:
    longest, shortest = str(LENGTHS[-1]), str(LENGTHS[0])
    shown = ", ".join(f"{median(taken[key]):.2f} of {int(key):,}" for key in taken)
    by_round = zip(*taken.values(), strict=True)
    return [
        figure(
            f"{verb} a run of {LENGTHS[-1]:,} checkpoints",
            taken[longest],
            unit="ms",
            at_most=3.0,
            detail=what,
        ),
        figure(
            f"  growth of {verb} with checkpoints",
            [exponent(LENGTHS, costs) for costs in by_round],
            at_most=0.1,
            detail=f"ms: {shown}; {median(ratios(taken[longest], taken[shortest])):.2f} times",
        ),
    ]


def listing_figures(rounds: int) -> list[Figure]:
    """The newest of many runs."""
    with scratch() as folder:
        taken = asyncio.run(_list_newest(folder / "runs.db", 3 * rounds))
    name = f"listing the newest 50 of {RUNS:,} runs"
    return [figure(name, taken, unit="ms", at_most=20)]


async def _list_newest(path: Path, times: int) -> list[float]:
    taken = []
    async with SqliteCheckpointStorage(path) as storage:
        await asyncio.gather(*(storage.commit(_first(f"run {each:05d}")) for each in range(RUNS)))
        for _ in range(times):
            started = time.perf_counter()
            assert len(await storage.list_runs(limit=50)) == 50
            taken.append((time.perf_counter() - started) * 1000)
    return taken


def _first(run_id: str) -> Commit:
    """Return the commit that creates a run."""
    header = CheckpointHeader(
        checkpoint_id=checkpoint_id(run_id, 0),
        run_id=run_id,
        workflow_id="bench",
        timestamp=utc_now(),
    )
    return Commit(header=header, changes=Changes(), epoch=1)
