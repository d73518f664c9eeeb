"""Fan-ins: messages that wait until every source has sent one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.section import Names, PresentGraph, Section, ValueReader
from supersteps.checkpoint.stored import decode_stored
from supersteps.checkpoint.values import Sealed, Sealer

FAN_IN = "fan_in"

_encoder = msgspec.json.Encoder()


def encode_buffers(buffers: Mapping[str, list[Sealed]]) -> bytes:
    """Return what waits in a fan-in, oldest first by source, as its part."""
    return _encoder.encode(
        {source: [msgspec.Raw(v.encode()) for v in waiting] for source, waiting in buffers.items()}
    )


def _read_buffers(key: PartKey, part: Part) -> dict[str, list[msgspec.Raw]]:
    return decode_stored(part, dict[str, list[msgspec.Raw]], f"the fan-in {key[1]!r}")


class _State(Protocol):
    fan_in: dict[str, dict[str, list[Sealed]]]


class FanIns(Section):
    """What waits in fan-ins: by fan-in, by source, a list of messages."""

    name = FAN_IN
    title = "Waiting in fan-ins"
    brief = "fan-ins"
    content = "fan_in"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.fan_in[key[1]] = {
            source: [sealer.load(bytes(value)) for value in waiting]
            for source, waiting in _read_buffers(key, part).items()
        }

    def describe(
        self, shown: dict[str, Any], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        shown[key[1]] = reader.read(part, f"fan_in[{key[1]!r}]")

    def encode(self, shown: Mapping[str, Any], codec: Codec) -> Iterator[tuple[PartKey, Part]]:
        for group, buffers in shown.items():
            yield (FAN_IN, group), codec.encode(buffers, f"fan_in[{group!r}]")

    def rename_key(self, key: PartKey, names: Names) -> PartKey:
        return (FAN_IN, names.fan_in(key[1])[0])

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        local = names.fan_in(key[1])[1]
        return _encoder.encode(
            {local(source): waiting for source, waiting in _read_buffers(key, part).items()}
        )

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        if not graph.has_fan_in(key[1]):
            yield (
                f"messages wait in {key[1]!r}, which does not exist: keep that fan-in, or rename= "
                "its executors"
            )
