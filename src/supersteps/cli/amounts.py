"""Lists of names, file sizes, and times and durations as users type them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import click

from supersteps.cli.words import count

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names as a list for a sentence, long lists cut: "a, b and 7 more"."""
    found = list(names)
    if len(found) <= most:
        return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))
    return f"{', '.join(found[:most])} and {len(found) - most} more"


def size(number: int) -> str:
    """Return a number of bytes as text: "812 bytes", "3.4 MB"."""
    for length, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= length:
            return f"{number / length:.1f} {unit}"
    return count(number, "byte")


def moment_of(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """Parse a point in time; use it as the callback of an option.

    Accepts a date or a time (`2026-11-29`, `2026-11-29T08:30`; UTC unless it names a zone), or how
    long ago (`90s`, `15m`, `12h`, `30d`, `2w`).
    """
    if value is None:
        return None
    text = value.strip()
    if _SPAN.fullmatch(text):
        span = duration(ctx, parameter, text)
        assert span is not None
        return datetime.now(UTC) - span
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is not a time: write a date or a time, as in 2026-11-29 or "
            "2026-11-29T08:30 (UTC), or how long ago, as in 90s, 15m, 12h, 30d or 2w",
            ctx,
            parameter,
        ) from None


def duration(ctx: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Parse a duration such as `90s`, `12h`, `30d`; use it as the callback of an option."""
    if value is None:
        return None
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(
            f"{value!r} is not a duration: write a number and a unit, as in 90s, 15m, 12h, 30d "
            "or 2w",
            ctx,
            parameter,
        )
    try:
        span = timedelta(**{_UNITS[match[2]]: float(match[1])})
        _ = datetime.now(UTC) - span
    except OverflowError:
        raise click.BadParameter(
            f"{value!r} is too long ago: write a shorter duration or a later date", ctx, parameter
        ) from None
    return span
