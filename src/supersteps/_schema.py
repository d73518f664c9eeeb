"""Answers in plain JSON: the schema of an annotation, the check by a schema, the value that the JSON stands for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ._typing import display_name, is_pydantic_model, matches, reachable_types, unwrap

_LONGEST = 300
"""Characters of a reason: it may quote the whole answer."""


class _Way(NamedTuple):
    """How plain JSON becomes values of an annotation.

    Attributes:
        schema: The JSON Schema, encoded so that nobody changes what is kept; None where there is none.
        adapter: pydantic's `TypeAdapter`, where pydantic converts; else msgspec does.
    """

    schema: bytes | None = None
    adapter: Any = None


# ------------------------------------------------------------------------------------------- annotations


def schema_of(annotation: Any) -> dict[str, Any] | None:
    """Return the JSON Schema (draft 2020-12) of the plain-JSON form of what fits an annotation.

    Args:
        annotation: Any type that an answer may have.

    Returns:
        A schema that refers to nothing but its own `$defs`, the caller's to change; None where there is none: for
        classes that neither msgspec nor, where the program has imported it, pydantic can make from JSON.
    """
    encoded = _way_to(annotation).schema
    return None if encoded is None else msgspec.json.decode(encoded, type=dict[str, Any])


def from_json(value: Any, annotation: Any) -> Any:
    """Return the value of an annotation that plain JSON stands for.

    Nothing is coerced: `"1"` is no int, `1` no bool, `true` no int. An int does where a float is wanted.

    Args:
        value: What `json.loads` may return.
        annotation: Any type. Where it has no schema, the JSON itself has to fit.

    Raises:
        ValueError: It does not fit; the message says why, and where.
    """
    way = _way_to(annotation)
    try:
        if way.adapter is not None:
            made = way.adapter.validate_json(msgspec.json.encode(value), strict=True)
        elif way.schema is None or _is_anything(annotation):
            made = value
        else:
            made = msgspec.convert(value, annotation, strict=True, str_keys=True)
    except Exception as error:  # validators and constructors of users raise what they like
        raise ValueError(_shortened(_reason(error))) from error
    if not matches(made, annotation):
        raise ValueError(_shortened(f"{value!r} is not of type {display_name(annotation)}"))
    return made


def _is_anything(annotation: Any) -> bool:
    return unwrap(annotation) in (Any, object)


def _way_to(annotation: Any) -> _Way:
    pydantic = sys.modules.get("pydantic")
    try:
        return _cached_way_to(annotation, pydantic is not None)
    except TypeError:  # unhashable: Annotated[int, {...}]
        return _find_way_to(annotation, pydantic is not None)


def _find_way_to(annotation: Any, with_pydantic: bool) -> _Way:
    """Ask msgspec, then pydantic; the latter at once where msgspec would pass over its validators."""
    if _is_anything(annotation):
        return _Way(b"{}")
    if not any(map(_is_pydantic, reachable_types([annotation]))):
        try:
            return _Way(msgspec.json.encode(msgspec.json.schema(annotation)))
        except Exception:  # a type that it does not support, a name that it cannot resolve
            pass
    if with_pydantic:
        try:
            adapter = sys.modules["pydantic"].TypeAdapter(annotation)
            return _Way(msgspec.json.encode(adapter.json_schema()), adapter)
        except Exception:  # likewise, with errors of its own
            pass
    return _Way()


# What is found without pydantic is kept apart: the program may import it later.
_cached_way_to = lru_cache(maxsize=512)(_find_way_to)


def _is_pydantic(cls: type) -> bool:
    return is_pydantic_model(cls) or hasattr(cls, "__is_pydantic_dataclass__")


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if type(error).__module__.startswith("pydantic"):
        problems = error.errors() if hasattr(error, "errors") else ()
        found = [_placed(problem["msg"], _json_path(problem["loc"])) for problem in problems[:3]]
        return "; ".join(found) or str(error)
    return f"{type(error).__name__}: {error}"


# ----------------------------------------------------------------------------------------------- schemas


def violation(value: Any, schema: Any) -> str | None:
    """Return why a value is no plain JSON or does not fit a schema, None if it fits.

    Two things are stricter than a schema by itself, as the conversion to Python is: `1.0` is no integer, and text of a
    known format (a date, a UUID) has to be of it. Nothing is ever fetched: a reference that leads out of the schema is
    a reason, and so is a schema that is none.

    Args:
        value: What `json.loads` may return.
        schema: A JSON Schema, draft 2020-12.
    """
    try:
        trouble = _not_json(value, ())
    except RecursionError:
        trouble = "it is nested too deeply, or holds itself"
    if trouble is not None:
        return _shortened(trouble)
    from jsonschema.exceptions import best_match
    from referencing import Registry

    checks = _checks()
    try:
        checks.kind.check_schema(schema)
        # The registry is empty and retrieves nothing; jsonschema's own would fetch whatever a schema names.
        validator = checks.kind(schema, registry=Registry(), format_checker=checks.formats)
        error = best_match(validator.iter_errors(value))
    except (
        Exception
    ) as unusable:  # a broken schema fails in many ways: references, patterns, endless recursion
        told = getattr(unusable, "message", None) or str(unusable) or type(unusable).__name__
        return _shortened(f"it cannot be checked, since its schema cannot be used: {told}")
    return None if error is None else _shortened(_placed(error.message, error.json_path))


_FORMATS = {
    "date": date,
    "time": time,
    "date-time": datetime,
    "duration": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
}


class _Checks(NamedTuple):
    kind: Any
    formats: Any


@lru_cache(maxsize=1)
def _checks() -> _Checks:
    """Return the class of validators and what it knows of formats; loads jsonschema."""
    import jsonschema

    draft = jsonschema.Draft202012Validator
    types = draft.TYPE_CHECKER.redefine(
        "integer", lambda _, item: isinstance(item, int) and not isinstance(item, bool)
    )
    formats = jsonschema.FormatChecker(formats=())
    for name, kind in _FORMATS.items():
        formats.checks(name, raises=msgspec.ValidationError)(_converts_to(kind))
    kind = jsonschema.validators.extend(draft, type_checker=types)  # type: ignore[no-untyped-call]
    return _Checks(kind, formats)


def _converts_to(kind: Any) -> Callable[[object], bool]:
    def check(item: object) -> bool:
        if isinstance(item, str):  # a format says nothing of anything else
            msgspec.convert(item, kind)
        return True

    return check


def _not_json(value: Any, path: tuple[str | int, ...]) -> str | None:
    """Return why a value is not what `json.loads` may return, None if it is."""
    kind = type(value)
    if kind is str:
        return (
            None
            if value.isascii() or _is_unicode(value)
            else _placed("text with half a character", _json_path(path))
        )
    if kind is float:
        return (
            None
            if math.isfinite(value)
            else _placed(f"{value} is no JSON number", _json_path(path))
        )
    if kind in (int, bool) or value is None:
        return None
    if kind is list:
        return _first(_not_json(item, (*path, index)) for index, item in enumerate(value))
    if kind is dict:
        for key in value:
            if type(key) is not str or not _is_unicode(key):
                return _placed(f"the key {key!r} is no JSON text", _json_path(path))
        return _first(_not_json(item, (*path, key)) for key, item in value.items())
    return _placed(f"{display_name(kind)} is no plain JSON: {value!r}", _json_path(path))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _first(reasons: Iterable[str | None]) -> str | None:
    return next((reason for reason in reasons if reason is not None), None)


# ------------------------------------------------------------------------------------------------- words


def _json_path(names: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)


def _placed(reason: str, path: str) -> str:
    """Return a reason with its place, in msgspec's manner."""
    return reason if path == "$" else f"{reason} - at `{path}`"


def _shortened(reason: str) -> str:
    """Return a reason without its middle if it is long: both ends say what is the matter."""
    if len(reason) <= _LONGEST:
        return reason
    return f"{reason[:200]} ... {reason[-100:]}"
