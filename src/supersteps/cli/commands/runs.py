"""`supersteps runs`."""

from __future__ import annotations

import click

from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import age, emit, short, status_text, table
from supersteps.service.views import RunSummary


@click.command("runs")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--status", metavar="STATE", help="Only runs in this state, such as FAILED or IDLE.")
@click.option("--tag", metavar="LABEL", help="Only runs with this label.")
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@common_options
def command(
    workflow: str | None, status: str | None, tag: str | None, limit: int, store: str | None, output: str
) -> None:
    """List runs, the newest first."""

    async def work() -> list[RunSummary]:
        async with open_service(store) as service:
            return await service.list_runs(
                workflow_id=workflow, status=None if status is None else status.upper(), tag=tag, limit=limit
            )

    found = do(work())
    emit(found, output, lambda: _show(found))


def _show(found: list[RunSummary]) -> None:
    rows = [
        [
            run.run_id,
            run.workflow_id,
            status_text(run.status, is_abandoned=run.is_abandoned),
            str(run.step),
            f"{age(run.updated_at)} ago",
            _remark(run),
        ]
        for run in found
    ]
    table(["RUN", "WORKFLOW", "STATE", "STEP", "MOVED", ""], rows, empty="no runs")


def _remark(run: RunSummary) -> str:
    if run.error:
        return short(run.error)
    if run.requests:
        return f"asks {short(run.requests[0], 24)}" + (f" and {len(run.requests) - 1} more" if run.requests[1:] else "")
    if run.owner and run.status.startswith("IN_PROGRESS"):
        return f"its process is gone: {run.owner}" if run.is_abandoned else run.owner
    return f"forked from {run.parent_checkpoint}" if run.parent_checkpoint else ""
