"""`supersteps answer`."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import click

from supersteps.cli.completion import complete_request, complete_run
from supersteps.cli.failures import USED_WRONGLY, report
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, is_terminal
from supersteps.cli.prompt import Terminal
from supersteps.cli.questionnaire import Asker
from supersteps.cli.schema_text import in_words
from supersteps.cli.terminal import echo
from supersteps.cli.typed_value import understand
from supersteps.cli.words import aligned, moment, plain, respect_no_color, spread
from supersteps.errors import RequestError
from supersteps.service.actions import SEARCHED
from supersteps.service.errors import InputError, ReferenceNotFoundError
from supersteps.service.questions import Question
from supersteps.service.references import choose_question
from supersteps.service.service import Service
from supersteps.storage.answers import cancel_request


class _Answer(click.Command):
    """A command that reads negative numbers as values, not as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        numbers = (
            [] if "--" in args else [word for word in args if re.fullmatch(r"-\d[\d.eE+-]*", word)]
        )
        others = [word for word in args if word not in numbers]
        return super().parse_args(ctx, [*others, "--", *numbers] if numbers else args)


@click.command("answer", cls=_Answer)
@click.argument(
    "request_id", metavar="[REQUEST|RUN]", required=False, shell_complete=complete_request
)
@click.argument("value", required=False)
@click.option(
    "--run",
    metavar="RUN",
    shell_complete=complete_run,
    help="The run that asks, if several runs ask the same question.",
)
@click.option("--cancel", is_flag=True, help="Cancel the question instead of answering it.")
@common_options
@click.pass_context
def command(
    context: click.Context,
    request_id: str | None,
    value: str | None,
    run: str | None,
    cancel: bool,
    store: str | None,
    output: str,
) -> None:
    """Answer the question REQUEST; the run uses the answer when it is resumed.

    Instead of REQUEST, name a RUN that waits for only one question. Without either, choose from the
    waiting questions at the terminal.

    VALUE is JSON, or plain text if the question takes text; - reads it from stdin. Without VALUE,
    you are prompted for it.
    """
    respect_no_color()
    if cancel and value is not None:
        raise click.UsageError("--cancel cancels the question: do not pass a VALUE")

    async def work() -> Question:
        async with open_service(store) as service:
            question = await _find(service, request_id or await _chosen(service, run), run)
            if cancel:
                await cancel_request(service.storage, question.run_id, question.request_id)
                echo(f"request {question.request_id} is cancelled", err=True)
                return question
            found = _read(question, value)
            answered = await service.answer(f"{question.run_id}:{question.request_id}", found)
            shown = json.dumps(found, ensure_ascii=False)
            echo(f"request {question.request_id} is answered: {shown}", err=True)
            return answered

    try:
        question = do(work())
    except RequestError as error:
        report(error)
        context.exit(USED_WRONGLY)
    emit(question, output, lambda: None)
    echo(f"continue the run: supersteps resume {question.run_id}", err=True)


async def _chosen(service: Service, run: str | None) -> str:
    if not is_terminal():
        raise click.UsageError(
            "name a question, as in `supersteps answer REQUEST VALUE` (there is no terminal to "
            "choose one on); `supersteps requests` lists the waiting questions"
        )
    from supersteps.cli.picker import pick_question

    return await pick_question(service, "Answer which question?", run=run)


async def _find(service: Service, request_id: str, run: str | None) -> Question:
    try:
        if run is None:
            return await service.find_question(request_id)
        return choose_question(request_id, await service.list_questions(run))
    except ReferenceNotFoundError as error:
        reason = await service.why_not(request_id, run)
        if reason is not None:
            raise reason from None
        if run is None and len(await service.storage.list_runs(limit=SEARCHED + 1)) > SEARCHED:
            hint = "To see whether it was answered already: `supersteps answer --run RUN REQUEST`."
            raise ReferenceNotFoundError(f"{error} {hint}") from None
        raise


def _read(question: Question, value: str | None) -> Any:
    schema = question.response_schema
    if value is None and schema is not None:
        return _ask(question, schema)
    text = "" if value is None else sys.stdin.read().rstrip("\r\n") if value == "-" else value
    if schema is None:
        return text  # The storage reports that only the workflow's code can take the answer.
    understood = understand(text, schema)
    if understood.how == "text" and _looks_like_json(text):
        echo(f"taken as text: {json.dumps(understood.value, ensure_ascii=False)}", err=True)
    return understood.value


def _looks_like_json(text: str) -> bool:
    try:
        return not isinstance(json.loads(text), str)
    except ValueError:
        return False


def _ask(question: Question, schema: dict[str, Any]) -> Any:
    if not is_terminal():
        raise InputError(
            f"request {question.request_id} needs a VALUE: {in_words(schema)} (there is no "
            "terminal to prompt at). Pass JSON that fits "
            f"{json.dumps(schema, ensure_ascii=False)}, or - to read it from stdin."
        )
    terminal = Terminal()
    for line in describe(question):
        terminal.write(line)
    terminal.write("")
    try:
        return Asker(schema, terminal).ask()
    except click.Abort:
        terminal.write("nothing was changed, the question is still waiting")
        raise


def describe(question: Question) -> list[str]:
    """Return a question as lines, for the user who is about to answer it."""
    rows = [("run", f"{question.run_id} ({question.workflow_id})")]
    rows.append(("asked by", f"{question.executor_id}, {moment(question.asked_at)}"))
    if question.deadline:
        rows.append(("until", f"{moment(question.deadline)}, then: {plain(question.default)}"))
    rows.append(("question", spread(question.data)))
    if question.response_schema is not None:
        rows.append(("answer", in_words(question.response_schema)))
    return aligned(rows)
