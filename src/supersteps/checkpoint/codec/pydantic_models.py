"""How pydantic models are saved, without importing pydantic."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from supersteps.checkpoint.codec.attributes import InstanceState
from supersteps.checkpoint.codec.builtins import EncodeWalk, check_depth
from supersteps.checkpoint.codec.plain import TAG
from supersteps.checkpoint.codec.plans import AttributeFields, CopyWalk
from supersteps.checkpoint.codec.pydantic_fields import FieldForm
from supersteps.checkpoint.codec.records import ATTRIBUTES, UNSET_FIELDS, Carry, encode_any
from supersteps.checkpoint.codec.trouble import Trouble
from supersteps.typing import display_name, type_name

_SET: Final = "$set"
_EXTRA: Final = "$extra"
_PRIVATE: Final = "$private"
_SERIALIZED: Final = "$serialized"
_OTHERS: Final = frozenset(
    {TAG, _SET, _EXTRA, _PRIVATE, _SERIALIZED, ATTRIBUTES, UNSET_FIELDS},
)


class ModelPlan(AttributeFields):
    """A pydantic v2 model: its fields and everything else that it contains.

    The rest is extra and private attributes, which fields were set or left out by
    `model_construct`, and attributes that are not fields. Validators ran when the model was created
    and are not run again. A field whose value has a type that only the model knows is converted by
    the field's own serializer and validator.
    """

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)
        self._fields: Mapping[str, Any] = cls.model_fields
        self._names = tuple(self._fields)
        self._state = InstanceState(cls, frozenset(self._names))
        self._forms: dict[str, FieldForm] = {}

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        check_depth(value, depth)
        return {TAG: self._tag, **self._take_apart(value, depth, partial(encode_any, walk))}

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return self._make(self._take_apart(value, depth, walk.copy))

    def _take_apart(self, value: Any, depth: int, carry: Carry) -> dict[str, Any]:
        state: dict[str, Any] = value.__dict__
        node: dict[str, Any] = {}
        more: dict[str, Any] = {}
        part = ""
        try:
            for name in self._names:
                part = f".{name}"
                if name in state:
                    self._take_field(node, value, name, depth, carry)
            extra, private = value.__pydantic_extra__, value.__pydantic_private__
            if value.__pydantic_fields_set__ != {*self._names, *(extra or ())}:
                node[_SET] = sorted(value.__pydantic_fields_set__)
            if extra:
                part = ".model_extra"
                node[_EXTRA] = carry(extra, depth + 1)
            if private:
                part = ".__pydantic_private__"
                node[_PRIVATE] = carry(private, depth + 1)
            for name, item in self._state.surplus(value).items():
                part = f".{name}"
                more[name] = carry(item, depth + 2)
        except Trouble as trouble:
            trouble.leave(value, part)
            raise
        if more:
            node[ATTRIBUTES] = more
        if unset := [name for name in self._names if name not in state]:
            node[UNSET_FIELDS] = unset
        return node

    def _take_field(
        self, node: dict[str, Any], value: Any, name: str, depth: int, carry: Carry
    ) -> None:
        item = value.__dict__[name]
        try:
            node[name] = carry(item, depth + 1)
        except Trouble as trouble:
            if trouble.is_final:
                raise
            data = self._form(name).dump(value, item)
            if data is None:
                raise
            node.setdefault(_SERIALIZED, {})[name] = carry(data, depth + 2)

    def _form(self, name: str) -> FieldForm:
        if name not in self._forms:
            self._forms[name] = FieldForm(self._cls, name)
        return self._forms[name]

    def revive(self, node: dict[str, Any]) -> Any:
        del node[TAG]
        if unknown := sorted(node.keys() - self._fields.keys() - _OTHERS):
            names = ", ".join(map(repr, unknown))
            raise Trouble(
                f"{display_name(self._cls)} has no field {names}; was it removed or renamed?"
            )
        self._read_serialized(node)
        self._read_unset(node)
        given = {name for name in self._names if name in node}
        for name in self._names:
            if name not in node and name not in node.get(UNSET_FIELDS, ()):
                node[name] = self._default(name)
        if _SET not in node and type(extra := node.get(_EXTRA, {})) is dict:
            node[_SET] = given | extra.keys()
        return self._make(node)

    def _read_serialized(self, node: dict[str, Any]) -> None:
        serialized = node.pop(_SERIALIZED, {})
        if type(serialized) is not dict or not serialized.keys() <= self._fields.keys():
            raise Trouble(f"the serialized fields of a {display_name(self._cls)} are not fields")
        for name, data in serialized.items():
            node[name] = self._form(name).load(data)

    def _read_unset(self, node: dict[str, Any]) -> None:
        unset = node.get(UNSET_FIELDS, [])
        if type(unset) is not list or any(name not in self._names for name in unset):
            raise Trouble(f"the unset fields of a saved {display_name(self._cls)} are not fields")

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
                f"the names of the set fields of a saved {display_name(self._cls)} are not names"
            )
        if type(extra) is not dict or type(private) is not dict:
            raise Trouble(
                f"the extra or private attributes of a saved {display_name(self._cls)} are not an "
                "object"
            )
        value = self._cls.__new__(self._cls)
        fields = {name: node[name] for name in self._names if name in node}
        object.__setattr__(value, "__dict__", fields)
        object.__setattr__(value, "__pydantic_fields_set__", set(fields_set))
        if not self._cls.__pydantic_root_model__:
            kept = extra if self._allows_extra() else None
            object.__setattr__(value, "__pydantic_extra__", kept)
        privates = self._private(private)
        if privates is not None or not self._cls.__pydantic_root_model__:
            object.__setattr__(value, "__pydantic_private__", privates)
        if ATTRIBUTES in node:
            self._state.attach(value, node[ATTRIBUTES])
        return value

    def _allows_extra(self) -> bool:
        return bool(self._cls.model_config.get("extra") == "allow")

    def _private(self, saved: dict[str, Any]) -> dict[str, Any] | None:
        declared: Mapping[str, Any] = self._cls.__private_attributes__
        if unknown := sorted(saved.keys() - declared.keys()):
            raise Trouble(
                f"{display_name(self._cls)} has no private attribute "
                f"{', '.join(map(repr, unknown))}"
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
