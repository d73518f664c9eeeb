"""`Sealed`: a message or state value that can no longer be changed.

With a storage, a value is encoded when it is sent or set, so that a refusal points at the user's
own line, and each reader decodes a fresh copy. Without one it is copied at both ends by the same
rules. Immutable scalars need neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supersteps.checkpoint.codec.codec import IMMUTABLE, Codec, is_immutable
from supersteps.checkpoint.parts import ListPart, Part


def is_text(name: str) -> bool:
    """Tell whether a name is Unicode text: half of a surrogate pair fits no file or database."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_NOTHING: Any = object()


class Sealed(msgspec.Struct, eq=False, gc=False):
    """A value that can no longer be changed; `open()` gives each reader a copy of its own.

    Attributes:
        codec: Encodes, decodes and copies it.
    """

    codec: Codec
    _value: Any = _NOTHING
    _encoded: bytes | None = None
    _peeked: Any = _NOTHING

    def open(self) -> Any:
        """Return a copy that belongs to the caller."""
        if self._peeked is not _NOTHING:
            value, self._peeked = self._peeked, _NOTHING
            return value
        if self._value is _NOTHING:
            # One of the two is always there.
            return self.codec.decode(self._encoded)  # type: ignore[arg-type]
        return self.codec.copy(self._value)

    def peek(self) -> Any:
        """Return a copy for looking only; the next `open()` hands out this same copy."""
        if self._peeked is _NOTHING:
            self._peeked = self.open()
        return self._peeked

    def forget_peek(self) -> None:
        """Drop the copy made by `peek`: it was shown to code that might have changed it."""
        self._peeked = _NOTHING

    def encode(self) -> bytes:
        """Return the value's typed JSON."""
        if self._encoded is None:
            self._encoded = self.codec.encode(self._value)
        return self._encoded


class Scalar(Sealed):
    """An immutable value: all readers get the same object."""

    def open(self) -> Any:
        return self._value

    def peek(self) -> Any:
        return self._value

    def forget_peek(self) -> None:
        pass


class SealedList(Sealed, kw_only=True):
    """A sealed list that grows by appending.

    Its elements are encoded, and shared with shorter versions, or else copied.

    Attributes:
        elements: A list part where values are encoded, else the sealed elements.
    """

    elements: ListPart | Sequence[Sealed]

    def open(self) -> Any:
        if isinstance(self.elements, ListPart):
            return [self.codec.decode(element) for element in self.elements]
        return [element.open() for element in self.elements]

    def encode(self) -> bytes:
        return b"[" + b",".join(self.encoded_elements()) + b"]"

    def encoded_elements(self) -> list[bytes]:
        """Return the elements' typed JSON."""
        return [
            element if isinstance(element, bytes) else element.encode() for element in self.elements
        ]

    def extended(self, items: Sequence[Sealed]) -> SealedList:
        """Return the list with `items` appended; the cost is that of the appended items."""
        if isinstance(self.elements, ListPart):
            return SealedList(
                self.codec, elements=self.elements.extended([item.encode() for item in items])
            )
        return SealedList(self.codec, elements=[*self.elements, *items])


class Sealer:
    """Seals values, by encoding them or by copying them.

    Attributes:
        codec: Encodes, decodes and copies.
        encoding: Whether values are encoded for a storage; otherwise they are copied.
    """

    __slots__ = ("codec", "encoding")

    def __init__(self, codec: Codec, *, encoding: bool) -> None:
        self.codec = codec
        self.encoding = encoding

    def seal(self, value: Any, where: str, *details: object) -> Sealed:
        """Seal a value as it is now.

        Args:
            value: The value.
            where: What it is, for the message of a refusal; a template for `details`.
            details: What to fill into `where`; done only when there is something to refuse.

        Raises:
            CheckpointEncodeError: It cannot be saved, or not even be copied.
        """
        if type(value) in IMMUTABLE or is_immutable(value):
            return Scalar(self.codec, value)
        try:
            if self.encoding:
                return Sealed(self.codec, _NOTHING, self.codec.encode(value))
            return Sealed(self.codec, self.codec.copy(value))
        except ValueError:
            self._explain(value, where.format(*details))
            raise

    def _explain(self, value: Any, where: str) -> None:
        """Refuse the value again, now saying where it is."""
        if self.encoding:
            self.codec.encode(value, where)
        else:
            self.codec.copy(value, where)

    def load(self, part: Part) -> Sealed:
        """Seal a value that comes from a storage; it is decoded when it is read."""
        if isinstance(part, ListPart):
            return SealedList(self.codec, elements=part)
        return Sealed(self.codec, _NOTHING, part)

    def seal_list(self, items: Sequence[Any], where: str, *details: object) -> SealedList:
        """Seal a list so that it can grow by appending."""
        sealed = [self.seal(item, where, *details) for item in items]
        elements = ListPart([item.encode() for item in sealed]) if self.encoding else sealed
        return SealedList(self.codec, elements=elements)
