"""Answers as they are typed: what they mean, and asking until they fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import click
import msgspec
import pytest

from supersteps.cli.prompt import Terminal
from supersteps.cli.questionnaire import Asker
from supersteps.cli.schema_text import in_words
from supersteps.cli.typed_value import Understood, example, sample, understand
from supersteps.service.errors import InputError
from supersteps.typing.schema import schema_of


@dataclass
class Address:
    street: str
    zip: int


@dataclass
class Verdict:
    approved: bool
    reason: str = ""
    level: Literal["low", "high"] = "low"
    more: int | None = None


@dataclass
class Order:
    address: Address
    tags: list[str]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Person:
    """Types what it is told, and notes what it is shown."""

    def __init__(self, *typed: str | BaseException) -> None:
        self.typed: Iterator[str | BaseException] = iter(typed)
        self.prompts: list[str] = []
        self.seen: list[str] = []

    def read(self, prompt: str) -> str:
        self.prompts.append(prompt)
        said = next(self.typed, EOFError())
        if isinstance(said, BaseException):
            raise said
        return said

    @property
    def terminal(self) -> Terminal:
        return Terminal(self.read, self.seen.append)


def ask(annotation: Any, *typed: str) -> tuple[Any, Person]:
    person = Person(*typed)
    value = Asker(schema_of(annotation), person.terminal).ask()
    assert next(person.typed, None) is None, "something was not asked for"
    return value, person


# ------------------------------------------------------------------------------------ understanding


@pytest.mark.parametrize(
    ("annotation", "text", "value", "how"),
    [
        (str, "fine", "fine", "text"),
        (str, "42", "42", "text"),
        (str, "true", "true", "text"),
        (str, '"quoted"', "quoted", "text"),
        (str, '{"a": 1}', '{"a": 1}', "text"),
        (str, "", "", "text"),
        (int, "42", 42, "JSON"),
        (bool, "true", True, "JSON"),
        (int | str, "42", 42, "JSON"),
        (int | str, "some", "some", "text"),
        (str | None, "null", None, "JSON"),
        (str | None, "42", "42", "text"),
        (Literal["1", "2"], "1", "1", "text"),
        (Color, "red", "red", "text"),
        (Any, "[1]", [1], "JSON"),
        (Any, "words", "words", "text"),
        (list[int], "[1, 2]", [1, 2], "JSON"),
        (Verdict, '{"approved": true}', {"approved": True}, "JSON"),
    ],
)
def test_what_is_typed_is_understood(annotation: Any, text: str, value: Any, how: str) -> None:
    assert understand(text, schema_of(annotation)) == Understood(value, how)


def test_invalid_json_where_no_text_fits_names_the_expected_type() -> None:
    with pytest.raises(InputError, match=r"'maybe' does not fit. Expected: true or false"):
        understand("maybe", schema_of(bool))


def test_json_that_does_not_fit_is_parsed_anyway() -> None:
    assert understand("3", schema_of(bool)).value == 3


@pytest.mark.parametrize(
    ("annotation", "typed"),
    [
        (str, "some text"),
        (int, "0"),
        (bool, "true"),
        (date, "2030-12-31"),
        (Literal["a", "b"], "a"),
        (list[int], "[0]"),
        (Verdict, '{"approved": true}'),
        (Annotated[str, msgspec.Meta(pattern="^[0-9]{5}$")], None),
    ],
)
def test_an_example_that_fits(annotation: Any, typed: str | None) -> None:
    assert sample(schema_of(annotation)) == typed


# ----------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("annotation", "words", "typed"),
    [
        (str, "text", "'some text'"),
        (bool, "true or false", "'true|false'"),
        (int, "a whole number", "NUMBER"),
        (float, "a number", "NUMBER"),
        (Literal["a", "b"], "one of: a, b", "'a|b'"),
        (Literal["a"], 'only "a"', "a"),
        (int | None, "a whole number or nothing (null)", "0"),
        (list[int], "a list, each item a whole number", "'[0]'"),
        (dict[str, int], "an object whose values are a whole number", "'{}'"),
        (Any, "any JSON", "VALUE"),
        (
            Verdict,
            "an object with approved (true or false), reason (optional: text), level (optional: "
            "one of: high, low), more (optional: a whole number or nothing (null))",
            """'{"approved": true}'""",
        ),
        (
            Order,
            "an object with address (an object with street (text), zip (a whole number)), tags "
            "(a list, each item text)",
            """'{"address": {"street": "some text", "zip": 0}, "tags": ["some text"]}'""",
        ),
    ],
)
def test_a_schema_in_words_and_an_example(annotation: Any, words: str, typed: str) -> None:
    schema = schema_of(annotation)

    assert in_words(schema) == words
    assert example(schema) == typed


def test_limits_are_shown() -> None:
    assert (
        in_words({"type": "integer", "minimum": 1, "maximum": 5})
        == "a whole number (at least 1, at most 5)"
    )
    assert in_words({"type": "string", "format": "date"}) == "a date (2030-12-31)"
    assert in_words({"type": ["string", "null"]}) == "text or nothing (null)"


def test_a_schema_that_refers_to_itself_has_words() -> None:
    tree = {
        "$ref": "#/$defs/T",
        "$defs": {"T": {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}},
    }

    assert in_words(tree).startswith("an object with next (optional: an object with next")
    assert in_words({"$ref": "#/$defs/nowhere"}) == "any JSON"


# ------------------------------------------------------------------------------------------- asking


def test_yes_and_no() -> None:
    assert ask(bool, "y")[0] is True
    value, person = ask(bool, "maybe", "", "No")
    assert value is False
    assert person.prompts[0] == "answer (y/n): "
    assert person.seen[0] == "  type y or n"
    assert "an answer is required" in person.seen[1]


@pytest.mark.parametrize("typed", ["2", "high", "h", "H"])
def test_choices_are_numbered(typed: str) -> None:
    value, person = ask(Literal["alpha", "high", "low"], typed)

    assert value == "high"
    assert person.seen == ["answer:", "  1  alpha", "  2  high", "  3  low"]


def test_choices_that_are_numbers_are_typed_themselves() -> None:
    value, person = ask(Literal[3, 7], "1", "7")

    assert value == 7
    assert person.prompts[0] == "answer (one of: 3, 7): "


def test_a_number_is_asked_for_again_until_it_is_one() -> None:
    value, person = ask(int, "many", "1.5", "7")

    assert value == 7
    assert person.seen == ["  'many' is not a number", "  1.5 is not of type 'integer'"]


def test_limits_hold() -> None:
    person = Person("0", "2")

    assert Asker({"type": "integer", "minimum": 1}, person.terminal).ask() == 2
    assert person.seen == ["  0 is less than the minimum of 1"]


def test_text_is_taken_as_it_is_and_never_empty_by_mistake() -> None:
    assert ask(str, "", "42")[0] == "42"
    assert ask(str, '""')[0] == ""


def test_an_object_is_asked_for_field_by_field() -> None:
    value, person = ask(Verdict, "y", "", "2", "")

    assert value == {"approved": True, "level": "low"}  # msgspec sorts the choices: high, low
    assert person.prompts == [
        "approved (y/n): ",
        'reason (text; Enter for ""): ',
        'level (number or name; Enter for "low"): ',
        "more (a whole number or nothing (null); Enter for null): ",
    ]


def test_objects_in_objects_and_lists() -> None:
    value, person = ask(Order, "Main St", "x", "12", "none", '["a", "b"]')

    assert value == {"address": {"street": "Main St", "zip": 12}, "tags": ["a", "b"]}
    assert person.prompts[0] == "address.street (text): "
    assert person.prompts[-1] == "tags (a list, each item text, as JSON): "


def test_anything_is_json_or_text() -> None:
    assert ask(Any, '{"a": 1}')[0] == {"a": 1}
    assert ask(Any, "hello")[0] == "hello"


def test_what_fits_field_by_field_and_not_as_a_whole_is_asked_for_again() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "minProperties": 1}
    person = Person("", "1")

    assert Asker(schema, person.terminal).ask() == {"a": 1}
    assert "does not fit" in person.seen[0]


@pytest.mark.parametrize("leaving", [EOFError(), KeyboardInterrupt()])
def test_leaving(leaving: BaseException) -> None:
    person = Person("y", leaving)

    with pytest.raises(click.Abort):
        Asker(schema_of(Verdict), person.terminal).ask()
