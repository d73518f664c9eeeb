"""Classes with methods `to_dict` and `from_dict`, which make them savable."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from supersteps.checkpoint.codec.advice import registering
from supersteps.checkpoint.codec.builtins import EncodeWalk
from supersteps.checkpoint.codec.plain import TAG, VALUE
from supersteps.checkpoint.codec.plans import CopyWalk
from supersteps.checkpoint.codec.trouble import Trouble, short
from supersteps.typing import display_name, type_name


class DictMethodsPlan:
    """A class that converts its state to a dict and back.

    When a value is saved, both methods are called and the result is compared, so that a value that
    could not be loaded is refused where it is sent or set.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        state = self._call("to_dict", value.to_dict)
        if not isinstance(state, dict):
            raise Trouble(f"{self._method('to_dict')} returned {short(state)} instead of a dict")
        try:
            coded = walk.table[type(state)](walk, state, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, ".to_dict()")
            raise
        given = self._call("to_dict", copy.deepcopy, state)  # what loading will pass
        if not self._is_alike(value, state, self._make(given)):
            raise Trouble(
                f"{self._method('from_dict')} does not return an equal value for what "
                f"{self._method('to_dict')} returned; correct one of them, or register the type:\n"
                f"{registering(self._cls)}"
            )
        return {TAG: self._tag, VALUE: coded}

    def revive(self, node: dict[str, Any]) -> Any:
        if node.keys() != {TAG, VALUE} or not isinstance(node[VALUE], dict):
            raise Trouble(f"a saved {short(self._tag)} needs a dict under {VALUE!r}")
        return self._make(node[VALUE])

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return walk.copy_unknown(value)

    def field_names(self, value: Any) -> Sequence[str]:
        state = self._call("to_dict", value.to_dict)
        return [name for name in state if isinstance(name, str)] if isinstance(state, dict) else []

    def field(self, value: Any, name: str) -> Any:
        return value.to_dict()[name]

    def with_field(self, value: Any, name: str, content: Any) -> Any:
        return self._make({**value.to_dict(), name: content})

    def _make(self, state: dict[str, Any]) -> Any:
        made = self._call("from_dict", self._cls.from_dict, state)
        if type(made) is not self._cls:
            raise Trouble(f"{self._method('from_dict')} returned {short(made)}")
        return made

    def _is_alike(self, value: Any, state: dict[str, Any], made: Any) -> bool:
        try:
            if self._cls.__eq__ is object.__eq__:
                return bool(made.to_dict() == state)
            return bool(made == value)
        except Exception:  # for example, a table compares cell by cell; it has to be registered
            return False

    def _call(self, name: str, method: Any, *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:  # the user's method may raise anything
            reason = f"{self._method(name)} raised {type(error).__name__}: {error}"
            raise Trouble(reason) from error

    def _method(self, name: str) -> str:
        return f"{display_name(self._cls)}.{name}"
