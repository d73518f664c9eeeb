"""`supersteps import`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from shlex import quote

import click

from supersteps.cli.options import check_new_id, common_options, do, find_store, settings
from supersteps.cli.output import emit
from supersteps.cli.terminal import echo
from supersteps.errors import RunExistsError
from supersteps.service.errors import ServiceError
from supersteps.service.service import Service
from supersteps.service.states import WORDS
from supersteps.service.views import RunSummary


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--run-id",
    metavar="ID",
    callback=check_new_id,
    help="Id of the imported run; the exported id by default.",
)
@common_options
def command(file: str, run_id: str | None, store: str | None, output: str) -> None:
    """Import a run from a file.

    FILE was written by `supersteps export`; - is stdin. The whole file is checked before anything
    is written. The store is created if it does not exist.
    """
    if run_id == "":
        raise click.UsageError("--run-id is empty")

    async def work(path: Path) -> RunSummary:
        async with find_store(settings(store), must_exist=False) as storage:
            return await Service(storage).import_run(path, run_id=run_id)

    try:
        if file == "-":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "stdin"
                with path.open("wb") as target:
                    shutil.copyfileobj(sys.stdin.buffer, target)
                run = do(work(path))
        else:
            run = do(work(Path(file)))
    except RunExistsError as error:
        raise ServiceError(
            "the store already has a run with this id: import it under another one with --run-id "
            "ID. Nothing was written."
        ) from error
    emit(run, output, lambda: _show(run))


def _show(run: RunSummary) -> None:
    state = WORDS.get(run.status, run.status.lower())
    echo(
        f"run {run.run_id} of workflow {run.workflow_id} was imported: {state}, after superstep "
        f"{run.step}"
    )
    echo(f"to inspect it: `supersteps show {quote(run.run_id)}`")
