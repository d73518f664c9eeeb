"""Warnings issued by threads of the library."""

from __future__ import annotations

import threading
import warnings
from contextlib import suppress


def warn_from_thread(text: str, category: type[Warning]) -> None:
    """Issue a warning from a thread of the library, where no caller could catch it as an error.

    Args:
        text: What to say.
        category: The kind of warning.
    """
    try:
        warnings.warn(text, category, stacklevel=2)
    except Exception as error:  # a filter has made it an error
        report(error)


def report(error: Exception) -> None:
    """Report an error that a thread survives as Python reports those that end one."""
    with suppress(Exception):  # nothing more can be done
        details = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(details))
