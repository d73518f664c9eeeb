"""What supersteps take of memory and of the disk, each measured in a process of its own.

Run as a program, it runs one of its jobs and prints what that took, in bytes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, figure
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage

SHORT, LONG = 12_000, 24_000
"""Both are beyond the 10,000 events and checkpoints that a run keeps at hand."""

RUN = "large"


class Large(Executor):
    """Sets a large key, then reads it."""

    @handler
    async def step(self, what: str, ctx: WorkflowContext[str]) -> None:
        """Set, or read."""
        if what == "set":
            await ctx.set_shared_state("large", [os.urandom(500).hex() for _ in range(100_000)])
            await ctx.send_message("read")
        else:
            assert len(await ctx.get_shared_state("large")) == 100_000


def large(storage: SqliteCheckpointStorage) -> Workflow:
    """Return a workflow with a state of 100 MB."""
    executor = Large("large")
    builder = WorkflowBuilder(name="large").add_edge(executor, executor)
    return builder.set_start_executor(executor).with_checkpointing(storage).build()


async def save_large(path: str) -> int:
    """Save the large state; return its encoded size."""
    async with SqliteCheckpointStorage(path) as storage:
        await large(storage).run("set", run_id=RUN)
        record = await storage.load_record(f"{RUN}-000001")
        assert record is not None
        return sum(len(part) for part in record.parts.values())


async def resume_large(path: str) -> int:
    """Resume the large state; return by how much the process has grown at most."""
    before = peak()
    async with SqliteCheckpointStorage(path) as storage:
        await large(storage).run_from_checkpoint(f"{RUN}-000001")
    return peak() - before


async def run_bare(steps: str) -> int:
    """Run supersteps without storage; return by how much the process has grown at most."""
    before = peak()
    await passing(int(steps)).run(int(steps))
    return peak() - before


async def run_sqlite(steps: str) -> int:
    """Run supersteps in SQLite; return by how much the process has grown at most."""
    before = peak()
    with scratch() as folder:
        async with SqliteCheckpointStorage(folder / "peak.db") as storage:
            await passing(int(steps), storage).run(int(steps))
    return peak() - before


async def run_memory(steps: str) -> int:
    """Run supersteps in memory; return by how much the process has grown at most."""
    before = peak()
    await passing(int(steps), InMemoryCheckpointStorage()).run(int(steps))
    return peak() - before


JOBS: dict[str, Callable[[str], Awaitable[int]]] = {
    "save-large": save_large,
    "resume-large": resume_large,
    "bare": run_bare,
    "memory": run_memory,
    "sqlite": run_sqlite,
}


def peak() -> int:
    """Return the most memory that this process has had so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` would count the process that started this one, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def taken(job: str, argument: str) -> int:
    """Return what a job takes, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.footprint", job, argument]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_figures(rounds: int) -> list[Figure]:
    """The most memory of a run, and whether it grows with the run's length."""
    figures = []
    for where, at_most in (("bare", 100.0), ("sqlite", 100.0), ("memory", None)):
        shorter, longer = [], []
        for _ in range(rounds):
            shorter.append(taken(where, str(SHORT)))
            longer.append(taken(where, str(LONG)))
        each = [(b - a) / (LONG - SHORT) for a, b in zip(shorter, longer, strict=True)]
        detail = f"{median(longer) / 1e6:,.1f} MB at the peak of {LONG:,} supersteps"
        name = f"{where}: memory of each superstep after {SHORT:,}"
        figures.append(figure(name, each, unit="bytes", at_most=at_most, detail=detail))
    return figures


def large_figures(rounds: int) -> list[Figure]:
    """What resuming a large state takes."""
    with scratch() as folder:
        path = str(folder / "large.db")
        size = taken("save-large", path)
        peaks = [taken("resume-large", path) for _ in range(rounds)]
    detail = f"{median(peaks) / 1e6:,.0f} MB more at the peak for {size / 1e6:,.0f} MB encoded"
    each = [value / size for value in peaks]
    name = "resuming a state of 100 MB: peak memory by its size"
    return [figure(name, each, at_most=4.0, detail=detail)]


if __name__ == "__main__":
    print(asyncio.run(JOBS[sys.argv[1]](sys.argv[2])))  # type: ignore[arg-type]
