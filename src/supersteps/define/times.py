"""Times that users give: with a time zone, or as a span from now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any


def as_moment(value: datetime | timedelta | float, what: str) -> datetime:
    """Return a time, given as such or as a span from now, in UTC.

    Args:
        value: A datetime with a time zone, a timedelta, or a number of seconds.
        what: What it is, for the message ("deadline").

    Raises:
        TypeError: It is none of these.
        ValueError: The time has no time zone, or the span is negative or endless.
    """
    if isinstance(value, datetime):
        return moment_at(value, what)
    if not _is_span(value):
        raise TypeError(
            f"{what} is a datetime with a time zone, a timedelta or a number of seconds, "
            f"not {value!r}: write datetime.now(UTC) + timedelta(hours=1), timedelta(hours=1) "
            "or 3600"
        )
    return moment_from_now(value, what)


def moment_at(value: Any, what: str) -> datetime:
    """Return a time in UTC; refuse spans of time.

    Raises:
        TypeError: It is not a datetime.
        ValueError: It has no time zone.
    """
    if not isinstance(value, datetime):
        raise TypeError(
            f"{what} is a datetime with a time zone, not {value!r}: write "
            "datetime.now(UTC) + timedelta(hours=1)"
        )
    if value.utcoffset() is None:
        raise ValueError(
            f"{what} {value.isoformat()} has no time zone, so it means a different time on every "
            "machine: write datetime(..., tzinfo=UTC), or value.astimezone() if it is local time"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(
            f"{what} {value.isoformat()} is outside the years 1 to 9999 of UTC; give another time"
        ) from None


def moment_from_now(value: Any, what: str) -> datetime:
    """Return the end of a span of time that begins now, in UTC; refuse datetimes.

    Raises:
        TypeError: It is neither a timedelta nor a number.
        ValueError: It is negative or endless.
    """
    if not _is_span(value):
        raise TypeError(
            f"{what} is a timedelta or a number of seconds, not {value!r}: write "
            "timedelta(minutes=5) or 300"
        )
    # Not every float: not-a-number is neither negative nor a time.
    if not value >= (timedelta(0) if isinstance(value, timedelta) else 0):
        raise ValueError(f"{what} {value!r} is not a time from now: write 0 or more")
    try:
        return datetime.now(UTC) + (
            value if isinstance(value, timedelta) else timedelta(seconds=value)
        )
    except OverflowError:
        raise ValueError(
            f"{what} {value!r} ends after the year 9999; give a shorter time"
        ) from None


def _is_span(value: Any) -> bool:
    return isinstance(value, timedelta | int | float) and not isinstance(value, bool)
