"""What durable supersteps cost in SQLite, beside a hand-written loop that commits to the same file system."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.table import Row
from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler
from supersteps._ids import checkpoint_id
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.record import Changes, CheckpointHeader, Commit, utc_now
from supersteps.storage.sqlite import SqliteCheckpointStorage

ROUNDS = 5
STEPS = 1000
MANY_RUNS = 50
LONG = 10_000
SHORT = 400


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder on the file system that is measured."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="supersteps-bench-") as folder:
        yield Path(folder)


# --------------------------------------------------------------------------------------------------- floor, workflows


def raw_rate(folder: Path) -> float:
    """Return transactions per second of a loop that inserts 600 bytes in each, as durably."""
    db = sqlite3.connect(folder / "raw.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
    data = os.urandom(600)
    begun = time.perf_counter()
    for _ in range(STEPS):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO rows (data) VALUES (?)", (data,))
        db.execute("COMMIT")
    rate = STEPS / (time.perf_counter() - begun)
    db.close()
    return rate


class Countdown(Executor):
    """Sends itself one less until nothing is left, and notes when."""

    def __init__(self) -> None:
        super().__init__("countdown")
        self.times: list[float] = []

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        """Take a step."""
        self.times.append(time.perf_counter())
        await self.change(ctx)
        if left > 1:
            await ctx.send_message(left - 1)

    async def change(self, ctx: WorkflowContext[int, int]) -> None:
        """Change some state."""


class Note(Countdown):
    """Replaces a key of 1 KB."""

    async def change(self, ctx: WorkflowContext[int, int]) -> None:
        await ctx.set_shared_state("note", os.urandom(500).hex())


class NoteBesideMuch(Note):
    """Replaces a key of 1 KB beside one of 1 MB that it sets once."""

    async def change(self, ctx: WorkflowContext[int, int]) -> None:
        if len(self.times) == 1:
            await ctx.set_shared_state("much", [os.urandom(100).hex() for _ in range(5000)])
        await super().change(ctx)


def turn(number: int) -> dict[str, object]:
    """Return 230 bytes of a conversation."""
    return {"role": "user", "content": os.urandom(95).hex(), "n": number}


class History(Countdown):
    """Appends to a list."""

    async def change(self, ctx: WorkflowContext[int, int]) -> None:
        await ctx.append_shared_state("history", turn(len(self.times)))


class WholeHistory(Countdown):
    """Sets a list anew each time it has grown."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[object] = []

    async def change(self, ctx: WorkflowContext[int, int]) -> None:
        self.history.append(turn(len(self.history)))
        await ctx.set_shared_state("history", self.history)


def workflow(executor: Executor, storage: SqliteCheckpointStorage, steps: int) -> Workflow:
    """Return a workflow of one executor that loops."""
    builder = (
        WorkflowBuilder(max_iterations=steps + 1)
        .add_edge(executor, executor)
        .set_start_executor(executor)
    )
    return builder.with_checkpointing(checkpoint_storage=storage).build()


async def run(
    path: Path, make: Callable[[], Countdown], steps: int, runs: int = 1
) -> tuple[float, Countdown]:
    """Run supersteps in a database; return how many there were per second, and the executor."""
    async with SqliteCheckpointStorage(path) as storage:
        executor = make()
        looping = workflow(executor, storage, steps)
        await workflow(Countdown(), storage, 2).run(
            2
        )  # the file is made and open, as that of the raw loop is
        begun = time.perf_counter()
        await asyncio.gather(*(looping.run(steps) for _ in range(runs)))
        return steps * runs / (time.perf_counter() - begun), executor


def growth(path: Path, make: Callable[[], Countdown], steps: int) -> float:
    """Return by how many bytes a step makes the file grow, beyond what two steps need."""
    asyncio.run(run(path, make, 2))
    before = path.stat().st_size
    asyncio.run(run(path.with_suffix(".long.db"), make, steps))
    return (path.with_suffix(".long.db").stat().st_size - before) / (steps - 2)


# ------------------------------------------------------------------------------------------------------------ figures


def small_steps() -> list[Row]:
    """One run and fifty, beside the raw rate of the same round."""
    raw, one, many = [], [], []
    for _ in range(ROUNDS):
        with scratch() as folder:
            raw.append(raw_rate(folder))
            one.append(asyncio.run(run(folder / "one.db", Countdown, STEPS))[0])
            many.append(asyncio.run(run(folder / "many.db", Countdown, 200, MANY_RUNS))[0])
    ratio_one = median(rate / floor for rate, floor in zip(one, raw, strict=True))
    ratio_many = median(rate / floor for rate, floor in zip(many, raw, strict=True))
    beside = f"beside {median(raw):,.0f} raw transactions/s"
    return [
        Row("small durable superstep", f"{median(one):,.0f}/s {beside}", ratio_one, 0.85),
        Row(f"{MANY_RUNS} runs at once", f"{median(many):,.0f}/s {beside}", ratio_many, 3.0),
    ]


def untouched_key() -> list[Row]:
    """A key of 1 MB that nobody touches."""
    small: list[float] = []
    much: list[float] = []
    for _ in range(ROUNDS):
        with scratch() as folder:
            for name, make, rates in (("small", Countdown, small), ("much", NoteBesideMuch, much)):
                _, executor = asyncio.run(run(folder / f"{name}.db", make, STEPS))
                rates.append(steady_rate(executor.times))
    with scratch() as folder:
        grown = growth(folder / "growth.db", NoteBesideMuch, STEPS)
    ratio = median(rate / floor for rate, floor in zip(much, small, strict=True))
    return [
        Row(
            "1 KB replaced beside an untouched 1 MB",
            f"{median(much):,.0f}/s beside {median(small):,.0f}/s",
            ratio,
            0.8,
        ),
        Row("  its bytes per step", "file growth after aclose()", grown, 2500, at_most=True),
    ]


def history() -> list[Row]:
    """A list that grows by 230 bytes a step, appended to."""
    with scratch() as folder:
        short = growth(folder / "short.db", History, SHORT)
        long = growth(folder / "long.db", History, LONG)
        _, executor = asyncio.run(run(folder / "timed.db", History, LONG))
    early = median(window_rates(executor.times, SHORT))
    late = median(window_rates(executor.times, LONG - 600))
    return [
        Row(
            f"230 bytes appended, bytes per step at {SHORT}",
            "file growth after aclose()",
            short,
            700,
            at_most=True,
        ),
        Row(f"  at {LONG:,}", "file growth after aclose()", long, 700, at_most=True),
        Row(
            f"  rate at {LONG:,} beside that at {SHORT}",
            f"{late:,.0f}/s beside {early:,.0f}/s",
            late / early,
            0.5,
        ),
    ]


def steady_rate(times: list[float]) -> float:
    """Return steps per second, without the first two: they make the run and the first copy of what it keeps."""
    return (len(times) - 3) / (times[-1] - times[2])


def window_rates(times: list[float], around: int) -> list[float]:
    """Return steps per second of ten windows of 50 steps each."""
    starts = range(around - 200, around + 300, 50)
    return [50 / (times[start + 50] - times[start]) for start in starts]


def whole_history() -> list[Row]:
    """The same list, set as a whole."""
    ratios = []
    for _ in range(ROUNDS):
        with scratch() as folder:
            small = cpu_seconds(partial(asyncio.run, run(folder / "small.db", Countdown, SHORT)))
            whole = cpu_seconds(partial(asyncio.run, run(folder / "whole.db", WholeHistory, SHORT)))
        ratios.append((whole - small) / cpu_seconds(encode_each_length))
    with scratch() as folder:
        grown = growth(folder / "growth.db", WholeHistory, SHORT)
    return [
        Row(
            f"the whole list set, bytes per step at {SHORT}",
            "file growth after aclose()",
            grown,
            4000,
            at_most=True,
        ),
        Row(
            "  CPU beside one encoding of the list",
            "beyond that of a small step",
            median(ratios),
            3.0,
            at_most=True,
        ),
    ]


def encode_each_length() -> None:
    """Encode a list at each of its lengths, once."""
    codec = Codec()
    items: list[object] = []
    for number in range(SHORT):
        items.append(turn(number))
        codec.encode(items)


def cpu_seconds(job: Callable[[], object]) -> float:
    """Return the processor time that a job takes, on all threads."""
    begun = time.process_time()
    job()
    return time.process_time() - begun


def opening() -> list[Row]:
    """The latest checkpoint of a long run, and the newest of many runs."""
    with scratch() as folder:
        asyncio.run(run(folder / "short.db", Note, 100))
        asyncio.run(run(folder / "long.db", Note, LONG))
        short = median(asyncio.run(open_latest(folder / "short.db")) for _ in range(ROUNDS * 3))
        long = median(asyncio.run(open_latest(folder / "long.db")) for _ in range(ROUNDS * 3))
        listing = median(asyncio.run(list_newest(folder / "runs.db")))
    return [
        Row(
            f"opening the latest of {LONG:,} checkpoints, ms",
            f"database included; of 100: {short:.2f}",
            long,
            5,
            at_most=True,
        ),
        Row("  beside the latest of 100", "flat", long / short, 2, at_most=True),
        Row(f"listing the newest 50 of {LONG:,} runs, ms", "", listing, 20, at_most=True),
    ]


async def open_latest(path: Path) -> float:
    """Return how many milliseconds it takes to open a database and the head of its newest run, and read its state."""
    storage = SqliteCheckpointStorage(path)
    begun = time.perf_counter()
    newest = (await storage.list_runs(limit=1))[0]
    checkpoint = await storage.load_checkpoint(newest.head)
    assert checkpoint is not None
    assert checkpoint.shared_state["note"]
    taken = time.perf_counter() - begun
    await storage.aclose()
    return taken * 1000


async def list_newest(path: Path) -> list[float]:
    """Return how many milliseconds it takes to list 50 runs of very many, several times."""
    taken = []
    async with SqliteCheckpointStorage(path) as storage:
        await asyncio.gather(
            *(storage.commit(first_commit(f"run {number:05d}")) for number in range(LONG))
        )
        for _ in range(ROUNDS * 3):
            begun = time.perf_counter()
            assert len(await storage.list_runs(limit=50)) == 50
            taken.append((time.perf_counter() - begun) * 1000)
    return taken


def first_commit(run_id: str) -> Commit:
    """Return the commit that creates a run."""
    header = CheckpointHeader(
        checkpoint_id=checkpoint_id(run_id, 0),
        run_id=run_id,
        workflow_id="bench",
        timestamp=utc_now(),
    )
    return Commit(header=header, changes=Changes(), epoch=1)


def memory() -> list[Row]:
    """What resuming a large state takes, in a process of its own."""
    with scratch() as folder:
        script = [sys.executable, "-m", "benchmarks.large_state", str(folder / "large.db")]
        size = int(
            subprocess.run([*script, "save"], check=True, capture_output=True, text=True).stdout
        )
        peaks = [
            int(
                subprocess.run(
                    [*script, "resume"], check=True, capture_output=True, text=True
                ).stdout
            )
            for _ in range(ROUNDS)
        ]
    peak = median(peaks)
    detail = f"{peak / 1e6:,.0f} MB more at the peak for {size / 1e6:,.0f} MB encoded"
    return [Row("resuming a state of 100 MB, peak memory", detail, peak / size, 4.0, at_most=True)]


def main() -> list[Row]:
    """Measure everything."""
    return [
        row
        for figure in (small_steps, untouched_key, history, whole_history, opening, memory)
        for row in figure()
    ]
