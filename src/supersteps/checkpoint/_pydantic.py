"""How pydantic models make the trip. Loaded only when a model is met; pydantic itself is never imported here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from .._typing import display_name, type_name
from ._builtins import EncodeWalk, check_depth
from ._classes import CopyWalk, InstanceState
from ._plain import TAG
from ._trouble import Trouble

_SET: Final = "$set"
_EXTRA: Final = "$extra"
_PRIVATE: Final = "$private"
_OTHERS: Final = frozenset({TAG, _SET, _EXTRA, _PRIVATE})

_Carry = Callable[[Any, int], Any]


class ModelPlan:
    """A pydantic v2 model: its fields and, where they say something, extras, private attributes and which were set.

    A model's own copies have the same four parts. Validators ran when the model was made and are not run again.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)
        self._fields: Mapping[str, Any] = cls.model_fields
        self._names = tuple(self._fields)
        self._state = InstanceState(cls, frozenset(self._names))

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        check_depth(value, depth)
        node = self._take_apart(
            value, depth, lambda item, level: walk.table[type(item)](walk, item, level)
        )
        return {TAG: self._tag, **node}

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        if any(name not in value.__dict__ for name in self._names) or self._state.surplus(value):
            return walk.copy_unknown(value)  # it could not be saved, but copying is less strict
        return self._make(self._take_apart(value, depth, walk.copy))

    def _take_apart(self, value: Any, depth: int, carry: _Carry) -> dict[str, Any]:
        state: dict[str, Any] = value.__dict__
        self._state.check(value)
        node: dict[str, Any] = {}
        part = ""
        try:
            for name in self._names:
                part = f".{name}"
                if name not in state:
                    raise Trouble("this required field was never set")
                node[name] = carry(state[name], depth + 1)
            extra, private = value.__pydantic_extra__, value.__pydantic_private__
            if value.__pydantic_fields_set__ != {*self._names, *(extra or ())}:
                node[_SET] = sorted(value.__pydantic_fields_set__)
            if extra:
                part = ".model_extra"
                node[_EXTRA] = carry(extra, depth + 1)
            if private:
                part = ".__pydantic_private__"
                node[_PRIVATE] = carry(private, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, part)
            raise
        return node

    def revive(self, node: dict[str, Any]) -> Any:
        del node[TAG]
        if unknown := sorted(node.keys() - self._fields.keys() - _OTHERS):
            names = ", ".join(map(repr, unknown))
            raise Trouble(
                f"{display_name(self._cls)} has no field {names}; was it removed or renamed?"
            )
        given = {name for name in self._names if name in node}
        for name in self._names:
            if name not in node:
                node[name] = self._default(name)
        if _SET not in node and type(extra := node.get(_EXTRA, {})) is dict:
            node[_SET] = given | extra.keys()
        return self._make(node)

    def _default(self, name: str) -> Any:
        field = self._fields[name]
        if field.is_required() or getattr(field, "default_factory_takes_validated_data", False):
            raise Trouble(
                f"{display_name(self._cls)} needs the field {name!r}, which has no default"
            )
        return field.get_default(call_default_factory=True)

    def _make(self, node: dict[str, Any]) -> Any:
        extra, private = node.get(_EXTRA, {}), node.get(_PRIVATE, {})
        fields_set = node.get(_SET, {*self._names, *extra})
        if type(fields_set) not in (list, set) or any(type(name) is not str for name in fields_set):
            raise Trouble(
                f"the names of the fields that were set of {display_name(self._cls)} are not names"
            )
        if type(extra) is not dict or type(private) is not dict:
            raise Trouble(
                f"the extra or private attributes of {display_name(self._cls)} are not an object"
            )
        value = self._cls.__new__(self._cls)
        object.__setattr__(value, "__dict__", {name: node[name] for name in self._names})
        object.__setattr__(value, "__pydantic_fields_set__", set(fields_set))
        object.__setattr__(value, "__pydantic_extra__", extra if self._allows_extra() else None)
        object.__setattr__(value, "__pydantic_private__", self._private(private))
        return value

    def _allows_extra(self) -> bool:
        return bool(self._cls.model_config.get("extra") == "allow")

    def _private(self, saved: dict[str, Any]) -> dict[str, Any] | None:
        declared: Mapping[str, Any] = self._cls.__private_attributes__
        if unknown := sorted(saved.keys() - declared.keys()):
            raise Trouble(
                f"{display_name(self._cls)} has no private attribute {', '.join(map(repr, unknown))}"
            )
        if not declared:
            return None
        undefined = sys.modules["pydantic_core"].PydanticUndefined
        made = {}
        for name, attribute in declared.items():
            item = saved[name] if name in saved else attribute.get_default()
            if item is not undefined:
                made[name] = item
        return made
