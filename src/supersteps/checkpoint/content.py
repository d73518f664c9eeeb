"""A checkpoint's parts, decoded for people, and encoded again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.section import Section, ValueReader
from supersteps.checkpoint.sections.table import SECTIONS, section_of

NAMES = tuple(dict.fromkeys(each.content for each in SECTIONS.values() if each.content))
"""What people see of a checkpoint's content, by the attributes of `WorkflowCheckpoint`."""

_LISTS = {each.content for each in SECTIONS.values() if each.is_list}


def empty(name: str) -> Any:
    """Return an attribute that shows nothing."""
    return [] if name in _LISTS else {}


def decode_parts(parts: Mapping[PartKey, Part], codec: Codec, where: str) -> dict[str, Any]:
    """Return a checkpoint's content, decoded as far as the types are known.

    Args:
        parts: The parts.
        codec: Decodes values; those of unknown types come as `RawValue`.
        where: The checkpoint, for error messages.
    """
    shown: dict[str, Any] = {name: empty(name) for name in NAMES}
    reader = ValueReader(codec, where)
    found: dict[Section, list[tuple[PartKey, Part]]] = {each: [] for each in SECTIONS.values()}
    for key, part in parts.items():
        if (known := section_of(key)) is not None:
            found[known].append((key, part))
    for section, items in found.items():  # in this order: a sub-workflow's run before its state
        if section.content:
            for key, part in items:
                section.describe(shown[section.content], key, part, reader)
    return shown


def encode_parts(checkpoint: object, codec: Codec) -> dict[PartKey, Part]:
    """Return the parts of a `WorkflowCheckpoint` that was made or changed by hand.

    Raises:
        CheckpointEncodeError: A value cannot be saved.
    """
    return {
        key: part
        for section in SECTIONS.values()
        if section.content
        for key, part in section.encode(getattr(checkpoint, section.content), codec)
    }
