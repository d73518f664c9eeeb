"""Stored JSON read as typed values; values inside them stay encoded."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from supersteps.checkpoint.parts import ListPart, Part
from supersteps.errors import CorruptCheckpointError

T = TypeVar("T")

NULL = msgspec.Raw(b"null")


def raw(data: bytes) -> msgspec.Raw:
    """Return encoded data for embedding; null is always the object that fields have as default."""
    return NULL if data == b"null" else msgspec.Raw(data)


def decode_stored(part: Part, kind: type[T], what: str) -> T:
    """Return stored JSON as a value of a type.

    Args:
        part: The JSON.
        kind: The type.
        what: What it is, for the message.

    Raises:
        CorruptCheckpointError: It is not JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(as_json(part), type=kind)
    except (ValueError, RecursionError) as error:  # those of msgspec and of Unicode are ValueErrors
        raise CorruptCheckpointError(
            f"{what} cannot be read: what is stored has another shape ({error}). Go on from "
            "another checkpoint."
        ) from error


def decode_json(part: Part, what: str = "a part of the checkpoint") -> Any:
    """Return stored JSON as builtins; raises like `decode_stored`."""
    return decode_stored(part, Any, what)


def elements(part: Part) -> list[bytes]:
    """Return the elements of a list part, or of a JSON array that came as a whole."""
    if isinstance(part, ListPart):
        return list(part)
    return [bytes(element) for element in decode_stored(part, list[msgspec.Raw], "a list")]


def as_json(part: Part) -> bytes:
    """Return a part as one JSON text."""
    return part.to_json() if isinstance(part, ListPart) else part
