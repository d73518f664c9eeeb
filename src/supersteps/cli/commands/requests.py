"""`supersteps requests`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from supersteps.cli.completion import complete_run
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import age, emit, table
from supersteps.cli.terminal import echo
from supersteps.cli.words import asked, cut, plain, respect_no_color
from supersteps.service.questions import Question


@click.command("requests")
@click.argument("run", required=False, shell_complete=complete_run)
@click.option("--workflow", metavar="NAME", help="Only questions of this workflow's runs.")
@common_options
def command(run: str | None, workflow: str | None, store: str | None, output: str) -> None:
    """List the waiting questions, oldest first: of all runs, or of RUN."""
    respect_no_color()

    async def work() -> list[Question]:
        async with open_service(store) as service:
            return await service.list_questions(run, workflow_id=workflow)

    found = do(work())
    emit(found, output, lambda: _show(found))


def _show(found: list[Question]) -> None:
    table(
        ["REQUEST", "RUN", "EXECUTOR", "ASKED", "DEADLINE", "TYPE", "QUESTION"],
        [
            [
                click.style(question.request_id, fg="yellow"),
                question.run_id,
                question.executor_id,
                f"{age(question.asked_at)} ago",
                _until(question.deadline),
                question.response_type.removeprefix("__main__."),
                cut(plain(asked(question.data)), 60),
            ]
            for question in found
        ],
        empty="no questions are waiting",
    )
    if found:
        echo("\nTo answer one: supersteps answer REQUEST [VALUE]", err=True)


def _until(deadline: str | None) -> str:
    if deadline is None:
        return "-"
    now = datetime.now(UTC).isoformat()
    return f"in {age(now, datetime.fromisoformat(deadline))}" if deadline > now else "passed"
