"""JSON Schemas in words, and example values that fit them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DEEPEST = 3
"""Depth of nested objects that are spelled out; deeper ones are just JSON."""


def resolve(schema: Any, root: Any) -> dict[str, Any]:
    """Return a schema with its reference followed; a broken reference gives `{}`."""
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
    """Return the values of an enumeration, None if the schema is not one."""
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return list(found) if isinstance(found, list) and found else None


def alternatives(schema: Mapping[str, Any]) -> list[Any]:
    """Return the alternatives of a schema; an empty list if it has none."""
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
    """Describe in words what fits a schema.

    Args:
        schema: A JSON Schema.
        root: The schema that contains it; itself if None.
        depth: How deep it is nested in that.
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
        words = f"a list, each item {in_words(items, root, depth + 1)}" if items else "a list"
    elif kind == "object":
        words = _object_in_words(schema, root, depth)
    elif kind == "string":
        words = _FORMATS.get(schema.get("format", ""), "text")
    else:
        words = _KINDS.get(str(kind), "any JSON")
    return f"{words} ({limits})" if limits else words


def _object_in_words(schema: Mapping[str, Any], root: Any, depth: int) -> str:
    fields = schema.get("properties") or {}
    if not fields or depth >= DEEPEST:
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


def only_text(schema: Any) -> bool:
    """Return whether only text fits a schema."""
    resolved = resolve(schema, schema)
    options = choices(resolved)
    if options is not None:
        return all(isinstance(option, str) for option in options)
    return resolved.get("type") == "string"
