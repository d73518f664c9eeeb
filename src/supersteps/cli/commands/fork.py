"""`supersteps fork`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from supersteps.cli.choice import chosen
from supersteps.cli.completion import complete_checkpoint
from supersteps.cli.endings import Commands, drive, quiet_option
from supersteps.cli.options import (
    app_option,
    check_new_id,
    common_options,
    do,
    open_service,
    settings,
    workflow_of,
)
from supersteps.cli.output import emit
from supersteps.cli.progress import one_line_warnings, tell
from supersteps.engine.time_travel.fork import DELETE
from supersteps.run.handle import StreamingRun
from supersteps.service.inputs import read_value


class _Created(msgspec.Struct, frozen=True):
    """A fork that was not driven."""

    run_id: str
    checkpoint: str


@click.command("fork")
@click.argument("checkpoint", required=False, shell_complete=complete_checkpoint)
@click.option(
    "--set", "values", multiple=True, metavar="PATH=JSON", help="A new value; several times."
)
@click.option(
    "--unset", "removed", multiple=True, metavar="PATH", help="Remove what is there; several times."
)
@click.option(
    "--run-id",
    metavar="ID",
    callback=check_new_id,
    help="What to call the new run; a new id unless given.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="LABEL",
    help="A label to keep with the new run; several times.",
)
@click.option(
    "--no-run", is_flag=True, help="Only create the new run; `supersteps resume` drives it."
)
@quiet_option
@app_option
@common_options
def command(
    checkpoint: str | None,
    values: tuple[str, ...],
    removed: tuple[str, ...],
    run_id: str | None,
    tags: tuple[str, ...],
    no_run: bool,
    quiet: bool,
    apps: tuple[str, ...],
    store: str | None,
    output: str,
) -> int:
    """Begin a new run at a checkpoint of any run, as it was or with changes, and drive it.

    Nothing of the old run changes. On a terminal, without a CHECKPOINT, you choose from those that
    there are.

    \b
    A PATH leads to what is changed:
      input                       the input, at superstep 0
      messages.0.text             a field of the first message on its way
      shared_state.total          a shared value
      executor_states.fetch.page  a value of one executor
      scopes.NAME.KEY             a value of a named scope
      /shared_state/v1.2          with slashes, where a name has a dot in it
    What is no JSON is taken as text: --set shared_state.hero=owl
    """  # noqa: D301 - \b is how click is told to leave lines as they are
    changes: dict[str, Any] = {**dict(map(_change, values)), **dict.fromkeys(removed, DELETE)}

    async def work() -> int:
        async with open_service(store, apps) as service:
            header = await service.find_checkpoint(
                checkpoint or await chosen(service, "Choose where to fork.", "fork")
            )
            workflow = workflow_of(settings(store, apps), header.workflow_id)
            run = workflow.fork(
                header.checkpoint_id,
                changes,
                run_id=run_id,
                checkpoint_storage=service.storage,
                tags=tags,
            )
            origin = (
                f"run {header.run_id} after superstep {header.iteration_count}"
                if header.run_id
                else "a checkpoint"
            )
            commands = Commands(store, apps, service.storage)
            if not no_run:
                return await drive(
                    run,
                    workflow,
                    commands,
                    quiet=quiet,
                    output=output,
                    origin=f", forked from {origin}",
                )
            created = await _create(run)
            tell(f"run {run.run_id}, forked from {origin}; nothing has run")
            emit(created, output, lambda: None)
            tell(f"to run it: {commands.resume(run.run_id)}")
            return 0

    with one_line_warnings():
        return do(work())


async def _create(run: StreamingRun) -> _Created:
    """Have a run created, and nothing else: the stream ends before its first superstep."""
    events = aiter(run)
    await anext(events)
    await run.drain()
    async for _ in events:
        pass
    assert run.latest_checkpoint is not None
    return _Created(run.run_id, run.latest_checkpoint.checkpoint_id)


def _change(given: str) -> tuple[str, Any]:
    path, equals, value = given.partition("=")
    if not (path and equals):
        raise click.BadParameter(f"{given!r} is not of the form PATH=JSON", param_hint="--set")
    return path, read_value(value)
