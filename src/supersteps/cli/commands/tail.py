"""`supersteps tail`."""

from __future__ import annotations

import asyncio

import click
import msgspec

from supersteps.cli.completion import complete_run
from supersteps.cli.failures import FAILED, WAITING
from supersteps.cli.options import debug_option, do, open_service, output_option, store_option
from supersteps.cli.progress import tell
from supersteps.cli.terminal import echo
from supersteps.cli.words import cut, respect_no_color, what_happened
from supersteps.errors import SuperstepsError
from supersteps.service.service import Service
from supersteps.service.summaries import summarize
from supersteps.service.views import LogEntry, RunSummary
from supersteps.states import IN_PROGRESS, WorkflowRunState

_LOOK_EVERY_SECONDS = 0.8
"""Seconds between two checks: a run that was just started may not have an owner yet."""
_CODES: dict[str, int] = {
    WorkflowRunState.IDLE: 0,
    WorkflowRunState.IDLE_WITH_PENDING_REQUESTS: WAITING,
}


@click.command("tail")
@click.argument("run", shell_complete=complete_run)
@store_option
@output_option
@debug_option
def command(run: str, store: str | None, output: str) -> int:
    """Follow a run that another process drives: one line per checkpoint, until it ends.

    With -o json, each line is a JSON object. The exit code says how the run ended: 0 done, 1 failed
    or cancelled, 3 waiting for an answer. Ctrl-C stops following, not the run.
    """
    respect_no_color()

    async def work() -> LogEntry | None:
        last = None
        async with open_service(store) as service:
            record = await service.find_run(run)
            watching = asyncio.create_task(_report_if_idle(service, record.run_id))
            try:
                async for last in service.follow(record.run_id):
                    echo(_line(last) if output == "table" else msgspec.json.encode(last).decode())
            finally:
                watching.cancel()
                await asyncio.wait([watching])
        return last

    last = do(work())
    if last is None:
        return FAILED
    if last.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
        tell(f"waiting for an answer: supersteps requests {last.run_id}")
    return _CODES.get(last.status, FAILED)


async def _report_if_idle(service: Service, run_id: str) -> None:
    """Report a run that no process drives: once, and again after it has moved."""
    before, told = "", ""
    while True:
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
        try:
            run = await service.find_run(run_id)
            (now,) = await service.with_answers([await summarize(service.storage, run)])
        except SuperstepsError:
            return  # the follower reports what is wrong
        why = _idle_reason(now)
        if why is not None and before == now.head != told:
            tell(why)
            told = now.head
        before = now.head if why is not None else ""


def _idle_reason(run: RunSummary) -> str | None:
    if run.owner is not None:
        return None
    if run.queue is not None:
        return f"run {run.run_id} waits in queue {run.queue!r} for a worker: supersteps worker"
    how = f". To continue it: supersteps resume {run.run_id}"
    if run.status in IN_PROGRESS:
        gone = "its process has died" if run.is_abandoned else "it was stopped"
        return f"no process drives run {run.run_id}: {gone}{how}"
    if run.answered:
        return f"no process drives run {run.run_id}: its questions are answered{how}"
    return None


def _line(entry: LogEntry) -> str:
    error = [cut(entry.error, 200)] if entry.error else []
    return f"superstep {entry.step}: " + "  ".join([*what_happened(entry), *error])
