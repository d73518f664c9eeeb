"""The user's terminal: shows lines and reads what is typed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

import click

from supersteps.cli.terminal import echo, shown


def _read(prompt: str) -> str:
    """Read a line; Ctrl-C raises at once, even inside an event loop."""
    if threading.current_thread() is not threading.main_thread():
        return input(prompt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(prompt)
    finally:
        signal.signal(signal.SIGINT, before)


def _write(text: str) -> None:
    echo(text, err=True)


@dataclass(frozen=True)
class Terminal:
    """A terminal at which a user reads and types lines.

    Attributes:
        reader: Shows a prompt and returns the typed line; raises EOFError or KeyboardInterrupt at
            the end of input.
        write: Shows a line on stderr, since stdout is for results.
    """

    reader: Callable[[str], str] = _read
    write: Callable[[str], None] = _write

    def read(self, prompt: str) -> str:
        """Return the typed line, stripped.

        Raises:
            click.Abort: The user gave up.
        """
        try:
            return self.reader(shown(prompt)).strip()
        except (EOFError, KeyboardInterrupt):
            self.write("")
            raise click.Abort from None
