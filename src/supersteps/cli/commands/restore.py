"""`supersteps restore`."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

import click
import msgspec

from supersteps.cli.amounts import listed
from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.failures import FAILED
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, is_terminal
from supersteps.cli.terminal import echo
from supersteps.cli.words import answer_hint, count
from supersteps.service.errors import ServiceError
from supersteps.service.history import headers_of
from supersteps.service.service import Service
from supersteps.service.summaries import summarize
from supersteps.service.views import RunDetails, RunSummary


class _Plan(msgspec.Struct, frozen=True):
    """The effect of a restore.

    Attributes:
        checkpoint: Id of the checkpoint.
        step: Its superstep.
        run: Its run, as it is now.
        leaves: How many checkpoints lie between it and the head; None if it is on another branch.
    """

    checkpoint: str
    step: int
    run: RunSummary
    leaves: int | None


@click.command("restore")
@click.argument("checkpoint", shell_complete=complete_checkpoint)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@common_options
def command(checkpoint: str, yes: bool, store: str | None, output: str) -> None:
    """Move a run back to one of its checkpoints.

    Nothing is run: the checkpoint becomes the run's head, on a new branch, and `supersteps resume`
    continues from there. Later checkpoints stay readable on their own branch. Side effects of
    handlers are not undone.
    """

    async def look() -> _Plan:
        async with open_service(store) as service:
            return await _plan(service, checkpoint)

    plan = do(look())
    if not yes and is_terminal():
        echo(_announcement(plan), err=True)
        if not click.confirm("Restore it?", err=True):
            echo("nothing was changed", err=True)
            click.get_current_context().exit(FAILED)

    async def work() -> tuple[RunSummary, RunDetails]:
        async with open_service(store) as service:
            return await service.restore(plan.checkpoint), await service.show_run(plan.run.run_id)

    run, details = do(work())
    emit(run, output, lambda: _show(plan, run, details))


async def _plan(service: Service, reference: str) -> _Plan:
    header = await service.find_checkpoint(reference)
    if not header.run_id:
        raise ServiceError(
            f"checkpoint {header.checkpoint_id!r} was saved with `save_checkpoint` and belongs "
            "to no run: resume from it in code, with workflow.run_from_checkpoint"
        )
    run = await service.find_run(header.run_id)
    parents = {
        each.checkpoint_id: each.parent_id for each in await headers_of(service.storage, run)
    }
    leaves = _steps_back(parents, run.head, header.checkpoint_id)
    return _Plan(
        header.checkpoint_id, header.iteration_count, await summarize(service.storage, run), leaves
    )


def _steps_back(parents: Mapping[str, str | None], head: str, checkpoint: str) -> int | None:
    """Return how many checkpoints of the head's lineage follow one; None if it is not on it."""
    place: str | None = head
    steps = 0
    while place is not None and place != checkpoint:
        place = parents.get(place)
        steps += 1
    return None if place is None else steps


def _announcement(plan: _Plan) -> str:
    run = plan.run
    stands = (
        f"Run {run.run_id} is at {run.head}, after superstep {run.step}, on branch {run.branch}."
    )
    if plan.leaves == 0:
        return (
            f"{stands} That is this checkpoint: restoring it only discards the answers that no "
            "superstep has consumed yet, and the journal of the current superstep."
        )
    new = f"The run continues on branch {run.branch + 1}; later checkpoints stay readable."
    if plan.leaves is None:
        return (
            f"{stands}\n{plan.checkpoint}, after superstep {plan.step}, is on another branch. {new}"
        )
    return (
        f"{stands}\n"
        f"{plan.checkpoint} is after superstep {plan.step}: {count(plan.leaves, 'checkpoint')} "
        f"back. {new} Side effects of handlers are not undone."
    )


def _show(plan: _Plan, run: RunSummary, details: RunDetails) -> None:
    was = f" (it was {plan.run.head})" if plan.run.head != run.head else ""
    echo(
        f"run {run.run_id} is at {run.head} again, after superstep {run.step}, on branch "
        f"{run.branch}{was}"
    )
    echo(_next(details))


def _next(details: RunDetails) -> str:
    """Return what resuming the run will do."""
    run = details.run
    resume = f"`supersteps resume {quote(run.run_id)}`"
    if details.waiting:
        others = (
            f"; {count(len(details.questions), 'question')} waiting" if details.questions else ""
        )
        return f"next: {resume} runs superstep {run.step + 1}: {listed(details.waiting)}{others}"
    if details.questions:
        if len(details.questions) == 1:
            hint = answer_hint(details.questions[0])
            return (
                "next: it waits for an answer: "
                f"{f'`{hint}`' if hint.startswith('supersteps ') else hint}"
            )
        asked = listed(question.request_id for question in details.questions)
        return (
            f"next: it waits for {len(details.questions)} answers: {asked}; see `supersteps "
            "requests`"
        )
    if details.timers:
        return f"next: {resume} waits until {min(details.timers)} and continues"
    return "next: nothing, the run was done there"
