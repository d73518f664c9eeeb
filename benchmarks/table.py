"""One line per figure: what was measured, beside what, and the ratio that is to be reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        name: What was measured.
        detail: The figure in its own unit, and what it is compared with.
        value: The ratio, or the figure itself, that the target is about.
        target: What is to be reached; None when the figure is only for information.
        at_most: Whether the target is an upper bound.
    """

    name: str
    detail: str
    value: float
    target: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Whether the target is reached, in a word."""
        if self.target is None:
            return ""
        reached = self.value <= self.target if self.at_most else self.value >= self.target
        return "reached" if reached else "SHORT"


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows, aligned."""
    lines = [("figure", "value", "target", "", "detail")]
    for row in rows:
        target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
        lines.append((row.name, f"{row.value:.3g}", target, row.verdict, row.detail))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        print(
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]
            ).rstrip()
        )
