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
from supersteps.cli.questionnaire import Asker, Terminal, in_words, understand
from supersteps.cli.terminal import echo
from supersteps.cli.words import aligned, moment, plain, respect_no_color, spread
from supersteps.errors import RequestError
from supersteps.service.actions import SEARCHED
from supersteps.service.errors import InputError, ReferenceNotFoundError
from supersteps.service.references import choose_question
from supersteps.service.service import Service
from supersteps.service.views import Question
from supersteps.storage.answers import cancel_request


class _Answer(click.Command):
    """A command that takes negative numbers for what they are, not for options."""

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
    help="The run that asks, where several ask the same.",
)
@click.option(
    "--cancel", is_flag=True, help="Take the question back instead: nobody will answer it."
)
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
    """Answer the question REQUEST; the run takes the answer when it is resumed.

    A RUN stands for its only question. On a terminal, without either, you choose from the questions
    that wait.

    VALUE is JSON, or plain text where the question takes text; - reads it from stdin. Without VALUE
    you are asked.
    """
    respect_no_color()
    if cancel and value is not None:
        raise click.UsageError("--cancel takes the question back: give no VALUE with it")

    async def work() -> Question:
        async with open_service(store) as service:
            question = await _find(service, request_id or await _chosen(service, run), run)
            if cancel:
                await cancel_request(service.storage, question.run_id, question.request_id)
                echo(f"request {question.request_id} was taken back", err=True)
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
    echo(f"the run goes on with it: supersteps resume {question.run_id}", err=True)


async def _chosen(service: Service, run: str | None) -> str:
    if not is_terminal():
        raise click.UsageError(
            "name a question, as in `supersteps answer REQUEST VALUE`: here is no terminal to "
            "choose on; `supersteps requests` lists those that wait"
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
            told = "If it is answered already, `supersteps answer --run RUN REQUEST` tells."
            raise ReferenceNotFoundError(f"{error} {told}") from None
        raise


def _read(question: Question, value: str | None) -> Any:
    schema = question.response_schema
    if value is None and schema is not None:
        return _ask(question, schema)
    text = "" if value is None else sys.stdin.read().rstrip("\r\n") if value == "-" else value
    if schema is None:
        return text  # whoever takes answers says that only the workflow's code can
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
            f"request {question.request_id} needs a VALUE: {in_words(schema)}. Here is no "
            f"terminal to ask at. Give what fits {json.dumps(schema, ensure_ascii=False)}, or - "
            "to read it from stdin."
        )
    terminal = Terminal()
    for line in describe(question):
        terminal.write(line)
    terminal.write("")
    try:
        return Asker(schema, terminal).ask()
    except click.Abort:
        terminal.write("nothing was changed, the question still waits")
        raise


def describe(question: Question) -> list[str]:
    """Return a question for somebody who is about to answer it."""
    rows = [("run", f"{question.run_id} ({question.workflow_id})")]
    rows.append(("asked by", f"{question.executor_id}, {moment(question.asked_at)}"))
    if question.deadline:
        rows.append(("until", f"{moment(question.deadline)}, then: {plain(question.default)}"))
    rows.append(("question", spread(question.data)))
    if question.response_schema is not None:
        rows.append(("answer", in_words(question.response_schema)))
    return aligned(rows)
