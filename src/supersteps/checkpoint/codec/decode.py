"""The walk that turns a JSON tree into a value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from supersteps.checkpoint.codec.plain import CONTAINERS, MAX_DECODE_DEPTH, TAG, VALUE
from supersteps.checkpoint.codec.raw import RawValue
from supersteps.checkpoint.codec.revive import REVIVERS, Reviver
from supersteps.checkpoint.codec.trouble import TooDeep, Trouble, key_step, short


class Decoding:
    """Revives by tag; `find` supplies the revivers of user types, `keep_raw` for those that stay as they are."""

    def __init__(
        self, find: Callable[[Any, bool], Reviver], content_of_raw: Callable[[bytes], Any]
    ) -> None:
        self.revivers = dict(REVIVERS)
        self._find = find
        self._content_of_raw = content_of_raw

    def reset(self) -> None:
        """Forget the revivers of user types."""
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
                        )  # replaces a value, so iterating may go on
            except Trouble as trouble:
                trouble.leave(node, _step(node, key))
                raise
        return node if reviver is None else _call(reviver, node)


def keep_raw(node: dict[str, Any]) -> Any:
    """Stand for the reviver of a type that is not known here."""
    raise AssertionError("a marker, never called")


def _step(node: Any, key: Any) -> str:
    """Spell where in the JSON a walk was, in the words of the value: the content of a tag is no level of its own."""
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
    ) as error:  # constructors, user hooks and `__hash__` may raise anything, given hostile data
        reason = f"{type(error).__name__}: {error}"
        raise Trouble(f"a saved {short(tag)} cannot be rebuilt ({reason})") from error
