"""Answers as plain JSON: schemas, checks by schema, conversion."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Flag
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from supersteps.typing import display_name, is_pydantic_model, matches, reachable_types, unwrap

MAX_FLOAT = int(sys.float_info.max)

_LONGEST = 300
"""Maximum length of a reason, which may quote the whole answer."""


class _Conversion(NamedTuple):
    """How plain JSON is converted to values of an annotation.

    Attributes:
        schema: The JSON Schema, encoded so that no caller can change it; None if there is none.
        adapter: pydantic's `TypeAdapter` if pydantic converts; otherwise msgspec does.
    """

    schema: bytes | None = None
    adapter: Any = None


# -------------------------------------------------------------------------------------- annotations


def schema_of(annotation: Any) -> dict[str, Any] | None:
    """Return the JSON Schema (draft 2020-12) of an annotation's values in plain JSON.

    Args:
        annotation: The type of an answer.

    Returns:
        A schema without references other than to its own `$defs`, which the caller may change. None
        for classes that neither msgspec nor pydantic (if the program has imported it) can create
        from JSON.
    """
    encoded = _conversion_to(annotation).schema
    return None if encoded is None else msgspec.json.decode(encoded, type=dict[str, Any])


def from_json(value: Any, annotation: Any) -> Any:
    """Convert plain JSON to a value of an annotation.

    Nothing is coerced: `"1"` is not an int, `1` not a bool, `true` not an int. An int is accepted
    as a float.

    Args:
        value: A value as `json.loads` returns it.
        annotation: Any type. If it has no schema, the JSON itself has to match it.

    Raises:
        ValueError: It does not fit; the message says why and where.
    """
    conversion = _conversion_to(annotation)
    try:
        if conversion.adapter is not None:
            made = conversion.adapter.validate_json(msgspec.json.encode(value), strict=True)
        elif conversion.schema is None or _is_anything(annotation):
            made = value
        elif _is_flag(annotation):
            made = annotation(value)
        else:
            made = msgspec.convert(value, annotation, strict=True, str_keys=True)
    except Exception as error:  # validators and constructors of users may raise anything
        raise ValueError(_shortened(_reason(error))) from error
    if not matches(made, annotation):
        raise ValueError(_shortened(f"{value!r} is not of type {display_name(annotation)}"))
    return made


def _is_anything(annotation: Any) -> bool:
    return unwrap(annotation) in (Any, object)


def _conversion_to(annotation: Any) -> _Conversion:
    pydantic = sys.modules.get("pydantic")
    try:
        return _cached_conversion_to(annotation, pydantic is not None)
    except TypeError:  # unhashable: Annotated[int, {...}]
        return _find_conversion_to(annotation, pydantic is not None)


def _find_conversion_to(annotation: Any, with_pydantic: bool) -> _Conversion:
    """Try msgspec, then pydantic; pydantic at once where msgspec would skip its validators."""
    from supersteps.typing.exact_schema import exact_pydantic_schema, exact_schema_of, flag_schema

    if _is_anything(annotation):
        return _Conversion(b"{}")
    reachable = reachable_types([annotation])
    if _is_flag(annotation):
        return _conversion(lambda: flag_schema(annotation), annotation) or _Conversion()
    # msgspec would skip pydantic's validators, and does not know that flags can be combined.
    needs_pydantic = any(map(_is_pydantic, reachable)) or (
        with_pydantic and any(map(_is_flag, reachable))
    )
    if not needs_pydantic and (
        found := _conversion(lambda: exact_schema_of(annotation), annotation)
    ):
        return found
    if with_pydantic:
        pydantic: Any = sys.modules["pydantic"]
        try:
            adapter = pydantic.TypeAdapter(annotation)
        except Exception:  # an unsupported type, a name that cannot be resolved
            return _Conversion()
        return (
            _conversion(lambda: exact_pydantic_schema(adapter), annotation, adapter)
            or _Conversion()
        )
    return _Conversion()


def _conversion(
    make: Callable[[], dict[str, Any]], annotation: Any, adapter: Any = None
) -> _Conversion | None:
    """Return the conversion for a schema, None if there is no schema."""
    from supersteps.typing.exact_schema import NoSchema  # slow to import and rarely needed

    try:
        schema = msgspec.json.encode(make())
    except NoSchema:
        return None if adapter is None else _Conversion(None, adapter)
    except Exception:  # msgspec and pydantic refuse types with many kinds of errors
        return None
    if len(_annotations) >= _MOST_ANNOTATIONS:
        _annotations.clear()
    _annotations[display_name(annotation), schema] = annotation
    return _Conversion(schema, adapter)


_MOST_ANNOTATIONS = 512
_annotations: dict[tuple[str, bytes], Any] = {}
"""The annotation of a type's name and schema in this process."""


def misfit(value: Any, type_name: str, schema: bytes) -> str | None:
    """Return why JSON that fits a schema cannot be converted, if this process knows the type.

    Validators of a program can check more than a schema. Where the program runs, they do.

    Args:
        value: A value as `json.loads` returns it.
        type_name: The annotation as displayed.
        schema: Its schema, as JSON.
    """
    annotation = _annotations.get((type_name, schema))
    if annotation is None:
        return None
    try:
        from_json(value, annotation)
    except ValueError as error:
        return str(error)
    return None


# The key says whether pydantic is imported: the program may import it later.
_cached_conversion_to = lru_cache(maxsize=512)(_find_conversion_to)


def _is_flag(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Flag)


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


# ------------------------------------------------------------------------------------------ schemas


def violation(value: Any, schema: Any) -> str | None:
    """Return why a value is not plain JSON or does not fit a schema, None if it fits.

    Two checks are stricter than JSON Schema, as the conversion to Python is: `1.0` is not an
    integer, and a text of a known format (a date, a UUID) must be valid. Nothing is ever fetched: a
    reference to outside the schema is refused, and so is an invalid schema.

    Args:
        value: A value as `json.loads` returns it.
        schema: A JSON Schema, draft 2020-12.
    """
    try:
        trouble = _not_json(value, ())
    except RecursionError:
        trouble = "it is nested too deeply, or contains itself"
    if trouble is not None:
        return _shortened(trouble)
    from jsonschema.exceptions import best_match
    from referencing import Registry

    checks = _checks()
    try:
        checks.kind.check_schema(schema)
        # The registry is empty and retrieves nothing; jsonschema's default would fetch whatever a
        # schema references.
        validator = checks.kind(schema, registry=Registry(), format_checker=checks.formats)
        error = best_match(validator.iter_errors(value))
    except Exception as unusable:  # bad references, patterns, endless recursion and so on
        told = getattr(unusable, "message", None) or str(unusable) or type(unusable).__name__
        return _shortened(f"it cannot be checked because its schema cannot be used: {told}")
    return None if error is None else _shortened(_placed(error.message, error.json_path))


class _Checks(NamedTuple):
    kind: Any
    formats: Any


@lru_cache(maxsize=1)
def _checks() -> _Checks:
    """Return the validator class and its formats; imports jsonschema."""
    import jsonschema

    from supersteps.typing.formats import CHECKS, ERRORS

    draft = jsonschema.Draft202012Validator
    types = draft.TYPE_CHECKER.redefine("integer", lambda _, item: _is_integer(item))
    formats = jsonschema.FormatChecker(formats=())
    for name, check in CHECKS.items():
        formats.checks(name, raises=ERRORS)(_checked_by(check))
    keywords = {
        "type": _of_type(draft.VALIDATORS["type"]),
        "enum": _one_of,
        "const": _exactly,
        "contentEncoding": _encoded,
    }
    extend: Any = jsonschema.validators.extend
    kind = extend(draft, keywords, type_checker=types)
    return _Checks(kind, formats)


def _is_integer(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _of_type(check: Any) -> Any:
    """Return the check of a type, extended by the largest number that a float can hold."""

    def of_type(validator: Any, wanted: Any, item: Any, schema: Any) -> Iterator[Exception]:
        yield from check(validator, wanted, item, schema)
        if wanted == "number" and _is_integer(item) and abs(item) > MAX_FLOAT:
            yield _problem("the number is too large")

    return of_type


def _checked_by(check: Callable[[str], object]) -> Callable[[object], bool]:
    def is_of_format(item: object) -> bool:
        if isinstance(item, str):  # formats apply to texts only
            check(item)
        return True

    return is_of_format


def _one_of(_: Any, options: Any, item: Any, schema: Any) -> Iterator[Exception]:
    if not any(_is_same(item, option) for option in options):
        yield _problem(f"{item!r} is not one of {options!r}")


def _exactly(_: Any, option: Any, item: Any, schema: Any) -> Iterator[Exception]:
    if not _is_same(item, option):
        yield _problem(f"{option!r} was expected")


def _is_same(one: Any, two: Any) -> bool:
    """Compare as the conversion does: neither `1.0` nor `true` is `1`."""
    return type(one) is type(two) and bool(one == two)


def _encoded(_: Any, encoding: Any, item: Any, schema: Any) -> Iterator[Exception]:
    if encoding == "base64" and isinstance(item, str):
        try:
            msgspec.convert(item, bytes)
        except msgspec.ValidationError:
            yield _problem(f"{item!r} is not base64")


def _problem(reason: str) -> Exception:
    from jsonschema.exceptions import ValidationError

    return ValidationError(reason)


def _not_json(value: Any, path: tuple[str | int, ...]) -> str | None:
    """Return why a value is not what `json.loads` may return, None if it is."""
    kind = type(value)
    if kind is str:
        return (
            None
            if value.isascii() or _is_unicode(value)
            else _placed("the text has half a character (a lone surrogate)", _json_path(path))
        )
    if kind is float:
        return (
            None
            if math.isfinite(value)
            else _placed(f"{value} is not a JSON number", _json_path(path))
        )
    if kind in (int, bool) or value is None:
        return None
    if kind is list:
        return _first(_not_json(item, (*path, index)) for index, item in enumerate(value))
    if kind is dict:
        for key in value:
            if type(key) is not str or not _is_unicode(key):
                return _placed(f"the key {key!r} is not a JSON text", _json_path(path))
        return _first(_not_json(item, (*path, key)) for key, item in value.items())
    return _placed(f"{display_name(kind)} is not plain JSON: {value!r}", _json_path(path))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _first(reasons: Iterable[str | None]) -> str | None:
    return next((reason for reason in reasons if reason is not None), None)


# -------------------------------------------------------------------------------------------- words


def _json_path(names: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)


def _placed(reason: str, path: str) -> str:
    """Return a reason with its path, as msgspec writes it."""
    return reason if path == "$" else f"{reason} - at `{path}`"


def _shortened(reason: str) -> str:
    """Return a reason without its middle if it is long: both ends are informative."""
    if len(reason) <= _LONGEST:
        return reason
    return f"{reason[:200]} ... {reason[-100:]}"
