"""Tab completion of ids from the configured store; never an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from supersteps.service.service import Service

_SHOWN = 50

Finder = Callable[["Service", str], Coroutine[Any, Any, list[CompletionItem]]]


def complete_run(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the runs whose ids start with the typed text."""
    return _complete(context, incomplete, _runs)


def complete_checkpoint(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return runs; after `RUN@` its supersteps, after `RUN-` the ids of its checkpoints."""
    return _complete(context, incomplete, _checkpoints)


def complete_request(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the waiting questions whose ids start with the typed text."""
    return _complete(context, incomplete, _requests)


def _complete(context: click.Context, incomplete: str, find: Finder) -> list[CompletionItem]:
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            return _found(context, incomplete, find)
    except Exception:  # pressing Tab must not print a traceback
        return []


def _found(context: click.Context, incomplete: str, find: Finder) -> list[CompletionItem]:
    from supersteps.cli.options import do, settings
    from supersteps.service.service import Service
    from supersteps.service.settings import open_store

    address = settings(context.params.get("store")).store
    # only the application knows the store, and importing it may have side effects
    if address is None:
        return []

    async def work() -> list[CompletionItem]:
        async with open_store(address) as storage:
            return await find(Service(storage), incomplete)

    return do(work())


async def _runs(service: Service, incomplete: str) -> list[CompletionItem]:
    from supersteps.cli.output import run_text
    from supersteps.storage.listings import RunFilter

    found = [
        run
        for run in await service.list_runs(RunFilter(limit=1000))
        if run.run_id.startswith(incomplete)
    ]
    return [
        CompletionItem(run.run_id, help=_about(run.workflow_id, click.unstyle(run_text(run))))
        for run in found[:_SHOWN]
    ]


async def _checkpoints(service: Service, incomplete: str) -> list[CompletionItem]:
    from supersteps.storage.listings import RunFilter

    runs = await service.list_runs(RunFilter(limit=1000))
    named = [run for run in runs if incomplete.startswith((f"{run.run_id}@", f"{run.run_id}-"))]
    if not named:
        return await _runs(service, incomplete)
    run = max(named, key=lambda run: len(run.run_id))
    entries = (await service.log(run.run_id, with_forks=False)).entries
    by_id = {entry.checkpoint_id: entry for entry in entries}
    lineage, at = [], by_id.get(run.head)
    while at is not None:
        lineage.append(at)
        at = by_id.get(at.parent or "")
    offered = [(f"{run.run_id}@{entry.step}", entry) for entry in lineage]
    offered += [(entry.checkpoint_id, entry) for entry in entries]
    return [
        CompletionItem(name, help=_about(f"superstep {entry.step}", *entry.ran))
        for name, entry in offered
        if name.startswith(incomplete)
    ][:_SHOWN]


async def _requests(service: Service, incomplete: str) -> list[CompletionItem]:
    from supersteps.cli.words import asked, cut, plain

    waiting = await service.list_questions()
    # A fork asks the questions of its origin again, under the same ids.
    unique = {one.request_id: one for one in waiting if one.request_id.startswith(incomplete)}
    if not unique:
        named = {f"{one.run_id}:{one.request_id}": one for one in waiting}
        unique = {name: one for name, one in named.items() if name.startswith(incomplete)}
    return [
        CompletionItem(name, help=cut(plain(asked(one.data)), 50))
        for name, one in [*unique.items()][:_SHOWN]
    ]


def _about(*words: str) -> str:
    return ", ".join(words)
