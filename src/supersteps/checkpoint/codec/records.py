"""Classes that consist of fields, read and created without constructors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol, cast

import msgspec

from supersteps.checkpoint.codec.attributes import MISSING, InstanceState
from supersteps.checkpoint.codec.builtins import EncodeWalk, check_depth
from supersteps.checkpoint.codec.plain import TAG
from supersteps.checkpoint.codec.plans import AttributeFields, CopyWalk
from supersteps.checkpoint.codec.trouble import Trouble
from supersteps.typing import display_name, type_name

ATTRIBUTES: Final = "$attributes"
"""The key of an instance's other attributes; no field can have this name."""

UNSET_FIELDS: Final = "$unset"
"""The key of the names of fields that were never set."""

Carry = Callable[[Any, int], Any]
"""Encodes, or copies, one value at a depth."""


def dataclass_plan(cls: Any) -> RecordPlan:
    """Plan for a dataclass."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return RecordPlan(cls, fields, _InstanceParts(cls, fields, _dataclass_default))


def attrs_plan(cls: Any) -> RecordPlan:
    """Plan for a class of attrs."""
    fields = {field.name: field for field in cls.__attrs_attrs__}
    return RecordPlan(cls, fields, _InstanceParts(cls, fields, _attrs_default))


def tuple_plan(cls: Any) -> RecordPlan:
    """Plan for a NamedTuple."""
    return RecordPlan(cls, cls._fields, _TupleParts(cls))


def struct_plan(cls: Any) -> RecordPlan:
    """Plan for a msgspec.Struct."""
    return RecordPlan(cls, cls.__struct_fields__, _StructParts(cls))


class Parts(Protocol):
    """How one kind of record is read and created."""

    state: InstanceState

    def read(self, value: Any) -> Iterable[Any] | None:
        """Return the values of all fields, None if some are unset or there are others."""

    def get(self, value: Any, name: str) -> Any:
        """Return the value of a field, MISSING if it was never set."""

    def make(self, node: dict[str, Any]) -> Any:
        """Create an instance from its fields; ignore the tag."""

    def default(self, name: str) -> Any:
        """Return the default of a field, MISSING if it has none."""


class RecordPlan(AttributeFields):
    """A class that consists of its fields: `{"$": "app:Order", "id": 7, "items": [...]}`."""

    def __init__(self, cls: type, names: Iterable[str], parts: Parts) -> None:
        self._cls = cls
        self._tag = type_name(cls)
        self._names = tuple(names)
        self._keys = frozenset({TAG, *self._names})
        self._parts = parts

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        check_depth(value, depth)
        values = self._parts.read(value)
        if values is None:
            return {TAG: self._tag, **self._take_apart(value, depth, partial(encode_any, walk))}
        atoms, table = walk.atoms, walk.table
        out: dict[str, Any] = {TAG: self._tag}
        name = ""
        try:
            for name, item in zip(self._names, values, strict=True):
                kind = type(item)
                out[name] = item if kind in atoms else table[kind](walk, item, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, f".{name}")
            raise
        return out

    def _take_apart(self, value: Any, depth: int, carry: Carry) -> dict[str, Any]:
        """Return the parts of an instance with unset fields or other attributes."""
        node: dict[str, Any] = {}
        unset, more = [], {}
        name = ""
        try:
            for name in self._names:
                item = self._parts.get(value, name)
                if item is MISSING:
                    unset.append(name)
                else:
                    node[name] = carry(item, depth + 1)
            for name, item in self._parts.state.surplus(value).items():
                more[name] = carry(item, depth + 2)
        except Trouble as trouble:
            trouble.leave(value, f".{name}")
            raise
        if more:
            node[ATTRIBUTES] = more
        if unset:
            node[UNSET_FIELDS] = unset
        return node

    def revive(self, node: dict[str, Any]) -> Any:
        return self._parts.make(node) if node.keys() == self._keys else self._put_together(node)

    def _put_together(self, node: dict[str, Any]) -> Any:
        """Create an instance whose fields differ from the saved ones."""
        node.pop(TAG, None)
        more, unset = node.pop(ATTRIBUTES, {}), node.pop(UNSET_FIELDS, [])
        if type(more) is dict:  # an attribute may have become a field later
            node.update({name: more.pop(name) for name in self._names if name in more})
        if type(unset) is not list or any(name not in self._names for name in unset):
            raise Trouble(f"the unset fields of a saved {display_name(self._cls)} are not fields")
        if unknown := sorted(node.keys() - self._keys):
            names = ", ".join(map(repr, unknown))
            raise Trouble(
                f"{display_name(self._cls)} has no field {names}; was it removed or renamed?"
            )
        for name in self._names:
            if name not in node and name not in unset:
                node[name] = self._default(name)
        made = self._parts.make(node)
        if more:
            self._parts.state.attach(made, more)
        return made

    def _default(self, name: str) -> Any:
        """Return the value of a field that was added to the class after the data was written."""
        value = self._parts.default(name)
        if value is MISSING:
            raise Trouble(
                f"{display_name(self._cls)} needs the field {name!r}, which has no default"
            )
        return value

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        try:
            values = self._parts.read(value)
        except Trouble:  # it cannot be saved, but copying is less strict
            return walk.copy_unknown(value)
        if values is None:
            return self._put_together(self._take_apart(value, depth, walk.copy))
        node: dict[str, Any] = {}
        name = ""
        try:
            for name, item in zip(self._names, values, strict=True):
                node[name] = walk.copy(item, depth + 1)
        except Trouble as trouble:
            trouble.leave(value, f".{name}")
            raise
        return self._parts.make(node)


def encode_any(walk: EncodeWalk, item: Any, depth: int) -> Any:
    """Encode one value of any kind."""
    kind = type(item)
    return item if kind in walk.atoms else walk.table[kind](walk, item, depth)


class _InstanceParts:
    """Dataclasses and attrs classes: with `__dict__`, slots, frozen, or descriptors as fields."""

    def __init__(self, cls: type, fields: Mapping[str, Any], default: Callable[[Any], Any]) -> None:
        self._cls = cls
        self._names = tuple(fields)
        self._keys = frozenset(fields)
        self._fields = fields
        self._default = default
        self.state = InstanceState(cls, self._keys)
        # Writing directly to __dict__ makes this fast; a field with a slot or a descriptor is not
        # found there.
        self._in_dict = self.state.has_dict and not any(
            _is_data_descriptor(cls, name) for name in fields
        )

    def read(self, value: Any) -> Iterable[Any] | None:
        if self._in_dict:
            state = value.__dict__
            if state.keys() == self._keys:
                return map(state.__getitem__, self._names)
        if self.state.surplus(value):
            return None
        values = [self.get(value, name) for name in self._names]
        return None if any(item is MISSING for item in values) else values

    def get(self, value: Any, name: str) -> Any:
        try:
            return getattr(value, name)
        except AttributeError:
            return MISSING
        except Exception as error:  # the field may be a property of the user's
            raise Trouble(
                f"reading its field {name!r} raised {type(error).__name__}: {error}"
            ) from error

    def make(self, node: dict[str, Any]) -> Any:
        node.pop(TAG, None)
        value: Any = object.__new__(self._cls)
        if self._in_dict:
            value.__dict__.update(node)
        else:
            for name, item in node.items():
                object.__setattr__(value, name, item)
        return value

    def default(self, name: str) -> Any:
        return self._default(self._fields[name])


def _dataclass_default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING if field.default is dataclasses.MISSING else field.default


def _attrs_default(field: Any) -> Any:
    default = field.default
    if type(default).__name__ == "Factory":
        return MISSING if default.takes_self else default.factory()
    return MISSING if type(default).__name__ in ("_Nothing", "_NothingType") else default


def _is_data_descriptor(cls: type, name: str) -> bool:
    return any(
        name in vars(base) and hasattr(type(vars(base)[name]), "__set__") for base in cls.__mro__
    )


class _TupleParts:
    """NamedTuples; `__new__` may be the user's, so it is not called."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = cls._fields
        self._defaults: Mapping[str, Any] = getattr(cls, "_field_defaults", {})
        self.state = InstanceState(cls, frozenset())

    def read(self, value: Any) -> Iterable[Any] | None:
        if tuple.__len__(value) != len(self._names):
            raise Trouble(f"it has {tuple.__len__(value)} items instead of {len(self._names)}")
        return None if self.state.surplus(value) else tuple.__iter__(value)

    def get(self, value: Any, name: str) -> Any:
        return tuple.__getitem__(value, self._names.index(name))

    def make(self, node: dict[str, Any]) -> Any:
        return tuple.__new__(self._cls, map(_field_of(node), self._names))

    def default(self, name: str) -> Any:
        return self._defaults.get(name, MISSING)


def _field_of(node: dict[str, Any]) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if name not in node:
            raise Trouble(f"the field {name!r} must be set")
        return node[name]

    return get


class _StructParts:
    """msgspec Structs; `__post_init__` has run when the value was created and is not run again."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._names: tuple[str, ...] = cls.__struct_fields__
        self.state = InstanceState(cls, frozenset(self._names))
        self._has_hook = hasattr(cls, "__post_init__")
        self._blank = _blank(cls) if self._has_hook else None
        count = len(cls.__struct_defaults__)
        self._defaults = dict(
            zip(self._names[-count:] if count else (), cls.__struct_defaults__, strict=True)
        )

    def read(self, value: Any) -> Iterable[Any] | None:
        if self._has_hook and self._blank is None:
            raise Trouble(
                f"{display_name(self._cls)} has a __post_init__ and cannot be created without "
                "running it; use a dataclass, or codec.register(type, encode, decode)"
            )
        if self.state.surplus(value):
            return None
        return [self.get(value, name) for name in self._names]

    def get(self, value: Any, name: str) -> Any:
        try:
            return getattr(value, name)
        except AttributeError as error:
            raise Trouble(f"one of its fields was never set: {error}") from None

    def make(self, node: dict[str, Any]) -> Any:
        node.pop(TAG, None)
        if self._blank is None:
            return self._cls(**node)
        value = _COPY_STRUCT(self._blank)
        for name, item in node.items():
            msgspec.structs.force_setattr(value, name, item)
        return value

    def default(self, name: str) -> Any:
        default = self._defaults.get(name, msgspec.NODEFAULT)
        if default is msgspec.NODEFAULT:
            return MISSING
        factory = getattr(default, "factory", None)
        return factory() if type(default).__name__ == "Factory" and callable(factory) else default


_COPY_STRUCT: Final[Callable[[Any], Any]] = cast(Any, msgspec.Struct).__copy__
_SET_CLASS: Final = vars(object)["__class__"].__set__


class _Quiet:
    """A base before the user's class, so that none of its hooks run."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        pass

    def __post_init__(self) -> None:
        pass


def _blank(cls: Any) -> Any:
    """Create an instance of a Struct without running `__post_init__`; None if impossible.

    Only the constructor creates Structs, and it runs the hook. An instance of a derived class
    without the hook has the same layout, so its class can be changed.
    """
    try:
        quiet = type(cls)(cls.__name__, (_Quiet, cls), {"__module__": cls.__module__})
        made = quiet(**dict.fromkeys(cls.__struct_fields__))
        _SET_CLASS(made, cls)
    except TypeError:
        return None
    return made
