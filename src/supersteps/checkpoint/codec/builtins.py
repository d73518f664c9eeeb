"""Encoders of the standard library's types, to tagged JSON.

One encoder per exact type, `(walk, value, depth) -> JSON`. Encoders of containers call the encoders
of their items directly from the walk's table, so that one level of a value costs one Python frame.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from math import copysign, isfinite
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import NoneType
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from supersteps.checkpoint.codec.plain import (
    ATOMS,
    LARGE,
    MAX_ENCODE_DEPTH,
    STRINGS,
    TAG,
    dumps,
    is_plain,
)
from supersteps.checkpoint.codec.trouble import TooDeep, Trouble, key_step, short
from supersteps.checkpoint.codec.zones import fixed_offset, is_zone_info, zone_arguments
from supersteps.secrets import Secret


class EncodeWalk(Protocol):
    """What an encoder needs of the walk that called it."""

    table: dict[type, Encoder]
    atoms: frozenset[type]
    careful: bool


Encoder = Callable[[EncodeWalk, Any, int], Any]


def check_depth(value: object, depth: int) -> None:
    """Raise if a walk is too deep.

    Raises:
        TooDeep: The value is nested too deeply, or contains itself.
    """
    if depth > MAX_ENCODE_DEPTH:
        raise TooDeep(f"it is nested more than {MAX_ENCODE_DEPTH} levels deep")


# --------------------------------------------------------------------------------------- containers


def encode_items(
    walk: EncodeWalk, value: Collection[Any], depth: int, owner: object = None
) -> list[Any]:
    """Encode the items of a sequence as a JSON list."""
    check_depth(value, depth)
    kinds = set(map(type, value))
    atoms = walk.atoms
    if kinds <= atoms or (not walk.careful and len(value) >= LARGE and is_plain(value)):
        return value if type(value) is list else list(value)
    table = walk.table
    out: list[Any] = []
    try:
        for item in value:
            kind = type(item)
            out.append(item if kind in atoms else table[kind](walk, item, depth + 1))
    except Trouble as trouble:
        trouble.leave(value if owner is None else owner, f"[{len(out)}]")
        raise
    return out


def encode_dict(walk: EncodeWalk, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    """Encode a dict: as a JSON object if its keys allow it, otherwise as a list of pairs."""
    check_depth(value, depth)
    if (
        TAG in value
        or not STRINGS.issuperset(map(type, value))
        or (walk.careful and not all(map(is_text, value)))
    ):
        return {TAG: "dict", "v": encode_pairs(walk, value, depth + 1)}
    atoms = walk.atoms
    if atoms.issuperset(map(type, value.values())):
        return value
    if not walk.careful and len(value) >= LARGE and is_plain(value):
        return value
    table = walk.table
    out = value.copy()
    key: Any = None
    try:
        for key, item in value.items():
            kind = type(item)
            if kind not in atoms:
                out[key] = table[kind](walk, item, depth + 1)
    except Trouble as trouble:
        trouble.leave(value, key_step(key))
        raise
    return out


def encode_pairs(walk: EncodeWalk, value: dict[Any, Any], depth: int) -> list[list[Any]]:
    """Encode the entries of any mapping, in order, as `[key, value]` lists."""
    check_depth(value, depth + 1)
    atoms, table = walk.atoms, walk.table
    out: list[list[Any]] = []
    key: object = None
    in_key = True
    try:
        for key, item in value.items():
            kind, in_key = type(key), True
            coded = key if kind in atoms else table[kind](walk, key, depth + 2)
            kind, in_key = type(item), False
            out.append([coded, item if kind in atoms else table[kind](walk, item, depth + 2)])
    except Trouble as trouble:
        trouble.leave(value, f".keys()[{len(out)}]" if in_key else key_step(key))
        raise
    return out


def encode_tuple(walk: EncodeWalk, value: tuple[Any, ...], depth: int) -> Any:
    """Encode a tuple as its tagged items."""
    return {TAG: "tuple", "v": encode_items(walk, value, depth + 1)}


def _encode_set(walk: EncodeWalk, value: set[Any] | frozenset[Any], depth: int) -> Any:
    # Sets have no order; sorting by the encoded items makes equal sets equal bytes.
    items = list(value)
    coded = encode_items(walk, items, depth + 1, owner=value)
    return {TAG: type(value).__name__, "v": sorted(coded, key=dumps)}


def _encode_mapping(walk: EncodeWalk, value: Any, depth: int) -> Any:
    if vars(value):
        raise Trouble(
            f"it has its own attributes ({', '.join(map(str, vars(value)))}) that would be lost"
        )
    return {TAG: type(value).__name__, "v": encode_pairs(walk, value, depth + 1)}


def _encode_deque(walk: EncodeWalk, value: deque[Any], depth: int) -> Any:
    coded = {TAG: "deque", "v": encode_items(walk, value, depth + 1)}
    if value.maxlen is not None:
        coded["maxlen"] = value.maxlen  # type: ignore[assignment]
    return coded


# ------------------------------------------------------------------------------------------ numbers


def _as_is(walk: EncodeWalk, value: Any, depth: int) -> Any:
    return value


def encode_int(walk: EncodeWalk, value: int, depth: int) -> Any:
    """Encode an int of any size; a huge one in hex, because Python limits decimal digits."""
    # The threshold is below the smallest limit on digits that can be set.
    return (
        value if not walk.careful or value.bit_length() <= 2000 else {TAG: "int", "v": hex(value)}
    )


def encode_float(walk: EncodeWalk, value: float, depth: int) -> Any:
    """Encode a float; a word replaces what JSON cannot express."""
    if isfinite(value):
        return value
    sign = "-" if copysign(1, value) < 0 else ""
    return {TAG: "float", "v": f"{sign}{'nan' if value != value else 'inf'}"}


def _encode_complex(walk: EncodeWalk, value: complex, depth: int) -> Any:
    return {
        TAG: "complex",
        "v": [encode_float(walk, value.real, depth), encode_float(walk, value.imag, depth)],
    }


# ----------------------------------------------------------------------------------- text and bytes


def is_text(value: str) -> bool:
    """Return whether a str is Unicode text; lone surrogates cannot be written as UTF-8."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_str(walk: EncodeWalk, value: str, depth: int) -> Any:
    """Encode a str; lone surrogates are escaped, and then backslashes too."""
    if not walk.careful or is_text(value):
        return value
    return {
        TAG: "str",
        "v": value.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode(),
    }


def _encode_bytes(walk: EncodeWalk, value: bytes | bytearray, depth: int) -> Any:
    return {TAG: type(value).__name__, "v": b64encode(value).decode("ascii")}


def _encode_path(walk: EncodeWalk, value: PurePath, depth: int) -> Any:
    return {TAG: type(value).__name__, "v": encode_str(walk, str(value), depth + 1)}


def _encode_by_str(walk: EncodeWalk, value: Any, depth: int) -> Any:
    return {TAG: type(value).__name__, "v": str(value)}


# ---------------------------------------------------------------------------------- dates and times


def _encode_date(walk: EncodeWalk, value: date, depth: int) -> Any:
    return {TAG: "date", "v": value.isoformat()}


def _encode_moment(walk: EncodeWalk, value: datetime | time, depth: int) -> Any:
    """Encode a datetime or time as ISO 8601, with the zone if the offset is not enough."""
    zone = value.tzinfo
    coded: dict[str, Any] = {TAG: type(value).__name__}
    if zone is None or (type(zone) is timezone and len(zone_arguments(zone)) == 1):
        coded["v"] = value.isoformat()
    else:
        coded["v"] = value.replace(tzinfo=None).isoformat()
        coded["tz"] = encode_zone(walk, zone, depth + 1)
    if value.fold:
        coded["fold"] = 1
    return coded


def encode_zone(walk: EncodeWalk, zone: Any, depth: int) -> Any:
    """Encode a tzinfo by its key in the zone database, or by its offset and name."""
    if type(zone) is timezone:
        offset, *name = zone_arguments(zone)
        return _offset_zone(walk, offset, name, depth)
    if is_zone_info(zone) and zone.key is not None:
        return {TAG: "ZoneInfo", "v": zone.key}
    encoder = walk.table[type(zone)]
    if encoder is not encode_zone:  # the program has registered it
        return encoder(walk, zone, depth)
    if found := fixed_offset(zone):
        names = [] if found.name is None else [found.name]
        return {**_offset_zone(walk, found.offset, names, depth), "of": found.library}
    raise Trouble(
        f"its time zone {short(zone)} has no name by which to find it; use zoneinfo.ZoneInfo(key) "
        "or a fixed offset (datetime.timezone), or register the class of the zone with "
        "codec.register"
    )


def _offset_zone(
    walk: EncodeWalk, offset: timedelta, names: list[str], depth: int
) -> dict[str, Any]:
    coded = [encode_str(walk, name, depth) for name in names]
    return {TAG: "timezone", "v": [_timedelta_parts(offset), *coded]}


def encode_frozen(walk: EncodeWalk, value: Any, depth: int) -> Any:
    """Encode a datetime or date of freezegun, which replaces a real one during a test."""
    if not isinstance(value, datetime):
        return {**_encode_date(walk, value, depth), "of": "freezegun"}
    return {**_encode_moment(walk, value, depth), TAG: "datetime", "of": "freezegun"}


def _encode_timedelta(walk: EncodeWalk, value: timedelta, depth: int) -> Any:
    return {TAG: "timedelta", "v": _timedelta_parts(value)}


def _timedelta_parts(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _encode_secret(walk: EncodeWalk, value: Secret, depth: int) -> Any:
    """Encode a reference to a secret by its name.

    Raises:
        Trouble: It holds a value.
    """
    if not value.is_reference:
        raise Trouble(
            "it is a Secret.of(...), which contains the value itself, and values of secrets are "
            "never saved; store the value where it can be looked up, and use Secret(name)"
        )
    return {TAG: "Secret", "v": encode_str(walk, value.name, depth)}


def _encode_unset(walk: EncodeWalk, value: Any, depth: int) -> Any:
    return {TAG: "UNSET"}


def _table(*groups: tuple[Encoder, Iterable[type]]) -> dict[type, Encoder]:
    return {kind: encoder for encoder, kinds in groups for kind in kinds}


ENCODERS: Final[dict[type, Encoder]] = _table(
    (_as_is, (NoneType, bool)),
    (encode_str, (str,)),
    (encode_int, (int,)),
    (encode_float, (float,)),
    (_encode_complex, (complex,)),
    (encode_items, (list,)),
    (encode_dict, (dict,)),
    (encode_tuple, (tuple,)),
    (_encode_set, (set, frozenset)),
    (_encode_mapping, (OrderedDict, Counter)),
    (_encode_deque, (deque,)),
    (_encode_bytes, (bytes, bytearray)),
    (_encode_by_str, (Decimal, UUID)),
    (_encode_path, (PosixPath, PurePosixPath, WindowsPath, PureWindowsPath, PurePath)),
    (_encode_date, (date,)),
    (_encode_moment, (datetime, time)),
    (_encode_timedelta, (timedelta,)),
    (encode_zone, (timezone,)),
    (_encode_secret, (Secret,)),
    (_encode_unset, (msgspec.UnsetType,)),
)

CAREFUL_ATOMS: Final = ATOMS - {str, int}
