"""How user classes made of fields are taken apart and put together again, without running their constructors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from .._typing import display_name, is_pydantic_model, type_name
from ._builtins import EncodeWalk, check_depth
from ._plain import TAG, VALUE
from ._trouble import Trouble, short

_HEAP_TYPE = 1 << 9  # a class made by a class statement rather than in C
_MISSING = object()


class CopyWalk(Protocol):
    """What a plan sees of the walk that copies."""

    def copy(self, value: Any, depth: int) -> Any: ...

    def copy_unknown(self, value: Any) -> Any: ...


class Plan(Protocol):
    """How the instances of one class make the trip."""

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any: ...

    def revive(self, node: dict[str, Any]) -> Any: ...

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any: ...


@lru_cache(maxsize=4096)
def plan_for(cls: Any) -> Plan | None:
    """Find out how the instances of a class are saved.

    Args:
        cls: Any class.

    Returns:
        Its plan, or None if it is not a dataclass, NamedTuple, Enum, msgspec.Struct or pydantic model.
    """
    if issubclass(cls, Enum):
        return EnumPlan(cls)
    if issubclass(cls, msgspec.Struct):
        return RecordPlan(cls, cls.__struct_fields__, _StructParts(cls))
    if is_pydantic_model(cls):
        from ._pydantic import ModelPlan

        return ModelPlan(cls)
    if _is_named_tuple(cls):
        return RecordPlan(cls, cls._fields, _TupleParts(cls))
    if hasattr(cls, "__dataclass_fields__") and not _has_payload(cls, ()):
        names = [field.name for field in dataclasses.fields(cls)]
        return RecordPlan(cls, names, _DataclassParts(cls, names))
    return None


def _is_named_tuple(cls: Any) -> bool:
    fields = getattr(cls, "_fields", None)
    named = (
        issubclass(cls, tuple)
        and type(fields) is tuple
        and all(type(name) is str for name in fields)
    )
    return named and not _has_payload(cls, (tuple,))


def _has_payload(cls: type, allowed: tuple[type, ...]) -> bool:
    """Tell whether a class inherits data that is in none of its fields: subclasses of list, int, Exception, ..."""
    return any(
        not base.__flags__ & _HEAP_TYPE and base is not object and base not in allowed
        for base in cls.__mro__
    )


# ------------------------------------------------------------------------------------------ records


class Parts(Protocol):
    """How one kind of record is read and made."""

    def read(self, value: Any) -> Iterable[Any]: ...

    def make(self, node: dict[str, Any]) -> Any: ...

    def default(self, name: str) -> Any: ...


class RecordPlan:
    """A class whose instances are their fields: `{"$": "app:Order", "id": 7, "items": [...]}`."""

    def __init__(self, cls: type, names: Iterable[str], parts: Parts) -> None:
        self._cls = cls
        self._tag = type_name(cls)
        self._names = tuple(names)
        self._keys = frozenset({TAG, *self._names})
        self._parts = parts

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        check_depth(value, depth)
        atoms, table = walk.atoms, walk.table
        out: dict[str, Any] = {TAG: self._tag}
        values = self._parts.read(value)
        name = ""
        try:
            for name, item in zip(self._names, values, strict=True):
                kind = type(item)
                out[name] = item if kind in atoms else table[kind](walk, item, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, f".{name}")
            raise
        return out

    def revive(self, node: dict[str, Any]) -> Any:
        if node.keys() != self._keys:
            self._complete(node)
        return self._parts.make(node)

    def _complete(self, node: dict[str, Any]) -> None:
        """Fill in the fields that were added to the class after the data was written."""
        if unknown := sorted(node.keys() - self._keys):
            names = ", ".join(map(repr, unknown))
            raise Trouble(
                f"{display_name(self._cls)} has no field {names}; was it removed or renamed?"
            )
        for name in self._names:
            if name not in node:
                value = self._parts.default(name)
                if value is _MISSING:
                    raise Trouble(
                        f"{display_name(self._cls)} needs the field {name!r}, which has no default"
                    )
                node[name] = value

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        node: dict[str, Any] = {}
        try:
            values = self._parts.read(value)
        except Trouble:  # it could not be saved, but copying is less strict
            return walk.copy_unknown(value)
        name = ""
        try:
            for name, item in zip(self._names, values, strict=True):
                node[name] = walk.copy(item, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, f".{name}")
            raise
        return self._parts.make(node)


class _DataclassParts:
    """Dataclasses of every sort: with `__dict__`, with slots, frozen, or with descriptors as fields."""

    def __init__(self, cls: type, names: list[str]) -> None:
        self._cls = cls
        self._names = names
        self._keys = frozenset(names)
        self._fields = {field.name: field for field in dataclasses.fields(cls)}
        self._state = InstanceState(cls, self._keys)
        # Writing straight to __dict__ is what makes this fast; a field with a slot or descriptor is not found there.
        self._in_dict = self._state.has_dict and not any(
            _is_data_descriptor(cls, name) for name in names
        )

    def read(self, value: Any) -> Iterable[Any]:
        if self._in_dict:
            state = value.__dict__
            if state.keys() == self._keys:
                return map(state.__getitem__, self._names)
        self._state.check(value)
        return [self._get(value, name) for name in self._names]

    def _get(self, value: Any, name: str) -> Any:
        try:
            return getattr(value, name)
        except AttributeError:
            raise Trouble(f"its field {name!r} was never set") from None
        except Exception as error:  # the field is a property of the user's
            raise Trouble(
                f"reading its field {name!r} raised {type(error).__name__}: {error}"
            ) from error

    def make(self, node: dict[str, Any]) -> Any:
        node.pop(TAG, None)
        value: Any = object.__new__(self._cls)
        if self._in_dict:
            value.__dict__.update(node)
        else:
            for name in self._names:
                object.__setattr__(value, name, node[name])
        return value

    def default(self, name: str) -> Any:
        field = self._fields[name]
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        return _MISSING if field.default is dataclasses.MISSING else field.default


class _TupleParts:
    """NamedTuples; their `__new__` may be the user's, so it is left out."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = cls._fields
        self._defaults: Mapping[str, Any] = getattr(cls, "_field_defaults", {})
        self._state = InstanceState(cls, frozenset())

    def read(self, value: Any) -> Iterable[Any]:
        self._state.check(value)
        if tuple.__len__(value) != len(self._names):
            raise Trouble(f"it holds {tuple.__len__(value)} items instead of {len(self._names)}")
        return tuple.__iter__(value)

    def make(self, node: dict[str, Any]) -> Any:
        return tuple.__new__(self._cls, map(node.__getitem__, self._names))

    def default(self, name: str) -> Any:
        return self._defaults.get(name, _MISSING)


class _StructParts:
    """msgspec Structs. Only their constructor can make them, so `__post_init__` runs if there is one."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = cls.__struct_fields__
        self._state = InstanceState(cls, frozenset(self._names))
        self._has_hook = hasattr(cls, "__post_init__")
        count = len(cls.__struct_defaults__)
        self._defaults = dict(
            zip(self._names[-count:] if count else (), cls.__struct_defaults__, strict=True)
        )

    def read(self, value: Any) -> Iterable[Any]:
        self._state.check(value)
        try:
            return [getattr(value, name) for name in self._names]
        except AttributeError as error:
            raise Trouble(f"one of its fields was never set: {error}") from None

    def make(self, node: dict[str, Any]) -> Any:
        node.pop(TAG, None)
        value = self._cls(**node)
        if (
            self._has_hook
        ):  # it may have changed what it was given; what was saved is what comes back
            for name, item in node.items():
                _slot(self._cls, name).__set__(value, item)
        return value

    def default(self, name: str) -> Any:
        default = self._defaults.get(name, msgspec.NODEFAULT)
        if default is msgspec.NODEFAULT:
            return _MISSING
        factory = getattr(default, "factory", None)
        return factory() if type(default).__name__ == "Factory" and callable(factory) else default


def _slot(cls: type, name: str) -> Any:
    return next(vars(base)[name] for base in cls.__mro__ if name in vars(base))


# -------------------------------------------------------------------------- state beside the fields


class InstanceState:
    """What an instance may hold besides its fields. Losing it quietly would break the round trip, so it is refused."""

    def __init__(self, cls: type, fields: frozenset[str]) -> None:
        self.has_dict = cls.__dictoffset__ != 0
        cached = {
            name for base in cls.__mro__ for name, member in vars(base).items() if _is_cache(member)
        }
        # Derived values are computed anew; __orig_class__ is what typing leaves on instances of subscripted generics.
        self._dropped = frozenset(cached - fields | {"__orig_class__"})
        self._known = fields | self._dropped
        self._other_slots = sorted(_slots(cls) - fields)
        self._trivial = not self.has_dict and not self._other_slots

    def surplus(self, value: Any) -> list[str]:
        """Give the names of the attributes of an instance that would be lost."""
        if self._trivial:
            return []
        extra = sorted(value.__dict__.keys() - self._known) if self.has_dict else []
        return extra + [
            name for name in self._other_slots if getattr(value, name, _MISSING) is not _MISSING
        ]

    def check(self, value: Any) -> None:
        """Refuse an instance with attributes that its class does not declare as fields.

        Raises:
            Trouble: It has some.
        """
        if extra := self.surplus(value):
            names = ", ".join(map(repr, extra))
            raise Trouble(f"its attributes {names} are not fields and would be lost; declare them")


def _is_cache(member: Any) -> bool:
    return (
        isinstance(member, functools.cached_property) or type(member).__name__ == "cached_property"
    )


def _slots(cls: type) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        # The slots of msgspec's classes are the fields; those of pydantic's base class are saved as parts of the model.
        if (
            base.__flags__ & _HEAP_TYPE
            and not issubclass(base, msgspec.Struct)
            and not _is_pydantic_base(base)
        ):
            declared = vars(base).get("__slots__", ())
            for name in (declared,) if isinstance(declared, str) else declared:
                private = name.startswith("__") and not name.endswith("__")
                names.add(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return names - {"__dict__", "__weakref__"}


def _is_pydantic_base(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pydantic"


def _is_data_descriptor(cls: type, name: str) -> bool:
    return any(
        name in vars(base) and hasattr(type(vars(base)[name]), "__set__") for base in cls.__mro__
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
        raise Trouble(f"it is not among the members of {display_name(self._cls)}")

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
    """Tell whether an int is too long to be a JSON number."""
    return value.bit_length() > 2000
