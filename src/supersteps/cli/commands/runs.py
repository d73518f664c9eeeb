"""`supersteps runs`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from datetime import datetime

import click
from click.shell_completion import CompletionItem
from msgspec.structs import replace

from supersteps.cli.amounts import moment_of
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import age, emit, run_text, short, table
from supersteps.service.service import Service
from supersteps.service.views import RunSummary
from supersteps.states import IN_PROGRESS, WorkflowRunState
from supersteps.storage.listings import RunFilter

_STATES: dict[str, tuple[Collection[str], Callable[[RunSummary], bool]]] = {
    "done": ({WorkflowRunState.IDLE}, lambda _run: True),
    "waiting": ({WorkflowRunState.IDLE_WITH_PENDING_REQUESTS}, lambda _run: True),
    "in-progress": (IN_PROGRESS, lambda run: run.owner is not None),
    "stopped": (IN_PROGRESS, lambda run: run.owner is None),
    "failed": ({WorkflowRunState.FAILED}, lambda _run: True),
    "cancelled": ({WorkflowRunState.CANCELLED}, lambda _run: True),
}
"""The values of the column STATE: the statuses to query, and a filter for the runs found."""


class _State(click.ParamType[str]):
    """A state of runs: a value of the column STATE, or a stored status."""

    name = "state"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = value.strip().lower().replace(" ", "-")
        if word in _STATES:
            return word
        if value.upper() in WorkflowRunState.__members__:
            return value.upper()
        return self.fail(f"no such state: {value!r}; choose from {', '.join(_STATES)}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(word) for word in _STATES if word.startswith(incomplete.lower())]


@click.command("runs")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option(
    "--status",
    metavar="STATE",
    type=_State(),
    help=f"Only runs in this state: {', '.join(_STATES)}.",
)
@click.option("--tag", metavar="LABEL", help="Only runs with this tag.")
@click.option(
    "--since",
    metavar="TIME",
    callback=moment_of,
    help="Only runs started at TIME or later.",
)
@click.option("--until", metavar="TIME", callback=moment_of, help="Only runs started before TIME.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Show at most this many.",
)
@common_options
def command(
    workflow: str | None,
    status: str | None,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    store: str | None,
    output: str,
) -> None:
    """List runs, newest first.

    TIME is a date or a time in UTC, as in 2026-11-29 or 2026-11-29T08:30, or how long ago, as in
    90s, 15m, 12h, 30d or 2w.
    """
    wanted = RunFilter(
        workflow_id=workflow, status=status, tag=tag, since=since, until=until, limit=limit
    )

    async def work() -> list[RunSummary]:
        async with open_service(store) as service:
            if status not in _STATES:
                found = await service.list_runs(wanted)
            else:
                found = await _in_state(service, status, wanted)
            return await service.with_answers(found)

    found = do(work())
    emit(found, output, lambda: _show(found))


async def _in_state(service: Service, state: str, wanted: RunFilter) -> list[RunSummary]:
    statuses, is_meant = _STATES[state]
    # with several statuses, some of the runs found are filtered out
    most = wanted.limit if len(statuses) == 1 else sys.maxsize
    found = [
        run
        for one in statuses
        for run in await service.list_runs(replace(wanted, status=one, limit=most))
        if is_meant(run)
    ]
    return sorted(found, key=lambda run: run.created_at, reverse=True)[: wanted.limit]


def _show(found: list[RunSummary]) -> None:
    rows = [
        [
            run.run_id,
            run.workflow_id,
            run_text(run),
            str(run.step),
            f"{age(run.updated_at)} ago",
            _remark(run),
        ]
        for run in found
    ]
    table(["RUN", "WORKFLOW", "STATE", "STEP", "UPDATED", ""], rows, empty="no runs")


def _remark(run: RunSummary) -> str:
    if run.error:
        return short(run.error)
    if run.requests and run.status != WorkflowRunState.CANCELLED:
        asked = [name for name in run.requests if name not in (run.answered or ())]
        if not asked:
            return "answered: resume it" if run.queue is None else "answered"
        return f"asks {short(asked[0], 24)}" + (f" and {len(asked) - 1} more" if asked[1:] else "")
    if run.owner and run.status in IN_PROGRESS:
        return f"its process has died: {run.owner}" if run.is_abandoned else run.owner
    return f"forked from {run.parent_checkpoint}" if run.parent_checkpoint else ""
