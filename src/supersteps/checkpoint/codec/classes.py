"""Which classes of a program can be saved, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum, Flag
from functools import lru_cache
from typing import Any

import msgspec

from supersteps.checkpoint.codec.attributes import is_heap_type
from supersteps.checkpoint.codec.builtins import EncodeWalk
from supersteps.checkpoint.codec.plain import TAG, VALUE
from supersteps.checkpoint.codec.plans import CopyWalk, FieldPlan, Plan
from supersteps.checkpoint.codec.records import attrs_plan, dataclass_plan, struct_plan, tuple_plan
from supersteps.checkpoint.codec.trouble import Trouble, short
from supersteps.typing import display_name, is_attrs_class, is_pydantic_model, type_name


@lru_cache(maxsize=4096)
def plan_for(cls: Any) -> Plan | None:
    """Return how the instances of a class are saved.

    Args:
        cls: Any class.

    Returns:
        Its plan, or None if it is not a dataclass, attrs class, NamedTuple, Enum, msgspec.Struct or
        pydantic model, and does not have the methods `to_dict` and `from_dict`.
    """
    if issubclass(cls, Enum):
        return EnumPlan(cls)
    if issubclass(cls, msgspec.Struct):
        return struct_plan(cls)
    if is_pydantic_model(cls):
        from supersteps.checkpoint.codec.pydantic_models import ModelPlan

        return ModelPlan(cls)
    if _is_named_tuple(cls):
        return tuple_plan(cls)
    if not _has_payload(cls, ()) and (record := _record_plan(cls)) is not None:
        return record
    if has_dict_methods(cls):
        from supersteps.checkpoint.codec.dict_methods import DictMethodsPlan

        return DictMethodsPlan(cls)
    return None


def fields_of(cls: type) -> FieldPlan | None:
    """Return how the fields of a class are read and changed, None if it has none.

    A class that the user registered may have fields without being savable by them.
    """
    plan = plan_for(cls) or _record_plan(cls)
    return plan if isinstance(plan, FieldPlan) else None


def _record_plan(cls: Any) -> Plan | None:
    if dataclasses.is_dataclass(cls):
        return dataclass_plan(cls)
    return attrs_plan(cls) if is_attrs_class(cls) else None


def has_dict_methods(cls: type) -> bool:
    """Return whether a class has a method `to_dict` and a class or static method `from_dict`."""
    makers = [vars(base).get("from_dict") for base in cls.__mro__ if "from_dict" in vars(base)]
    return callable(getattr(cls, "to_dict", None)) and isinstance(
        next(iter(makers), None), classmethod | staticmethod
    )


def _is_named_tuple(cls: Any) -> bool:
    fields = getattr(cls, "_fields", None)
    named = (
        issubclass(cls, tuple)
        and type(fields) is tuple
        and all(type(name) is str for name in fields)
    )
    return named and not _has_payload(cls, (tuple,))


def _has_payload(cls: type, allowed: tuple[type, ...]) -> bool:
    """Return whether a class inherits data that is not in its fields, for example from list."""
    return any(
        not is_heap_type(base) and base is not object and base not in allowed
        for base in cls.__mro__
    )


# -------------------------------------------------------------------------------------------- enums


class EnumPlan:
    """Enums, by name: `{"$": "app:Color", "$value": "RED"}`; combined flags by number."""

    def __init__(self, cls: type[Enum]) -> None:
        self._cls = cls
        self._tag = type_name(cls)
        self._members: Mapping[str, Enum] = cls.__members__
        self._is_flag = issubclass(cls, Flag)

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        name = value._name_
        if name is not None and self._members.get(name) is value:
            return {TAG: self._tag, VALUE: name}
        if self._is_flag and type(value._value_) is int and not is_huge(value._value_):
            return {TAG: self._tag, VALUE: value._value_}
        raise Trouble(f"it is not a member of {display_name(self._cls)}")

    def revive(self, node: dict[str, Any]) -> Any:
        value = node.get(VALUE)
        if len(node) == 2 and type(value) is str and value in self._members:
            return self._members[value]
        if len(node) == 2 and type(value) is int and self._is_flag:
            made = self._cls(value)
            if isinstance(made, self._cls):
                return made
        raise Trouble(f"{display_name(self._cls)} has no member {short(value)}")

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value


def is_huge(value: int) -> bool:
    """Return whether an int is too long to be a JSON number."""
    return value.bit_length() > 2000
