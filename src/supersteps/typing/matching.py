"""Whether values, or all values of a type, match an annotation."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Mapping
from typing import (
    Any,
    Literal,
    Never,
    NoReturn,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from supersteps.typing import annotations as reading

_UNIONS = (Union, types.UnionType)
_NEVER = (Never, NoReturn)


# --------------------------------------------------------------------------- a value, an annotation


def matches(value: Any, annotation: Any) -> bool:
    """Return whether a value matches an annotation, inside containers and generic fields too.

    A plain class means what `isinstance` says: a bool is an int, an int is not a float. What cannot
    be checked at run time (the signature of a callable, the items of an iterator) is assumed to
    match.

    Args:
        value: Any object.
        annotation: A type, a union, a generic such as `dict[str, list[int]]`, a Literal, a
            TypedDict, a Protocol.

    Returns:
        True if it fits.
    """
    if annotation is Any or annotation is object:
        return True
    annotation = reading.unwrap(annotation)
    origin = get_origin(annotation)
    if origin is None:
        return _matches_simple(value, annotation)
    args = get_args(annotation)
    if origin in _UNIONS:
        return any(matches(value, arg) for arg in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if not isinstance(origin, type):
        return True
    if typing.is_typeddict(origin):
        return _matches_typed_dict(value, origin, args)
    return _is_instance(value, origin) and _contents_match(value, origin, args)


def _matches_simple(value: Any, annotation: Any) -> bool:
    if annotation in _NEVER:
        return False
    if isinstance(annotation, TypeVar):
        return any(matches(value, choice) for choice in reading.choices(annotation))
    if not isinstance(annotation, type):
        return callable(value) if annotation is typing.Callable else True
    if typing.is_typeddict(annotation):
        return _matches_typed_dict(value, annotation, ())
    return _is_instance(value, annotation)


def _is_instance(value: Any, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:  # a Protocol without @runtime_checkable: compare the members
        return all(hasattr(value, name) for name in _protocol_members(cls))


def _protocol_members(cls: type) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        if getattr(base, "_is_protocol", False) and base.__module__ not in (
            "typing",
            "typing_extensions",
        ):
            names.update(vars(base).get("__annotations__", ()))
            names.update(
                name
                for name, member in vars(base).items()
                if not name.startswith("_") or inspect.isfunction(member)
            )
    return {name for name in names if not name.startswith("_abc_")} - _PROTOCOL_MACHINERY


_PROTOCOL_MACHINERY = frozenset({"__init__", "__subclasshook__", "__class_getitem__"})


def _contents_match(value: Any, origin: Any, args: tuple[Any, ...]) -> bool:
    """Check the content of a value that is known to be an instance of `origin`."""
    if origin is type:
        return _is_class_of(value, args[0])
    if issubclass(origin, tuple) and not hasattr(origin, "_fields"):
        return _matches_tuple(value, args)
    if _is_user_generic(origin):
        return all(
            matches(getattr(value, name, None), hint)
            for name, hint in reading.generic_fields(origin, args)
        )
    if isinstance(value, Mapping):
        key, item = (*args, Any, Any)[:2] if len(args) != 1 else (args[0], Any)
        return all(matches(k, key) for k in value) and (
            item is Any or all(matches(v, item) for v in value.values())
        )
    if (
        isinstance(value, Collection)
        and len(args) == 1
        and not isinstance(value, (str, bytes, bytearray))
    ):
        return all(matches(item, args[0]) for item in value)
    if isinstance(value, (str, bytes, bytearray)) and len(args) == 1:
        return matches(value[:1] if isinstance(value, str) else 0, args[0])
    return True


def _is_class_of(value: Any, annotation: Any) -> bool:
    wanted = reading.unwrap(annotation)
    choices = get_args(wanted) if get_origin(wanted) in _UNIONS else (wanted,)
    return any(not isinstance(choice, type) or issubclass(value, choice) for choice in choices)


def _matches_tuple(value: tuple[Any, ...], args: tuple[Any, ...]) -> bool:
    if len(args) == 2 and args[1] is Ellipsis:
        return all(matches(item, args[0]) for item in value)
    if any(get_origin(arg) is typing.Unpack or getattr(arg, "__unpacked__", False) for arg in args):
        return True  # tuple[int, *Ts]: any tuple matches
    return len(value) == len(args) and all(map(matches, value, args))


def _matches_typed_dict(value: Any, cls: Any, args: tuple[Any, ...]) -> bool:
    if not isinstance(value, dict) or not _required(cls) <= value.keys():
        return False
    hints = _typed_dict_hints(cls)
    mapping = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    return all(
        matches(value[key], reading.substitute(hint, mapping))
        for key, hint in hints.items()
        if key in value
    )


def _typed_dict_hints(cls: type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for parent in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(parent) or parent
        if typing.is_typeddict(origin):
            mapping = dict(
                zip(getattr(origin, "__parameters__", ()), get_args(parent), strict=False)
            )
            inherited = _typed_dict_hints(origin)
            hints.update(
                {key: reading.substitute(hint, mapping) for key, hint in inherited.items()}
            )
    # A class repeats the annotations of its bases, which were resolved where they were written.
    return {**reading.own_hints(cls), **hints}


def _is_user_generic(origin: type) -> bool:
    return bool(getattr(origin, "__parameters__", ())) and reading.is_struct_like(origin)


# --------------------------------------------------------------------- an annotation, an annotation


def is_subtype(source: Any, target: Any) -> bool:
    """Return whether every value of `source` is accepted by `target`.

    Containers are treated as values (covariant): a `list[bool]` fits `list[int]`. `Any` fits
    everything, both ways.

    Args:
        source: The annotation of what is sent.
        target: The annotation of what is accepted.

    Returns:
        True if it always fits.
    """
    return _Comparison(every=True).compare(source, target)


def overlaps(source: Any, target: Any) -> bool:
    """Return whether some value of `source` could be accepted by `target`.

    Edges are checked with this: False means that no message can pass. A source that declares a base
    class may send the derived one. An empty list would fit any list, but `list[int]` and
    `list[str]` do not overlap, because no useful value passes.

    Args:
        source: The annotation of what is sent.
        target: The annotation of what is taken.

    Returns:
        False if no value can pass.
    """
    return _Comparison(every=False).compare(source, target)


class _Comparison:
    """One walk for both: `every` says whether all or some of the source's values must fit."""

    def __init__(self, *, every: bool) -> None:
        self._every = every

    def compare(self, source: Any, target: Any) -> bool:
        source, target = reading.unwrap(source), reading.unwrap(target)
        if source in _NEVER or target in _NEVER:
            return self._every and source in _NEVER
        if source is Any or target is Any or target is object:
            return True
        if get_origin(source) in _UNIONS or isinstance(source, TypeVar):
            quantifier = all if self._every else any
            return quantifier(self.compare(member, target) for member in _members(source))
        if get_origin(source) is Literal:
            quantifier = all if self._every else any
            return quantifier(matches(choice, target) for choice in get_args(source))
        if get_origin(target) in _UNIONS or isinstance(target, TypeVar):
            return any(self.compare(source, member) for member in _members(target))
        if get_origin(target) is Literal:
            return not self._every and any(matches(choice, source) for choice in get_args(target))
        return self._compare_classes(source, target)

    def _compare_classes(self, source: Any, target: Any) -> bool:
        wide, narrow = get_origin(target) or target, get_origin(source) or source
        if not (isinstance(wide, type) and isinstance(narrow, type)):
            return bool(wide == narrow) or not self._every
        upcast = _is_subclass(narrow, wide)
        if not upcast and (self._every or not _is_subclass(wide, narrow)):
            return False
        lower, upper = (source, target) if upcast else (target, source)
        return self._compare_arguments(lower, upper)

    def _compare_arguments(self, lower: Any, upper: Any) -> bool:
        """Compare the arguments of two generics; `lower`'s class derives from `upper`'s."""
        wanted = get_args(upper)
        cls = get_origin(upper) or upper
        given = _arguments_as(lower, cls)
        if not wanted or given is None:
            return True
        if issubclass(cls, tuple) and not hasattr(cls, "_fields"):
            return self._compare_tuples(given, wanted)
        if len(given) != len(wanted):
            return True
        return all(
            isinstance(arg, list) or self.compare(arg, want)
            for arg, want in zip(given, wanted, strict=True)
        )

    def _compare_tuples(self, given: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
        if wanted[-1:] == (Ellipsis,):
            return all(self.compare(arg, wanted[0]) for arg in given if arg is not Ellipsis)
        if given[-1:] == (Ellipsis,):
            return not self._every and all(self.compare(given[0], want) for want in wanted)
        return len(given) == len(wanted) and all(map(self.compare, given, wanted))


def _members(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, TypeVar):
        return reading.choices(annotation)
    return get_args(annotation)


def _is_subclass(cls: type, base: type) -> bool:
    if typing.is_typeddict(base):
        return cls in (base, dict) or (
            typing.is_typeddict(cls) and _required(base) <= _required(cls)
        )
    if typing.is_typeddict(cls):
        cls = dict
    try:
        return issubclass(cls, base)
    except TypeError:  # a Protocol without @runtime_checkable
        return all(
            hasattr(cls, name) or name in _annotated(cls) for name in _protocol_members(base)
        )


def _required(cls: Any) -> set[str]:
    """Return the keys that a TypedDict requires.

    Python itself misses qualifiers in annotations that are strings.
    """
    keys = set(cls.__required_keys__)
    for name, hint in _typed_dict_hints(cls).items():
        if get_origin(hint) is NotRequired:
            keys.discard(name)
        elif get_origin(hint) is Required:
            keys.add(name)
    return keys


def _annotated(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base).get("__annotations__", ())}


def _arguments_as(annotation: Any, cls: type) -> tuple[Any, ...] | None:
    """Return the arguments of `annotation` seen as its base `cls`; None if they are unknown."""
    origin = get_origin(annotation) or annotation
    args = get_args(annotation)
    if origin is cls:
        return args or None
    mapping = dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
    for base, base_mapping in reading.base_arguments(origin, mapping):
        if issubclass(base, cls):
            parameters = getattr(base, "__parameters__", ())
            filled: Any = base
            if parameters:
                filled = filled[tuple(base_mapping.get(p, p) for p in parameters)]
            return _arguments_as(filled, cls)
    # list[int] as Sequence[int], dict[str, int] as Mapping[str, int]: the standard generics have
    # the same parameters.
    return args or None
