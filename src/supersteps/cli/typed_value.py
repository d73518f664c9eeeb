"""Values as users type them: parsing them, and examples of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supersteps.cli.schema_text import DEEPEST, alternatives, choices, in_words, only_text, resolve
from supersteps.service.errors import InputError
from supersteps.service.inputs import read_json
from supersteps.typing.schema import violation

_MISSING: Any = object()
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
"""Sample texts, tried in this order if a text has no format, or its format no samples."""


@dataclass(frozen=True)
class Understood:
    """The value of a typed answer.

    Attributes:
        value: The value, plain JSON.
        how: How it was read: "text" or "JSON".
    """

    value: Any
    how: str

    def __str__(self) -> str:
        return f"{json.dumps(self.value, ensure_ascii=False)} ({self.how})"


def understand(text: str, schema: Any) -> Understood:
    """Parse an answer that a user typed.

    If only text fits the schema, everything is text, and enclosing JSON quotes are removed.
    Otherwise it is read as JSON, or as text if JSON does not fit and text does.

    Args:
        text: The typed text.
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
            f"{shown!r} does not fit. Expected: {in_words(schema)}. "
            f"{reason[:1].upper()}{reason[1:].removesuffix('.')}."
        )
    return Understood(value, "JSON")  # the storage reports what is wrong with it


# ----------------------------------------------------------------------------------------- examples


def example(schema: Any) -> str:
    """Return an example answer for a command line, or `VALUE` if none is obvious.

    It is quoted as one shell word, even if it lists several answers to choose from.
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
    """Return an example that fits a schema, as a user would type it; None if there is none."""
    value = _sample(resolve(schema, schema), schema, 0)
    if violation(value, schema) is not None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        return text if understand(text, schema).value == value else json.dumps(value)
    except InputError:
        return None


def _sample(schema: Any, root: Any, depth: int) -> Any:
    """Return a value of the right shape: the required fields, with placeholder values."""
    schema = resolve(schema, root)
    options = choices(schema)
    if options is not None:
        return options[0]
    several = alternatives(schema)
    if several:
        return _sample(several[0], root, depth + 1) if depth < DEEPEST else None
    match schema.get("type"):
        case "boolean":
            return True
        case "integer" | "number":
            return _sample_number(schema)
        case "array":
            return _sample_list(schema, root, depth) if depth < DEEPEST else []
        case "object":
            return _sample_object(schema, root, depth) if depth <= DEEPEST else {}
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
    # A field with only one possible value marks the alternative, so it is included.
    needed = [name for name, field in fields.items() if "const" in field]
    names = dict.fromkeys([*schema.get("required", ()), *needed])
    return {name: _sample(fields.get(name, {}), root, depth + 1) for name in names}


def _typed(option: Any) -> str:
    return option if isinstance(option, str) else json.dumps(option)
