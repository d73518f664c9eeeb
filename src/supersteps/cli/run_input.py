"""Arguments of commands that start a run: its workflow, input, store, metadata."""

from __future__ import annotations

import json
import re
import shlex
import sys
from typing import Any

import click

from supersteps.cli.typed_value import sample
from supersteps.run.workflow import Workflow
from supersteps.service.errors import InputError, NoStoreError
from supersteps.service.inputs import read_input, read_value
from supersteps.service.settings import Settings, managed, open_store
from supersteps.storage.ports import ManagedStorage, capabilities_of

_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*|[^:{}\[\]\"]*\.py(:[A-Za-z_][\w.]*)?")


def split_arguments(
    first: str | None, second: str | None, *, is_configured: bool
) -> tuple[str | None, str | None]:
    """Return the workflow and the input among the arguments.

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


def input_of(workflow: Workflow, text: str | None, command: list[str], *, is_detailed: bool) -> Any:
    """Return the workflow's input.

    Args:
        workflow: The workflow.
        text: What was typed.
        command: The words of the command before the input, for an example.
        is_detailed: Whether a refusal shows the whole schema.

    Raises:
        InputError: It does not fit; the message says what to type instead.
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
            told.append(f"For example: {shlex.join([*command, words[0]])}")
        raise InputError(" ".join(told)) from error


def storage_of(found: Settings, workflow: Workflow) -> ManagedStorage | None:
    """Return the storage of a run: the named store, else the workflow's own, else None."""
    if found.store is not None:
        return open_store(found.store, must_exist=False)
    own = workflow.checkpoint_storage
    return None if own is None else managed(own, "the workflow's storage")


def shared_storage_of(found: Settings, workflow: Workflow) -> ManagedStorage:
    """Return the storage that those who submit runs share with workers.

    Raises:
        NoStoreError: There is none, or it ends with this process.
    """
    storage = storage_of(found, workflow)
    if storage is None or not capabilities_of(storage).is_permanent:
        raise NoStoreError(
            "submitted runs need a store that workers share: pass --store sqlite:///runs.db"
        )
    return storage


def remark(given: str) -> tuple[str, Any]:
    """Return a piece of metadata that was given as KEY=JSON."""
    key, equals, value = given.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{given!r} is not of the form KEY=JSON", param_hint="--meta")
    return key, read_value(value)


def read_stdin() -> str:
    """Return what was piped in, without the last line break."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not valid UTF-8: {error}") from error
    return text.removesuffix("\n").removesuffix("\r")
