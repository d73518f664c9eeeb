"""The parts of many checkpoints in memory, mostly as differences."""

from __future__ import annotations

from collections.abc import Mapping

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, Part, PartKey

_DEEPEST = 64
"""Maximum number of layers to search; then those above the full one are joined."""


class Layer:
    """The parts of one checkpoint, as differences from those of its parent. Immutable."""

    __slots__ = ("_changed", "_deleted", "_depth", "_parent", "_piled", "_whole")

    def __init__(self, parts: Mapping[PartKey, Part]) -> None:
        """Create the full layer, with all parts."""
        self._changed: Mapping[PartKey, Part] = dict(parts)
        self._deleted: frozenset[PartKey] = frozenset()
        self._parent: Layer | None = None
        self._depth = 0
        self._piled = 0  # changes since the full layer
        self._whole = len(parts)  # number of parts in the full layer

    def after(self, changes: Changes) -> Layer:
        """Return the parts after a superstep, at the cost of its changes."""
        deleted = frozenset(changes.deletes)
        changed: dict[PartKey, Part] = dict(changes.puts)
        for key, items in changes.appends.items():
            old = changed.get(key) or (None if key in deleted else self.get(key))
            if not isinstance(old, ListPart):
                old = ListPart() if old is None else ListPart.from_json(old)
            changed[key] = old.extended(items)
        layer = Layer.__new__(Layer)
        layer._changed, layer._deleted, layer._parent = changed, deleted, self
        layer._depth = self._depth + 1
        layer._piled = self._piled + len(changed) + len(deleted)
        layer._whole = self._whole
        is_high = layer._depth >= _DEEPEST or layer._piled > max(_DEEPEST, self._whole)
        return layer._joined() if is_high else layer

    def _joined(self) -> Layer:
        """Return the same parts in two layers, or in one if most parts have changed."""
        layers = self._layers()
        base = layers.pop()
        changed: dict[PartKey, Part] = {}
        deleted: set[PartKey] = set()
        for layer in reversed(layers):
            for key in layer._deleted:
                changed.pop(key, None)
            deleted |= layer._deleted
            changed.update(layer._changed)
        if len(changed) + len(deleted) > max(_DEEPEST, base._whole):
            return Layer(self.to_dict())
        joined = Layer.__new__(Layer)
        joined._changed, joined._deleted, joined._parent = changed, frozenset(deleted), base
        joined._depth, joined._whole = 1, base._whole
        joined._piled = len(changed) + len(deleted)
        return joined

    def _layers(self) -> list[Layer]:
        """Return this layer and those below it, down to the full one."""
        layers = [self]
        while (parent := layers[-1]._parent) is not None:
            layers.append(parent)
        return layers

    def get(self, key: PartKey) -> Part | None:
        """Return a part, None if there is none."""
        layer: Layer | None = self
        while layer is not None:
            if (part := layer._changed.get(key)) is not None:
                return part
            if key in layer._deleted:
                return None
            layer = layer._parent
        return None

    def to_dict(self) -> dict[PartKey, Part]:
        """Return all parts, in the order in which their keys were first written."""
        parts: dict[PartKey, Part] = {}
        for layer in reversed(self._layers()):
            for key in layer._deleted:
                parts.pop(key, None)
            parts.update(layer._changed)
        return parts
