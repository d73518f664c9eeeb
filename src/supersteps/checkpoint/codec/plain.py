"""Plain JSON at the speed of C: values without tags go directly to msgspec."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, repeat
from math import isfinite
from operator import contains
from types import NoneType
from typing import Any, Final

import msgspec

from supersteps.errors import CheckpointDecodeError

TAG: Final = "$"
"""The key that turns a JSON object into a typed value: `{"$": "tuple", "v": [1, 2]}`."""

VALUE: Final = "$value"
"""The key of the content of a user type without fields: enums, registered types."""

MAX_ENCODE_DEPTH: Final = 490
MAX_DECODE_DEPTH: Final = 500
"""Levels of JSON. Reading allows a few more, so that everything written can be read."""

MAX_DIGITS: Final = 4300
"""The longest integer that msgspec reads, which is also Python's default limit."""

ATOMS: Final[frozenset[type]] = frozenset({str, int, bool, NoneType})
"""Types whose values are JSON already, except floats: nan and infinities are not."""

STRINGS: Final[frozenset[type]] = frozenset({str})
CONTAINERS: Final[frozenset[type]] = frozenset({list, dict})
_PLAIN: Final = ATOMS | CONTAINERS | {float}
LARGE: Final = 64
"""From this length on, containers in a value that is not plain are checked separately."""

_FLOATS: Final[frozenset[type]] = frozenset({float})

# Deeper values take the ordinary walk, which notices cycles at once; a walk level by level needs
# many rounds.
_PLAIN_LEVELS: Final = 64

# What msgspec raises for a str with lone surrogates, an int out of its range, an int with too many
# digits.
UNWRITABLE: Final = (UnicodeEncodeError, OverflowError, ValueError)

dumps: Final = msgspec.json.Encoder().encode
_loads: Final = msgspec.json.Decoder().decode


def loads(data: bytes, where: str) -> Any:
    """Parse JSON.

    Args:
        data: The document.
        where: A name for it, for the error message.

    Returns:
        The tree of dicts, lists and scalars; it belongs to the caller.

    Raises:
        CheckpointDecodeError: It is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return _loads(data)
    except RecursionError:
        raise CheckpointDecodeError(f"{where}: the JSON is nested too deeply to be read") from None
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise CheckpointDecodeError(f"{where}: not valid JSON ({error})") from error


def may_have_tags(data: bytes) -> bool:
    """Return whether a document may contain the tag key, also with an escape."""
    # Looking for one byte is much faster than for two, and most data has no dollar sign.
    return (b"$" in data and b'"$' in data) or (b"\\" in data and b"\\u0024" in data)


def _finite(items: Iterable[Any], kinds: Collection[type]) -> bool:
    """Return whether all floats among `items`, whose types are `kinds`, are finite."""
    return all(
        map(
            isfinite, items if kinds == _FLOATS else [item for item in items if type(item) is float]
        )
    )


def is_plain(value: Collection[Any]) -> bool:
    """Return whether a dict, or the items of another container, is plain JSON at all levels.

    The check goes level by level rather than value by value, so that each level costs a few calls
    that loop in C.
    """
    items: Collection[Any]
    if type(value) is dict:
        if not (STRINGS.issuperset(map(type, value)) and TAG not in value):
            return False
        items = value.values()
    else:
        items = value
    for _ in range(_PLAIN_LEVELS):
        kinds = set(map(type, items))
        if not kinds <= _PLAIN or (float in kinds and not _finite(items, kinds)):
            return False
        if kinds.isdisjoint(CONTAINERS):
            return True
        dicts = _distinct(items, kinds, dict)
        if not _has_plain_keys(dicts):
            return False
        lists = _distinct(items, kinds, list)
        items = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, dicts))]
    return False


def _has_plain_keys(dicts: Collection[dict[Any, Any]]) -> bool:
    return STRINGS.issuperset(map(type, chain.from_iterable(dicts))) and not any(
        map(contains, dicts, repeat(TAG))
    )


def _distinct(items: Collection[Any], kinds: Collection[type], kind: type) -> Collection[Any]:
    """Return the containers of one type, each once, so that sharing and cycles do not grow."""
    if kind not in kinds:
        return ()
    found = items if len(kinds) == 1 else [item for item in items if type(item) is kind]
    if len(set(map(id, found))) == len(found):
        return found
    return {id(item): item for item in found}.values()
