"""Outputs of the workflow: a list that grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.sections.section import Section, ValueReader
from supersteps.checkpoint.stored import elements
from supersteps.checkpoint.values import Sealed, Sealer

OUTPUTS: PartKey = ("outputs",)


def encode_outputs(outputs: Iterable[tuple[str, Sealed]]) -> list[bytes]:
    """Return new outputs, each with the executor that yielded it, as elements of their list."""
    return [value.encode() for _source, value in outputs]


def load_outputs(part: Part | None, sealer: Sealer) -> list[Any]:
    """Return every output that a checkpoint's lineage has yielded."""
    if part is None:
        return []
    return [sealer.load(element).open() for element in elements(part)]


class Outputs(Section):
    """Every output of the lineage."""

    name = "outputs"
    depth = 0
    title = "Outputs"
    brief = "outputs"
    content = "outputs"
    is_list = True

    def describe(self, shown: list[Any], key: PartKey, part: Part, reader: ValueReader) -> None:
        for index, element in enumerate(elements(part)):
            shown.append(reader.read(element, f"outputs[{index}]"))

    def encode(self, shown: Sequence[Any], codec: Codec) -> Iterator[tuple[PartKey, Part]]:
        if shown:
            encoded = (codec.encode(value, f"outputs[{i}]") for i, value in enumerate(shown))
            yield OUTPUTS, ListPart(encoded)
