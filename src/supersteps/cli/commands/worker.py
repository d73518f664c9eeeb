"""`supersteps worker`."""

from __future__ import annotations

import logging

import click

from supersteps.cli.options import debug_option, do, settings, store_option
from supersteps.cli.progress import one_line_warnings, tell
from supersteps.cli.run_input import shared_storage_of
from supersteps.errors import StorageError
from supersteps.run.workers.worker import Worker
from supersteps.run.workflow import Workflow
from supersteps.service.applications import load_workflow
from supersteps.service.errors import ApplicationError, NoStoreError
from supersteps.service.settings import check_store


class _Told(logging.Handler):
    """Writes what a worker logs to stderr, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        tell(kind + " ".join(record.getMessage().split()))


def _limit(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, int]:
    limits = {}
    for one in given:
        name, equals, number = one.rpartition("=")
        if not (name and equals and number.isdecimal()):
            raise click.BadParameter(f"{one!r} is not of the form WORKFLOW=N", ctx, parameter)
        limits[name] = int(number)
    return limits


@click.command("worker")
@click.argument("apps", nargs=-1, metavar="[APP]...")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="Drive at most so many runs at once.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    default=("default",),
    show_default=True,
    metavar="NAME",
    help="A queue to serve; repeatable, they take turns.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_limit,
    metavar="WORKFLOW=N",
    help="All workers together drive at most N runs of a workflow; repeatable.",
)
@click.option(
    "--key-limit",
    type=click.IntRange(1),
    metavar="N",
    help="All workers together drive at most N runs with one key (submit --key).",
)
@click.option(
    "--adopt/--no-adopt",
    default=True,
    show_default=True,
    help="Whether to take up runs that were started by hand and whose process died.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    metavar="S",
    help="How long supersteps may go on after a signal; without end by default.",
)
@store_option
@debug_option
def command(
    apps: tuple[str, ...],
    concurrency: int,
    queues: tuple[str, ...],
    limits: dict[str, int],
    key_limit: int | None,
    adopt: bool,
    drain_seconds: float | None,
    store: str | None,
) -> None:
    """Take submitted runs from a store and drive them.

    Each APP is module:name or path/to/file.py:name; several workflows may be given, and they may be
    omitted if SUPERSTEPS_APP or [tool.supersteps] names them. Start as many workers as you like.

    It also takes up runs that are due, answered, or whose process has died. SIGTERM or Ctrl-C lets
    supersteps finish and be saved, gives the runs back and ends; a second one stops at once.
    """
    found = settings(store, apps)
    if not found.apps:
        raise ApplicationError("name the workflows that the worker runs: MODULE:NAME")

    async def work(workflows: list[Workflow]) -> None:
        storage = shared_storage_of(found, workflows[0])
        async with storage:
            await check_store(storage)
            try:
                worker = Worker(
                    storage,
                    workflows,
                    concurrency=concurrency,
                    queues=queues,
                    limits=limits,
                    key_limit=key_limit,
                    adopt=adopt,
                    drain_seconds=drain_seconds,
                )
            except StorageError as error:
                raise NoStoreError(str(error)) from error
            except ValueError as error:
                raise ApplicationError(str(error)) from error
            async with worker:
                await worker.run()

    log = logging.getLogger("supersteps.worker")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = _Told()
    log.addHandler(handler)
    try:
        with one_line_warnings():
            do(work([load_workflow(name, found.folder) for name in found.apps]))
    finally:
        log.removeHandler(handler)
