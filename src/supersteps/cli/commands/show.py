"""`supersteps show`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.options import common_options, do, open_service
from supersteps.cli.output import emit, run_text, status_text
from supersteps.cli.terminal import echo
from supersteps.cli.words import (
    TITLES,
    aligned,
    answer_hint,
    count,
    cut,
    entry_line,
    moment,
    plain,
    pretty,
    respect_no_color,
    route,
    spread,
    who_ran,
)
from supersteps.errors import CheckpointNotFoundError, RunNotFoundError
from supersteps.service.errors import InputError, ReferenceNotFoundError
from supersteps.service.questions import Question
from supersteps.service.service import Service
from supersteps.service.states import DAMAGED
from supersteps.service.views import CheckpointDetails, LogEntry, RunDetails, RunSummary
from supersteps.states import WorkflowRunState

_LATEST = 7
_LONGEST = 110
_SHOWN = 10
"""How many elements of a list are shown: the last ones."""
_SCOPED = {"fan_in": 1, "executor_states": 1, "scopes": 1, "sub_state": 1, "sub_scopes": 2}
"""How many levels of names are above the keys of a section."""


@click.command("show")
@click.argument(
    "reference", metavar="[RUN|CHECKPOINT]", default="@latest", shell_complete=complete_checkpoint
)
@click.option("--full", is_flag=True, help="Shorten nothing.")
@click.option(
    "--path",
    metavar="PLACE",
    help="Show only this value, as JSON: shared_state.total or /shared_state/total.",
)
@common_options
def command(reference: str, full: bool, path: str | None, store: str | None, output: str) -> None:
    """Show a run or a checkpoint: its state, its questions, its content.

    The newest run is shown by default. RUN@latest is a run's head.
    """
    respect_no_color()

    async def work() -> RunDetails | CheckpointDetails:
        async with open_service(store) as service:
            if path is not None:
                return await service.show_checkpoint(reference)
            return await _look(service, reference)

    found = do(work())
    if path is not None:
        assert isinstance(found, CheckpointDetails)
        value = value_at(found.content, path)
        emit(value, "jsonl" if output == "jsonl" else "json", lambda: None)
        return
    show = show_run if isinstance(found, RunDetails) else show_checkpoint
    emit(found, output, lambda: echo("\n".join(show(found, full))))  # type: ignore[arg-type]


async def _look(service: Service, reference: str) -> RunDetails | CheckpointDetails:
    """Return the run that a reference names, else the checkpoint."""
    try:
        run = await service.find_run(reference)
    except (ReferenceNotFoundError, RunNotFoundError) as no_run:
        try:
            return await service.show_checkpoint(reference)
        except (ReferenceNotFoundError, CheckpointNotFoundError) as no_checkpoint:
            # A reference of the form RUN@7 can only mean a checkpoint.
            raise (no_checkpoint if "@" in reference.lstrip("@") else no_run) from None
    return await service.show_run(run.run_id)


# ---------------------------------------------------------------------------------------------- run


def show_run(found: RunDetails, full: bool) -> list[str]:
    """Return a run as lines of text."""
    return [line for block in _run_blocks(found, full) for line in (*block, "")][:-1]


def _run_blocks(found: RunDetails, full: bool) -> Iterator[list[str]]:
    yield aligned(_run_facts(found))
    if found.run.error:
        yield [
            click.style("Failed", fg="red", bold=True),
            *_indented(found.run.error),
            *_indented(_after_failure(found)),
        ]
    if found.questions:
        yield [
            _title("Waits for answers"),
            *(line for question in found.questions for line in _question(question, full)),
        ]
    if found.outputs:
        yield [_title("Outputs", len(found.outputs)), *_listed(found.outputs, full)]
    if found.waiting:
        waiting = [
            (executor, count(number, "message")) for executor, number in found.waiting.items()
        ]
        yield [_title("Messages waiting"), *aligned(waiting, "  ")]
    if found.timers:
        yield [_title("Timers"), *_timers(found)]
    if found.latest:
        latest = found.latest if full else found.latest[:_LATEST]
        yield [_title("Latest checkpoints"), *(f"  {entry_line(entry)}" for entry in latest)]
    if found.forks:
        yield [_title("Forks"), *(f"  {fork}" for fork in found.forks)]
    steps = _next_steps(found.run, found.questions)
    if steps:
        yield aligned([("next", steps)])


def _timers(found: RunDetails) -> Iterator[str]:
    retries = list(found.retries)
    for due in found.timers:
        again = next((retry for retry in retries if retry.due == due), None)
        if again is not None:
            retries.remove(again)
        about = f", attempt {again.attempt} of {again.executor_id}" if again is not None else ""
        yield f"  due {moment(due)}{about}"


def _run_facts(found: RunDetails) -> list[tuple[str, str]]:
    run = found.run
    state = f"{run_text(run)} after superstep {run.step}"
    branches = f", branch {run.branch}" if run.branch else ""
    facts = [
        ("run", click.style(run.run_id, bold=True)),
        ("workflow", run.workflow_id),
        ("state", state),
        ("head", f"{run.head}{branches} ({count(found.checkpoints, 'checkpoint')} in all)"),
        ("started", moment(run.created_at)),
        ("updated", moment(run.updated_at)),
    ]
    if run.parent_checkpoint:
        facts.append(("forked from", run.parent_checkpoint))
    if run.is_abandoned:
        facts.append(
            ("driven by", "no process: its process died; resume it to continue where it stopped")
        )
    elif run.owner:
        facts.append(("driven by", run.owner))
    given = len(run.requests) - len(found.questions)
    if given > 0 and run.status != WorkflowRunState.CANCELLED:
        which = count(given, "question") if found.questions else "every question"
        facts.append(("answered", f"{which}: the answers are used when the run is resumed"))
    if run.tags:
        facts.append(("tags", ", ".join(run.tags)))
    if found.metadata:
        facts.append(("metadata", json.dumps(found.metadata, ensure_ascii=False)))
    return facts


def _after_failure(found: RunDetails) -> str:
    run = found.run
    return (
        "Nothing of that superstep was saved. When the cause is fixed: supersteps resume "
        f"{run.run_id}\n"
        f"To continue with changes: supersteps fork {run.head}"
    )


def _next_steps(run: RunSummary, questions: list[Question]) -> str:
    if run.error or run.status == WorkflowRunState.CANCELLED:
        return "" if run.error else f"supersteps resume {run.run_id}  (continues it anyway)"
    if questions:
        return f"supersteps answer {questions[0].request_id}"
    if run.owner:
        return f"supersteps tail {run.run_id}"
    return (
        "" if run.status in (WorkflowRunState.IDLE, DAMAGED) else f"supersteps resume {run.run_id}"
    )


def _question(question: Question, full: bool) -> Iterator[str]:
    wanted = question.response_type.removeprefix("__main__.")
    deadline = f", until {moment(question.deadline)}" if question.deadline else ""
    about = f"{question.executor_id} asks for {wanted}, {moment(question.asked_at)}{deadline}"
    yield f"  {click.style(question.request_id, fg='yellow')}  {about}"
    yield from _asked(question.data, full)
    yield f"    answer: {answer_hint(question)}"


# --------------------------------------------------------------------------------------- checkpoint


def show_checkpoint(found: CheckpointDetails, full: bool) -> list[str]:
    """Return a checkpoint as lines of text."""
    blocks = [aligned(_checkpoint_facts(found))]
    for section, content in found.content.items():
        if content:
            blocks.append(
                [
                    _title(TITLES.get(section, section), len(content)),
                    *_section(section, content, full),
                ]
            )
    if not full and any("…" in line for block in blocks for line in block):
        blocks.append([click.style("(--full shows everything)", fg="bright_black")])
    return [line for block in blocks for line in (*block, "")][:-1]


def _checkpoint_facts(found: CheckpointDetails) -> list[tuple[str, str]]:
    entry: LogEntry = found.entry
    head = click.style("  (head)", fg="cyan", bold=True) if entry.is_head else ""
    facts = [
        ("checkpoint", click.style(entry.checkpoint_id, bold=True) + head),
        ("run", entry.run_id or "none: it was saved with `save_checkpoint`"),
        ("workflow", found.workflow_id),
        ("superstep", f"{entry.step}" + (f" on branch {entry.branch}" if entry.branch else "")),
        ("state", status_text(entry.status)),
        ("saved", moment(entry.timestamp)),
        ("parent", entry.parent or "none: it is the first, with the input"),
    ]
    if entry.ran or entry.retries:
        facts.append(("ran", ", ".join(who_ran(entry))))
    if found.metadata:
        facts.append(("metadata", json.dumps(found.metadata, ensure_ascii=False)))
    if entry.error:
        facts.append(("then failed", click.style(entry.error, fg="red")))
    return facts


def _section(section: str, content: Any, full: bool) -> Iterator[str]:
    if section == "messages":
        for message in content:
            yield f"  {route(message)}{_reply(message)}"
            yield from _value(message.get("data"), full, "    ")
    elif section in ("requests", "intercepted"):
        for name, request in content.items():
            wanted = str(request.get("response_type")).removeprefix("__main__.")
            about = (
                f"{request.get('source_executor_id')} asks for {wanted}, in superstep "
                f"{request.get('iteration')}"
            )
            yield f"  {click.style(name, fg='yellow')}  {about}"
            yield from _asked(request.get("data"), full)
    elif section == "answered":
        shown = content if full else content[-_SHOWN:]
        yield from _left_out(len(content) - len(shown))
        for item in shown:
            outcome = item.get("outcome", "answered")
            value = f": {_short(item.get('data'), full)}" if outcome != "cancelled" else ""
            yield (
                f"  {item.get('request_id')}  {outcome} in superstep {item.get('iteration')}{value}"
            )
    elif section == "timers":
        for name, timer in content.items():
            again = f", attempt {timer['attempt']}" if timer.get("attempt", 1) > 1 else ""
            yield f"  {name}  due {moment(timer['due'])}, {route(timer.get('message', {}))}{again}"
            yield from _value(timer.get("message", {}).get("data"), full, "    ")
    elif section == "sub_workflows":
        runs = [
            (name, f"{sub['workflow_id']}, started by {sub['node']} in superstep {sub['started']}")
            for name, sub in content.items()
        ]
        yield from aligned(runs, "  ")
    elif isinstance(content, list):
        yield from _listed(content, full)
    else:
        yield from _named(content, full, _SCOPED.get(section, 0), "  ")


def _reply(message: dict[str, Any]) -> str:
    reply = message.get("reply")
    return (
        f"  answer to {reply.get('request_id')}: {cut(plain(reply.get('answer')), 60)}"
        if reply
        else ""
    )


def _named(content: dict[str, Any], full: bool, depth: int, indent: str) -> Iterator[str]:
    """Yield names and values, grouped by scope."""
    if depth:
        for name, inner in content.items():
            yield f"{indent}{click.style(name, fg='cyan')}{'' if inner else '  (empty)'}"
            yield from _named(inner, full, depth - 1, indent + "  ")
    else:
        yield from aligned([(name, _short(value, full)) for name, value in content.items()], indent)


def _listed(values: list[Any], full: bool) -> Iterator[str]:
    shown = values if full else values[-_SHOWN:]
    left_out = len(values) - len(shown)
    yield from _left_out(left_out)
    yield from aligned(
        [(f"[{index}]", _short(value, full)) for index, value in enumerate(shown, left_out)], "  "
    )


def _left_out(number: int) -> Iterator[str]:
    if number:
        yield click.style(f"  ... {number} before these (--full)", fg="bright_black")


def _asked(data: Any, full: bool) -> Iterator[str]:
    for line in spread(data).splitlines():
        yield f"    {line if full or len(line) <= _LONGEST else line[: _LONGEST - 1] + '…'}"


def _value(value: Any, full: bool, indent: str) -> Iterator[str]:
    for line in _short(value, full, 140).splitlines() or [""]:
        yield f"{indent}{line}"


def _short(value: Any, full: bool, width: int = 100) -> str:
    """Return a value as text; a string in quotes only if it could be mistaken."""
    text = plain(value)
    if not full:
        return cut(text, width) if text.strip() else json.dumps(value)
    return text if len(text) <= width or isinstance(value, str) else pretty(value)


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _title(text: str, number: int = 0) -> str:
    return click.style(text, bold=True) + (f" ({number})" if number else "")


# --------------------------------------------------------------------------------------------- path


def value_at(content: Any, path: str) -> Any:
    """Return the value at a path in a checkpoint's content.

    Args:
        content: The content.
        path: A JSON Pointer (`/shared_state/x`), or names joined by dots; names that have dots
            themselves are found too.

    Raises:
        InputError: There is no value at that path.
    """
    if path.startswith("/"):
        names = [name.replace("~1", "/").replace("~0", "~") for name in path.split("/")[1:]]
    else:
        names = path.replace("[", ".").replace("]", "").split(".")
    found, rest = content, names
    while rest:
        step = _step(found, rest)
        if step is None:
            before = ".".join(names[: len(names) - len(rest)])
            raise InputError(f"no value at {path!r}: {_content_of(found, before)}")
        found, rest = step
    return found


def _step(value: Any, names: list[str]) -> tuple[Any, list[str]] | None:
    if isinstance(value, list):
        is_index = names[0].removeprefix("-").isdecimal()
        index = int(names[0]) if is_index else len(value)
        return (value[index], names[1:]) if -len(value) <= index < len(value) else None
    if isinstance(value, dict):
        for length in range(1, len(names) + 1):
            name = ".".join(names[:length])
            if name in value:
                return value[name], names[length:]
    return None


def _content_of(value: Any, path: str) -> str:
    where = path or "the checkpoint"
    if isinstance(value, dict):
        names = ", ".join(map(str, value)) or "nothing"
        return f"{where} has {cut(names, 300)}"
    if isinstance(value, list):
        return f"{where} is a list of length {len(value)}"
    return f"{where} is {cut(plain(value), 60)}"
