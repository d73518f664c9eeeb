"""The way to the terminal: whatever a store or a program has put into a text is only shown there.

Names, values and errors come from other people's data. At a terminal, control characters could
move the cursor, and bidirectional overrides and invisible characters could make a text look like
another one. They are shown as escapes.
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

import click

_UNSEEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, save tab and new line
    r"\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f"
    r"\ud800-\udfff"
)
# Joiners belong to the spelling of some languages and to some emoji; beside ASCII they only hide.
_JOINERS = r"(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
_HIDDEN = re.compile(f"[{_UNSEEN}]|{_JOINERS}")
_STYLE = re.compile(r"(\x1b\[(?:[01247]|3[1-7]|9[0-7])?m)")
"""What `click.style` makes, without what would make a text invisible."""


def harmless(text: str) -> str:
    """Return a text with an escape for each character that acts on a terminal or is not seen."""
    return _HIDDEN.sub(lambda found: _escape(found[0]), text.replace("\r\n", "\n"))


def harmless_json(text: str) -> str:
    """Return a JSON text that means the same, with escapes for characters that are not seen."""
    return _HIDDEN.sub(lambda found: _json_escape(found[0]), text)


def shown(text: str) -> str:
    """Return a text that may be styled, with an escape for whatever else acts or hides in it."""
    pieces = _STYLE.split(text)
    pieces[::2] = map(harmless, pieces[::2])
    return "".join(pieces)


def echo(text: str = "", *, err: bool = False, nl: bool = True, file: TextIO | None = None) -> None:
    """Write a text that may be styled; see `shown`.

    Args:
        text: The text.
        err: Whether it goes to stderr rather than stdout.
        nl: Whether a new line follows.
        file: Where it goes otherwise.
    """
    click.echo(shown(text), file=file, nl=nl, err=err)


def echo_result(text: str) -> None:
    """Write a result to stdout: as it is for a program, with escapes for a person."""
    click.echo(harmless(text) if sys.stdout.isatty() else text)


def draw(text: str) -> None:
    """Write to stderr what moves the cursor; nothing that others have made may be in it."""
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
