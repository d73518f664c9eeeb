"""The parts of many checkpoints in memory: each holds what changed, and now and then one holds everything."""

from __future__ import annotations

from collections.abc import Mapping

from supersteps.checkpoint.record import Changes, ListPart, Part, PartKey

_DEEPEST = 64
"""Layers that are looked through at most; a 64th of all keys is what a commit costs beyond what it changes."""


class Layer:
    """The parts of one checkpoint, as what differs from those of its parent. Immutable."""

    __slots__ = ("_changed", "_deleted", "_depth", "_parent", "_piled", "_whole")

    def __init__(self, parts: Mapping[PartKey, Part]) -> None:
        """Begin with everything."""
        self._changed: Mapping[PartKey, Part] = dict(parts)
        self._deleted: frozenset[PartKey] = frozenset()
        self._parent: Layer | None = None
        self._depth = 0
        self._piled = 0  # changes since the layer that holds everything
        self._whole = len(parts)  # how much that one holds

    def after(self, changes: Changes) -> Layer:
        """Return the parts after a superstep; costs what it changed."""
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
        return Layer(layer.to_dict()) if is_high else layer

    def get(self, key: PartKey) -> Part | None:
        """Return a part, None when there is none."""
        layer: Layer | None = self
        while layer is not None:
            if (part := layer._changed.get(key)) is not None:
                return part
            if key in layer._deleted:
                return None
            layer = layer._parent
        return None

    def to_dict(self) -> dict[PartKey, Part]:
        """Return every part, in the order in which their keys were first written."""
        layers = [self]
        while (parent := layers[-1]._parent) is not None:
            layers.append(parent)
        parts: dict[PartKey, Part] = {}
        for layer in reversed(layers):
            for key in layer._deleted:
                parts.pop(key, None)
            parts.update(layer._changed)
        return parts
