"""Annotations: what they reach, what fits them, and which edges can carry something."""

from __future__ import annotations

import abc
import collections.abc as cabc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
    cast,
    runtime_checkable,
)

import msgspec
import pydantic
import pytest

from supersteps.typing import (
    display_name,
    is_subtype,
    matches,
    overlaps,
    reachable_types,
    type_name,
)

T = TypeVar("T")
R = TypeVar("R")
B = TypeVar("B", bound="Base")
N = TypeVar("N", int, str)


class Base:
    pass


class Derived(Base):
    pass


class Color(Enum):
    RED = 1


@dataclass
class Leaf:
    x: int


@dataclass
class Node:
    leaf: Leaf
    children: list[Node]
    gone: NotImportedAnywhere  # type: ignore[name-defined]  # noqa: F821
    half: Missing | Color  # type: ignore[name-defined]  # noqa: F821


class Row(NamedTuple):
    node: Node | None


class Doc(TypedDict):
    rows: list[Row]
    title: NotRequired[str]


class Packet(msgspec.Struct):
    doc: Doc


class Envelope(pydantic.BaseModel, arbitrary_types_allowed=True):
    packet: Packet | None = None


@dataclass
class Response(Generic[T, R]):
    data: T
    request: R
    note: str = ""


@dataclass
class IntResponse(Response[int, R]):
    pass


@runtime_checkable
class Sized(Protocol):
    def size(self) -> int: ...


class Plain(Protocol):
    name: str

    def size(self) -> int: ...


class Box:
    name = "box"

    def size(self) -> int:
        return 1


UserId = NewType("UserId", int)


def test_names() -> None:
    assert type_name(Leaf) == f"{__name__}:Leaf"
    assert display_name(Leaf) == f"{__name__}.Leaf"
    assert display_name(list[int]) == "list[int]"
    assert display_name(dict[str, Leaf | None]) == f"dict[str, {__name__}.Leaf | None]"
    assert display_name(Optional[int]) == "int | None"  # noqa: UP045
    assert display_name(tuple[int, ...]) == "tuple[int, ...]"
    assert display_name(Any) == "Any"
    assert display_name(None) == "None"
    assert display_name(Literal["a"]) == "Literal['a']"
    assert display_name(Callable[[int], str]) == "collections.abc.Callable[[int], str]"


@pytest.mark.parametrize(
    ("annotation", "reached"),
    [
        (Envelope, {Envelope, Packet, Doc, Row, Node, Leaf, Color}),
        (Optional[list[Leaf]], {Leaf}),  # noqa: UP045
        (Union[int, dict[str, tuple[Leaf, ...]]], {Leaf}),  # noqa: UP007
        (Annotated[Leaf, "meta", []], {Leaf}),
        (Literal[Color.RED], {Color}),
        (Response[Leaf, Color], {Response, Leaf, Color}),
        (IntResponse[Leaf], {IntResponse, Leaf}),
        (B, {Base}),
        (Callable[[Leaf], Color], {Leaf, Color}),
        ("Leaf", set()),
    ],
)
def test_reachable(annotation: Any, reached: set[type]) -> None:
    assert {cls for cls in reachable_types([annotation]) if cls.__module__ == __name__} == reached


def test_unresolvable_names_hide_nothing() -> None:
    @dataclass
    class Local:
        a: Leaf
        b: Elsewhere  # type: ignore[name-defined]  # noqa: F821
        c: list[Elsewhere | Color]  # type: ignore[name-defined]  # noqa: F821

    assert {Local, Leaf, Color} <= set(reachable_types([Local]))


MATCHES: list[tuple[Any, Any, bool]] = [
    (1, int, True),
    (True, int, True),
    (1, float, False),
    (1, Any, True),
    (1, object, True),
    (None, None, True),
    (0, None, False),
    (1, int | str, True),
    (1.0, Optional[int], False),  # noqa: UP045
    ([1], list[int], True),
    ([1, "a"], list[int], False),
    ([], list[int], True),
    ({"a": [1]}, dict[str, list[int]], True),
    ({"a": ["b"]}, dict[str, list[int]], False),
    ({1: 2}, Mapping[str, int], False),
    ((1, 2, 3), tuple[int, ...], True),
    ((1, "a"), tuple[int, str], True),
    ((1,), tuple[int, str], False),
    ((), tuple[()], True),
    ({1}, set[int], True),
    ({"a"}, frozenset[str], False),
    (deque([1]), deque[int], True),
    ("abc", Sequence[str], True),
    ("abc", Sequence[int], False),
    (b"abc", Sequence[int], True),
    ([1], Sequence[str], False),
    (Counter("a"), Counter[str], True),
    (iter([1]), Iterator[str], True),
    ("a", Literal["a", "b"], True),
    (True, Literal[1], False),
    (Color.RED, Literal[Color.RED], True),
    (1, Annotated[int, "x"], True),
    (1, UserId, True),
    ("x", UserId, False),
    (Derived(), Base, True),
    (Derived(), B, True),
    (1, B, False),
    ("a", N, True),
    (2.0, N, False),
    (1, Never, False),
    ({"rows": []}, Doc, True),
    ({"rows": [1]}, Doc, False),
    ({}, Doc, False),
    ({"rows": [], "title": 1}, Doc, False),
    (Box(), Sized, True),
    (1, Sized, False),
    (Box(), Plain, True),
    (1, Plain, False),
    (print, Callable[[int], str], True),
    (1, Callable[..., Any], False),
    ([], cabc.Hashable, False),
    (int, type[int], True),
    (str, type[int], False),
    (1, "Whatever", True),
    (Response("yes", Leaf(1)), Response[str, Leaf], True),
    (Response(1, Leaf(1)), Response[str, Leaf], False),
    (Response("yes", 1), Response[str, Leaf], False),
    (Response(["a"], 1), Response[list[int], Any], False),
    (IntResponse(1, "q"), Response[int, str], True),
    (IntResponse(1, "q"), IntResponse[str], True),
    (IntResponse(cast(Any, "no"), "q"), IntResponse[str], False),
    (IntResponse(1, 1), IntResponse[str], False),
    (Response("x", 1), Response, True),
    ([Response("x", 1)], list[Response[str, int] | None], True),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), MATCHES)
def test_matches(value: Any, annotation: Any, expected: bool) -> None:
    assert matches(value, annotation) is expected
    if expected:
        assert matches(value, Union[annotation, bytes])  # noqa: UP007


class Greeter(abc.ABC):
    @abc.abstractmethod
    def greet(self) -> None: ...


# source, target, every value fits, some value fits
EDGES: list[tuple[Any, Any, bool, bool]] = [
    (int, int, True, True),
    (bool, int, True, True),
    (int, bool, False, True),
    (int, float, False, False),
    (int, str, False, False),
    (Any, str, True, True),
    (str, Any, True, True),
    (object, str, False, True),
    (str, object, True, True),
    (int | str, str, False, True),
    (int | str, bytes, False, False),
    (int, int | str, True, True),
    (int | str, str | int | None, True, True),
    (None, Optional[int], True, True),  # noqa: UP045
    (list[int], list[int], True, True),
    (list[int], list[str], False, False),
    (list[bool], list[int], True, True),
    (list[int], list, True, True),
    (list, list[int], True, True),
    (list[int], Sequence[int], True, True),
    (list[int], Sequence[str], False, False),
    (Sequence[int], list[int], False, True),
    (dict[str, int], Mapping[str, str], False, False),
    (tuple[int, str], tuple[int, ...], False, False),
    (tuple[int, int], tuple[int, ...], True, True),
    (tuple[int, ...], tuple[int, int], False, True),
    (tuple[int], tuple[int, int], False, False),
    (Derived, Base, True, True),
    (Base, Derived, False, True),
    (Literal["a"], str, True, True),
    (Literal["a"], int, False, False),
    (str, Literal["a"], False, True),
    (Literal["a", "b"], Literal["b", "c"], False, True),
    (Doc, dict, True, True),
    (dict, Doc, True, True),
    (Doc, str, False, False),
    (Box, Plain, True, True),
    (Leaf, Plain, False, False),
    (Response[str, int], Response[str, int], True, True),
    (Response[str, int], Response[int, int], False, False),
    (IntResponse[str], Response[int, str], True, True),
    (IntResponse[str], Response[str, str], False, False),
    (Response[int, str], IntResponse[str], False, True),
    (B, Base, True, True),
    (str, N, True, True),
    (Never, int, True, False),
    (int, Never, False, False),
    (UserId, int, True, True),
    (Annotated[int, 1], int, True, True),
    (Leaf, Greeter, False, False),
]


@pytest.mark.parametrize(("source", "target", "every", "some"), EDGES)
def test_edges(source: Any, target: Any, every: bool, some: bool) -> None:
    assert (is_subtype(source, target), overlaps(source, target)) == (every, some)
