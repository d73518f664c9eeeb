"""Errors as people want them: one paragraph with the next step; the traceback on request."""

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
"""Errors that say that what was typed cannot be done; the others happened while it was being done."""


def report(error: Exception) -> int:
    """Tell of an error on stderr and return the process's exit code."""
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
    return f"error: {type(error).__name__}: {text.removesuffix('.')}. Set --debug to see where."


def one_end(text: str) -> str:
    """Return a text without the second of two periods, which comes of quoting a sentence at the end of another."""
    return _TWO_ENDS.sub(".", text)


def is_debugging() -> bool:
    """Return whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
