"""What the schema of an answer lets through can be converted and saved; nobody finds out later."""

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pydantic
import pytest

from supersteps.checkpoint.codec.codec import Codec
from supersteps.cli.typed_value import example, sample, understand
from supersteps.typing.schema import from_json, schema_of, violation
from tests.unit.values_of_libraries import (
    FIELD_MODELS,
    Access,
    Bits,
    Frozen,
    Level,
    Page,
    Pair,
    Planet,
    Row,
    Tags,
    Word,
    Zoo,
)


class Sparse(enum.Flag):
    LOW = 1
    HIGH = 8


class Mixed(enum.Enum):
    ONE = 1
    B = "b"
    NONE = None


class Post(pydantic.BaseModel):
    access: Access = Access.READ
    at: datetime | None = None
    names: dict[int, Decimal] = {}


class Struct(msgspec.Struct, tag="s"):
    at: datetime
    data: bytes = b""
    keys: dict[date, int] = {}


ANNOTATIONS: dict[str, Any] = {
    **{
        kind.__name__: kind
        for kind in (
            *(int, float, bool, str, bytes, bytearray, Decimal, UUID, date, datetime, time),
            *(timedelta, Fraction, complex, Path, IPv4Address, Access, Bits, Sparse, Level, Word),
            *(Mixed, Planet, Pair, Row, Frozen, Tags, Zoo, Post, Struct),
        )
    },
    **{
        str(kind): kind
        for kind in (
            *(list[int], set[date], frozenset[str], tuple[int, str], tuple[datetime, ...]),
            *(dict[str, int], dict[int, str], dict[date, int], dict[UUID, int], dict[Level, int]),
            *(dict[Word, int], dict[bool, int], dict[float, int], dict[Decimal, int]),
            *(dict[Literal[1, "x"], int], dict[int | str, int], deque[int], Counter[str]),
            *(defaultdict[str, int], OrderedDict[str, list[bytes]], int | None, int | str),
            *(datetime | int, datetime | date, Literal["x", 1, None], type[int], list[Access]),
            *(Page[Word], pydantic.AwareDatetime, pydantic.HttpUrl, pydantic.IPvAnyAddress),
            *(dict[pydantic.HttpUrl, IPv4Address], pydantic.ByteSize, pydantic.SecretStr),
            *(pydantic.FutureDate, pydantic.Base64Bytes, Any, None, msgspec.Raw),
        )
    },
    "constrained int": Annotated[int, msgspec.Meta(gt=3, multiple_of=2)],
    "constrained text": Annotated[str, msgspec.Meta(pattern="^a", min_length=2)],
    "aware": Annotated[datetime, msgspec.Meta(tz=True)],
    "naive": Annotated[datetime, msgspec.Meta(tz=False)],
    "constrained keys": dict[Annotated[str, msgspec.Meta(pattern="^a")], int],
    **{f"field {name}": model for name, model in FIELD_MODELS.items()},
}

# Whether bytes are text shows only when they are decoded; the process that has the type asks it.
del ANNOTATIONS["field Base64UrlStr"]

TEXTS = (
    *(
        "",
        "text",
        " 1 ",
        "1",
        "-0",
        "1.5",
        "1e5",
        "NaN",
        "Infinity",
        "1_000",
        "3MB",
        "1 day",
        "true",
    ),
    *(
        "2025-06-01",
        "2025-02-30",
        "20250601",
        "2025-W01-1",
        "2025-06-01T09:00",
        "1+1j",
        "j",
        "null",
    ),
    *(
        "2025-06-01T09:00:00",
        "2025-06-01T09:00:00Z",
        "2025-06-01 09:00:00+02:00",
        "2025-06-01t09:00:00z",
    ),
    *("2025-06-01T24:00:00Z", "2025-06-30T23:59:60Z", "2025-06-01T09:00:00.1234567Z"),
    *("9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "2025-06-01T09:00:00+0200"),
    *("10:00", "10:00:00", "10:00:00Z", "10:00:00+05:30", "PT1H", "P1D", "P1Y", "-PT1H", "1:00:00"),
    *("a@b.com", "a@b", "name <a@b.com>", "https://example.org", "http://x", "http://", "//x"),
    *(
        "https://exa mple.org",
        "x://y",
        "ftp://a/b",
        "file:///a",
        "postgres://u:p@h/db",
        "postgres://",
    ),
    *(
        "redis://h:1/0",
        "mailto:a@b",
        "10.0.0.1",
        "10.0.0.256",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "fe80::1",
    ),
    *("fe80::1%eth0", "::/0", "aGk=", "aGk", "a+", "(", "[", '{"a":1}', "[1]", "yes", "EARTH", "A"),
    *("9b2b7ef8-6cb8-4bc1-a37e-6ba0f3f3a3b5", "9B2B7EF86CB84BC1A37E6BA0F3F3A3B5", "\0", "ü", "ab"),
)
NUMBERS = (0, 1, -1, 2, 3, 4, 8, 9, 2**31, 2**64, 10**400, 1.0, 1.5, -0.5, 1e300, 1748768400)
OTHERS: tuple[Any, ...] = (
    *(None, True, False, [], [1], ["a"], [1, 1], [None], {}, {"a": 1}, {"kind": "cat"}),
    *([1, "a"], ["https://a/"], {"pets": [{"kind": "dog"}]}, [[1]], [{}]),
)
POOL: tuple[Any, ...] = (*TEXTS, *NUMBERS, *OTHERS)


def candidates(schema: Any) -> Iterator[Any]:
    """Yield JSON of all sorts, also as items, keys, and fields of what the schema describes."""
    yield from POOL
    whole = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "items" in whole or "prefixItems" in whole:
        yield from ([item] for item in POOL)
    if "propertyNames" in whole or "additionalProperties" in whole:
        yield from ({key: value} for key in TEXTS for value in (1, "10.0.0.1"))
    for name in whole.get("properties", {}):
        given = {"at": "2025-06-01T09:00:00Z", "type": "s"} if name in ("data", "keys") else {}
        yield from (given | {name: value} for value in POOL)


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_what_the_schema_lets_through_is_converted_and_saved(name: str) -> None:
    annotation = ANNOTATIONS[name]
    schema = schema_of(annotation)
    if schema is None:
        return  # only the workflow itself takes the answer
    codec = Codec([annotation])
    taken = 0
    for value in candidates(schema):
        if violation(value, schema) is None:
            codec.encode(from_json(value, annotation))
            taken += 1
    assert taken or not {"enum", "$defs"}.isdisjoint(str(schema).split("'"))


WITHOUT = ("Planet", "type[int]", "field class", "field FilePath", "field PastDatetime")


def test_what_nobody_can_check_without_the_type_has_no_schema() -> None:
    for name in WITHOUT:
        assert schema_of(ANNOTATIONS[name]) is None, name
    for annotation in (pydantic.SecretStr, pydantic.FutureDate, msgspec.Raw):
        assert schema_of(annotation) is None


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_examples_that_are_proposed_are_accepted(name: str) -> None:
    annotation = ANNOTATIONS[name]
    schema = schema_of(annotation)
    if schema is None:
        return
    proposed = sample(schema)
    if proposed is not None:
        value = understand(proposed, schema).value
        assert violation(value, schema) is None
        from_json(value, annotation)
    assert proposed is not None or example(schema) in ("VALUE", "NUMBER"), schema


def test_combined_flags_are_answers() -> None:
    assert from_json(3, Access) is Access.READ | Access.WRITE
    assert from_json(9, Sparse) == Sparse.LOW | Sparse.HIGH
    assert from_json({"access": 3}, Post).access is Access.ALL
    for value in (4, -1, 2, "1", 1.0, True):
        assert violation(value, schema_of(Sparse)) is not None
    with pytest.raises(ValueError, match="4"):
        from_json(4, Access)
