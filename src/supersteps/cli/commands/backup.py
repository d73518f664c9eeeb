"""`supersteps backup`."""

from __future__ import annotations

from pathlib import Path

import click

from supersteps.cli.amounts import size
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit
from supersteps.cli.output_files import check_target
from supersteps.cli.terminal import echo


@click.command("backup")
@click.argument("file")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
@common_options
def command(file: str, force: bool, store: str | None, output: str) -> None:
    """Copy the whole store, even while it is in use.

    For a database, FILE is a file: a consistent copy of one moment, made by SQLite's online backup.
    For a store of JSON files, it is a new folder in which each run is consistent in itself. The
    copy appears at FILE only when it is complete, and is a store like any other: check it with
    `supersteps verify --store FILE`.
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
