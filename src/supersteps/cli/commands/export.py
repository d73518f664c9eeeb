"""`supersteps export`."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import click

from supersteps.cli.amounts import size
from supersteps.cli.completion import complete_run
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit
from supersteps.cli.output_files import check_target
from supersteps.cli.terminal import echo
from supersteps.cli.words import count


@click.command("export")
@click.argument("run", shell_complete=complete_run)
@click.argument("file", required=False)
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
@common_options
def command(run: str, file: str | None, force: bool, store: str | None, output: str) -> None:
    """Write a run to a file.

    The file holds the whole run, all branches included, with a checksum over everything.
    `supersteps import` reads it on any machine, into any kind of store. FILE is RUN.jsonl by
    default; - is stdout. A running run is exported as it is at one moment.
    """

    async def write(run_id: str, path: Path) -> int:
        async with open_service(store) as service:
            return await service.export(run_id, path)

    async def find() -> str:
        async with open_service(store) as service:
            return (await service.find_run(run)).run_id

    run_id = do(find())
    if file == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.jsonl"
            do(write(run_id, path))
            with path.open("rb") as source:
                shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(file or f"{_file_name(run_id)}.jsonl")
    check_target(path, force=force)
    checkpoints = do(write(run_id, path))
    written = {
        "run_id": run_id,
        "path": str(path),
        "checkpoints": checkpoints,
        "bytes": path.stat().st_size,
    }
    emit(written, output, lambda: _show(run_id, path, checkpoints))


def _show(run_id: str, path: Path, checkpoints: int) -> None:
    echo(
        f"run {run_id} is in {path}: {count(checkpoints, 'checkpoint')}, "
        f"{size(path.stat().st_size)}"
    )


def _file_name(run_id: str) -> str:
    """Return a file name for a run's id that every file system accepts."""
    return re.sub(r"[^\w.-]", "_", run_id).lstrip(".") or "run"
