"""`supersteps backup`."""

from __future__ import annotations

from pathlib import Path

import click

from supersteps.cli.amounts import size
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit
from supersteps.cli.targets import check_target
from supersteps.cli.terminal import echo


@click.command("backup")
@click.argument("file")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@common_options
def command(file: str, force: bool, store: str | None, output: str) -> None:
    """Write a copy of the whole store, while it is in use.

    FILE is a file for a database, copied by SQLite's online backup as it is at one moment. For a
    store of JSON files it is a new folder, in which each run is as it is at one moment. The copy
    comes into its place once it is complete, and is a store like any other:
    `supersteps verify --store FILE` checks it.
    """
    path = Path(file).expanduser()
    if not path.is_dir():
        check_target(path, force=force)

    async def work() -> int:
        async with open_service(store) as service:
            return await service.backup(path)

    length = do(work())
    written = {"path": str(path), "bytes": length}
    emit(written, output, lambda: echo(f"the store is copied to {path}: {size(length)}"))
