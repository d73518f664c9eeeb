"""The long haul: runs that are very long, many, wide or watched slowly; time, memory and files
have to stay flat.

    python -m tests.reliability.long_haul [--steps 1000000] [--runs 100000] [--folder FOLDER] [PART
    ...]

Each part has a process of its own. Flat means: the last tenth takes at most 1.5 times as long per
item as the first, memory grows by less than 50 MB from there to the end, and files grow no faster
than what is kept in them. Where only the clock says that the last tenth took longer, and not the
time of the processor, the machine had other work: that is told, and held against nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from supersteps import (
    Executor,
    FileCheckpointStorage,
    ManagedStorage,
    RetentionPolicy,
    SqliteCheckpointStorage,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    handler,
)

SLOWER = 1.5
"""How many times as long the last tenth may take."""

GROWTH = 50_000_000
"""By how many bytes the process may grow after the first tenth."""

RUN = "haul"


# ---------------------------------------------------------------------------------------- measuring


@dataclass
class Figures:
    """What a part came to.

    Attributes:
        part: Its name.
        size: How many items it had.
        unit: What an item is.
        seconds: How long all of them took.
        first: Seconds per item in the first tenth.
        last: Seconds per item in the last tenth.
        processor: How many times as much of the processor an item took in the last tenth as in the
            first.
        memory: Bytes of the process after the first tenth, and at the end.
        stored: Bytes of the files after the first tenth, and at the end.
        remarks: Further figures.
        problems: What is not flat.
    """

    part: str
    size: int
    unit: str
    seconds: float
    first: float
    last: float
    processor: float
    memory: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def judge(self) -> Figures:
        """Note what is not flat."""
        if self.last > SLOWER * self.first:
            slower = f"the last tenth took {self.last / self.first:.2f} times as long as the first"
            slower += f", {self.processor:.2f} times by the processor"
            (self.problems if self.processor > SLOWER else self.remarks).append(slower)
        if self.memory[1] - self.memory[0] >= GROWTH:
            self.problems.append(f"memory grew by {megabytes(self.memory[1] - self.memory[0])}")
        return self


class Course:
    """Looks at the clock, the memory and the files at each tenth."""

    def __init__(self, size: int, stored: Callable[[], int] = lambda: 0) -> None:
        self._size = size
        self._places = {size * tenth // 10 for tenth in range(11)}
        self._stored = stored
        self.seen: list[tuple[int, float, int, int, float]] = []

    def reach(self, done: int) -> None:
        """Say how many items are done."""
        if done in self._places:
            self._places.discard(done)
            memory = resident() if done >= self._size // 10 else 0
            self.seen.append(
                (done, time.perf_counter(), memory, self._stored(), time.process_time())
            )

    def figures(self, part: str, unit: str) -> Figures:
        """Return what was seen."""
        begin, tenth, *_, almost, end = self.seen
        processor = (
            (end[4] - almost[4])
            / (end[0] - almost[0])
            / ((tenth[4] - begin[4]) / (tenth[0] - begin[0]))
        )
        return Figures(
            part,
            self._size,
            unit,
            end[1] - begin[1],
            (tenth[1] - begin[1]) / (tenth[0] - begin[0]),
            (end[1] - almost[1]) / (end[0] - almost[0]),
            processor,
            (tenth[2], end[2]),
            (tenth[3], end[3]),
        ).judge()

    def bytes_per_item(self) -> tuple[float, float]:
        """Return by how much the files grew per item, in the second tenth and in the last."""
        _, tenth, second, *_, almost, end = self.seen
        return (second[3] - tenth[3]) / (second[0] - tenth[0]), (end[3] - almost[3]) / (
            end[0] - almost[0]
        )


def resident() -> int:
    """Return how many bytes of memory the process has at this moment, or had at most where that
    is not told.
    """
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * 4096
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def bytes_in(folder: Path) -> int:
    """Return how many bytes the files of a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def seconds_of(work: Callable[[], Awaitable[Any]], times: int = 5) -> float:
    """Return how long something takes at best."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


# ------------------------------------------------------------------------- one run, many supersteps


class Countdown(Executor):
    """Sends itself one less until nothing is left, and changes a little state each time."""

    def __init__(self, course: Course | None = None, steps: int = 0) -> None:
        super().__init__("countdown")
        self.course = course
        self.steps = steps

    @handler
    async def step(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        if self.course is not None:
            self.course.reach(self.steps - left)
        await ctx.set_shared_state("note", f"{left:08} is left " * 10)
        if left > 0:
            await ctx.send_message(left - 1)


def counting(
    countdown: Countdown, storage: ManagedStorage, steps: int, keep: int | None = None
) -> Workflow:
    retention = None if keep is None else RetentionPolicy(keep_last=keep)
    builder = WorkflowBuilder(name="long", max_iterations=steps + 1).add_edge(countdown, countdown)
    return (
        builder.set_start_executor(countdown)
        .with_checkpointing(storage, retention=retention)
        .build()
    )


async def kept(folder: Path, steps: int) -> Figures:
    """One run whose retention keeps the newest 100 checkpoints."""
    course = Course(steps, lambda: bytes_in(folder))
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        await counting(Countdown(course, steps), storage, steps, keep=100).run(steps, run_id=RUN)
        headers = await storage.list_headers(RUN)
    figures = course.figures("supersteps, keep 100", "superstep")
    figures.remarks.append(f"{len(headers)} checkpoints left")
    if len(headers) > 200:
        figures.problems.append("retention did not keep up")
    if figures.stored[1] > SLOWER * figures.stored[0] + 1_000_000:
        figures.problems.append("the file grew, though no more was kept")
    return figures


async def unkept(folder: Path, steps: int) -> Figures:
    """One run that keeps every checkpoint."""
    course = Course(steps, lambda: bytes_in(folder))
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        await counting(Countdown(course, steps), storage, steps).run(steps, run_id=RUN)
    figures = course.figures("supersteps, keep all", "superstep")
    early, late = course.bytes_per_item()
    figures.remarks.append(f"{early:,.0f} B per superstep, {late:,.0f} B at the end")
    if late > SLOWER * early + 100:
        figures.problems.append("a superstep takes more and more room")
    return figures


# ---------------------------------------------------------------------------------------- many runs


async def many(folder: Path, runs: int) -> Figures:
    """Many short runs in one file: 20 at a time; then list them, open the newest, resume one."""
    course = Course(runs, lambda: bytes_in(folder))
    looks: list[dict[str, float]] = []
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        workflow = counting(Countdown(), storage, 3)

        async def resume(number: int) -> None:
            await workflow.run_from_checkpoint(f"{RUN}-{number}-000001")

        async def look(number: int) -> dict[str, float]:
            (newest,) = await storage.list_runs(limit=1)
            head = str(newest.head)
            return {
                "list": await seconds_of(lambda: storage.list_runs(limit=50)),
                "by status": await seconds_of(lambda: storage.list_runs(status="FAILED")),
                "open": await seconds_of(lambda: storage.load_record(head)),
                "resume": await seconds_of(lambda: resume(number)),
            }

        course.reach(0)
        done = 0
        while done < runs:
            batch = range(done, min(done + 20, runs))
            await asyncio.gather(*(workflow.run(2, run_id=f"{RUN}-{number}") for number in batch))
            if done < max(20, runs // 10) <= batch.stop:
                looks.append(await look(batch.start))
            done = batch.stop
            course.reach(done)
        looks.append(await look(runs - 1))
    figures = course.figures("runs of 3 supersteps", "run")
    early, late = course.bytes_per_item()
    figures.remarks.append(f"{early:,.0f} B per run, {late:,.0f} B at the end")
    if late > SLOWER * early + 100:
        figures.problems.append("a run takes more and more room")
    for name, then in looks[0].items():
        now = looks[-1][name]
        figures.remarks.append(f"{name} {then * 1000:.1f} ms, {now * 1000:.1f} ms at the end")
        if now > SLOWER * then + 0.005:
            figures.problems.append(f"{name} takes longer with more runs")
    return figures


# ---------------------------------------------------------------------------------------- wide ones


class Crowd(Executor):
    """Sends many messages at once."""

    @handler
    async def start(self, count: int, ctx: WorkflowContext[int]) -> None:
        for number in range(count):
            await ctx.send_message(number)


class Tally(Executor):
    """Counts them one by one."""

    @handler
    async def count(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        state = await ctx.get_state() or {"count": 0}
        await ctx.set_state({"count": state["count"] + 1})
        await ctx.append_shared_state("seen", number)


def crowded(storage: ManagedStorage) -> Workflow:
    crowd, tally = Crowd("crowd"), Tally("tally")
    builder = WorkflowBuilder(name="crowd").set_start_executor(crowd).add_edge(crowd, tally)
    return builder.with_checkpointing(storage).build()


async def messages(storage: ManagedStorage, folder: Path, count: int, where: str) -> Figures:
    """Many messages in one superstep, beside a tenth of them."""
    taken, worked, memory, stored = [], [], [], []

    async def again(size: int, runs: Iterator[int]) -> None:
        await crowded(storage).run(size, run_id=f"{RUN}-{size}-{next(runs)}")

    async with storage:
        for number, size in enumerate((count // 10, count)):
            runs = iter(range(10))
            await crowded(storage).run(size, run_id=f"{RUN}-{number}")
            begun = time.process_time()
            taken.append(await seconds_of(partial(again, size, runs)) / size)
            worked.append((time.process_time() - begun) / size)
            memory.append(resident())
            stored.append(bytes_in(folder))
            record = await storage.load_record(f"{RUN}-{number}-000002")
            assert record is not None
            assert record.parts[("executor_states", "tally", "count")] == str(size).encode()
    figures = Figures(
        f"messages at once, {where}",
        count,
        "message",
        taken[1] * count,
        taken[0],
        taken[1],
        worked[1] / worked[0],
    )
    figures.memory, figures.stored = (memory[0], memory[1]), (stored[0], stored[1])
    return figures.judge()


class Gate(Executor):
    """Begins each lap and counts it."""

    def __init__(self, course: Course, laps: int) -> None:
        super().__init__("gate")
        self.course = course
        self.laps = laps

    @handler
    async def begin(self, lap: int, ctx: WorkflowContext[int]) -> None:
        self.course.reach(lap)
        if lap < self.laps:
            await ctx.send_message(lap)


class Worker(Executor):
    """Hands on what it gets, after it has noted it."""

    @handler
    async def work(self, lap: int, ctx: WorkflowContext[int]) -> None:
        await ctx.set_state({"lap": lap})
        await ctx.send_message(lap)


class Judge(Executor):
    """Ends a lap once everybody has arrived."""

    def __init__(self, count: int) -> None:
        super().__init__("judge")
        self.count = count

    @handler
    async def end(self, laps: list[int], ctx: WorkflowContext[int]) -> None:
        assert laps == [laps[0]] * self.count
        await ctx.send_message(laps[0] + 1)


async def fan(folder: Path, laps: int, width: int = 500) -> Figures:
    """A fan-out to many executors and a fan-in from them, lap after lap."""
    course = Course(laps, lambda: bytes_in(folder))
    gate, judge = Gate(course, laps), Judge(width)
    workers = [Worker(f"worker{number}") for number in range(width)]
    builder = WorkflowBuilder(name="fan", max_iterations=3 * laps + 1).set_start_executor(gate)
    builder.add_fan_out_edges(gate, workers).add_fan_in_edges(workers, judge).add_edge(judge, gate)
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        retention = RetentionPolicy(keep_last=100)
        await builder.with_checkpointing(storage, retention=retention).build().run(0, run_id=RUN)
    return course.figures(f"fan of {width} executors", "lap")


async def chain(folder: Path, laps: int, length: int = 500) -> Figures:
    """A chain of many executors that is a ring: one superstep each."""
    course = Course(laps, lambda: bytes_in(folder))
    gate = Gate(course, laps)
    links = [Worker(f"link{number}") for number in range(length)]
    builder = WorkflowBuilder(
        name="chain", max_iterations=laps * (length + 2) + 1
    ).set_start_executor(gate)
    last = Next("next")
    builder.add_chain([gate, *links, last]).add_edge(last, gate)
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        await builder.with_checkpointing(storage).build().run(0, run_id=RUN)
    return course.figures(f"chain of {length} executors", "lap")


class Next(Executor):
    """Begins the next lap."""

    @handler
    async def go_on(self, lap: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(lap + 1)


# ----------------------------------------------------------------------------------- slow consumers


class Talker(Executor):
    """Tells of far more than anybody can listen to, in one superstep."""

    def __init__(self, course: Course) -> None:
        super().__init__("talker")
        self.course = course

    @handler
    async def talk(self, count: int, ctx: WorkflowContext[int]) -> None:
        for number in range(count):
            self.course.reach(number)
            await ctx.add_event(WorkflowEvent(f"event {number} " * 10))
        self.course.reach(count)


async def slow(folder: Path, count: int) -> Figures:
    """A consumer that is slower than the handler it watches."""
    course = Course(count)
    seen = 0
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        talker = Talker(course)
        workflow = (
            WorkflowBuilder(name="talk")
            .set_start_executor(talker)
            .with_checkpointing(storage)
            .build()
        )
        run = workflow.run_stream(count, run_id=RUN)
        most = 0
        async for event in run:
            most = max(most, len(run._stream.events))
            seen += type(event) is WorkflowEvent
            if seen % 100 == 0:
                await asyncio.sleep(0.001)
    figures = course.figures("events at once, slow consumer", "event")
    figures.remarks.append(f"at most {most:,} undelivered")
    if seen != count:
        figures.problems.append(f"{seen} events arrived")
    return figures


async def ahead(folder: Path, steps: int) -> Figures:
    """A consumer that pauses: the engine must not run ahead of it."""
    course, countdown = Course(steps), Countdown()
    reached, most = 0, 0

    class Ahead(Course):
        def reach(self, done: int) -> None:
            nonlocal reached
            reached = done

    countdown.course, countdown.steps = Ahead(steps), steps
    async with SqliteCheckpointStorage(folder / "runs.db") as storage:
        delivered = 0
        async for event in counting(countdown, storage, steps, keep=100).run_stream(
            steps, run_id=RUN
        ):
            if isinstance(event, SuperStepCompletedEvent):
                course.reach(delivered)
                delivered += 1
                await asyncio.sleep(0.0005)
                most = max(most, reached - delivered)
    figures = course.figures("supersteps, slow consumer", "superstep")
    figures.remarks.append(f"at most {max(most, 0)} supersteps ahead")
    if most > 1:
        figures.problems.append("the engine ran ahead of its consumer")
    return figures


# ---------------------------------------------------------------------------------------- the table


def perform(part: str, steps: int, runs: int, base: str | None) -> Figures:
    """Do a part."""
    scale = min(1.0, steps / 1_000_000)
    with tempfile.TemporaryDirectory(dir=base, prefix="supersteps-haul-") as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Any]] = {
            "steps": lambda: kept(folder, steps),
            "growth": lambda: unkept(folder, max(1000, steps // 10)),
            "runs": lambda: many(folder, max(200, runs)),
            "messages-sqlite": lambda: messages(
                SqliteCheckpointStorage(folder / "runs.db"), folder, 10_000, "SQLite"
            ),
            "messages-file": lambda: messages(
                FileCheckpointStorage(folder), folder, 10_000, "files"
            ),
            "fan": lambda: fan(folder, max(20, int(100 * scale))),
            "chain": lambda: chain(folder, max(10, int(20 * scale))),
            "events": lambda: slow(folder, max(10_000, steps)),
            "ahead": lambda: ahead(folder, max(1000, steps // 100)),
        }
        figures: Figures = asyncio.run(parts[part]())
        return figures


PARTS = (
    "steps",
    "growth",
    "runs",
    "messages-sqlite",
    "messages-file",
    "fan",
    "chain",
    "events",
    "ahead",
)


def lines(rows: list[Figures]) -> list[str]:
    """Return the table."""
    cells = [
        [
            "part",
            "size",
            "seconds",
            "first tenth",
            "last tenth",
            "memory at 10 %",
            "at the end",
            "files",
            "at end",
        ]
    ]
    cells += [
        [
            row.part,
            f"{row.size:,}",
            f"{row.seconds:,.1f}",
            f"{1 / row.first:,.0f}/s",
            f"{1 / row.last:,.0f}/s",
            *map(megabytes, (*row.memory, *row.stored)),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    for place, row in enumerate(rows):
        verdict = "flat" if not row.problems else f"NOT FLAT: {'; '.join(row.problems)}"
        table[place + 1] += "  " + "; ".join([verdict, *row.remarks])
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.reliability.long_haul", description="Run for long."
    )
    parser.add_argument("part", nargs="*", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument(
        "--folder", help="where the files are; the system's folder for temporary ones by default"
    )
    options = parser.parse_args()
    unknown = [name for name in options.part if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}")
    rows: list[Figures] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        for part in options.part or PARTS:
            rows.append(
                processes.submit(
                    perform, part, options.steps, options.runs, options.folder
                ).result()
            )
            print("\n".join(lines(rows[-1:])[1:]), flush=True)
    print("\n".join(["", *lines(rows)]))
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
