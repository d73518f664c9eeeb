"""`Plan`: how the instances of one class are saved, and which fields they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from supersteps.checkpoint.codec.builtins import EncodeWalk


class CopyWalk(Protocol):
    """What a plan sees of the walk that copies."""

    def copy(self, value: Any, depth: int) -> Any: ...

    def copy_unknown(self, value: Any) -> Any: ...


class Plan(Protocol):
    """How the instances of one class are saved."""

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any: ...

    def revive(self, node: dict[str, Any]) -> Any: ...

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any: ...


@runtime_checkable
class FieldPlan(Protocol):
    """A plan of a class whose instances have named fields, which a fork may change."""

    def field_names(self, value: Any) -> Sequence[str]:
        """Return the names of an instance's fields."""

    def field(self, value: Any, name: str) -> Any:
        """Return the content of a field."""

    def with_field(self, value: Any, name: str, content: Any) -> Any:
        """Return the instance with other content in a field; it may be changed in place.

        Raises:
            Trouble: The class does not accept the content.
        """


class AttributeFields:
    """The part of a plan for fields that are attributes."""

    _names: tuple[str, ...]

    def field_names(self, value: Any) -> Sequence[str]:
        return self._names

    def field(self, value: Any, name: str) -> Any:
        return getattr(value, name)

    def with_field(self, value: Any, name: str, content: Any) -> Any:
        if isinstance(value, msgspec.Struct):
            msgspec.structs.force_setattr(value, name, content)
        else:
            object.__setattr__(value, name, content)  # also if the class is frozen
        return value
