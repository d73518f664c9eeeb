"""The least that a step can cost, written by hand without the library and measured beside it.

A figure in a table is a ratio to one of these, so that it means the same on every machine.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HEAD_BYTES = 150
"""How much the row of a run's head holds beside its numbers: as the library's does."""

ROW_BYTES = 130
"""The same for the row of a checkpoint in which one small message waits."""

WARM_UP = 400
"""Commits until the write-ahead log is as long as it gets and no longer grows."""


async def bare_tasks(steps: int) -> float:
    """Return steps per second of a loop that makes one task per step."""

    async def step() -> None:
        pass

    started = time.perf_counter()
    for _ in range(steps):
        await asyncio.create_task(step())
    return steps / (time.perf_counter() - started)


class RawCommits:
    """A database, and a loop that does by hand what the commit of a superstep has to do.

    Each transaction compares and moves the head of a run, then inserts a row that is found again
    by run and number: as durably (write-ahead log, synced at every commit), on the calling thread,
    with nothing in between.

    Args:
        folder: Where the database is made.
        warm_up: How many commits it has before it is used.
    """

    def __init__(self, folder: Path, warm_up: int = WARM_UP) -> None:
        self._db = db = sqlite3.connect(folder / "raw.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "CREATE TABLE heads (run INTEGER PRIMARY KEY, epoch INTEGER, head INTEGER, note)"
        )
        db.execute("CREATE TABLE rows (run INTEGER, number INTEGER, data, UNIQUE (run, number))")
        db.execute("INSERT INTO heads VALUES (1, 1, 0, NULL)")
        self._notes = [os.urandom(HEAD_BYTES) for _ in range(16)]
        self._rows = [os.urandom(ROW_BYTES) for _ in range(16)]
        self._head = 0
        self.commit(warm_up)

    def commit(self, times: int) -> None:
        """Make so many commits."""
        db, notes, rows = self._db, self._notes, self._rows
        for number in range(self._head, self._head + times):
            db.execute("BEGIN IMMEDIATE")
            moved = db.execute(
                "UPDATE heads SET head = ?, note = ? WHERE run = ? AND epoch = ? AND head = ?",
                (number + 1, notes[number % 16], 1, 1, number),
            )
            assert moved.rowcount == 1
            db.execute("INSERT INTO rows VALUES (?, ?, ?)", (1, number + 1, rows[number % 16]))
            db.execute("COMMIT")
        self._head += times

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def raw_commits(folder: Path, steps: int, warm_up: int = WARM_UP) -> float:
    """Return commits by hand per second, after some that are not counted."""
    commits = RawCommits(folder, warm_up)
    started = time.perf_counter()
    commits.commit(steps)
    rate = steps / (time.perf_counter() - started)
    commits.close()
    return rate


def main(floor: str, steps: int) -> None:
    """Run a floor for a number of steps: what the guard counts the instructions of."""
    if floor == "tasks":
        asyncio.run(bare_tasks(steps))
    else:
        with TemporaryDirectory(prefix="supersteps-floor-") as folder:
            raw_commits(Path(folder), steps)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
