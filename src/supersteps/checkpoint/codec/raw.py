"""`RawValue`: a saved value whose type this program does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from supersteps.checkpoint.codec.plain import TAG, VALUE, dumps


class RawValue:
    """A read-only view of a saved value of an unknown type.

    Read fields as `raw["name"]` or `raw.name`. It can be saved again, as the same JSON.

    Attributes:
        type_name: The type as it was saved, `module:qualname`.
        value: Its content: a dict of its fields; for an enum or a registered type, the saved
            content.
    """

    __slots__ = ("__weakref__", "_content", "_json", "_revive", "type_name")

    type_name: str
    _json: bytes
    _revive: Callable[[bytes], Any]
    _content: Any

    def __init__(self, node: dict[str, Any], revive: Callable[[bytes], Any]) -> None:
        set_once = object.__setattr__
        set_once(self, "type_name", node[TAG])
        set_once(self, "_json", dumps(node))
        content = (
            node[VALUE]
            if node.keys() == {TAG, VALUE}
            else {key: node[key] for key in node if key != TAG}
        )
        # The content is revived when it is read; only then can damage be noticed.
        set_once(self, "_content", dumps(content))
        set_once(self, "_revive", revive)

    @property
    def value(self) -> Any:
        """The content, revived as far as types are known; a new copy each time."""
        return self._revive(self._content)

    @property
    def json(self) -> bytes:
        """The JSON that it came from, compact."""
        return self._json

    def __getitem__(self, name: Any) -> Any:
        return self.value[name]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            content = self.value
            if isinstance(content, dict) and name in content:
                return content[name]
        raise AttributeError(f"the saved {self.type_name} has no field {name!r}")

    def __contains__(self, name: object) -> bool:
        content = self.value
        return isinstance(content, (dict, list, tuple, set, frozenset)) and name in content

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def keys(self) -> list[str]:
        """Return the names of the fields, so that `dict(raw)` works."""
        content = self.value
        return list(content) if isinstance(content, dict) else []

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a RawValue is read-only; the type {self.type_name} is unknown to this program"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"a RawValue is read-only; the type {self.type_name} is unknown to this program"
        )

    def __eq__(self, other: object) -> bool:
        return self._json == other._json if isinstance(other, RawValue) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._json)

    def __repr__(self) -> str:
        return f"RawValue({self.type_name!r}, {self.value!r})"

    def __copy__(self) -> RawValue:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RawValue:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a RawValue cannot be pickled")
