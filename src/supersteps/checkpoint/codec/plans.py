"""`Plan`: how the instances of one class are saved."""

from __future__ import annotations

from typing import Any, Protocol

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
