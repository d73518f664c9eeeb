"""`supersteps run`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import nullcontext
from typing import Any

import click

from supersteps.cli.endings import Commands, drive, limit_option, quiet_option
from supersteps.cli.failures import is_debugging
from supersteps.cli.options import check_new_id, common_options, do, named_workflow, settings
from supersteps.cli.progress import one_line_warnings, tell
from supersteps.cli.questionnaire import sample
from supersteps.run.workflow import Workflow
from supersteps.service.errors import InputError, ServiceError
from supersteps.service.inputs import read_input, read_value
from supersteps.service.settings import Settings, check_store, managed, open_store
from supersteps.states import WorkflowRunState
from supersteps.storage.addresses import storage_path
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.ports import ManagedStorage

_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[^:{}\[\]\"]*\.py(:[A-Za-z_][\w.]*)?")


@click.command("run")
@click.argument("app", required=False)
@click.argument("given", required=False, metavar="[INPUT|-]")
@click.option(
    "--run-id",
    metavar="ID",
    callback=check_new_id,
    help="What to call the run; a new id unless given.",
)
@click.option(
    "--attach",
    is_flag=True,
    help="With --run-id: go on with that run if there is one, and ignore INPUT.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="LABEL",
    help="A label to keep with the run; several times.",
)
@click.option(
    "--meta",
    "remarks",
    multiple=True,
    metavar="KEY=JSON",
    help="A remark to keep with it; several times.",
)
@limit_option
@quiet_option
@common_options
def command(
    app: str | None,
    given: str | None,
    run_id: str | None,
    attach: bool,
    tags: tuple[str, ...],
    remarks: tuple[str, ...],
    max_iterations: int | None,
    quiet: bool,
    store: str | None,
    output: str,
) -> int:
    """Start a run of a workflow and drive it.

    APP is module:name or path/to/file.py:name. Where SUPERSTEPS_APP or [tool.supersteps] names the
    workflow, it may be left out: a single argument is then taken for the INPUT, unless it has the
    form of an APP.

    INPUT is JSON, or text for a workflow that takes text; - reads it from stdin. Put -- before one
    that begins with a dash.

    Outputs go to stdout, all else to stderr. The first Ctrl-C lets the superstep under way end and
    be saved.
    """
    if attach and run_id is None:
        raise click.UsageError("--attach goes on with the run that --run-id names: give that too")
    app, given = told_apart(app, given, is_configured=bool(settings().apps))
    apps = () if app is None else (app,)
    found = settings(store, apps)
    metadata = dict(map(_remark, remarks))

    async def work(workflow: Workflow, text: str | None) -> int:
        storage = _storage(found, workflow)
        async with storage or nullcontext():
            if found.store is not None and storage is not None:
                path = storage_path(found.store)
                if path is None or path.exists():
                    await check_store(storage)
            record = (
                await storage.get_run(run_id)
                if storage is not None and run_id is not None
                else None
            )
            if record is not None and not attach:
                raise ServiceError(f"there is a run {run_id!r} already: --attach goes on with it")
            if record is not None:
                run = workflow.run_stream_from_checkpoint(record.head, storage)
            else:
                run = workflow.run_stream(
                    _read(workflow, text, app, is_detailed=output != "table" or is_debugging()),
                    run_id=run_id,
                    if_exists="attach" if attach else "error",
                    checkpoint_storage=storage,
                    metadata=metadata,
                    tags=tags,
                )
            suggested = Commands(store, apps, storage)
            if not suggested.can_resume and not quiet:
                tell(_no_store(storage))
            is_done = record is not None and record.status == WorkflowRunState.IDLE
            return await drive(
                run, workflow, suggested, quiet=quiet, output=output, is_done=is_done
            )

    with one_line_warnings():
        workflow = named_workflow(found)
        if max_iterations is not None:
            workflow.max_iterations = max_iterations
        return do(work(workflow, _read_stdin() if given == "-" else given))


def told_apart(
    first: str | None, second: str | None, *, is_configured: bool
) -> tuple[str | None, str | None]:
    """Return which argument is the workflow, and which the input.

    Args:
        first: The first argument.
        second: The second.
        is_configured: Whether the settings name a workflow.
    """
    if first is None or second is not None:
        return first, second
    if first == "-" or (is_configured and _APP.fullmatch(first) is None):
        return None, first
    return first, None


def _read(workflow: Workflow, text: str | None, app: str | None, *, is_detailed: bool) -> Any:
    """Return the workflow's input.

    Raises:
        InputError: It is none; the message says what could be typed instead.
    """
    try:
        return read_input(workflow, text)
    except InputError as error:
        told = [str(error)]
        if is_detailed and error.schemas:
            told.append(
                f"JSON Schema: {' or '.join(json.dumps(schema) for schema in error.schemas)}."
            )
        words = [given for schema in error.schemas if (given := sample(schema)) is not None]
        if words:
            told.append(
                "For example: "
                f"{shlex.join(['supersteps', 'run', *([app] if app else []), words[0]])}"
            )
        raise InputError(" ".join(told)) from error


def _storage(found: Settings, workflow: Workflow) -> ManagedStorage | None:
    """Return where to keep the run: the store that is named, else the workflow's own storage, else nowhere."""
    if found.store is not None:
        return open_store(found.store, must_exist=False)
    own = workflow.checkpoint_storage
    return None if own is None else managed(own, "the workflow's storage")


def _no_store(storage: object | None) -> str:
    why = (
        "is kept in memory only"
        if isinstance(storage, InMemoryCheckpointStorage)
        else "is kept nowhere"
    )
    return f"note: this run {why}, so it cannot be resumed; --store sqlite:///runs.db keeps it"


def _remark(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{given!r} is not of the form KEY=JSON", param_hint="--meta")
    return key, read_value(value)


def _read_stdin() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"what stdin holds is not UTF-8: {error}") from error
    return text.removesuffix("\n").removesuffix("\r")
