"""Answers in plain JSON: schemas of annotations, checks by schemas, conversion."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, Never, NewType, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pydantic
import pytest
from jsonschema import Draft202012Validator

from supersteps.typing.schema import from_json, schema_of, violation

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(StrEnum):
    SMALL = "small"


class Mixed(Enum):
    """What msgspec does not take and pydantic does."""

    ONE = 1
    TWO = "two"


@dataclass
class Item:
    name: str
    count: int = 1


@dataclass
class Order:
    first: Item
    rest: list[Item] = field(default_factory=list)
    colour: Colour = Colour.RED
    due: datetime | None = None


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Tree:
    children: "list[Tree]"


@dataclass
class Positive:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise KeyError(f"{self.n} is negative")


class Verdict(TypedDict):
    ok: bool
    why: str


class Point(NamedTuple):
    x: int
    y: int


class Record(msgspec.Struct):
    n: int
    label: str | None = None


class Model(pydantic.BaseModel):
    n: int
    when: datetime | None = None


@pydantic.dataclasses.dataclass
class Checked:
    n: Annotated[int, pydantic.Field(gt=3)]


@dataclass
class Around:
    model: Model


class Opaque:
    pass


UserId = NewType("UserId", int)

FITTING: list[tuple[Any, Any, Any]] = [
    (bool, True, True),
    (int, 3, 3),
    (int, 2**80, 2**80),
    (float, 3, 3.0),
    (str, "é", "é"),
    (None, None, None),
    (int | None, None, None),
    (int | None, 0, 0),
    (int | str, "1", "1"),
    (Literal["a", "b"], "b", "b"),
    (Literal[True], True, True),
    (Literal[1], 1, 1),
    (list[int], [1, 2], [1, 2]),
    (Sequence[str], ["a"], ["a"]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[int, str], {"1": "a"}, {1: "a"}),
    (Mapping[str, bool], {"a": False}, {"a": False}),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2], {1, 2}),
    (Colour, "blue", Colour.BLUE),
    (Size, "small", Size.SMALL),
    (Mixed, "two", Mixed.TWO),
    (UserId, 7, 7),
    (Annotated[int, msgspec.Meta(gt=0)], 7, 7),
    (datetime, "2025-01-01T00:00:00Z", datetime(2025, 1, 1, tzinfo=UTC)),
    (date, "2025-01-01", date(2025, 1, 1)),
    (timedelta, "PT1H", timedelta(hours=1)),
    (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Decimal, "1.50", Decimal("1.50")),
    (Item, {"name": "a"}, Item("a")),
    (Order, {"first": {"name": "a"}, "colour": "blue"}, Order(Item("a"), [], Colour.BLUE)),
    (
        list[Order],
        [{"first": {"name": "a"}, "rest": [{"name": "b", "count": 2}]}],
        [Order(Item("a"), [Item("b", 2)])],
    ),
    (Box[int], {"content": 1}, Box(1)),
    (Tree, {"children": [{"children": []}]}, Tree([Tree([])])),
    (Verdict, {"ok": True, "why": "so"}, {"ok": True, "why": "so"}),
    (Point, [1, 2], Point(1, 2)),
    (Record, {"n": 1}, Record(1)),
    (
        Model,
        {"n": 1, "when": "2025-01-01T00:00:00Z"},
        Model(n=1, when=datetime(2025, 1, 1, tzinfo=UTC)),
    ),
    (Model | None, None, None),
    (list[Model], [{"n": 1}], [Model(n=1)]),
    (Around, {"model": {"n": 1}}, Around(Model(n=1))),
    (Checked, {"n": 4}, Checked(4)),
    (Item | Positive, {"n": 1}, Positive(1)),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, [1], [1]),
]


@pytest.mark.parametrize(("annotation", "plain", "value"), FITTING)
def test_what_fits_passes_the_schema_and_is_converted(
    annotation: Any, plain: Any, value: Any
) -> None:
    schema = schema_of(annotation)

    assert schema is not None
    Draft202012Validator.check_schema(schema)
    assert violation(plain, schema) is None
    made = from_json(plain, annotation)
    assert made == value
    assert type(made) is type(value)


MISFITS: list[tuple[Any, Any, str]] = [
    (int, True, "int"),
    (int, 1.0, "int"),
    (int, "1", "int"),
    (int, None, "int"),
    (bool, 1, "bool"),
    (str, 1, "str"),
    (float, True, "float"),
    (float, "1", "float"),
    (int | None, "x", "int"),
    (Literal["a", "b"], "c", "c"),
    (Literal[1], True, "int"),
    (list[int], [1, "x"], r"\$\[1\]"),
    (list[int], {"a": 1}, "array"),
    (Colour, "green", "green"),
    (Mixed, 2, "2|two"),
    (Annotated[int, msgspec.Meta(gt=0)], 0, "0|int"),
    (date, "soon", "date"),
    (UUID, "1", "UUID|uuid"),
    (Item, {}, "name"),
    (Item, {"name": "a", "count": "1"}, r"\$\.count"),
    (Order, {"first": {"name": 1}}, r"\$\.first\.name"),
    (Order, {"first": {"name": "a"}, "rest": [{"name": "b"}, {"name": 2}]}, r"\$\.rest\[1\]\.name"),
    (Box[int], {"content": "1"}, r"\$\.content"),
    (Verdict, {"ok": True}, "why"),
    (Point, [1], "1|2"),
    (Model, {"n": "1"}, r"\$\.n"),
    (list[Model], [{"n": 1}, {"n": 1.5}], r"\$\[1\]\.n"),
    (Around, {"model": {"n": True}}, r"\$\.model\.n"),
    (Checked, {"n": 3}, r"\$\.n"),
]


@pytest.mark.parametrize(("annotation", "plain", "words"), MISFITS)
def test_what_does_not_fit_is_refused_by_both_and_the_place_is_named(
    annotation: Any, plain: Any, words: str
) -> None:
    schema = schema_of(annotation)
    assert schema is not None
    assert violation(plain, schema) is not None

    with pytest.raises(ValueError, match=words):
        from_json(plain, annotation)


@pytest.mark.parametrize(
    "annotation", [Opaque, list[Opaque], Item | Opaque, Callable[[int], int], Never]
)
def test_some_types_have_no_schema_and_nothing_is_made_of_them(annotation: Any) -> None:
    assert schema_of(annotation) is None
    with pytest.raises(ValueError, match="is not of type"):
        from_json({"name": "a"}, annotation)


def test_without_a_schema_the_json_itself_may_fit() -> None:
    assert schema_of(str | Opaque) is None
    assert from_json("x", str | Opaque) == "x"


@pytest.mark.parametrize("annotation", [annotation for annotation, _, _ in FITTING])
def test_a_schema_is_plain_json_and_refers_only_to_itself(annotation: Any) -> None:
    text = json.dumps(schema_of(annotation), allow_nan=False)

    found: list[str] = []

    def note(node: dict[str, Any]) -> dict[str, Any]:
        found.append(node.get("$ref", "#/$defs/"))
        return node

    json.loads(text, object_hook=note)
    assert all(ref.startswith("#/$defs/") for ref in found)


def test_a_schema_is_the_callers_to_change() -> None:
    first = schema_of(Item)
    assert first is not None
    first.clear()

    assert schema_of(Item)


def test_an_annotation_need_not_be_hashable() -> None:
    assert schema_of(Annotated[int, {"not": "hashable"}]) == {"type": "integer"}


def test_a_constructor_that_raises_refuses_the_answer() -> None:
    with pytest.raises(ValueError, match="KeyError: '-1 is negative'"):
        from_json({"n": -1}, Positive)


def test_a_default_that_is_not_json_makes_no_schema() -> None:
    @dataclass
    class Odd:
        it: Any = Opaque()  # noqa: RUF009 -- the very thing

    assert schema_of(Odd) is None


def test_a_long_reason_loses_its_middle() -> None:
    reason = violation("x" * 10_000, {"type": "integer"})

    assert reason is not None
    assert len(reason) < 400
    assert reason.endswith("is not of type 'integer'")


# ---------------------------------------------------------------------------------------- violation


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1}, "set is not plain JSON"),
        ((1,), "tuple is not plain JSON"),
        ({"a": [b"x"]}, r"bytes is not plain JSON: b'x' - at `$.a[0]`"),
        ({"a": {1: 2}}, "the key 1 is not a JSON text - at `$.a`"),
        ({"\ud800": 1}, "is not a JSON text"),
        ([float("nan")], "nan is not a JSON number - at `$[0]`"),
        (float("-inf"), "-inf is not a JSON number"),
        ("\ud800", "half a character"),
        (Size.SMALL, "not plain JSON"),
        (Item("a"), "Item is not plain JSON"),
    ],
)
def test_invalid_json_fits_no_schema(value: Any, words: str) -> None:
    assert words in (violation(value, {}) or "")


def test_a_value_that_contains_itself_is_not_json() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert "nested too deeply" in (violation(endless, {}) or "")


@pytest.mark.parametrize(
    ("value", "schema", "words"),
    [
        (True, {"type": "integer"}, "True is not of type 'integer'"),
        (1.0, {"type": "integer"}, "1.0 is not of type 'integer'"),
        (1, {"enum": [True]}, "1 is not one of [True]"),
        (
            {"a": [1, "x"]},
            {"properties": {"a": {"items": {"type": "integer"}}}},
            "'x' is not of type 'integer' - at `$.a[1]`",
        ),
        ("soon", {"format": "date"}, "'soon' is not a 'date'"),
        ("soon", {"format": "date-time"}, "'soon' is not a 'date-time'"),
        (1, False, "False schema does not allow 1"),
    ],
)
def test_a_reason_says_what_and_where(value: Any, schema: Any, words: str) -> None:
    assert violation(value, schema) == words


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {}),
        (1, True),
        (1, {"type": "number"}),
        (1.5, {"type": "number"}),
        ("?", {"format": "phone"}),
    ],
)
def test_what_fits_has_no_violation(value: Any, schema: Any) -> None:
    assert violation(value, schema) is None


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"$ref": "https://schemas.example/secret"},
            "Unresolvable: https://schemas.example/secret",
        ),
        ({"$ref": "file:///etc/passwd"}, "Unresolvable: file:///etc/passwd"),
        ({"$dynamicRef": "https://schemas.example/x#y"}, "Unresolvable"),
        ({"$id": "https://schemas.example/x", "allOf": [{"$ref": "y"}]}, "Unresolvable"),
        ({"$ref": "#/$defs/Nobody"}, "/$defs/Nobody"),
        ({"$ref": "#"}, "recursion"),
        ({"type": "number of things"}, "'number of things'"),
        ({"pattern": "("}, "'('"),
        ({"multipleOf": 0}, "0"),
        ([], "[]"),
        ("integer", "'integer'"),
    ],
)
def test_a_broken_or_hostile_schema_is_a_reason(
    schema: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*args: object) -> Never:
        raise AssertionError(f"asked the network: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)

    reason = violation("text", schema)

    assert reason is not None
    assert "its schema cannot be used" in reason
    assert words in reason
    assert "asked the network" not in reason


# ------------------------------------------------------------------------------- what is not loaded

_SCRIPT = """
import json, sys
from dataclasses import dataclass
from enum import Enum

from supersteps.typing.schema import from_json, schema_of

class Mixed(Enum):
    ONE = 1
    TWO = "two"

@dataclass
class Item:
    n: int

assert from_json({"n": 1}, schema_of(Item) and Item) == Item(1)
before = schema_of(Mixed)
loaded = sorted({"jsonschema", "pydantic", "referencing"} & sys.modules.keys())
import pydantic
print(json.dumps([before, loaded, schema_of(Mixed)["enum"]]))
"""


def test_jsonschema_is_loaded_for_a_check_and_pydantic_never() -> None:
    fresh = subprocess.run(
        [sys.executable, "-I", "-c", _SCRIPT], capture_output=True, text=True, check=False
    )

    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(fresh.stdout) == [None, [], [1, "two"]]
