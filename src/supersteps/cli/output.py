"""Output on stdout: tables, JSON, and plain text in a pipe."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from supersteps.cli.terminal import echo, harmless, harmless_json, shown
from supersteps.service.states import DAMAGED, DRAINED, QUEUED, WORDS
from supersteps.states import IN_PROGRESS, WorkflowRunState

if TYPE_CHECKING:
    from supersteps.service.views import RunSummary

STYLES: dict[str, str] = {
    WorkflowRunState.IDLE: "green",
    WorkflowRunState.IDLE_WITH_PENDING_REQUESTS: "yellow",
    WorkflowRunState.IN_PROGRESS: "cyan",
    WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS: "cyan",
    WorkflowRunState.FAILED: "red",
    WorkflowRunState.CANCELLED: "bright_black",
    DAMAGED: "red",
    DRAINED: "yellow",
    QUEUED: "cyan",
}


_RESET = "\x1b[0m"
_PIECES = re.compile(r"\x1b\[[0-9;]*m|.", re.DOTALL)
_NARROWEST = 12
"""Minimum width of the last column of a table."""


def emit(value: Any, output: str, show: Callable[[], None]) -> None:
    """Write a value as JSON, as JSON lines (one per element of a list), or as text.

    Args:
        value: The value; anything that msgspec can encode.
        output: "table", "json" or "jsonl".
        show: Writes it as text.
    """
    if output == "table":
        show()
    elif output == "json":
        echo(harmless_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))
    else:
        for item in value if isinstance(value, list | tuple) else [value]:
            echo(harmless_json(msgspec.json.encode(item).decode()))


def status_text(status: str, *, is_abandoned: bool = False) -> str:
    """Return a run's status in words, coloured if stdout shows colours."""
    word = "stopped" if is_abandoned else WORDS.get(status, status.lower())
    return click.style(word, fg="red" if is_abandoned else STYLES.get(status))


def run_text(run: RunSummary) -> str:
    """Return a run's status in words; a run that could continue but has no owner is stopped."""
    is_at_rest = run.owner is None and run.status in IN_PROGRESS
    if is_at_rest and run.queue is not None:
        return status_text(QUEUED)
    return status_text(DRAINED if is_at_rest else run.status, is_abandoned=run.is_abandoned)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Write a table with columns as wide as their content; cells may be styled.

    Args:
        titles: One title per column.
        rows: One cell per column.
        empty: Message on stderr if there are no rows.
    """
    # escape first, since that changes the width
    lines = [[shown(cell) for cell in row] for row in rows]
    if not lines:
        echo(empty, err=True)
        return
    widths = [max(map(visible_width, column)) for column in zip(titles, *lines, strict=True)]
    heading = [click.style(title, bold=True) if title else "" for title in titles]
    room = terminal_width()
    if (
        room is not None
    ):  # the last column has the longest texts, and no column after it to keep aligned
        room = max(room - sum(width + 2 for width in widths[:-1]), _NARROWEST)
    for cells in [heading, *lines]:
        if room is not None:
            cells = [*cells[:-1], fitted(cells[-1], room)]
        padded = [
            cell + " " * (width - visible_width(cell))
            for cell, width in zip(cells, widths, strict=True)
        ]
        echo("  ".join(padded).rstrip())


def terminal_width() -> int | None:
    """Return the width of the terminal; None if stdout is piped, where nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitted(line: str, width: int) -> str:
    """Return a styled line cut to a width in columns; every style is ended."""
    if visible_width(line) <= width:
        return line
    kept, taken, is_styled = [], 0, False
    for piece in _PIECES.findall(line):
        if piece.startswith("\x1b"):
            kept.append(piece)
            is_styled = piece != _RESET
            continue
        taken += visible_width(piece)
        if taken > width - 1:
            break
        kept.append(piece)
    return f"{''.join(kept)}…{_RESET if is_styled else ''}"


def visible_width(cell: str) -> int:
    """Return the width of a styled text in columns; wide characters take two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in click.unstyle(cell))


def age(timestamp: str, now: datetime | None = None) -> str:
    """Return how long ago an ISO 8601 time was: `12 s`, `3 min`, `5 h`, `2 d`."""
    seconds = int(((now or datetime.now(UTC)) - datetime.fromisoformat(timestamp)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


def short(value: Any, width: int = 60) -> str:
    """Return a typed-JSON value on one line, cut to a width."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(harmless(text).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def is_terminal() -> bool:
    """Return whether a user sees stdout and can type."""
    return sys.stdout.isatty() and sys.stdin.isatty()
