"""What people type, as the value that a workflow takes."""

import dataclasses
import enum
from datetime import date
from typing import Any, Literal

import pydantic
import pytest

from supersteps import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler
from supersteps.service.errors import InputError
from supersteps.service.inputs import read_input, read_json, read_value


@dataclasses.dataclass
class Order:
    article: str
    count: int = 1


class Address(pydantic.BaseModel):
    city: str
    zip: int = pydantic.Field(ge=0)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def taking(*kinds: Any) -> Workflow:
    """A workflow whose start has a handler for each kind."""

    def method(number: int, kind: Any) -> Any:
        async def take(self: Any, message: Any, ctx: Any) -> None: ...

        take.__name__ = f"take_{number}"
        take.__annotations__ = {"message": kind, "ctx": WorkflowContext, "return": None}
        return handler(take)

    methods = {f"take_{number}": method(number, kind) for number, kind in enumerate(kinds)}
    start = type("Start", (Executor,), methods)("start")
    return WorkflowBuilder(name="taking").set_start_executor(start).build()


@pytest.mark.parametrize(
    ("kinds", "text", "value"),
    [
        ([str], "tides", "tides"),
        ([str], '"tides"', "tides"),
        ([str], '"ti\\ndes"', "ti\ndes"),
        ([str], "5", "5"),
        ([str], "null", "null"),
        ([str], '{"a": 1}', '{"a": 1}'),
        ([str], "", ""),
        ([str], "NaN", "NaN"),
        ([int], "5", 5),
        ([int], " -5 ", -5),
        ([float], "5", 5),
        ([bool], "true", True),
        ([list[int]], "[1, 2]", [1, 2]),
        ([dict[str, int]], '{"a": 1}', {"a": 1}),
        ([Order], '{"article": "lamp", "count": 2}', Order("lamp", 2)),
        ([Order], '{"article": "lamp"}', Order("lamp")),
        ([list[Order]], '[{"article": "lamp"}]', [Order("lamp")]),
        ([Address], '{"city": "Bonn", "zip": 53111}', Address(city="Bonn", zip=53111)),
        ([Order | None], "null", None),
        ([Any], '{"a": [1]}', {"a": [1]}),
        ([Any], "plain words", "plain words"),
        ([str, int], "5", 5),
        ([str, int], "five", "five"),
        ([str, Order], '{"article": "lamp"}', Order("lamp")),
        ([int | str], "5", 5),
        ([int | str], "five", "five"),
        ([int | str], '"5"', "5"),
        ([date], "2025-01-31", date(2025, 1, 31)),
        ([date], '"2025-01-31"', date(2025, 1, 31)),
        ([Size], "small", Size.SMALL),
        ([Literal["fast", "slow"]], "fast", "fast"),
    ],
)
def test_what_is_typed(kinds: list[Any], text: str, value: Any) -> None:
    found = read_input(taking(*kinds), text)

    assert found == value
    assert type(found) is type(value) or isinstance(found, float)


@pytest.mark.parametrize(
    ("kinds", "value"), [([str], ""), ([None], None), ([Order | None], None), ([Any], None)]
)
def test_no_input(kinds: list[Any], value: Any) -> None:
    assert read_input(taking(*kinds), None) == value


@pytest.mark.parametrize(
    ("kinds", "text", "complaint"),
    [
        ([int], "five", "takes int, and 'five' does not fit: as int: this is not valid JSON"),
        ([int], "5.5", "Expected `int`, got `float`"),
        ([int], '"5"', "Expected `int`, got `str`"),
        ([int], "", "and '' does not fit"),
        ([int], None, "takes int, and no input was given"),
        ([bool], "1", "Expected `bool`, got `int`"),
        ([float], "NaN", "NaN is not a JSON number"),
        ([float], "-Infinity", "-Infinity is not a JSON number"),
        ([float], "1e999", "1e999 is too large a number"),
        ([int], "9" * 5000, "this is not valid JSON"),
        ([Order], '{"count": 2}', "missing required field `article`"),
        ([Order], '{"article": 3}', "Expected `str`, got `int` - at `$.article`"),
        ([Order], "{'article': 3}", "this is not valid JSON"),
        ([Address], '{"city": "Bonn", "zip": -1}', "at `$.zip`"),
        ([int, Order], "x", "takes int or "),
        ([Size], "medium", "and 'medium' does not fit"),
        ([list[Any]], "[" * 100_000, "the JSON is nested too deeply"),
    ],
)
def test_an_input_that_fits_no_type_is_refused(
    kinds: list[Any], text: str | None, complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_input(taking(*kinds), text)

    message = str(caught.value)
    assert "the start executor 'start' of workflow 'taking' takes" in message
    assert complaint in message
    assert len(message) < 1500


def test_what_is_wanted_comes_with_the_error() -> None:
    with pytest.raises(InputError) as caught:
        read_input(taking(Order), "lamp")

    (schema,) = caught.value.schemas
    assert "article" in str(schema)
    assert "Schema" not in str(caught.value)


def test_json() -> None:
    assert read_json('{"a": [1, 2.5, null, true]}') == {"a": [1, 2.5, None, True]}
    for text in ("", "{", "NaN", "[Infinity]", "1e400", "nul", "\x00"):
        with pytest.raises(InputError, match="this is not valid JSON"):
            read_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("true", True),
        ('"true"', "true"),
        ("", ""),
        ("NaN", "NaN"),
        ("[1]", [1]),
        ("[1", "[1"),
    ],
)
def test_an_answer_is_json_or_text(text: str, value: Any) -> None:
    assert read_value(text) == value
