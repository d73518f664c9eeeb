"""What durable supersteps cost in Postgres, beside loops that do the same by hand."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg

from benchmarks.figures import Figure, figure, interleaved, ratios
from benchmarks.floors import HEAD_BYTES, ROW_BYTES
from benchmarks.passing import passing
from benchmarks.scratch import scratch
from supersteps.storage.postgres.storage import PostgresCheckpointStorage
from tests.postgres_server import VARIABLE, Server

STEPS = 500
MANY_STEPS = 50
WARM_UP = 50
SYNCED = {"fsync": "on", "full_page_writes": "on"}

Connection = psycopg.Connection[tuple[Any, ...]]

_TABLES = """
DROP SCHEMA IF EXISTS by_hand CASCADE;
CREATE SCHEMA by_hand;
CREATE TABLE by_hand.heads (run bigint PRIMARY KEY, epoch bigint, head bigint, note bytea)
    WITH (fillfactor = 50);
CREATE TABLE by_hand.rows (run bigint, number bigint, data bytea, PRIMARY KEY (run, number));
INSERT INTO by_hand.heads VALUES (1, 1, 0, NULL);
"""
_UPDATE = "UPDATE by_hand.heads SET head = %s, note = %s WHERE run = 1 AND epoch = 1 AND head = %s"
_INSERT = "INSERT INTO by_hand.rows VALUES (1, %s, %s)"
_BOTH = (
    f"WITH fence AS ({_UPDATE} RETURNING run) "
    "INSERT INTO by_hand.rows SELECT run, %s, %s FROM fence"
)
_NOTE, _ROW = os.urandom(HEAD_BYTES), os.urandom(ROW_BYTES)


@contextmanager
def server() -> Iterator[str]:
    """Give the address of a server that syncs its log at every commit."""
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    with scratch() as folder:
        folder.chmod(0o755)  # for the user that the server runs as
        own = Server(folder / "server", SYNCED)
        own.create()
        own.start()
        try:
            yield own.dsn
        finally:
            own.stop()


def _transaction(db: Connection, number: int) -> None:
    with db.transaction():
        moved = db.execute(_UPDATE.encode(), (number + 1, _NOTE, number), prepare=True)
        assert moved.rowcount == 1
        db.execute(_INSERT.encode(), (number + 1, _ROW), prepare=True)


def _statement(db: Connection, number: int) -> None:
    values = (number + 1, _NOTE, number, number + 1, _ROW)
    assert db.execute(_BOTH.encode(), values, prepare=True).rowcount == 1


def by_hand(dsn: str, commit: Callable[[Connection, int], None]) -> float:
    """Return commits per second of a loop that compares and moves a head, and inserts a row."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(_TABLES.encode())
        for number in range(WARM_UP):
            commit(db, number)
        started = time.perf_counter()
        for number in range(WARM_UP, WARM_UP + STEPS):
            commit(db, number)
        return STEPS / (time.perf_counter() - started)


def rate(dsn: str, runs: int, steps: int) -> float:
    """Return supersteps per second of runs that advance side by side in one database."""

    async def measure() -> float:
        async with PostgresCheckpointStorage(dsn) as storage:
            await passing(WARM_UP, storage).run(WARM_UP)
            workflow = passing(steps, storage)
            started = time.perf_counter()
            await asyncio.gather(*(workflow.run(steps) for _ in range(runs)))
            return runs * steps / (time.perf_counter() - started)

    return asyncio.run(measure())


def commit_figures(rounds: int) -> list[Figure]:
    """One run, and fifty at once, in a real server."""
    with server() as dsn:
        rates = interleaved(
            rounds,
            {
                "transaction": lambda: by_hand(dsn, _transaction),
                "statement": lambda: by_hand(dsn, _statement),
                "one": lambda: rate(dsn, 1, STEPS),
                "fifty": lambda: rate(dsn, 50, MANY_STEPS),
            },
        )

    def beside(name: str, which: str, by: str, at_least: float | None) -> Figure:
        shown = f"{median(rates[which]):,.0f} supersteps/s"
        detail = f"{shown} beside {median(rates[by]):,.0f} commits/s by hand"
        return figure(name, ratios(rates[which], rates[by]), at_least=at_least, detail=detail)

    return [
        beside("postgres: one run, beside a transaction by hand", "one", "transaction", 0.8),
        beside("  beside one statement by hand", "one", "statement", None),
        beside("postgres: 50 runs at once, beside a transaction", "fifty", "transaction", 2.0),
        beside("  beside one statement by hand", "fifty", "statement", None),
    ]
