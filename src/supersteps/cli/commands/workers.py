"""`supersteps workers`."""

from __future__ import annotations

import click

from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import age, emit, short, table
from supersteps.service.views import Holder


@click.command("workers")
@common_options
def command(store: str | None, output: str) -> None:
    """List the processes that drive runs, and which.

    A process is listed while it has runs; a worker that has nothing to do is not in the store.
    """

    async def work() -> list[Holder]:
        async with open_service(store) as service:
            return await service.list_holders()

    found = do(work())
    emit(found, output, lambda: _show(found))


def _show(found: list[Holder]) -> None:
    rows = [
        [
            holder.process,
            "alive" if holder.is_alive else "gone",
            str(len(holder.runs)),
            f"{age(holder.last_seen)} ago",
            short(", ".join(holder.runs)),
        ]
        for holder in found
    ]
    table(["PROCESS", "STATE", "RUNS", "SEEN", ""], rows, empty="nobody drives a run")
