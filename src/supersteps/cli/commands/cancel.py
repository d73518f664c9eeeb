"""`supersteps cancel`."""

from __future__ import annotations

from shlex import quote

import click

from supersteps.cli.completion import complete_run
from supersteps.cli.failures import FAILED
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, is_terminal
from supersteps.cli.terminal import echo
from supersteps.cli.words import count
from supersteps.service.states import WORDS
from supersteps.service.views import RunSummary
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage.records import RunRecord


@click.command("cancel")
@click.argument("run", shell_complete=complete_run)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@common_options
def command(run: str, yes: bool, store: str | None, output: str) -> None:
    """Cancel a run.

    Its questions no longer wait for answers. Its checkpoints stay, and `supersteps resume` can
    still continue it. A run that is done stays done. If another process is driving the run, stop
    that process first.
    """

    async def look() -> RunRecord:
        async with open_service(store) as service:
            return await service.find_run(run)

    if not yes and is_terminal():
        found = do(look())
        run = found.run_id  # @latest may mean another run by the time the user confirms
        if found.status not in ENDED:
            asks = f", {count(len(found.requests), 'question')} waiting" if found.requests else ""
            echo(f"Run {run} of workflow {found.workflow_id} is at {found.head}{asks}.", err=True)
            if not click.confirm("Cancel it?", err=True):
                echo("nothing was changed", err=True)
                click.get_current_context().exit(FAILED)

    async def work() -> tuple[RunRecord, RunSummary]:
        async with open_service(store) as service:
            before = await service.find_run(run)
            return before, await service.cancel(before.run_id)

    before, after = do(work())
    emit(after, output, lambda: _show(before, after))


def _show(before: RunRecord, after: RunSummary) -> None:
    where = f"after superstep {after.step}"
    if before.status in ENDED:
        echo(f"run {after.run_id} is {WORDS[before.status]} already, {where}; nothing was changed")
    elif after.status == WorkflowRunState.IDLE:
        echo(f"run {after.run_id} finished in the meantime, {where}; it stays done")
    else:
        asked = (
            f"{count(len(before.requests), 'question')} of it"
            if before.requests[1:]
            else "its question"
        )
        dropped = f"; {asked} will not be answered" if before.requests else ""
        echo(f"run {after.run_id} is cancelled, {where}{dropped}")
        echo(f"its checkpoints stay: `supersteps resume {quote(after.run_id)}` continues it anyway")
