"""Exceptions as text: readable, bounded, without secrets.

Exceptions of users may have no text, too much of it, or refuse notes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

MESSAGE_LIMIT: Final = 10_000
"""Characters of an exception's message that are kept."""

TRACEBACK_LIMIT: Final = 50_000
"""Characters of a traceback that are kept."""


def message_of(error: BaseException) -> str:
    """Return an exception's message: readable, bounded, without secrets, fit to be stored."""
    try:
        text = "".join((str(error),))  # a plain string, also where __str__ returns a subclass
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:
        text = f"<no text: __str__ raised {type(trouble).__name__}>"
    return _stored(text, MESSAGE_LIMIT)


def described(error: BaseException) -> str:
    """Return an exception's type and message, as the last line of a traceback has them."""
    message = message_of(error)
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def traceback_of(error: BaseException) -> str:
    """Return an exception with its traceback: bounded, without secrets, fit to be stored."""
    import traceback  # wanted only when something fails

    try:
        text = "".join(traceback.format_exception(error))
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:
        text = f"{described(error)} (no traceback: {type(trouble).__name__} while it was written)"
    return _stored(text, TRACEBACK_LIMIT)


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception, if it takes one: a frozen dataclass, for example, does not."""
    with suppress(Exception):
        error.add_note(note)


def notes_of(error: BaseException) -> list[str]:
    """Return an exception's notes."""
    try:
        notes = list(getattr(error, "__notes__", ()))
    except Exception:
        return []
    return [_stored(note, MESSAGE_LIMIT) for note in notes if isinstance(note, str)]


def _stored(text: str, limit: int) -> str:
    from supersteps.secrets import redact  # wanted only when something fails

    text = redact(text)
    if len(text) > limit:
        end = limit // 4
        left_out = len(text) - limit
        text = f"{text[: limit - end]}\n[... {left_out} characters left out ...]\n{text[-end:]}"
    return text.encode("utf-8", "backslashreplace").decode()  # halves of surrogate pairs
