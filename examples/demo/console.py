"""What the demo prints: on a terminal one line that is updated and a little colour, elsewhere
plain lines.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence


class Console:
    """Prints to standard output."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")
        self._has_progress = False

    def say(self, text: str = "") -> None:
        """Print a line."""
        self._clear()
        print(text, flush=True)

    def headline(self, text: str) -> None:
        """Print a line that stands out, after an empty one."""
        self.say()
        self.say(f"\x1b[1m{text}\x1b[0m" if self._has_colour else text)

    def progress(self, done: int, total: int, text: str, *, is_worth_a_line: bool = True) -> None:
        """Show how far the work is.

        Args:
            done: How much is done.
            total: How much there is.
            text: What is being done.
            is_worth_a_line: Whether to say it also where lines cannot be updated.
        """
        if self._is_terminal:
            filled = round(24 * done / total)
            line = f"  {'#' * filled}{'.' * (24 - filled)} {text}"[
                : shutil.get_terminal_size().columns - 1
            ]
            print(f"\r\x1b[2K{line}", end="", flush=True)
            self._has_progress = True
        elif is_worth_a_line:
            print(f"  {text}", flush=True)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows under a head, in columns."""
        lines = [list(head), *map(list, rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for line in lines:
            self.say(
                "  "
                + "  ".join(
                    cell.ljust(width) for cell, width in zip(line, widths, strict=True)
                ).rstrip()
            )

    def ask(self, question: str, choices: Sequence[str]) -> str:
        """Ask until the answer is one of the choices; its beginning will do.

        Raises:
            EOFError: There are no more answers.
        """
        self._clear()
        while True:
            given = input(f"{question} [{'/'.join(choices)}] ").strip().lower()
            chosen = [choice for choice in choices if given and choice.startswith(given)]
            if len(chosen) == 1:
                return chosen[0]
            self.say(f"Please answer {' or '.join(choices)}.")

    def _clear(self) -> None:
        if self._has_progress:
            print("\r\x1b[2K", end="")
            self._has_progress = False
