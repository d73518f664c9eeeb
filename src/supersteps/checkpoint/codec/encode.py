"""The walk that converts a value to a JSON tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from supersteps.checkpoint.codec.builtins import ENCODERS, Encoder, EncodeWalk
from supersteps.checkpoint.codec.raw import RawValue


class Encoding(EncodeWalk):
    """A walk that encodes, with its table of encoders by exact type."""

    def __init__(
        self, find: Callable[[type], Encoder], atoms: frozenset[type], *, careful: bool
    ) -> None:
        self._find = find
        self.table = _Encoders(find)
        self.atoms = atoms
        self.careful = careful

    def reset(self) -> None:
        """Clear the encoders of user types."""
        self.table = _Encoders(self._find)


class _Encoders(dict[type, Encoder]):
    def __init__(self, find: Callable[[type], Encoder]) -> None:
        super().__init__(ENCODERS)
        self._find = find

    def __missing__(self, kind: type) -> Encoder:
        self[kind] = encoder = self._find(kind)
        return encoder


def encode_raw(walk: EncodeWalk, value: RawValue, depth: int) -> Any:
    """Encode a value of an unknown type as the JSON that it came from."""
    return msgspec.Raw(value.json)
