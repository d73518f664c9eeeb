"""Values that real programs send, by the library that they come from, each with its annotation."""

from __future__ import annotations

import array
import functools
import http
import ipaddress
import re
import urllib.parse
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

numpy: Any = pytest.importorskip("numpy")
zones: Any = pytest.importorskip("dateutil.tz")

T = TypeVar("T")

# ----------------------------------------------------------------------------- the standard library


class Access(Flag):
    READ = auto()
    WRITE = auto()
    ALL = READ | WRITE


class Bits(IntFlag):
    ONE = 1
    TWO = 2


class Planet(Enum):
    EARTH = (5.97, 6.37)

    def __init__(self, mass: float, radius: float) -> None:
        self.mass = mass
        self.radius = radius


class Level(IntEnum):
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


@dataclass
class WithMore:
    """Keeps an attribute that is not a field, as many classes do in `__post_init__`."""

    x: int
    scale: InitVar[int] = 3

    def __post_init__(self, scale: int) -> None:
        self.scaled = self.x * scale

    @functools.cached_property
    def square(self) -> int:
        return self.x**2


@dataclass(slots=True)
class Unset:
    """Has a field that is set later, or never."""

    x: int
    result: str = field(init=False)


@dataclass(frozen=True, kw_only=True, order=True)
class Frozen:
    x: int
    y: list[int] = field(default_factory=list, compare=False)


@dataclass
class Child(WithMore):
    z: str = "z"


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class SlotBase:
    __slots__ = ("a", "b")
    a: int


class Pair(NamedTuple):
    left: int
    right: str = ""


class NamedPair(Pair):
    """A subclass has a `__dict__`."""


class Row(TypedDict, total=False):
    key: str
    at: datetime


def slot_base() -> SlotBase:
    made = SlotBase(1)
    made.b = [1]  # type: ignore[attr-defined]
    return made


def named_pair() -> NamedPair:
    made = NamedPair(1, "r")
    made.note = "n"  # type: ignore[attr-defined]
    return made


STANDARD: dict[str, tuple[Any, Any]] = {
    "IPv4Address": (ipaddress.IPv4Address, ipaddress.ip_address("10.0.0.1")),
    "IPv6Address": (ipaddress.IPv6Address, ipaddress.ip_address("fe80::1%eth0")),
    "IPv4Network": (ipaddress.IPv4Network, ipaddress.ip_network("10.0.0.0/8")),
    "IPv6Network": (ipaddress.IPv6Network, ipaddress.ip_network("fd00::/8")),
    "IPv4Interface": (ipaddress.IPv4Interface, ipaddress.ip_interface("10.0.0.1/8")),
    "IPv6Interface": (ipaddress.IPv6Interface, ipaddress.ip_interface("fd00::1/8")),
    "Pattern": (re.Pattern, re.compile(r"(?i)a+\d", re.MULTILINE)),
    "Pattern of bytes": (re.Pattern[bytes], re.compile(rb"\xff")),
    "range": (range, range(1, 10**30, 7)),
    "slice": (slice, slice(None, 3)),
    "Ellipsis": (Any, ...),
    "defaultdict": (defaultdict[str, list[int]], defaultdict(list, {"a": [1], "b": [2]})),
    "defaultdict without": (defaultdict, defaultdict(None, {1: (2,)})),
    "defaultdict of Counter": (defaultdict, defaultdict(Counter, a=Counter("aab"))),
    "SimpleNamespace": (SimpleNamespace, SimpleNamespace(a=1, b=SimpleNamespace(c=(1,)))),
    "array": (array.array, array.array("d", [1.5, float("inf")])),
    "array of ints": (array.array, array.array("Q", [2**64 - 1])),
    "class": (type[int], bool),
    "class of the program": (type[Word], Word),
    "class of an error": (type[Exception], KeyError),
    "datetime of dateutil": (datetime, datetime(2024, 1, 1, tzinfo=zones.tzutc())),
    "offset of dateutil": (
        datetime,
        datetime(2024, 1, 1, tzinfo=zones.tzoffset("CET", 3600)),
    ),
    "Enum of the library": (Any, [http.HTTPStatus.OK, re.RegexFlag.I | re.RegexFlag.M]),
    "named tuple of the library": (Any, urllib.parse.urlparse("http://a/b?c=1")),
    "Flag combined": (Access, Access.READ | Access.WRITE),
    "Flag of none": (Access, Access(0)),
    "IntFlag combined": (Bits, Bits.ONE | Bits.TWO),
    "IntFlag unknown bits": (Bits, Bits(12)),
    "Enum with attributes": (Planet, Planet.EARTH),
    "IntEnum": (Level, Level.HIGH),
    "StrEnum": (Word, Word.YES),
    "dataclass with attributes": (WithMore, WithMore(2)),
    "dataclass with slots, unset": (Unset, Unset(1)),
    "frozen dataclass": (Frozen, Frozen(x=1, y=[2])),
    "inherited dataclass": (Child, Child(1, z="q")),
    "generic dataclass": (Box[Frozen], Box(Frozen(x=1))),
    "dataclass with another slot": (SlotBase, slot_base()),
    "NamedTuple": (Pair, Pair(1, "r")),
    "NamedTuple with attributes": (NamedPair, named_pair()),
    "TypedDict": (Row, Row(key="k", at=datetime(2024, 1, 1, tzinfo=UTC))),
    "deque": (deque[int], deque([1], maxlen=2)),
    "OrderedDict": (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    "Counter": (Counter[str], Counter("aab")),
    "paths, decimals, ids": (list[Any], [Path("a"), Decimal("1.50"), UUID(int=1)]),
    "times": (list[Any], [date(2024, 1, 1), time(1), timedelta(1)]),
    "bytes": (list[Any], [b"\x00\xff", bytearray(b"a")]),
}

# ----------------------------------------------------------------------------------- msgspec, attrs


class Stock(msgspec.Struct):
    """Checks and changes what it is made of; made again, it does neither."""

    name: str
    left: int = 0

    def __post_init__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("nothing left")


class FrozenStock(msgspec.Struct, frozen=True, kw_only=True, weakref=True, tag="t", rename="camel"):
    of_what: list[str]

    def __init_subclass__(cls, **options: Any) -> None:
        raise AssertionError("a hook of the class was run")

    def __post_init__(self) -> None:
        self.of_what.append("made")


class WithDict(msgspec.Struct, dict=True):
    x: int


def with_dict() -> WithDict:
    made = WithDict(1)
    made.note = "n"  # type: ignore[attr-defined]
    return made


@attrs.define
class Point:
    x: int = attrs.field(validator=attrs.validators.gt(0))
    y: list[Level] = attrs.field(factory=list)
    _hidden: str = "h"

    def __attrs_post_init__(self) -> None:
        self.y.append(Level.HIGH)


@attrs.frozen(cache_hash=True)
class FrozenPoint:
    name: str
    inner: Point | None = None


@attrs.define(slots=False)
class LoosePoint(Point):
    z: float = 0.0


def hashed() -> FrozenPoint:
    made = FrozenPoint("a")
    hash(made)
    return made


def loose() -> LoosePoint:
    made = LoosePoint(1)
    made.note = 1  # type: ignore[attr-defined]
    return made


RECORDS: dict[str, tuple[Any, Any]] = {
    "Struct with a hook": (Stock, Stock("tea", 1)),
    "frozen Struct with a hook": (FrozenStock, FrozenStock(of_what=["a"])),
    "Struct with attributes": (WithDict, with_dict()),
    "attrs": (Point, Point(1)),
    "attrs frozen, hashed": (FrozenPoint, hashed()),
    "attrs inside attrs": (FrozenPoint, FrozenPoint("a", Point(2))),
    "attrs with attributes": (LoosePoint, loose()),
}

# ---------------------------------------------------------------------------- to_dict and from_dict


class ChatMessage:
    """The shape of the reference's messages: no dataclass, but methods of its own."""

    def __init__(self, role: str, text: str, at: datetime | None = None) -> None:
        self.role, self.text, self.at = role, text, at

    def to_dict(self, *, exclude_none: bool = True) -> dict[str, Any]:
        return {key: item for key, item in vars(self).items() if item is not None}

    @classmethod
    def from_dict(cls, state: dict[str, Any], /, **_more: Any) -> ChatMessage:
        return cls(**state)


class Money:
    """Compares by value."""

    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.amount == other.amount

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> OrderedDict[str, Any]:
        return OrderedDict(amount=self.amount)

    @staticmethod
    def from_dict(state: dict[str, Any]) -> Money:
        return Money(state["amount"])


METHODS: dict[str, tuple[Any, Any]] = {
    "chat message": (ChatMessage, ChatMessage("user", "hi", datetime(2024, 1, 1, tzinfo=UTC))),
    "money": (Money, Money(Decimal("1.50"))),
    "messages in a list": (list[ChatMessage], [ChatMessage("user", "hi")]),
}

# ----------------------------------------------------------------------------------------- pydantic

_FIELDS: dict[str, tuple[Any, Any]] = {
    "HttpUrl": (pydantic.HttpUrl, "https://example.org/a?b=1"),
    "AnyUrl": (pydantic.AnyUrl, "ftp://x/y"),
    "FileUrl": (pydantic.FileUrl, "file:///a/b"),
    "PostgresDsn": (pydantic.PostgresDsn, "postgres://u:p@h,g/db"),
    "RedisDsn": (pydantic.RedisDsn, "redis://h:1/0"),
    "IPvAnyAddress": (pydantic.IPvAnyAddress, "10.0.0.1"),
    "IPvAnyNetwork": (pydantic.IPvAnyNetwork, "10.0.0.0/8"),
    "IPvAnyInterface": (pydantic.IPvAnyInterface, "10.0.0.1/8"),
    "AwareDatetime": (pydantic.AwareDatetime, "2025-01-01T00:00:00+02:00"),
    "PastDatetime": (pydantic.PastDatetime, "2020-01-01T00:00:00Z"),
    "datetime of a number": (datetime, 1748768400),
    "time with a zone": (time, "12:00:00+05:30"),
    "timedelta": (timedelta, "PT1H"),
    "Json": (pydantic.Json[Any], '{"a":[1,2]}'),  # type: ignore[misc]
    "ByteSize": (pydantic.ByteSize, "3MB"),
    "FilePath": (pydantic.FilePath, __file__),
    "Base64Bytes": (pydantic.Base64Bytes, b"aGk="),
    "Base64UrlStr": (pydantic.Base64UrlStr, "aGk="),
    "Pattern": (re.Pattern[str], "a+"),
    "Decimal": (Decimal, "1.50"),
    "set of UUIDs": (set[UUID], {"9b2b7ef8-6cb8-4bc1-a37e-6ba0f3f3a3b5"}),
    "conlist": (Annotated[list[int], pydantic.Field(min_length=1)], [1]),
    "Literal": (Literal["x", "y"], "x"),
    "class": (type[int], bool),
    "complex": (complex, 1j),
    "bytes": (bytes, b"\x00\xff"),
    "StrictInt": (pydantic.StrictInt, 3),
    "tuple of URLs": (tuple[pydantic.HttpUrl, ...], ["https://a/", "https://b/"]),
    "dict of URLs": (dict[pydantic.HttpUrl, ipaddress.IPv4Address], {"https://a/": "10.0.0.1"}),
    "dataclass with a URL": (Box[pydantic.HttpUrl], {"content": "https://a/"}),
    "deque": (deque[datetime], ["2025-01-01T00:00:00Z"]),
    "defaultdict": (defaultdict[str, list[int]], {"a": ["1"]}),
    "Flag": (Access, 3),
}

FIELD_MODELS: dict[str, type[pydantic.BaseModel]] = {
    name: pydantic.create_model(
        f"With_{name.replace(' ', '_')}", __module__=__name__, f=(annotation, ...)
    )
    for name, (annotation, _) in _FIELDS.items()
}


class Tags(pydantic.RootModel[list[pydantic.HttpUrl]]):
    pass


class Color:
    """A class of another library: only pydantic knows how to read and write it."""

    def __init__(self, name: str) -> None:
        self.name = name


Rgb = Annotated[
    Color,
    pydantic.PlainValidator(lambda v: v if isinstance(v, Color) else Color(v)),
    pydantic.PlainSerializer(lambda v: v.name),
]


class Paint(pydantic.BaseModel):
    """A leaf that only the field's own serializer can write, beside one that everybody can."""

    color: Rgb
    more: list[Rgb] = []
    at: datetime | None = None

    @pydantic.model_validator(mode="after")
    def check(self) -> Paint:
        CHECKED.append(self)
        return self


CHECKED: list[Paint] = []


class Wrapped(pydantic.BaseModel):
    """Has the serializer and the validator as methods."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    color: Color
    parent: Wrapped | None = None

    @pydantic.field_serializer("color")
    def write(self, color: Color) -> str:
        return color.name

    @pydantic.field_validator("color", mode="before")
    @classmethod
    def read(cls, color: Any) -> Color:
        return color if isinstance(color, Color) else Color(color)


class Response(pydantic.BaseModel):
    """As the clients of language models build theirs: with extras and other attributes."""

    model_config = pydantic.ConfigDict(extra="allow", defer_build=True)
    id: str
    required: int
    usage: Response | None = None
    _private: dict[str, int] = pydantic.PrivateAttr(default_factory=dict)


def response() -> Response:
    made = Response.model_construct(id="r", usage=None, unknown_field={"x": 1})
    object.__setattr__(made, "_request_id", "req_1")
    made._private["p"] = 1
    return made


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    at: datetime | None = None

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @functools.cached_property
    def loud(self) -> bool:
        return True


class Zoo(pydantic.BaseModel):
    pets: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


@pydantic.dataclasses.dataclass
class Visit:
    url: pydantic.HttpUrl
    at: datetime


def dog() -> Dog:
    made = Dog.model_validate_json('{"kind": "dog", "at": "2025-01-01T00:00:00+02:00"}')
    assert made.loud
    return made


class MyUrl(pydantic.AnyUrl):
    """A URL of the program's own."""


PYDANTIC: dict[str, tuple[Any, Any]] = {
    **{
        f"field {name}": (FIELD_MODELS[name], FIELD_MODELS[name](f=given))
        for name, (_, given) in _FIELDS.items()
    },
    "RootModel": (Tags, Tags.model_validate(["https://a/"])),
    "own leaf": (Paint, Paint(color="red", more=["blue"])),  # type: ignore[arg-type, list-item]
    "own leaf by methods": (
        Wrapped,
        Wrapped.model_validate({"color": "red", "parent": {"color": "blue"}}),
    ),
    "response": (Response, response()),
    "discriminated union": (Zoo, Zoo(pets=[Cat(), dog()])),
    "generic model": (Page[Frozen], Page[Frozen](items=[Frozen(x=1)])),
    "pydantic dataclass": (
        Visit,
        pydantic.TypeAdapter(Visit).validate_python(
            {"url": "https://a/", "at": "2025-01-01T00:00:00Z"}
        ),
    ),
    "URL by itself": (pydantic.HttpUrl, pydantic.HttpUrl("https://a/?q=1")),
    "URL of one's own": (MyUrl, MyUrl("x://a/")),
    "ByteSize by itself": (pydantic.ByteSize, pydantic.ByteSize(5)),
}

# -------------------------------------------------------------------------------------------- numpy

NUMPY: dict[str, tuple[Any, Any]] = {
    **{
        f"numpy {value.dtype}": (type(value), value)
        for value in (
            *(numpy.float64(1.5), numpy.float32(0.1), numpy.float16("nan"), numpy.float64("-inf")),
            *(numpy.int64(-1), numpy.uint64(2**64 - 1), numpy.int8(-5), numpy.longlong(7)),
            *(numpy.bool_(True), numpy.complex128(1j), numpy.complex64(complex("nan"))),
            *(numpy.str_("ü\ud800"), numpy.bytes_(b"\xff")),
            *(numpy.datetime64("2024-01-01T00:00:00.123456789"), numpy.datetime64("NaT", "s")),
            numpy.timedelta64(5, "ms"),
        )
    },
    "array": (numpy.ndarray, numpy.arange(6.0).reshape(2, 3)),
    "array, Fortran": (numpy.ndarray, numpy.asfortranarray(numpy.arange(6).reshape(2, 3))),
    "array, big-endian": (numpy.ndarray, numpy.array([1, 2], ">i4")),
    "array of text": (numpy.ndarray, numpy.array(["a", "üb"])),
    "array of times": (numpy.ndarray, numpy.array(["2024-01-01", "NaT"], "M8[D]")),
    "array of nothing": (numpy.ndarray, numpy.empty((0, 3), "f4")),
    "array of no dimensions": (numpy.ndarray, numpy.array(1.5)),
    "array, strided": (numpy.ndarray, numpy.arange(10)[::3]),
    "scalars inside": (dict[str, Any], {"loss": numpy.float32(0.5), "at": [numpy.int64(3)]}),
    "scalar as key": (dict[Any, Any], {numpy.int64(1): numpy.bool_(False)}),
}

VALUES = STANDARD | RECORDS | METHODS | PYDANTIC | NUMPY


def same(one: Any, two: Any) -> bool:
    """Tell whether two values are equal and of the same types all the way down."""
    if type(one) is not type(two):
        return False
    if isinstance(one, numpy.ndarray):
        is_fortran = one.ndim > 1 and one.flags.f_contiguous
        return (
            one.dtype == two.dtype
            and one.shape == two.shape
            and one.tobytes() == two.tobytes()
            and (not is_fortran or two.flags.f_contiguous)
        )
    if isinstance(one, numpy.generic):
        return bool(one.dtype == two.dtype and one.tobytes() == two.tobytes())
    if isinstance(one, datetime | time):
        return repr(one) == repr(two)
    if isinstance(one, dict):
        default = getattr(one, "default_factory", None) is getattr(two, "default_factory", None)
        return default and same(list(one.items()), list(two.items()))
    held = _attributes(one)
    if held and not same(held, _attributes(two)):
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, pydantic.BaseModel):
        names = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")
        return all(getattr(one, name) == getattr(two, name) for name in names)
    return bool(held) or bool(one == two)


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an instance holds, in its `__dict__`, its slots, or a Struct's fields."""
    kind = type(value)
    if kind.__module__ not in (__name__, "types") and not isinstance(value, pydantic.BaseModel):
        return {}
    if isinstance(value, Enum | type):
        return {}
    slots = [name for base in kind.__mro__ for name in vars(base).get("__slots__", ())]
    names = [*getattr(value, "__dict__", {}), *slots, *getattr(kind, "__struct_fields__", ())]
    caches = ("square", "loud", "_attrs_cached_hash", "__weakref__", "__dict__")
    return {
        name: getattr(value, name)
        for name in sorted({*names})
        if name not in caches and not name.startswith("__") and hasattr(value, name)
    }
