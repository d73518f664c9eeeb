"""`supersteps graph`."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import click

from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.options import (
    debug_option,
    do,
    find_store,
    named_workflow,
    open_service,
    settings,
    store_option,
)
from supersteps.cli.terminal import echo, echo_result
from supersteps.run.workflow import Workflow
from supersteps.service.applications import load_workflow
from supersteps.service.errors import ServiceError
from supersteps.service.service import Service
from supersteps.viz import LIMIT, WorkflowViz
from supersteps.viz.picture import Picture

_FORMATS = ("ascii", "mermaid", "dot", "svg")
_SUFFIXES = {
    ".txt": "ascii",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
}
_APPLICATION = re.compile(r".+\.py(:[^/\\]+)?|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_WIDTH = 100
"""Width of a text drawing that is written to a file."""


@click.command("graph")
@click.argument(
    "subject", metavar="[APP|RUN|CHECKPOINT]", required=False, shell_complete=complete_checkpoint
)
@click.option("--format", "format_", type=click.Choice(_FORMATS), help="Format of the picture.")
@click.option(
    "-f",
    "--file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="File to write; stdout by default.",
)
@click.option(
    "--checkpoint",
    metavar="REF",
    help="With APP: mark the state of one of its runs at this checkpoint.",
)
@store_option
@debug_option
def command(
    subject: str | None,
    format_: str | None,
    file: str | None,
    checkpoint: str | None,
    store: str | None,
) -> None:
    """Draw a workflow, or the state of a run.

    APP is `module:name` or `file.py:name`, and its code is needed; without an argument, the app of
    the settings is drawn. A RUN or CHECKPOINT is drawn from what is stored: which executors ran,
    which failed, which ask, and where messages wait.

    The format follows FILE's suffix (.svg, .dot, .mmd, .txt); without a file it is ascii on a
    terminal and mermaid in a pipe.

    \b
    supersteps graph flows/orders.py:workflow
    supersteps graph @latest -f run.svg
    """  # noqa: D301 - \b tells click to keep the line breaks
    chosen = format_ or _format_for(file)
    is_application = subject is None or _APPLICATION.fullmatch(subject) is not None
    if checkpoint is not None and not is_application:
        raise click.UsageError(
            f"--checkpoint needs an APP, but {subject!r} is a run or a checkpoint: pass only one "
            "of them"
        )
    picture = (
        _of_application(subject, checkpoint, store)
        if is_application
        else _of_stored(str(subject), store)
    )
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if file is None else _WIDTH
    text = _drawn(picture, chosen, width).rstrip("\n")
    if file is None:
        _print(text)
        return
    path = Path(file)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"{path} cannot be written: {error.strerror or error}") from error
    echo(f"{picture.title or 'the picture'} was written to {path}", err=True)


def _print(text: str) -> None:
    try:
        echo_result(text)
    except UnicodeEncodeError as error:
        raise ServiceError(
            f"stdout is encoded as {error.encoding}, which has no {text[error.start]!r}: write "
            "the picture to a file with -f FILE, or set PYTHONIOENCODING=utf-8"
        ) from error


def _format_for(file: str | None) -> str:
    if file is None:
        return "ascii" if sys.stdout.isatty() else "mermaid"
    found = _SUFFIXES.get(Path(file).suffix.lower())
    if found is None:
        raise click.UsageError(
            f"{file!r} does not name a format: pass --format, or a file name that ends in .svg, "
            ".dot, .mmd or .txt"
        )
    return found


def _of_application(name: str | None, checkpoint: str | None, store: str | None) -> Picture:
    found = settings(store, () if name is None else (name,))
    if name is None and not found.apps:
        raise click.UsageError(
            "name a workflow (module:name or file.py:name), a run or a checkpoint"
        )
    workflow = named_workflow(found) if name is None else load_workflow(name, found.folder)
    if checkpoint is None:
        return WorkflowViz(workflow).picture

    async def work(reference: str) -> Picture:
        async with find_store(found) as storage:
            return await _where_it_stands(workflow, Service(storage), reference)

    return do(work(checkpoint))


async def _where_it_stands(workflow: Workflow, service: Service, reference: str) -> Picture:
    details = await service.show_checkpoint(reference)
    if details.workflow_id != workflow.workflow_id:
        raise ServiceError(
            f"checkpoint {details.entry.checkpoint_id!r} belongs to workflow "
            f"{details.workflow_id!r}, but the code is of {workflow.workflow_id!r}: omit the APP "
            "to draw what is stored"
        )
    checkpoint = await service.storage.load_checkpoint(details.entry.checkpoint_id)
    return WorkflowViz(workflow, checkpoint=checkpoint, ran=details.entry.ran).picture


def _of_stored(reference: str, store: str | None) -> Picture:
    async def work() -> Picture:
        async with open_service(store) as service:
            return await service.picture(reference)

    return do(work())


def _drawn(picture: Picture, chosen: str, width: int) -> str:
    # Each format is imported only when it is used. ascii and mermaid are readable text.
    from supersteps.viz.groups import grouped

    if chosen == "mermaid":
        from supersteps.viz.mermaid import to_mermaid

        return to_mermaid(picture)
    if chosen == "dot":
        from supersteps.viz.dot import to_dot

        return to_dot(picture)
    if chosen == "svg":
        from supersteps.viz.svg import to_svg

        return to_svg(grouped(picture, LIMIT))
    from supersteps.viz.text import to_ascii

    return to_ascii(grouped(picture, LIMIT), width)
