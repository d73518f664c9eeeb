"""`supersteps resume`."""

from __future__ import annotations

import click

from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.options import (
    app_option,
    common_options,
    do,
    open_service,
    settings,
    workflow_of,
)
from supersteps.cli.picker import chosen_checkpoint
from supersteps.cli.progress import one_line_warnings, tell
from supersteps.cli.run_session import Commands, drive, limit_option, quiet_option
from supersteps.cli.typed_value import understand
from supersteps.service.references import choose_question
from supersteps.service.service import Service
from supersteps.states import WorkflowRunState


@click.command("resume")
@click.argument(
    "checkpoint", required=False, metavar="[RUN|CHECKPOINT]", shell_complete=complete_checkpoint
)
@click.option(
    "--answer",
    "answers",
    multiple=True,
    metavar="REQUEST=VALUE",
    help="Answer a question first; repeatable.",
)
@limit_option
@quiet_option
@app_option
@common_options
def command(
    checkpoint: str | None,
    answers: tuple[str, ...],
    max_iterations: int | None,
    quiet: bool,
    apps: tuple[str, ...],
    store: str | None,
    output: str,
) -> int:
    """Continue a run from its head or from another checkpoint.

    A checkpoint that is not the head becomes the head, on a new branch; later checkpoints stay
    readable. Without an argument, choose a checkpoint at the terminal.

    The workflow's code is needed: name it by --app, SUPERSTEPS_APP or [tool.supersteps].
    """
    given = dict(map(_answer, answers))

    async def work() -> int:
        async with open_service(store, apps) as service:
            header = await service.find_checkpoint(
                checkpoint
                or await chosen_checkpoint(service, "Choose where to continue.", "resume")
            )
            workflow = workflow_of(settings(store, apps), header.workflow_id)
            if max_iterations is not None:
                workflow.max_iterations = max_iterations
            run = await service.storage.get_run(header.run_id) if header.run_id else None
            is_head = run is not None and run.head == header.checkpoint_id
            if given:
                if run is not None and not is_head:
                    await service.restore(header.checkpoint_id)
                if not header.run_id:
                    raise click.UsageError(
                        "--answer needs a run, but this checkpoint was saved with "
                        "`save_checkpoint` and belongs to none: name a run"
                    )
                await _give(service, header.run_id, given)
            resumed = workflow.run_stream_from_checkpoint(header.checkpoint_id, service.storage)
            if run is not None and not is_head:
                tell(
                    f"from superstep {header.iteration_count}, on a new branch (it was at "
                    f"{run.head})"
                )
            is_done = run is not None and is_head and run.status == WorkflowRunState.IDLE
            commands = Commands(store, apps, service.storage)
            return await drive(
                resumed, workflow, commands, quiet=quiet, output=output, is_done=is_done
            )

    with one_line_warnings():
        return do(work())


async def _give(service: Service, run_id: str, answers: dict[str, str]) -> None:
    """Answer questions of a run; all are found before the first is answered."""
    waiting = await service.list_questions(run_id)
    found = [(choose_question(reference, waiting), text) for reference, text in answers.items()]
    values = [
        text if q.response_schema is None else understand(text, q.response_schema).value
        for q, text in found
    ]
    for (question, _), value in zip(found, values, strict=True):
        await service.answer(f"{question.run_id}:{question.request_id}", value)


def _answer(given: str) -> tuple[str, str]:
    request, equals, value = given.partition("=")
    if not (request and equals):
        raise click.BadParameter(
            f"{given!r} is not of the form REQUEST=VALUE", param_hint="--answer"
        )
    return request, value
