"""The progress of a run on stderr: lines, or a live display."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from supersteps.cli.story import Line, Story, duration, one_line
from supersteps.cli.terminal import echo, harmless
from supersteps.errors import IgnoredResultWarning, PartialStorageWarning, UndeliveredMessageWarning
from supersteps.events import WorkflowEvent

if TYPE_CHECKING:
    from rich.spinner import Spinner

_TOLD_BY_EVENTS = (UndeliveredMessageWarning, IgnoredResultWarning, PartialStorageWarning)
"""Warnings that also arrive as an event with the same text."""

_SCROLL_SECONDS = 0.25
_REFRESHES_PER_SECOND = 10


class Scroll:
    """Limits output to a few lines per second; supersteps in between share a line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown = float("-inf")
        self._held: list[Line] = []
        self._number = 0

    def offer(self, line: Line) -> list[str]:
        """Add a line; return the lines to show now."""
        if line.step is None:
            return [*self.rest(), line.text]
        self._held = [*self._held[:1], line]  # the first and the last
        self._number += 1
        return self.rest() if self._clock() - self._shown >= _SCROLL_SECONDS else []

    def rest(self) -> list[str]:
        """Return the lines that were held back."""
        if not self._held:
            return []
        first, last = self._held[0], self._held[-1]
        now = self._clock()
        text = last.text
        if self._number > 1:
            text = f"supersteps {first.step} to {last.step}  ({duration(now - self._shown)})"
        self._held, self._number, self._shown = [], 0, now
        return [text]


# ----------------------------------------------------------------------------------------- displays


class Display(Protocol):
    """Shows lines."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, line: Line) -> None:
        """Show a line."""


class PlainDisplay:
    """Writes every line at once, for a stream that is not a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, line: Line) -> None:
        echo(line.text, file=self._stream or sys.stderr)


class LiveDisplay:
    """A terminal: the current state on the last line, finished lines scroll up above it."""

    def __init__(self, story: Story) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        self._text = Text
        self._story = story
        self._scroll = Scroll()
        # Output of handlers would break the display; rich writes it above the display if both use
        # the same terminal.
        self._console = Console(stderr=True, highlight=False)
        self._is_ascii = self._console.options.ascii_only
        self._spinner = Spinner("line" if self._is_ascii else "dots", style="cyan")
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for text in self._scroll.rest():
                self._print(text)
        finally:
            self._live.__exit__(kind, error, trace)

    def show(self, line: Line) -> None:
        for text in self._scroll.offer(line):
            self._print(text)

    def _print(self, text: str) -> None:
        style = "yellow" if text.startswith(("warning:", "error:")) else "dim"
        self._console.print(self._text(harmless(text), style=style), soft_wrap=True)

    def _render(self) -> Spinner:
        status = harmless(self._story.status(self._console.width - 4))
        self._spinner.update(
            text=status.replace(" · ", " - ").replace("…", "~") if self._is_ascii else status
        )
        return self._spinner


def is_live() -> bool:
    """Return whether stderr is a terminal on which a display can move."""
    return (
        sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


class Progress:
    """Shows the progress of a run from its events.

    Showing never breaks the run: if it fails, nothing more is shown.

    Args:
        story: Turns events into lines.
        display: Where to show the lines, None to show nothing.

    Attributes:
        trouble: Why nothing more is shown, None if showing works.
    """

    def __init__(self, story: Story, display: Display | None) -> None:
        self.trouble: Exception | None = None
        self._story = story
        self._display = display

    def watch(self, event: WorkflowEvent) -> None:
        """Show an event."""
        try:
            for line in self._story.take(event):
                self._show(line)
        except Exception as error:
            self.trouble = self.trouble or error

    def say(self, text: str) -> None:
        """Show a message, even if no progress is shown."""
        if self._display is None or self.trouble is not None:
            tell(text)
            return
        try:
            self._show(Line(text))
        except Exception as error:
            self.trouble = error

    def _show(self, line: Line) -> None:
        if self._display is not None and self.trouble is None:
            self._display.show(line)


@contextmanager
def show_progress(story: Story, *, quiet: bool = False) -> Iterator[Progress]:
    """Show the progress of a run; pass its events to the yielded object.

    If showing fails, the reason is reported at the end.
    """
    display = None if quiet else LiveDisplay(story) if is_live() else PlainDisplay()
    progress = Progress(story, display)
    try:
        with display or nullcontext():
            yield progress
    finally:
        trouble = progress.trouble
        if trouble is not None:
            tell(
                f"note: the run's progress could not be shown: {type(trouble).__name__}: {trouble}"
            )


def tell(text: str) -> None:
    """Write a message to stderr; a closed stderr changes neither the run nor the exit code."""
    try:
        echo(text, err=True)
    except OSError:
        # # otherwise Python prints an error when it flushes at exit
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings on one line each, without source code, and not those that are also events."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, _TOLD_BY_EVENTS):
            return
        is_own = category.__module__.partition(".")[0] == __name__.partition(".")[0]
        where = "" if is_own else f" ({Path(filename).name}, line {lineno})"
        kind = "" if is_own or category is UserWarning else f"{category.__name__}: "
        tell(f"warning: {kind}{one_line(message)}{where}")

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
