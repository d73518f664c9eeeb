"""Revivers of the standard library's types, from tagged JSON.

There is one reviver per tag, which is called with the JSON object after its content has been
revived. Data is not trusted: every reviver checks the shape of its argument, and none can be made
to need much more memory than the data.
"""

from __future__ import annotations

import os
import re
import sys
from binascii import a2b_base64
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

import msgspec

from supersteps.checkpoint.codec.plain import TAG
from supersteps.checkpoint.codec.trouble import Trouble, short
from supersteps.checkpoint.codec.zones import library_zone
from supersteps.secrets import Secret

Reviver = Callable[[dict[str, Any]], Any]

_ONLY_VALUE: Final = frozenset({TAG, "v"})
_SURROGATE: Final = re.compile(r"\\(\\|u[dD][89a-fA-F][0-9a-fA-F]{2})")
_ZONE_KEY: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_FLOAT_WORDS: Final = frozenset({"nan", "-nan", "inf", "-inf"})


def expect(node: dict[str, Any], kind: type, *optional: str) -> Any:
    """Return the content of a tagged object, after checking its shape."""
    if node.keys() != _ONLY_VALUE and (extra := sorted(node.keys() - _ONLY_VALUE - set(optional))):
        raise Trouble(f"a tagged {node[TAG]!r} with unknown parts: {', '.join(map(short, extra))}")
    value = node.get("v")
    if type(value) is not kind:
        raise Trouble(
            f"a tagged {node[TAG]!r} needs a {kind.__name__} under 'v', not {short(value)}"
        )
    return value


def _list_of(node: dict[str, Any], kind: type, length: int | None = None) -> list[Any]:
    items: list[Any] = expect(node, list)
    if (length is not None and len(items) != length) or any(
        type(item) is not kind for item in items
    ):
        raise Trouble(f"a tagged {node[TAG]!r} needs {length} numbers of type {kind.__name__}")
    return items


# --------------------------------------------------------------------------------------- containers


def _tuple(node: dict[str, Any]) -> Any:
    return tuple(expect(node, list))


def _set(node: dict[str, Any]) -> Any:
    return distinct(node, set(expect(node, list)))


def _frozenset(node: dict[str, Any]) -> Any:
    return distinct(node, frozenset(expect(node, list)))


def distinct(node: dict[str, Any], made: Any) -> Any:
    """Return a container after checking that its items are distinct."""
    if len(made) != len(node["v"]):
        raise Trouble(f"a tagged {node[TAG]!r} contains an item twice")
    return made


def pairs(node: dict[str, Any], *optional: str) -> list[Any]:
    """Return the entries of a tagged mapping after checking their shape."""
    entries: list[Any] = expect(node, list, *optional)
    if any(type(entry) is not list or len(entry) != 2 for entry in entries):
        raise Trouble(f"a tagged {node[TAG]!r} needs [key, value] pairs")
    return entries


def _dict(node: dict[str, Any]) -> Any:
    return distinct(node, dict(pairs(node)))


def _ordered_dict(node: dict[str, Any]) -> Any:
    return distinct(node, OrderedDict(pairs(node)))


def _counter(node: dict[str, Any]) -> Any:
    return distinct(node, Counter(dict(pairs(node))))


def _deque(node: dict[str, Any]) -> Any:
    items = expect(node, list, "maxlen")
    maxlen = node.get("maxlen")
    if maxlen is not None and (type(maxlen) is not int or maxlen < len(items)):
        raise Trouble(
            f"a tagged 'deque' of {len(items)} items cannot have the maxlen {short(maxlen)}"
        )
    return deque(items, maxlen)


# ----------------------------------------------------------------------------- numbers, text, bytes


def _int(node: dict[str, Any]) -> Any:
    text = expect(node, str)
    if re.fullmatch(r"-?0x[0-9a-f]+", text) is None:
        raise Trouble("a tagged 'int' needs hexadecimal digits")
    return int(text, 16)


def _float(node: dict[str, Any]) -> Any:
    text = expect(node, str)
    if text not in _FLOAT_WORDS:
        raise Trouble(
            f"a tagged 'float' must be one of {', '.join(sorted(_FLOAT_WORDS))}, not {short(text)}"
        )
    return float(text)


def _complex(node: dict[str, Any]) -> Any:
    return complex(*_list_of(node, float, 2))


def _fraction(node: dict[str, Any]) -> Any:
    from fractions import Fraction  # slow to import, rarely needed

    return Fraction(*_list_of(node, int, 2))


def _decimal(node: dict[str, Any]) -> Any:
    return Decimal(expect(node, str))


def _str(node: dict[str, Any]) -> Any:
    return _SURROGATE.sub(
        lambda m: "\\" if m[1] == "\\" else chr(int(m[1][1:], 16)), expect(node, str)
    )


def _bytes(node: dict[str, Any]) -> Any:
    return a2b_base64(expect(node, str), strict_mode=True)


def _bytearray(node: dict[str, Any]) -> Any:
    return bytearray(_bytes(node))


def _by_str(make: Callable[[str], Any]) -> Reviver:
    return lambda node: make(expect(node, str))


# ---------------------------------------------------------------------------------- dates and times


def _moment(kind: type[datetime] | type[time]) -> Reviver:
    def revive(node: dict[str, Any]) -> Any:
        text = expect(node, str, "tz", "fold", "of")
        value = _frozen(node, kind, "FakeDatetime").fromisoformat(text)
        zone, fold = node.get("tz"), node.get("fold", 0)
        if zone is not None:
            if not isinstance(zone, tzinfo) or value.tzinfo is not None:
                raise Trouble(f"a tagged {node[TAG]!r} with an invalid time zone: {short(zone)}")
            value = value.replace(tzinfo=zone)
        if fold not in (0, 1) or type(fold) is not int:
            raise Trouble(f"a tagged {node[TAG]!r} must have a fold of 0 or 1, not {short(fold)}")
        return value.replace(fold=fold) if fold else value

    return revive


def _date(node: dict[str, Any]) -> Any:
    text = expect(node, str, "of")
    return _frozen(node, _DATE[0], "FakeDate").fromisoformat(text)


_DATE: Final = (date,)  # freezegun replaces a module's name `date`, but not a tuple's items


def _frozen(node: dict[str, Any], kind: Any, name: str) -> Any:
    """Return the class with which a test replaces datetime or date, if it still does."""
    if "of" not in node:
        return kind
    if node["of"] != "freezegun":
        raise Trouble(f"a tagged {node[TAG]!r} of {short(node['of'])}")
    return getattr(sys.modules.get("freezegun.api"), name, kind)


def _timedelta(node: dict[str, Any]) -> Any:
    return timedelta(*_list_of(node, int, 3))


def _timezone(node: dict[str, Any]) -> Any:
    value = expect(node, list, "of")
    offset, *name = value or [None]
    if (
        type(offset) is not list
        or len(offset) != 3
        or any(type(part) is not int for part in offset)
    ):
        raise Trouble("a tagged 'timezone' needs an offset [days, seconds, microseconds]")
    if len(name) > 1 or any(type(part) is not str for part in name):
        raise Trouble("a tagged 'timezone' can have only one name")
    if type(library := node.get("of", "")) is not str:
        raise Trouble(f"{short(library)} is not the name of a library")
    if library:
        return library_zone(timedelta(*offset), name[0] if name else None, library)
    return timezone(timedelta(*offset), *name)


def _zone_info(node: dict[str, Any]) -> Any:
    from zoneinfo import ZoneInfo  # slow to import, rarely needed

    key = expect(node, str)
    if _ZONE_KEY.fullmatch(key) is None:
        raise Trouble(f"{short(key)} is not the key of a time zone")
    try:
        if _has_zone(key):
            return ZoneInfo(key)
    except (KeyError, OSError):  # ZoneInfoNotFoundError is a KeyError
        pass
    raise Trouble(
        f"this machine's time zone database has no {short(key)}; install the tzdata package"
    )


@lru_cache(maxsize=256)
def _has_zone(key: str) -> bool:
    """Return whether there is a file for a zone.

    `ZoneInfo` itself would import a package with the key's name to find out.
    """
    import zoneinfo
    from importlib.util import find_spec

    package = find_spec("tzdata")
    inside = (package and package.submodule_search_locations) or ()
    return any(
        os.path.isfile(f"{place}/{key}")
        for place in (*zoneinfo.TZPATH, *(f"{at}/zoneinfo" for at in inside))
    )


def _unset(node: dict[str, Any]) -> Any:
    if len(node) != 1:
        raise Trouble("a tagged 'UNSET' has no content")
    return msgspec.UNSET


REVIVERS: Final[dict[str, Reviver]] = {
    "tuple": _tuple,
    "set": _set,
    "frozenset": _frozenset,
    "dict": _dict,
    "OrderedDict": _ordered_dict,
    "Counter": _counter,
    "deque": _deque,
    "int": _int,
    "float": _float,
    "complex": _complex,
    "Fraction": _fraction,
    "Decimal": _decimal,
    "str": _str,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "UUID": _by_str(UUID),
    "date": _date,
    "datetime": _moment(datetime),
    "time": _moment(time),
    "timedelta": _timedelta,
    "timezone": _timezone,
    "ZoneInfo": _zone_info,
    "Secret": _by_str(Secret),
    "UNSET": _unset,
    **{
        kind.__name__: _by_str(kind)
        for kind in (PosixPath, PurePosixPath, WindowsPath, PureWindowsPath, PurePath)
    },
}
"""Revivers by tag. User types are not here: their tags contain a colon."""
