"""Asking a person for a value: what is wanted in words, what was typed as a value, again until it fits."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from supersteps.cli.terminal import echo, shown
from supersteps.service.errors import InputError
from supersteps.service.inputs import read_json
from supersteps.typing.schema import violation

_DEEPEST = 3
"""Objects inside objects that are asked for field by field; what is deeper is asked for as JSON."""
_YES = ("y", "yes", "true")
_NO = ("n", "no", "false")
_MISSING: Any = object()


# ----------------------------------------------------------------------------------------- terminal


def _read(prompt: str) -> str:
    """Read a line; Ctrl-C ends the wait at once, also inside an event loop, which would only take note of it."""
    if threading.current_thread() is not threading.main_thread():
        return input(prompt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(prompt)
    finally:
        signal.signal(signal.SIGINT, before)


def _write(text: str) -> None:
    echo(text, err=True)


@dataclass(frozen=True)
class Terminal:
    """Where a person reads and types, a line at a time.

    Attributes:
        reader: Shows a prompt and returns what was typed; raises EOFError or KeyboardInterrupt
            where nothing will come.
        write: Shows a line, on stderr: stdout is for results.
    """

    reader: Callable[[str], str] = _read
    write: Callable[[str], None] = _write

    def read(self, prompt: str) -> str:
        """Return what a person types, without the space around it.

        Raises:
            click.Abort: The person has left.
        """
        try:
            return self.reader(shown(prompt)).strip()
        except (EOFError, KeyboardInterrupt):
            self.write("")
            raise click.Abort from None


# --------------------------------------------------------------------------------- schemas in words


def resolve(schema: Any, root: Any) -> dict[str, Any]:
    """Return a schema with its reference followed; a reference that leads nowhere leaves `{}`."""
    for _ in range(20):
        if not isinstance(schema, dict) or "$ref" not in schema:
            break
        found: Any = root
        for name in str(schema["$ref"]).removeprefix("#").split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "$defs")}
        schema = {**found, **beside} if isinstance(found, dict) else beside
    return schema if isinstance(schema, dict) else {}


def choices(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values to choose from, None where it is no choice."""
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return list(found) if isinstance(found, list) and found else None


def alternatives(schema: Mapping[str, Any]) -> list[Any]:
    """Return the schemas of which one has to fit; none where there is only this one."""
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and schema[name]:
            return list(schema[name])
    kinds = schema.get("type")
    return [{**schema, "type": kind} for kind in kinds] if isinstance(kinds, list) else []


_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing (null)",
}
_FORMATS = {
    "date": "a date (2030-12-31)",
    "time": "a time of day (18:30:00)",
    "date-time": "a date and time (2030-12-31T18:30:00Z)",
    "duration": "a duration (PT90S, P2D)",
    "uuid": "a UUID",
    "decimal": "a decimal number, as text",
    "email": "an e-mail address",
    "uri": "a URI",
}
_SAMPLES = {
    "date": ("2030-12-31",),
    "time": ("18:30:00", "18:30:00Z"),
    "date-time": ("2030-12-31T18:30:00Z", "2030-12-31T18:30:00"),
    "duration": ("PT90S",),
    "uuid": ("12345678-1234-4234-8234-123456789abc",),
    "decimal": ("12.50",),
    "complex": ("1+2j",),
    "email": ("name@example.org",),
    "name-email": ("name@example.org",),
    "uri": ("https://example.org", "file:///tmp/file", "ftp://example.org", "redis://host:6379/0"),
    "multi-host-uri": ("postgres://user@host/db", "mongodb://host/db"),
    "ipv4": ("192.0.2.1",),
    "ipv6": ("2001:db8::1",),
    "ipv4network": ("192.0.2.0/24",),
    "ipv6network": ("2001:db8::/32",),
    "ipv4interface": ("192.0.2.1/24",),
    "ipv6interface": ("2001:db8::1/32",),
    "ipvanyaddress": ("192.0.2.1",),
    "ipvanynetwork": ("192.0.2.0/24",),
    "ipvanyinterface": ("192.0.2.1/24",),
    "regex": ("a+",),
    "json-string": ("{}",),
    "base64": ("dGV4dA==",),
    "base64url": ("dGV4dA==",),
}
_TEXTS = ("some text", "text", "a", "A", "1", "12.50", "dGV4dA==", "")
"""Tried in this order where a text has no format, or its format no samples."""
_LIMITS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "matching {}"),
    ("minItems", "at least {} of them"),
    ("maxItems", "at most {} of them"),
)


def in_words(schema: Any, root: Any = None, depth: int = 0) -> str:
    """Return what fits a schema, in words.

    Args:
        schema: A JSON Schema.
        root: The schema that it is a part of; itself when None.
        depth: How deep inside of that it is.
    """
    root = schema if root is None else root
    schema = resolve(schema, root)
    options = choices(schema)
    if options is not None:
        shown = ", ".join(item if isinstance(item, str) else json.dumps(item) for item in options)
        return f"one of: {shown}" if len(options) > 1 else f"only {json.dumps(options[0])}"
    several = alternatives(schema)
    if several:
        return " or ".join(dict.fromkeys(in_words(one, root, depth) for one in several))
    kind = schema.get("type")
    limits = ", ".join(text.format(schema[name]) for name, text in _LIMITS if name in schema)
    if kind == "array":
        items = schema.get("items")
        words = f"a list, each of them {in_words(items, root, depth + 1)}" if items else "a list"
    elif kind == "object":
        words = _object_in_words(schema, root, depth)
    elif kind == "string":
        words = _FORMATS.get(schema.get("format", ""), "text")
    else:
        words = _KINDS.get(str(kind), "any JSON")
    return f"{words} ({limits})" if limits else words


def _object_in_words(schema: Mapping[str, Any], root: Any, depth: int) -> str:
    fields = schema.get("properties") or {}
    if not fields or depth >= _DEEPEST:
        values = schema.get("additionalProperties")
        inner = (
            f" whose values are {in_words(values, root, depth + 1)}"
            if isinstance(values, dict) and values
            else ""
        )
        return f"an object{inner}"
    required = schema.get("required", ())
    told = []
    for name, field in fields.items():
        words = in_words(field, root, depth + 1)
        told.append(f"{name} ({words})" if name in required else f"{name} (optional: {words})")
    return f"an object with {', '.join(told)}"


def example(schema: Any) -> str:
    """Return what could be typed on a command line as an answer; `VALUE` where that takes some thought.

    A shell takes it as one word, also where it names several answers to choose from.
    """
    resolved = resolve(schema, schema)
    options = choices(resolved)
    if options is not None:
        return shlex.quote("|".join(_typed(option) for option in options[:6]))
    match resolved.get("type"):
        case "boolean":
            return "'true|false'"
        case "integer" | "number":
            return "NUMBER"
    found = sample(schema) if resolved else None
    return "VALUE" if found is None else shlex.quote(found)


def sample(schema: Any) -> str | None:
    """Return an example of what fits a schema, as it could be typed; None where none can be made up."""
    value = _sample(resolve(schema, schema), schema, 0)
    if violation(value, schema) is not None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        return text if understand(text, schema).value == value else json.dumps(value)
    except InputError:
        return None


def _sample(schema: Any, root: Any, depth: int) -> Any:
    """Return something of the right shape: what is required, with values to be replaced."""
    schema = resolve(schema, root)
    options = choices(schema)
    if options is not None:
        return options[0]
    several = alternatives(schema)
    if several:
        return _sample(several[0], root, depth + 1) if depth < _DEEPEST else None
    match schema.get("type"):
        case "boolean":
            return True
        case "integer" | "number":
            return _sample_number(schema)
        case "array":
            return _sample_list(schema, root, depth) if depth < _DEEPEST else []
        case "object":
            return _sample_object(schema, root, depth) if depth <= _DEEPEST else {}
        case "string":
            texts = (*_SAMPLES.get(schema.get("format", ""), ()), *_TEXTS)
            return next((text for text in texts if violation(text, schema) is None), "text")
    return None


def _sample_number(schema: Mapping[str, Any]) -> Any:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    most = schema.get("maximum", schema.get("exclusiveMaximum", least))
    step = schema.get("multipleOf", 1)
    tried = (0, step, least, least + step, least - least % step + step, most, most - step)
    return next((number for number in tried if violation(number, schema) is None), least)


def _sample_list(schema: Mapping[str, Any], root: Any, depth: int) -> list[Any]:
    first = [_sample(item, root, depth + 1) for item in schema.get("prefixItems", ())]
    if len(first) >= schema.get("minItems", 1) or not schema.get("items"):
        return first
    item = _sample(schema["items"], root, depth + 1)
    missing = max(schema.get("minItems", 1), 1) - len(first)
    return [*first, *([item] * min(missing, schema.get("maxItems", missing)))]


def _sample_object(schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
    fields = schema.get("properties", {})
    # One that can only have one value tells which alternative this is.
    needed = [name for name, field in fields.items() if "const" in field]
    names = dict.fromkeys([*schema.get("required", ()), *needed])
    return {name: _sample(fields.get(name, {}), root, depth + 1) for name in names}


def _typed(option: Any) -> str:
    return option if isinstance(option, str) else json.dumps(option)


def only_text(schema: Any) -> bool:
    """Return whether nothing but text fits a schema."""
    resolved = resolve(schema, schema)
    options = choices(resolved)
    if options is not None:
        return all(isinstance(option, str) for option in options)
    return resolved.get("type") == "string"


# ----------------------------------------------------------------------------------- what was typed


@dataclass(frozen=True)
class Understood:
    """What a typed answer means.

    Attributes:
        value: The value, plain JSON.
        how: In which way it was read: "text" or "JSON".
    """

    value: Any
    how: str

    def __str__(self) -> str:
        return f"{json.dumps(self.value, ensure_ascii=False)} ({self.how})"


def understand(text: str, schema: Any) -> Understood:
    """Return the value that was typed as an answer.

    Where only text fits, everything is text; quotes around all of it are taken off, as JSON has
    them. Else it is JSON, and text where JSON does not fit and text does.

    Args:
        text: What was typed.
        schema: JSON Schema of the answer.

    Raises:
        InputError: It is neither JSON nor text that fits.
    """
    try:
        value = read_json(text)
    except InputError as error:
        reason: str | None = str(error)
        value = _MISSING
    else:
        reason = violation(value, schema)
    if only_text(schema):
        return Understood(value if isinstance(value, str) else text, "text")
    if reason is None:
        return Understood(value, "JSON")
    if violation(text, schema) is None:
        return Understood(text, "text")
    if value is _MISSING:
        shown = text if len(text) <= 80 else text[:79] + "…"
        raise InputError(
            f"{shown!r} does not fit. Wanted: {in_words(schema)}. "
            f"{reason[:1].upper()}{reason[1:].removesuffix('.')}."
        )
    return Understood(value, "JSON")  # whoever takes it says what is wrong with it


# ------------------------------------------------------------------------------------------- asking


class Asker:
    """Asks a person until the answer fits.

    Args:
        schema: JSON Schema of the answer.
        terminal: Where the person is.
    """

    def __init__(self, schema: Any, terminal: Terminal) -> None:
        self._schema = schema
        self._terminal = terminal

    def ask(self) -> Any:
        """Return an answer that fits.

        Raises:
            click.Abort: The person has left.
        """
        while True:
            value = self._ask(self._schema, "answer", 0)
            reason = violation(value, self._schema)
            if reason is None:
                return value
            self._terminal.write(
                f"that does not fit: {reason.removesuffix('.')}. Once more, please."
            )

    def _ask(self, schema: Any, name: str, depth: int) -> Any:
        """Return a value for a schema that has to have one."""
        schema = resolve(schema, self._schema)
        if schema.get("type") == "object" and schema.get("properties") and depth < _DEEPEST:
            return self._ask_fields(schema, name, depth)
        return self._ask_line(schema, name, is_required=True)

    def _ask_fields(self, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        found = {}
        for field, inner in schema["properties"].items():
            place = field if not depth else f"{name}.{field}"
            if field in required:
                found[field] = self._ask(inner, place, depth + 1)
                continue
            value = self._ask_line(resolve(inner, self._schema), place, is_required=False)
            if value is not _MISSING:
                found[field] = value
        return found

    def _ask_line(self, schema: dict[str, Any], name: str, *, is_required: bool) -> Any:
        """Ask for one value on one line until it fits; return `_MISSING` where it is left out."""
        numbered = self._show_choices(schema, name)
        prompt = (
            f"{name} "
            f"({self._wanted(schema, is_required=is_required, is_numbered=bool(numbered))}): "
        )
        if schema.get("description"):
            self._terminal.write(f"  {schema['description']}")
        while True:
            typed = self._terminal.read(prompt)
            if not typed:
                if not is_required:
                    return _MISSING
                self._terminal.write(
                    '  an answer is needed; type "" for an empty text, Ctrl-C to leave'
                )
                continue
            try:
                value = self._read(typed, schema, numbered)
            except InputError as error:
                self._terminal.write(f"  {error}")
                continue
            reason = violation(value, self._inside(schema))
            if reason is None:
                return value
            self._terminal.write(f"  {reason}")

    def _show_choices(self, schema: dict[str, Any], name: str) -> list[Any]:
        """Show what can be chosen, with numbers where numbers are no choices themselves."""
        options = choices(schema) or []
        if len(options) < 2 or any(isinstance(option, int | float) for option in options):
            return []
        self._terminal.write(f"{name}:")
        for number, option in enumerate(options, 1):
            self._terminal.write(
                f"  {number}  {option if isinstance(option, str) else json.dumps(option)}"
            )
        return options

    def _wanted(self, schema: dict[str, Any], *, is_required: bool, is_numbered: bool) -> str:
        words = "number or name" if is_numbered else in_words(schema, self._schema)
        if schema.get("type") == "boolean":
            words = "y/n"
        elif schema.get("type") in ("array", "object") or words == "any JSON":
            words += ", as JSON" if words != "any JSON" else ""
        if is_required:
            return words
        if "default" in schema:
            shown = schema["default"]
            shown = (
                ("y" if shown else "n")
                if isinstance(shown, bool)
                else json.dumps(shown, ensure_ascii=False)
            )
            return f"{words}; Enter for {shown}"
        return f"{words}; optional, Enter to leave it out"

    def _read(self, typed: str, schema: dict[str, Any], numbered: list[Any]) -> Any:
        if numbered:
            names = {
                option if isinstance(option, str) else json.dumps(option): option
                for option in numbered
            }
            if typed in names:
                return names[typed]
            if typed.isdecimal() and 1 <= int(typed) <= len(numbered):
                return numbered[int(typed) - 1]
            beginning = [
                option for name, option in names.items() if name.lower().startswith(typed.lower())
            ]
            if len(beginning) == 1:
                return beginning[0]
            raise InputError(f"type a number from 1 to {len(numbered)}, or one of the names")
        if schema.get("type") == "boolean":
            if typed.lower() in (*_YES, *_NO):
                return typed.lower() in _YES
            raise InputError("type y or n")
        inside = self._inside(schema)
        try:
            return understand(typed, inside).value
        except InputError as error:
            if schema.get("type") in ("integer", "number"):
                raise InputError(f"{typed!r} is no number") from error
            raise

    def _inside(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a part of the schema by itself: what it refers to comes along."""
        whole = self._schema if isinstance(self._schema, dict) else {}
        return {**({"$defs": whole["$defs"]} if "$defs" in whole else {}), **schema}
