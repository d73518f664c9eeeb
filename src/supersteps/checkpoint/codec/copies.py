"""Isolated copies of values, without encoding them.

A copy equals `decode(encode(value))`, which would take longer.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import chain
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import NoneType, SimpleNamespace
from typing import Any, Final
from uuid import UUID

import msgspec

from supersteps.checkpoint.codec.plain import MAX_ENCODE_DEPTH
from supersteps.checkpoint.codec.raw import RawValue
from supersteps.checkpoint.codec.trouble import TooDeep, Trouble, key_step, short
from supersteps.errors import CheckpointEncodeError
from supersteps.secrets import Secret

Copier = Callable[["CopyWalk", Any, int], Any]

IMMUTABLE: Final[frozenset[type]] = frozenset(
    {
        *(NoneType, bool, int, float, complex, str, bytes),
        *(Decimal, UUID, date, timedelta, timezone, msgspec.UnsetType, Secret),
        *(PosixPath, PurePosixPath, WindowsPath, PureWindowsPath),
    }
)
"""Exact types of immutable values that JSON restores unchanged."""


class CopyWalk:
    """Copies by exact type; `find` supplies the copiers of user types."""

    def __init__(self, find: Callable[[type], Copier]) -> None:
        self.table = _Copiers(COPIERS, find)

    def copy(self, value: Any, depth: int) -> Any:
        """Copy one value and everything in it."""
        kind = type(value)
        return value if kind in IMMUTABLE else self.table[kind](self, value, depth)

    def copy_unknown(self, value: Any) -> Any:
        """Copy a value that could not be saved."""
        return copy_anything(self, value, 0)


class _Copiers(dict[type, Copier]):
    def __init__(self, known: dict[type, Copier], find: Callable[[type], Copier]) -> None:
        super().__init__(known)
        self._find = find

    def __missing__(self, kind: type) -> Copier:
        self[kind] = copier = self._find(kind)
        return copier


def copy_anything(walk: CopyWalk, value: Any, depth: int) -> Any:
    """Copy a value of an unknown type with Python's `deepcopy`.

    Raises:
        Trouble: It cannot be copied.
    """
    try:
        return copy.deepcopy(value)
    except Exception as error:  # deepcopy runs user code, which may raise anything
        raise Trouble(
            f"{short(value)} cannot be copied ({type(error).__name__}: {error})"
        ) from error


def copy_deep(value: Any, where: str) -> Any:
    """Copy a whole value with Python's `deepcopy`, which allows cycles.

    Raises:
        CheckpointEncodeError: It cannot be copied.
    """
    try:
        return copy.deepcopy(value)
    # deepcopy runs user code, which may raise anything, including RecursionError
    except Exception as error:
        raise CheckpointEncodeError(
            f"{where}: it cannot be copied ({type(error).__name__}: {error})"
        ) from error


def _same(walk: CopyWalk, value: Any, depth: int) -> Any:
    return value


def _check_depth(depth: int) -> None:
    if depth > MAX_ENCODE_DEPTH:
        raise TooDeep("it is nested too deeply, or contains itself")


def _copy_items(walk: CopyWalk, value: Collection[Any], depth: int) -> list[Any]:
    _check_depth(depth)
    kinds = set(map(type, value))
    if kinds <= IMMUTABLE:
        return list(value)
    if len(kinds) == 1 and (flat := _copy_flat(value, kinds)) is not None:
        return flat
    table = walk.table
    out: list[Any] = []
    try:
        for item in value:
            kind = type(item)
            out.append(item if kind in IMMUTABLE else table[kind](walk, item, depth + 1))
    except Trouble as trouble:
        trouble.leave(value, f"[{len(out)}]")
        raise
    return out


def _copy_flat(value: Collection[Any], kinds: set[type]) -> list[Any] | None:
    """Copy a list of flat dicts or flat lists with loops in C; None for other lists."""
    if kinds == {dict}:
        scalars = chain(chain.from_iterable(value), chain.from_iterable(map(dict.values, value)))
        return list(map(dict.copy, value)) if IMMUTABLE.issuperset(map(type, scalars)) else None
    if kinds == {list}:
        return (
            list(map(list.copy, value))
            if IMMUTABLE.issuperset(map(type, chain.from_iterable(value)))
            else None
        )
    return None


def _copy_dict(walk: CopyWalk, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    _check_depth(depth)
    table = walk.table
    if IMMUTABLE.issuperset(map(type, value)):
        out = value.copy()
    else:
        out = {walk.copy(key, depth + 1): item for key, item in value.items()}
    key: Any = None
    try:
        for key, item in out.items():
            kind = type(item)
            if kind not in IMMUTABLE:
                out[key] = table[kind](
                    walk, item, depth + 1
                )  # replaces a value, which is allowed while iterating
    except Trouble as trouble:
        trouble.leave(value, key_step(key))
        raise
    return out


def _copy_ordered(walk: CopyWalk, value: Any, depth: int) -> Any:
    if vars(value):
        return copy_anything(walk, value, depth)
    return type(value)(_copy_dict(walk, dict(value), depth))


def _copy_tuple(walk: CopyWalk, value: tuple[Any, ...], depth: int) -> Any:
    return (
        value if IMMUTABLE.issuperset(map(type, value)) else tuple(_copy_items(walk, value, depth))
    )


def _copy_set(walk: CopyWalk, value: set[Any] | frozenset[Any], depth: int) -> Any:
    return type(value)(_copy_items(walk, value, depth))


def _copy_deque(walk: CopyWalk, value: deque[Any], depth: int) -> Any:
    return deque(_copy_items(walk, value, depth), value.maxlen)


def _copy_defaultdict(walk: CopyWalk, value: Any, depth: int) -> Any:
    return defaultdict(value.default_factory, _copy_dict(walk, dict(value), depth))


def _copy_namespace(walk: CopyWalk, value: SimpleNamespace, depth: int) -> Any:
    return SimpleNamespace(**_copy_dict(walk, vars(value), depth))


def _copy_bytearray(walk: CopyWalk, value: bytearray, depth: int) -> Any:
    return value[:]


COPIERS: Final[dict[type, Copier]] = {
    **dict.fromkeys([*IMMUTABLE, datetime, time, PurePath, RawValue], _same),
    list: _copy_items,
    dict: _copy_dict,
    tuple: _copy_tuple,
    set: _copy_set,
    frozenset: _copy_set,
    deque: _copy_deque,
    OrderedDict: _copy_ordered,
    Counter: _copy_ordered,
    bytearray: _copy_bytearray,
    defaultdict: _copy_defaultdict,
    SimpleNamespace: _copy_namespace,
    range: _same,
}
