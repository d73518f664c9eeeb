"""Output to the terminal, with control characters of stored texts escaped.

Names, values and errors come from other people's data. At a terminal, control characters could move
the cursor, and bidirectional overrides and invisible characters could make a text look like another
one.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

import click

_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except tab and newline
    r"\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f"
    r"\ud800-\udfff"
)
# Some languages and emoji need joiners; next to ASCII they only hide something.
_JOINERS = r"(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
_HIDDEN = re.compile(f"[{_UNSEEN}]|{_JOINERS}")
_STYLE = re.compile(r"(\x1b\[(?:[01247]|3[1-7]|9[0-7])?m)")
"""The escape sequences of `click.style`, except those that make a text invisible."""


def harmless(text: str) -> str:
    """Return a text with escapes for control characters and invisible characters."""
    return _HIDDEN.sub(lambda found: _escape(found[0]), text.replace("\r\n", "\n"))


def harmless_json(text: str) -> str:
    """Return an equivalent JSON text with escapes for invisible characters."""
    return _HIDDEN.sub(lambda found: _json_escape(found[0]), text)


def shown(text: str) -> str:
    """Return a text with its styles kept and all other control characters escaped."""
    pieces = _STYLE.split(text)
    pieces[::2] = map(harmless, pieces[::2])
    return "".join(pieces)


def echo(text: str = "", *, err: bool = False, nl: bool = True, file: TextIO | None = None) -> None:
    """Write a text that may be styled; see `shown`.

    Args:
        text: The text.
        err: Whether it goes to stderr rather than stdout.
        nl: Whether a new line follows.
        file: Another stream to write to.
    """
    click.echo(shown(text), file=file, nl=nl, err=err)


def echo_result(text: str) -> None:
    """Write a result to stdout: unchanged in a pipe, with escapes on a terminal."""
    click.echo(harmless(text) if sys.stdout.isatty() else text)


def draw(text: str) -> None:
    """Write cursor movements to stderr; pass only text of this program."""
    click.echo(text, nl=False, err=True)


def _escape(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def _json_escape(character: str) -> str:
    pair = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))
