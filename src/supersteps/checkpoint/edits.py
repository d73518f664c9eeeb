"""Edits of a fork: paths into a checkpoint, and changes inside values."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, MutableSequence, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from supersteps.errors import ForkError
from supersteps.typing import display_name

Path: TypeAlias = tuple[str | int, ...]
"""A section, and the names, indexes and attributes that lead into it."""


class Edits(Protocol):
    """New values, or `DELETE`, by path: any mapping, with strings or tuples as keys."""

    def items(self) -> Iterable[tuple[str | Path, Any]]:
        """Return them in the order in which they are to be made."""


class Delete(Enum):
    """The type of `DELETE`."""

    DELETE = "DELETE"

    def __repr__(self) -> str:
        return "DELETE"


DELETE: Final = Delete.DELETE
"""In the changes of a fork: removes the key, element or message that the path names."""


def parse_path(given: str | Path) -> Path:
    """Return a path as its steps: a tuple as it is, a JSON Pointer, or a string split at its dots.

    Raises:
        ForkError: It is neither, or empty.
    """
    if isinstance(given, tuple):
        path: Path = given
    elif isinstance(given, str) and given.startswith("/"):
        path = tuple(step.replace("~1", "/").replace("~0", "~") for step in given[1:].split("/"))
    elif isinstance(given, str):
        path = tuple(given.split("."))
    else:
        path = ()
    if not path or not all(
        isinstance(step, str | int) and not isinstance(step, bool) and step != "" for step in path
    ):
        raise ForkError(
            f"{given!r} is not a path into a checkpoint: write it with dots "
            "('shared_state.total'), as a tuple if a name has a dot in it (('shared_state', "
            "'v1.2')), or as a JSON Pointer ('/shared_state/total'). Nothing was created."
        )
    return path


def refusal(given: Any, reason: str) -> ForkError:
    """Return the error of an edit that cannot be made; `reason` is one or more sentences."""
    return ForkError(f"{given!r}: {reason} Nothing was created.")


def how_to_write(shape: str) -> str:
    """Return a sentence that says how a path is written."""
    return f"Write {shape}, and further steps into a value after it; a tuple if a name has a dot."


def listed(names: Sequence[Any]) -> str:
    """Return the names that there are as the end of a sentence."""
    return f"there are {', '.join(map(repr, names))}" if names else "there is none"


def index_of(step: str | int) -> int | None:
    """Return a step as the index of an element, None if it is none."""
    if isinstance(step, int):
        return step
    return int(step) if step.isascii() and step.isdigit() else None


# ------------------------------------------------------------------------------------ inside values


def changed(given: Any, place: str, value: Any, steps: Path, new: Any) -> Any:
    """Return a value with something inside it changed.

    Args:
        given: The whole path, for error messages.
        place: Where the value is, for error messages.
        value: The value; it belongs to the caller and may be changed in place.
        steps: The way to what is changed.
        new: What it becomes, or `DELETE`.

    Raises:
        ForkError: The steps lead nowhere.
    """
    if not steps:
        return new
    if isinstance(value, MutableMapping):
        return _changed_mapping(given, place, value, steps, new)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return _changed_tuple_or_list(given, place, value, steps, new)
    return _changed_field(given, place, value, steps, new)


def _changed_field(given: Any, place: str, value: Any, steps: Path, new: Any) -> Any:
    from supersteps.checkpoint.codec.classes import fields_of  # needed only by forks
    from supersteps.checkpoint.codec.trouble import Trouble

    step, inner = steps[0], steps[1:]
    plan = fields_of(type(value))
    names = () if plan is None else plan.field_names(value)
    if plan is None or step not in names:
        what = f"attributes {', '.join(map(repr, names))}" if names else f"{value!r:.80}"
        raise _nowhere(given, place, step, f"a {display_name(type(value))} with {what}")
    if new is DELETE and not inner:
        raise refusal(
            given,
            f"{step!r} is an attribute of the {display_name(type(value))} at {place}, which cannot "
            "do without it; set it to something else.",
        )
    name = str(step)
    content = changed(given, f"{place}.{name}", plan.field(value, name), inner, new)
    try:
        return plan.with_field(value, name, content)
    except Trouble as trouble:
        raise refusal(given, f"{trouble.reason}.") from trouble.__cause__


def _changed_tuple_or_list(
    given: Any, place: str, value: Sequence[Any], steps: Path, new: Any
) -> Any:
    step, inner = steps[0], steps[1:]
    kind: Any = type(value)
    fields: tuple[str, ...] = getattr(value, "_fields", ())  # of a NamedTuple
    if step in fields:
        steps = (fields.index(str(step)), *inner)
        return kind._make(_changed_sequence(given, place, list(value), steps, new, fixed=True))
    items = _changed_sequence(given, place, value, steps, new, fixed=bool(fields))
    if items is value:
        return value
    return kind._make(items) if fields else kind(items)


def _changed_mapping(
    given: Any, place: str, value: MutableMapping[Any, Any], steps: Path, new: Any
) -> Any:
    step, inner = steps[0], steps[1:]
    key: Any = step
    if step not in value and isinstance(step, str):
        number = index_of(step)
        key = number if number is not None and number in value else step
    if key not in value and (inner or new is DELETE):
        keys = f"a {type(value).__name__} with the keys {listed(list(value))}"
        raise _nowhere(given, place, step, keys)
    if new is DELETE and not inner:
        del value[key]
    else:
        value[key] = changed(given, f"{place}.{step}", value.get(key), inner, new)
    return value


def _changed_sequence(
    given: Any, place: str, value: Sequence[Any], steps: Path, new: Any, *, fixed: bool = False
) -> Any:
    step, inner = steps[0], steps[1:]
    items: Any = value if isinstance(value, MutableSequence) else list(value)
    is_deleted = new is DELETE and not inner
    if step == "-" and not inner and not is_deleted and not fixed:  # as in a JSON Patch: at the end
        items.append(new)
        return items
    index = index_of(step)
    if index is None or not 0 <= index < len(items) or (fixed and is_deleted):
        there = f"a {type(value).__name__} of {len(items)} elements, counted from 0"
        raise _nowhere(given, place, step, there)
    if is_deleted:
        del items[index]
    else:
        items[index] = changed(given, f"{place}.{index}", items[index], inner, new)
    return items


def _nowhere(given: Any, place: str, step: str | int, there: str) -> ForkError:
    return ForkError(
        f"{given!r} leads nowhere: at {place} is {there}, and no {step!r}. Nothing was created."
    )
