"""What the benchmarks write: a table for a terminal, one in Markdown, and JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, number
from benchmarks.scratch import file_system

TITLES = ("figure", "median", "rounds", "target", "", "detail")


def cells(figure: Figure) -> tuple[str, ...]:
    """Return a figure's line of a table."""
    value = f"{number(figure.value)} {figure.unit}".rstrip()
    is_same = figure.low == figure.high
    spread = "" if is_same else f"{number(figure.low)} to {number(figure.high)}"
    bound = "≤" if figure.at_most else "≥"
    target = "" if figure.target is None else f"{bound} {number(figure.target)}"
    return (figure.name, value, spread, target, figure.verdict, figure.detail)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return lines of cells as a table in Markdown."""
    rows = [titles, ["---"] * len(titles), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    )


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and when."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "disk": file_system(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def sentence(about: dict[str, Any]) -> str:
    """Return what the figures were measured on as a sentence."""
    return (
        f"Measured {about['date']} at {about['commit']}: {about['python']}, SQLite"
        f" {about['sqlite']}, {about['system']}, {about['disk']}, {about['processors']} processors,"
        f" load {about['load']} before."
    )


def as_json(about: dict[str, Any], figures: Iterable[Figure], seconds: float) -> dict[str, Any]:
    """Return what was measured as plain data."""
    return {
        "machine": about,
        "seconds": round(seconds),
        "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in figures],
    }


def figures_of(written: dict[str, Any]) -> list[Figure]:
    """Return the figures that `as_json` wrote."""
    return [
        Figure(**{key: value for key, value in entry.items() if key != "verdict"})
        for entry in written["figures"]
    ]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "an unknown commit"
