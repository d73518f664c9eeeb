"""Encoders and revivers of rarer types of the standard library.

Their modules are imported only if needed. If there is a value, its module is imported, so encoders
find the types in `sys.modules`. Revivers import the module, whose name is written here and not in
the data.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from enum import Enum
from importlib import import_module
from types import EllipsisType, SimpleNamespace
from typing import Any, Final, NamedTuple

from supersteps.checkpoint.codec.builtins import (
    ENCODERS,
    Encoder,
    EncodeWalk,
    check_depth,
    encode_float,
    encode_int,
    encode_items,
    encode_pairs,
    encode_str,
    encode_zone,
)
from supersteps.checkpoint.codec.plain import TAG
from supersteps.checkpoint.codec.revive import REVIVERS, Reviver, distinct, expect, pairs
from supersteps.checkpoint.codec.trouble import Trouble, short
from supersteps.typing import type_name


class Leaf(NamedTuple):
    """One type: how its values are encoded and decoded."""

    encode: Encoder
    revive: Reviver


# -------------------------------------------------------------------------------------- by its text


def _by_text(module: str, name: str) -> Leaf:
    def encode(walk: EncodeWalk, value: Any, depth: int) -> Any:
        return {TAG: name, "v": encode_str(walk, str(value), depth)}

    def revive(node: dict[str, Any]) -> Any:
        return getattr(import_module(module), name)(expect(node, str))

    return Leaf(encode, revive)


# ----------------------------------------------------------------------------------------- patterns


def _encode_pattern(walk: EncodeWalk, value: Any, depth: int) -> Any:
    if value.flags & re.DEBUG:
        raise Trouble("it is compiled with re.DEBUG, which would print when it is loaded")
    coded = walk.table[type(value.pattern)](walk, value.pattern, depth + 1)
    return {TAG: "Pattern", "v": [coded, value.flags]}


def _pattern(node: dict[str, Any]) -> Any:
    match expect(node, list):
        case [str() | bytes() as pattern, int() as flags] if not flags & re.DEBUG:
            return re.compile(pattern, flags)
    raise Trouble("a tagged 'Pattern' needs [pattern, flags]")


# -------------------------------------------------------------------------------- ranges and slices


def _encode_range(walk: EncodeWalk, value: range, depth: int) -> Any:
    bounds = (value.start, value.stop, value.step)
    return {TAG: "range", "v": [encode_int(walk, bound, depth) for bound in bounds]}


def _range(node: dict[str, Any]) -> Any:
    return range(*_three(node))


def _encode_slice(walk: EncodeWalk, value: slice, depth: int) -> Any:
    bounds = (value.start, value.stop, value.step)
    return {TAG: "slice", "v": encode_items(walk, bounds, depth + 1, owner=value)}


def _slice(node: dict[str, Any]) -> Any:
    return slice(*_three(node))


def _three(node: dict[str, Any]) -> list[Any]:
    bounds: list[Any] = expect(node, list)
    if len(bounds) != 3:
        raise Trouble(f"a tagged {node[TAG]!r} needs [start, stop, step]")
    return bounds


# --------------------------------------------------------------------------------------- containers

_FACTORIES: Final[dict[str, type]] = {
    type_name(kind): kind
    for kind in (
        *(list, dict, set, frozenset, tuple, int, float, complex, bool, str, bytes, bytearray),
        *(Counter, OrderedDict, deque, defaultdict),
    )
}


def _encode_defaultdict(walk: EncodeWalk, value: Any, depth: int) -> Any:
    factory = value.default_factory
    if factory is not None and factory not in _FACTORIES.values():
        raise Trouble(
            f"its default_factory {short(factory)} cannot be saved; use one of the built-in types "
            "(list, dict, set, int, ...), or a dict with setdefault()"
        )
    of = None if factory is None else type_name(factory)
    return {TAG: "defaultdict", "of": of, "v": encode_pairs(walk, value, depth + 1)}


def _defaultdict(node: dict[str, Any]) -> Any:
    entries = pairs(node, "of")
    of = node.get("of")
    if of is not None and (type(of) is not str or of not in _FACTORIES):
        raise Trouble(f"{short(of)} is not a supported default_factory")
    return distinct(node, defaultdict(None if of is None else _FACTORIES[of], entries))


def _encode_namespace(walk: EncodeWalk, value: SimpleNamespace, depth: int) -> Any:
    return {TAG: "SimpleNamespace", "v": encode_pairs(walk, vars(value), depth + 1)}


def _namespace(node: dict[str, Any]) -> Any:
    entries = distinct(node, dict(pairs(node)))
    if not all(type(name) is str for name in entries):
        raise Trouble("the attributes of a tagged 'SimpleNamespace' must have names")
    return SimpleNamespace(**entries)


_TYPECODES: Final = "bBhHiIlLqQfd"


def _encode_array(walk: EncodeWalk, value: Any, depth: int) -> Any:
    check_depth(value, depth)
    if value.typecode not in _TYPECODES:
        raise Trouble("it is an array of characters; use a str")
    items = value.tolist()
    if value.typecode in "fd":
        items = [encode_float(walk, item, depth) for item in items]
    return {TAG: "array", "typecode": value.typecode, "v": items}


def _array(node: dict[str, Any]) -> Any:
    items, typecode = expect(node, list, "typecode"), node.get("typecode")
    if type(typecode) is not str or len(typecode) != 1 or typecode not in _TYPECODES:
        raise Trouble(f"{short(typecode)} is not a typecode of numbers")
    return import_module("array").array(typecode, items)


# --------------------------------------------------------------------------------------- singletons


def _encode_ellipsis(walk: EncodeWalk, value: Any, depth: int) -> Any:
    return {TAG: "Ellipsis"}


def _ellipsis(node: dict[str, Any]) -> Any:
    if len(node) != 1:
        raise Trouble("a tagged 'Ellipsis' has no content")
    return ...


# ---------------------------------------------------------------------------------------- fractions


def _encode_fraction(walk: EncodeWalk, value: Any, depth: int) -> Any:
    ratio = value.as_integer_ratio()
    return {TAG: "Fraction", "v": [encode_int(walk, part, depth) for part in ratio]}


# ---------------------------------------------------------------------------------------- the table

_IP_TYPES: Final = ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network")
_IP_TYPES_TOO: Final = ("IPv4Interface", "IPv6Interface")

_LEAVES: Final[dict[str, Leaf]] = {
    **{f"ipaddress:{name}": _by_text("ipaddress", name) for name in _IP_TYPES + _IP_TYPES_TOO},
    "re:Pattern": Leaf(_encode_pattern, _pattern),
    "builtins:range": Leaf(_encode_range, _range),
    "builtins:slice": Leaf(_encode_slice, _slice),
    "builtins:ellipsis": Leaf(_encode_ellipsis, _ellipsis),
    "collections:defaultdict": Leaf(_encode_defaultdict, _defaultdict),
    "types:SimpleNamespace": Leaf(_encode_namespace, _namespace),
    "array:array": Leaf(_encode_array, _array),
    "fractions:Fraction": Leaf(_encode_fraction, REVIVERS["Fraction"]),
    "zoneinfo:ZoneInfo": Leaf(encode_zone, REVIVERS["ZoneInfo"]),
}
"""By the name of the type; the tag in the data is the name without the module."""

_TAGS: Final = {"re:Pattern": "Pattern", "builtins:ellipsis": "Ellipsis"}

STANDARD_REVIVERS: Final[dict[str, Reviver]] = {
    _TAGS.get(name, name.partition(":")[2]): leaf.revive for name, leaf in _LEAVES.items()
}


def standard_encoder(kind: type) -> Encoder | None:
    """Return the encoder of one of the rarer types of the standard library."""
    name = type_name(kind)
    leaf = _LEAVES.get(name)
    if leaf is None or standard_class(name) is not kind:
        return None
    return leaf.encode


def standard_class(name: str) -> type | None:
    """Return a class whose values the codec saves by itself, without importing."""
    if found := _COMMON.get(name):
        return found
    module, _, qualname = name.partition(":")
    if name not in _LEAVES and module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    found = getattr(sys.modules.get(module), "__dict__", {}).get(qualname)
    return found if name in _LEAVES or _is_inert(found) else None


def _is_inert(cls: Any) -> bool:
    """Return whether a class is an Enum or named tuple: creating values has no side effects.

    `http.HTTPStatus` and the result of `urllib.parse.urlparse` are known without an annotation.
    """
    if not isinstance(cls, type):
        return False
    return issubclass(cls, Enum) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))


def _is_class(value: object) -> bool:
    return isinstance(value, type)


_COMMON: Final[dict[str, type]] = {
    type_name(kind): kind
    for kind in (*ENCODERS, EllipsisType, *filter(_is_class, vars(builtins).values()))
    if kind in ENCODERS or kind in (object, EllipsisType) or issubclass(kind, BaseException)
}
"""Classes that every process has, which may be values, as for `type[int]`."""
