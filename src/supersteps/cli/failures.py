"""Errors as one paragraph with the next step; tracebacks on request."""

from __future__ import annotations

import os
import re
import traceback

from supersteps.cli.terminal import echo
from supersteps.errors import (
    CheckpointNotFoundError,
    ForkError,
    RequestError,
    RunExistsError,
    RunNotFoundError,
    SuperstepsError,
)
from supersteps.secrets import redact
from supersteps.service.errors import ServiceError

FAILED = 1
USED_WRONGLY = 2
WAITING = 3

DEBUG_VARIABLE = "SUPERSTEPS_DEBUG"

_TWO_ENDS = re.compile(r"(?<=\w)\.\.(?= |$)")

_WRONG_USE = (
    ServiceError,
    RequestError,
    ForkError,
    RunExistsError,
    RunNotFoundError,
    CheckpointNotFoundError,
)
"""Errors in what the user typed; all other errors happened while a command was running."""


def report(error: Exception) -> int:
    """Report an error on stderr and return the exit code of the process."""
    if is_debugging():
        echo(redact("".join(traceback.format_exception(error))).rstrip(), err=True)
    else:
        echo(paragraph(error), err=True)
    return USED_WRONGLY if isinstance(error, _WRONG_USE) else FAILED


def paragraph(error: BaseException) -> str:
    """Return an error as one paragraph."""
    text = " ".join(redact(" ".join([str(error), *getattr(error, "__notes__", ())])).split())
    text = one_end(text)
    if isinstance(error, SuperstepsError):
        return f"error: {text}"
    return f"error: {type(error).__name__}: {text.removesuffix('.')}. Pass --debug to see where."


def one_end(text: str) -> str:
    """Return a text without doubled periods, which a quoted sentence at the end causes."""
    return _TWO_ENDS.sub(".", text)


def is_debugging() -> bool:
    """Return whether tracebacks are to be shown."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
