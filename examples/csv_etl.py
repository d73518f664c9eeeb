"""A CSV file flows through in batches: read, check, load; bad rows are collected with what is
wrong with them.

    python -m examples.csv_etl

A batch that was loaded a moment before a crash is loaded again. The table takes it once, because a
row's place in the file is its key.
"""

import asyncio
import csv
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Never

from examples._play import Place, nowhere, play, read_options, show
from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, executor, handler

SOURCE = Path(__file__).parent / "data" / "catch.csv"
FISH = ("cod", "herring", "mackerel")
BATCH = 3


@dataclass(frozen=True)
class Position:
    """How many rows are read already."""

    row: int


@dataclass(frozen=True)
class Rows:
    first: int
    rows: list[dict[str, str]]


@dataclass(frozen=True)
class Catch:
    row: int
    boat: str
    fish: str
    kilograms: float


@dataclass(frozen=True)
class End:
    """Follows the last batch through the pipe."""

    rows: int


class Extract(Executor):
    """Reads a batch, then sends itself the position, so that the next one is read meanwhile."""

    @handler
    def read(self, position: Position, ctx: WorkflowContext[Position | Rows | End]) -> None:
        with SOURCE.open(newline="", encoding="utf-8") as file:
            rows = list(islice(csv.DictReader(file), position.row, position.row + BATCH))
        if rows:
            ctx.send_message(Rows(position.row + 1, rows))
            ctx.send_message(Position(position.row + len(rows)))
        else:
            ctx.send_message(End(position.row))


class Transform(Executor):
    @handler
    async def check(self, batch: Rows, ctx: WorkflowContext[list[Catch]]) -> None:
        good = []
        for number, row in enumerate(batch.rows, batch.first):
            try:
                good.append(parse(number, row))
            except ValueError as error:
                await ctx.append_shared_state("rejected", f"row {number}: {error}")
        await ctx.send_message(good)

    @handler
    async def end(self, end: End, ctx: WorkflowContext[End]) -> None:
        await ctx.send_message(end)


def parse(number: int, row: dict[str, str]) -> Catch:
    if row["fish"] not in FISH:
        raise ValueError(f"{row['fish']!r} is not a known fish")
    kilograms = float(row["kilograms"] or "nan")
    if not kilograms > 0:
        raise ValueError(f"{row['kilograms']!r} is not a weight")
    return Catch(number, row["boat"], row["fish"], kilograms)


class Load(Executor):
    """The sink: a table whose key makes loading idempotent."""

    def __init__(self, id: str, database: Path) -> None:
        super().__init__(id)
        self.database = database

    @handler
    def load(self, batch: list[Catch], ctx: WorkflowContext) -> None:
        with closing(sqlite3.connect(self.database)) as table, table:
            table.execute(
                "create table if not exists catch (row integer primary key, boat, fish, kilograms)"
            )
            values = [(item.row, item.boat, item.fish, item.kilograms) for item in batch]
            table.executemany("insert or replace into catch values (?, ?, ?, ?)", values)

    @handler
    def end(self, end: End, ctx: WorkflowContext[str]) -> None:
        with closing(sqlite3.connect(self.database)) as table:
            found = table.execute(
                "select fish, count(*), sum(kilograms) from catch group by fish order by fish"
            )
            for fish, count, kilograms in found:
                ctx.send_message(f"{fish}: {count} rows, {kilograms:g} kg")


@executor
async def report(line: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(line)


def build_workflow(place: Place) -> Workflow:
    extract, transform, load = (
        Extract("extract"),
        Transform("transform"),
        Load("load", place.world / "catch.db"),
    )
    return (
        WorkflowBuilder(name="csv-etl")
        .set_start_executor(extract)
        .add_edge(extract, extract)
        .add_chain([extract, transform, load, report])
        .with_checkpointing(place.storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(nowhere())


async def main() -> None:
    place = read_options("csv_etl", __doc__)
    show(await play(build_workflow(place), Position(0), place))
    checkpoint = (await place.storage.list_checkpoints(run_id=place.run_id))[-1]
    show([f"rejected: {reason}" for reason in checkpoint.shared_state["rejected"]])


if __name__ == "__main__":
    asyncio.run(main())
