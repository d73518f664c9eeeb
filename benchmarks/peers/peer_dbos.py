"""DBOS: a workflow that calls two steps in turn, on its SQLite database.

Functions that are called are faster than functions that are awaited. It always saves, so that
there is no figure without a database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dbos import DBOS

from benchmarks.peers.protocol import Run, main


@DBOS.step()
def one(left: int) -> int:
    """Pass one less on."""
    return left - 1


@DBOS.step()
def other(left: int) -> int:
    """Pass one less on."""
    return left - 1


@DBOS.workflow()
def passing(left: int) -> int:
    """Pass a number to and fro."""
    while left > 0:
        left = other(one(left))
    return left


@asynccontextmanager
async def durable(folder: Path) -> AsyncIterator[Run]:
    """The SQLite database."""
    url = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "passing", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()

    async def run(steps: int) -> None:
        assert passing(steps) == 0

    yield run
    DBOS.destroy()


if __name__ == "__main__":
    main({"durable": durable})
