"""What commands have in common: where the runs are, whose code they are, how to show them."""

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
    """Refuse an id for a new run under which no command could find it again."""
    if value is not None and value.startswith(("-", "@")):
        raise click.BadParameter(
            f"{value!r} begins with {value[0]!r}, which means something else to commands"
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
    help=f"Where the runs are: sqlite:///runs.db, a path, ... Else {STORE_VARIABLE}, or store in "
    "[tool.supersteps].",
)
app_option = click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="MODULE:NAME",
    help=f"The workflow's code; several times for several. Else {APP_VARIABLE}, or app in "
    "[tool.supersteps].",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "jsonl"]),
    default="table",
    show_default=True,
    help="How to write what is found to stdout.",
)
debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)


def common_options(function: F) -> F:
    """Give a command the options that every command has: --store, --output, --debug."""
    return store_option(output_option(debug_option(function)))


def do(work: Coroutine[Any, Any, T]) -> T:
    """Do a command's work in an event loop."""
    return asyncio.run(work)


def settings(store: str | None = None, apps: tuple[str, ...] = ()) -> Settings:
    """Return what is said on the command line, in the environment, and in the project's pyproject.toml."""
    return read_settings(Path.cwd(), os.environ, store=store, apps=apps)


def find_store(found: Settings, *, must_exist: bool = True) -> ManagedStorage:
    """Return the store: the one that is named, else that of the application's workflow.

    Raises:
        NoStoreError: Nobody says where the runs are, or there is nothing.
    """
    if found.store is not None:
        return open_store(found.store, must_exist=must_exist)
    for name in found.apps:
        storage = load_workflow(name, found.folder).checkpoint_storage
        if storage is not None:
            return managed(storage, f"the storage of {name}")
    raise NoStoreError(
        f"nobody says where the runs are: give --store sqlite:///runs.db, set {STORE_VARIABLE}, or put "
        'store = "sqlite:///runs.db" under [tool.supersteps] in pyproject.toml'
    )


@asynccontextmanager
async def open_service(
    store: str | None, apps: tuple[str, ...] = (), *, is_checked: bool = True
) -> AsyncIterator[Service]:
    """Open the store for as long as a command works with it.

    Args:
        store: Its address, if one was given.
        apps: Workflows that were named.
        is_checked: Whether one that cannot be read is refused at once.

    Raises:
        NoStoreError: Nobody says where it is, there is nothing, or it is no store.
    """
    found = settings(store, apps)
    async with find_store(found) as storage:
        if is_checked and found.store is not None:
            await check_store(storage)
        yield Service(storage)


def workflow_of(found: Settings, workflow_id: str) -> Workflow:
    """Return the code of the workflow that a stored run belongs to.

    Raises:
        ApplicationError: It is not at hand.
    """
    return find_workflow(found.apps, workflow_id, found.folder)


def named_workflow(found: Settings) -> Workflow:
    """Return the only workflow that is named.

    Raises:
        ApplicationError: None is, or several are.
    """
    if len(found.apps) != 1:
        raise ApplicationError(
            "name a workflow: MODULE:NAME"
            if not found.apps
            else f"name one of the workflows: {', '.join(found.apps)}"
        )
    return load_workflow(found.apps[0], found.folder)
