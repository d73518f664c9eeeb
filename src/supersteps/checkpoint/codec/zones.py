"""Time zones: the standard library's, and the fixed offsets of other libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta, timezone, tzinfo
from typing import Any, Final, NamedTuple

from supersteps.typing import type_name


class FixedOffset(NamedTuple):
    """A zone of another library: its offset, its name if it has one, and the library."""

    offset: timedelta
    name: str | None
    library: str


def is_zone_info(zone: Any) -> bool:
    """Return whether a tzinfo is exactly a `ZoneInfo`, without importing zoneinfo."""
    module = sys.modules.get("zoneinfo")
    return module is not None and type(zone) is module.ZoneInfo


def zone_arguments(zone: Any) -> tuple[Any, ...]:
    """Return the arguments of a `timezone`: the offset and, if it has its own, the name."""
    arguments: tuple[Any, ...] = zone.__getinitargs__()
    return arguments


def fixed_offset(zone: tzinfo) -> FixedOffset | None:
    """Return a zone as a fixed offset of another library, None for other zones."""
    library = _LIBRARIES.get(type_name(type(zone)))
    offset = None if library is None else zone.utcoffset(None)
    if library is None or offset is None:
        return None
    name = getattr(zone, "_name", None) if library == "dateutil" else None
    return FixedOffset(offset, name, library)


def library_zone(offset: timedelta, name: str | None, library: str) -> tzinfo:
    """Create a fixed offset of another library.

    If the program has not imported the library, the result is an equal `timezone`, since the
    program cannot tell the difference.
    """
    make = _MAKERS.get(library)
    made = None if make is None else make(offset, name)
    if made is None:
        return timezone(offset) if name is None else timezone(offset, name)
    return made


def _pydantic(offset: timedelta, name: str | None) -> tzinfo | None:
    made: tzinfo | None = None
    if (core := sys.modules.get("pydantic_core")) is not None:
        made = core.TzInfo(int(offset.total_seconds()))
    return made


def _dateutil(offset: timedelta, name: str | None) -> tzinfo | None:
    made: tzinfo | None = None
    if (module := sys.modules.get("dateutil.tz")) is not None:
        made = module.tzoffset(name, offset)
    return made


def _dateutil_utc(offset: timedelta, name: str | None) -> tzinfo | None:
    made: tzinfo | None = None
    if (module := sys.modules.get("dateutil.tz")) is not None:
        made = module.tzutc()
    return made


_LIBRARIES: Final = {
    "pydantic_core._pydantic_core:TzInfo": "pydantic",  # what pydantic parses from a text
    "dateutil.tz.tz:tzutc": "dateutil.tzutc",  # what boto3 returns
    "dateutil.tz.tz:tzoffset": "dateutil",
}
_MAKERS: Final[dict[str, Callable[[timedelta, str | None], tzinfo | None]]] = {
    "pydantic": _pydantic,
    "dateutil": _dateutil,
    "dateutil.tzutc": _dateutil_utc,
}
