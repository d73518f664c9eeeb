"""Values of every kind that can be saved, and values with something in them that cannot; drawn by
Hypothesis.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
import threading
import types
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from math import copysign
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pydantic
from hypothesis import strategies as st

# ------------------------------------------------------------------------------------------ classes


class Color(Enum):
    RED = "r"
    GREEN = (1, "g")


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"
    NO = "no"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    amount: Any = None
    tags: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    x: Any
    y: Any = -0.0


class Pair(NamedTuple):
    left: Any
    right: Any = ()


class Bag(msgspec.Struct):
    label: str
    things: Any = None


class Tagged(msgspec.Struct, frozen=True, tag="other", tag_field="kind", rename="camel"):
    first_thing: Any
    type: str = "type"


class Form(pydantic.BaseModel):
    title: str = "form"
    content: Any = None


class Row(TypedDict, total=False):
    key: str
    content: Any


TYPES: list[Any] = [Color, Level, Word, Access, Item, Place, Pair, Bag, Tagged, Form, Row]
"""The types that the codec is given."""

# -------------------------------------------------------------------------------- what can be saved

_OFFSETS = [timezone(timedelta(minutes=-90)), timezone(timedelta(hours=2), "two")]
_REGIONS = [ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]
_ZONES = st.sampled_from([None, UTC, *_OFFSETS, *_REGIONS])
_TEXTS = st.text(max_size=8) | st.text(st.characters(categories=["Cs", "L", "Cc"]), max_size=4)
_MEMBERS: list[Any] = [*Color, *Level, *Word, Access(0), Access.READ, Access(3)]
_PATHS: list[Any] = [Path("/x/y"), PurePosixPath("a b"), PureWindowsPath("c:\\d"), Path()]

atoms: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 20_000), 1 << 20_000),
    st.floats(),
    st.sampled_from(
        [
            0.0,
            -0.0,
            1e308,
            5e-324,
            float("inf"),
            float("-inf"),
            float("nan"),
            2.0**53,
            1 << 63,
            -(1 << 64),
        ]
    ),
    _TEXTS,
    st.sampled_from(
        ["$", "$value", "\\ud800", "\ud800", "\\", '{"$":"tuple","v":[]}', "\0", "\u2028"]
    ),
    st.binary(max_size=20),
    st.complex_numbers(),
    st.datetimes(timezones=_ZONES, allow_imaginary=True),
    st.dates(),
    st.times(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=2), "two")])),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.ip_addresses(),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.sampled_from([re.compile("a+"), re.compile(b"\xff", re.DOTALL), Item, Color, int, ...]),
    st.sampled_from(_MEMBERS),
    st.sampled_from(_PATHS),
    st.sampled_from(
        [UTC, timezone(timedelta(hours=2), "two"), ZoneInfo("Europe/Berlin"), msgspec.UNSET]
    ),
)
# What is not equal to itself is not found again as a key; comparing a signalling nan is an error.
_hashable = atoms.filter(
    lambda value: not value.is_nan() if isinstance(value, Decimal) else value == value
)
keys = st.recursive(
    _hashable,
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.frozensets(inner, max_size=3), inner.map(Place), inner.map(Pair)
    ),
    max_leaves=3,
)
_names = st.sampled_from(["$", "v", "$value", "", "a.b", "key"]) | _TEXTS


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, max_size=4)
    return st.one_of(
        some,
        some.map(tuple),
        some.map(deque),
        st.builds(deque, some, st.integers(4, 9)),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        st.dictionaries(_names, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(st.integers(), inner, max_size=4),
        st.dictionaries(_names, inner, max_size=3).map(OrderedDict),
        st.dictionaries(_names, st.integers(), max_size=3).map(Counter),
        st.binary(max_size=9).map(bytearray),
        st.tuples(_TEXTS, inner, some).map(lambda parts: Item(*parts)),
        st.tuples(_TEXTS, inner).map(lambda parts: _with_more(*parts)),
        st.dictionaries(_names, inner, max_size=3).map(lambda d: defaultdict(list, d)),
        st.tuples(inner, inner).map(lambda parts: Place(*parts)),
        st.tuples(inner, inner).map(lambda parts: Pair(*parts)),
        st.tuples(_TEXTS, inner).map(lambda parts: Bag(*parts)),
        inner.map(Tagged),
        st.builds(lambda content: Form(content=content), inner),
        st.just(Form()),
        st.builds(lambda key, content: Row(key=key, content=content), _TEXTS, inner),
        st.builds(lambda value: [value, value, (value,)], inner),
        st.builds(lambda value: [value] * 70, inner),
        st.builds(nested, inner, st.integers(10, 200), st.sampled_from(_WRAPS)),
    )


def _with_more(name: str, more: Any) -> Item:
    """Return an item that has an attribute beside its fields, and lacks one of them."""
    item = Item(name)
    item.more = more  # type: ignore[attr-defined]
    del item.tags
    return item


def nested(value: Any, levels: int, wrap: Callable[[Any], Any]) -> Any:
    """Return a value deep inside others."""
    for _ in range(levels):
        value = wrap(value)
    return value


_WRAPS: list[Callable[[Any], Any]] = [lambda v: [v], lambda v: {"k": v}, lambda v: (v,), Place]
# Deep ones are not put into deep ones: all must stay above the depth that is refused.
_shallow = st.recursive(
    atoms, lambda inner: _containers(inner).filter(lambda v: _depth(v) < 60), max_leaves=15
)
savable: st.SearchStrategy[Any] = st.one_of(atoms, _shallow, _shallow, _containers(_shallow))


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list | tuple | dict | Place) and depth < 300:
        depth += 1
        if isinstance(value, Place):
            value = value.x
        elif not value:
            break
        else:
            value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return depth


# ----------------------------------------------------------------------------- what cannot be saved


class Stranger:
    """Of no kind that can be taken apart."""


@dataclass
class Unknown:
    """A dataclass that the codec does not know."""

    n: int = 1


class UnknownEnum(Enum):
    A = 1


class MyList(list[Any]):
    pass


class MyDict(dict[str, Any]):
    pass


class MyInt(int):
    pass


class MyStr(str):
    __slots__ = ()


class MyFloat(float):
    pass


class MyBytes(bytes):
    pass


class MyDatetime(datetime):
    pass


class MyTuple(tuple[Any, ...]):
    __slots__ = ()


class Zone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "zone"


def _loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _with_lock() -> Item:
    item = Item("x")
    item.lock = threading.Lock()  # type: ignore[attr-defined]
    return item


POISONS: dict[str, Callable[[], Any]] = {
    "lambda": lambda: lambda: 1,
    "generator": lambda: (n for n in (1, 2)),
    "module": lambda: types,
    "object": object,
    "instance": Stranger,
    "unknown dataclass": Unknown,
    "unknown enum": lambda: UnknownEnum.A,
    "list subclass": lambda: MyList([1]),
    "dict subclass": lambda: MyDict(a=1),
    "int subclass": lambda: MyInt(1),
    "str subclass": lambda: MyStr("a"),
    "float subclass": lambda: MyFloat(1.5),
    "bytes subclass": lambda: MyBytes(b"a"),
    "datetime subclass": lambda: MyDatetime(2024, 1, 1),
    "tuple subclass": lambda: MyTuple((1,)),
    "UserDict": lambda: UserDict(a=1),
    "open file": lambda: io.BytesIO(b""),
    "lock": threading.Lock,
    "memoryview": lambda: memoryview(b"a"),
    "iterator": lambda: iter([1]),
    "view": lambda: {"a": 1}.keys(),
    "unknown class": lambda: Stranger,
    "default_factory": lambda: defaultdict(lambda: 1),
    "a lock beside the fields": _with_lock,
    "exception": lambda: ValueError("no"),
    "partial": lambda: functools.partial(print, 1),
    "method": lambda: "a".upper,
    "proxy": lambda: types.MappingProxyType({"a": 1}),
    "zone": lambda: datetime(2024, 1, 1, tzinfo=Zone()),
    "itself": _loop,
    "too deep": lambda: nested(1, 600, lambda value: [value]),
    "context": contextlib.nullcontext,
}
"""Makers of leaves that must be refused."""

Step = tuple[Callable[[Any], Any], str]
_STEPS: list[Step] = [
    (lambda v: [1, v], "[1]"),
    (lambda v: [v, v], "[0]"),
    (lambda v: (None, "a", v), "[2]"),
    (lambda v: {"a": 1, "k": v}, "['k']"),
    (lambda v: {"$": v}, "['$']"),
    (lambda v: {7: v}, "[7]"),
    (lambda v: OrderedDict(k=v), "['k']"),
    (lambda v: deque([v]), "[0]"),
    (lambda v: Item("n", v), ".amount"),
    (lambda v: Item("n", 1, [0, v]), ".tags[1]"),
    (lambda v: Place(1, v), ".y"),
    (lambda v: Pair(v), ".left"),
    (lambda v: Bag("b", v), ".things"),
    (lambda v: Tagged(v), ".first_thing"),
    (lambda v: Form(content=v), ".content"),
    (lambda v: [*range(100), v], "[100]"),
]


@st.composite
def poisoned(draw: st.DrawFn) -> tuple[str, Any, str]:
    """Draw a value that cannot be saved: what is wrong with it, the value, and the path that the
    error must name.
    """
    name = draw(st.sampled_from([*POISONS]))
    value, path = POISONS[name](), ""
    for wrap, step in draw(st.lists(st.sampled_from(_STEPS), max_size=6)):
        value, path = wrap(value), step + path
    return name, value, path + {"itself": "[0]", "a lock beside the fields": ".lock"}.get(name, "")


# ----------------------------------------------------------------------------------------- the same


def same(one: Any, two: Any) -> bool:
    """Return whether two values are equal, of the same types all the way down, and in the same
    order.
    """
    kind = type(one)
    if kind is not type(two):
        return False
    if kind is float:
        return (one.hex() == two.hex() and copysign(1, one) == copysign(1, two)) or (
            one != one and two != two
        )
    if kind is complex:
        return same(one.real, two.real) and same(one.imag, two.imag)
    if kind is Decimal:
        return str(one) == str(two)
    if kind in (datetime, time):
        return repr(one) == repr(two) and one.fold == two.fold
    if kind in (list, tuple, deque):
        return (
            len(one) == len(two)
            and getattr(one, "maxlen", 0) == getattr(two, "maxlen", 0)
            and _all(one, two)
        )
    if kind in (dict, OrderedDict, Counter, defaultdict):
        return len(one) == len(two) and _all(one, two) and _all(one.values(), two.values())
    if kind in (set, frozenset):
        return len(one) == len(two) and all(any(same(a, b) for b in two) for a in one)
    if kind is Item:
        return same(vars(one), vars(two))
    if dataclasses.is_dataclass(kind):
        return all(
            same(getattr(one, f.name), getattr(two, f.name)) for f in dataclasses.fields(kind)
        )
    if issubclass(kind, tuple):
        return _all(one, two)
    if issubclass(kind, msgspec.Struct):
        return all(same(getattr(one, name), getattr(two, name)) for name in kind.__struct_fields__)
    if issubclass(kind, pydantic.BaseModel):
        return same(one.__dict__, two.__dict__) and one.model_fields_set == two.model_fields_set
    if kind in (int, Fraction):  # which have one form each, and perhaps too many digits to print
        return bool(one == two)
    return bool(one == two) and str(one) == str(two)


def _all(one: Any, two: Any) -> bool:
    return all(same(a, b) for a, b in zip(one, two, strict=True))


__all__ = ["POISONS", "TYPES", "Fraction", "date", "poisoned", "same", "savable"]
