"""The walk that converts a JSON tree to a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from supersteps.checkpoint.codec.plain import CONTAINERS, MAX_DECODE_DEPTH, TAG, VALUE
from supersteps.checkpoint.codec.raw import RawValue
from supersteps.checkpoint.codec.revive import REVIVERS, Reviver
from supersteps.checkpoint.codec.trouble import TooDeep, Trouble, key_step, short


class Decoding:
    """Revives values by tag; `find` supplies revivers of user types, `keep_raw` of unknown ones."""

    def __init__(
        self, find: Callable[[Any, bool], Reviver], content_of_raw: Callable[[bytes], Any]
    ) -> None:
        self.revivers = dict(REVIVERS)
        self._find = find
        self._content_of_raw = content_of_raw

    def reset(self) -> None:
        """Clear the revivers of user types."""
        self.revivers = dict(REVIVERS)

    def revive(self, node: Any, depth: int, raw: bool) -> Any:
        """Revive a list or dict in place, the innermost first; one frame for each level of JSON."""
        if depth > MAX_DECODE_DEPTH:
            raise TooDeep(f"the JSON is nested more than {MAX_DECODE_DEPTH} levels deep")
        reviver: Reviver | None = None
        if type(node) is dict:
            if TAG in node:
                tag = node[TAG]
                reviver = self.revivers.get(tag) if type(tag) is str else None
                if reviver is None:
                    reviver = self._find(tag, raw)
            entries: Iterable[tuple[Any, Any]] = node.items()
            kinds = set(map(type, node.values()))
        else:
            entries = enumerate(node)
            kinds = set(map(type, node))
        if reviver is keep_raw:
            return RawValue(node, self._content_of_raw)
        if not kinds.isdisjoint(CONTAINERS):
            key: Any = None
            try:
                for key, item in entries:
                    if type(item) in CONTAINERS:
                        node[key] = self.revive(
                            item, depth + 1, raw
                        )  # replaces a value, which is allowed while iterating
            except Trouble as trouble:
                trouble.leave(node, _step(node, key))
                raise
        return node if reviver is None else _call(reviver, node)


def keep_raw(node: dict[str, Any]) -> Any:
    """Marks types that are unknown here; never called."""
    raise AssertionError("a marker, never called")


def _step(node: Any, key: Any) -> str:
    """Return a step of a path in terms of the value: a tag's content is not a level."""
    if type(node) is dict and TAG in node:
        return "" if key in ("v", VALUE) else f".{key}"
    return key_step(key)


def _call(reviver: Reviver, node: dict[str, Any]) -> Any:
    tag = node[TAG]
    try:
        return reviver(node)
    except (Trouble, RecursionError):
        raise
    except (
        Exception
    ) as error:  # constructors, user hooks and `__hash__` may raise anything for hostile data
        reason = f"{type(error).__name__}: {error}"
        raise Trouble(f"a saved {short(tag)} cannot be rebuilt ({reason})") from error
