"""Options that the commands share: store, application, output, debug."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supersteps.cli.failures import DEBUG_VARIABLE
from supersteps.run.workflow import Workflow
from supersteps.service.applications import find_workflow, load_workflow
from supersteps.service.errors import ApplicationError, NoStoreError
from supersteps.service.service import Service
from supersteps.service.settings import (
    APP_VARIABLE,
    STORE_VARIABLE,
    Settings,
    check_store,
    managed,
    open_store,
    read_settings,
)
from supersteps.storage.ports import ManagedStorage

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _set_debug(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG_VARIABLE] = "1"


def check_new_id(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an id for a new run that commands would read as something else."""
    if value is not None and value.startswith(("-", "@")):
        raise click.BadParameter(
            f"{value!r} starts with {value[0]!r}, which has another meaning in commands: choose "
            "another id"
        )
    return value


def _complete_store(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


store_option = click.option(
    "--store",
    metavar="URL",
    shell_complete=_complete_store,
    help=f"The store: sqlite:///runs.db, postgresql://..., a path, ... Default: {STORE_VARIABLE}, "
    "or store in [tool.supersteps].",
)
app_option = click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="MODULE:NAME",
    help=f"The workflow's code; repeatable. Default: {APP_VARIABLE}, or app in [tool.supersteps].",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "jsonl"]),
    default="table",
    show_default=True,
    help="Output format.",
)
debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show tracebacks of errors.",
)


def common_options(function: F) -> F:
    """Add the options that every command has: --store, --output, --debug."""
    return store_option(output_option(debug_option(function)))


def do(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work in an event loop."""
    return asyncio.run(work)


def settings(store: str | None = None, apps: tuple[str, ...] = ()) -> Settings:
    """Return the settings of the command line, the environment and pyproject.toml."""
    return read_settings(Path.cwd(), os.environ, store=store, apps=apps)


def find_store(found: Settings, *, must_exist: bool = True) -> ManagedStorage:
    """Return the named store, else that of the application's workflow.

    Raises:
        NoStoreError: No store is named, or it does not exist.
    """
    if found.store is not None:
        return open_store(found.store, must_exist=must_exist)
    for name in found.apps:
        storage = load_workflow(name, found.folder).checkpoint_storage
        if storage is not None:
            return managed(storage, f"the storage of {name}")
    raise NoStoreError(
        f"no store is named: pass --store sqlite:///runs.db, set {STORE_VARIABLE}, or put "
        'store = "sqlite:///runs.db" under [tool.supersteps] in pyproject.toml'
    )


@asynccontextmanager
async def open_service(
    store: str | None, apps: tuple[str, ...] = (), *, is_checked: bool = True
) -> AsyncIterator[Service]:
    """Open the store for the duration of a command.

    Args:
        store: Its address, if one was passed.
        apps: Workflows named on the command line.
        is_checked: Whether to refuse a store that cannot be read at once.

    Raises:
        NoStoreError: No store is named, it does not exist, or it is not a store.
    """
    found = settings(store, apps)
    async with find_store(found) as storage:
        if is_checked and found.store is not None:
            await check_store(storage)
        yield Service(storage)


def workflow_of(found: Settings, workflow_id: str) -> Workflow:
    """Return the workflow that a stored run belongs to.

    Raises:
        ApplicationError: Its code is not among the named applications.
    """
    return find_workflow(found.apps, workflow_id, found.folder)


def named_workflow(found: Settings) -> Workflow:
    """Return the only named workflow.

    Raises:
        ApplicationError: No workflow is named, or several are.
    """
    if len(found.apps) != 1:
        raise ApplicationError(
            "name a workflow: MODULE:NAME"
            if not found.apps
            else f"name one of the workflows: {', '.join(found.apps)}"
        )
    return load_workflow(found.apps[0], found.folder)
