"""Reading annotations: how to show them and which types they reach."""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Generic,
    Literal,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

_UNIONS = (Union, types.UnionType)
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "ClassVar", "Final")
_WRAPPERS = frozenset(getattr(typing, name) for name in _QUALIFIERS if hasattr(typing, name))


_STORED_AS = {
    "supersteps.define.summary": "supersteps.summaries",
    "supersteps.define.policies": "supersteps.policies",
    "supersteps.requests": "supersteps.requests",  # except those that were first saved apart
    "supersteps.states": "supersteps.events",
    "supersteps.checkpoint.sections.question": "supersteps.checkpoint.content",
    "supersteps.checkpoint.sections.answered": "supersteps.checkpoint.content",
    "supersteps.checkpoint.sections.sub_run": "supersteps.checkpoint.content",
    "supersteps.checkpoint_info": "supersteps.checkpoint.record",
    "supersteps.checkpoint.codec.raw": "supersteps.checkpoint.raw",
    "supersteps.run.result": "supersteps.result",
}
"""Modules that have moved, with the names under which their types were first saved."""

_STORED_APART = {
    "SubWorkflowRequestMessage": "supersteps.subworkflow",
    "SubWorkflowResponseMessage": "supersteps.subworkflow",
}
"""Types in those modules that were first saved under the name of another module."""


def stored_module(type_: type) -> str:
    """Return the module under which a type is saved, in values and fingerprints of graphs."""
    stored = _STORED_AS.get(type_.__module__)
    if stored is None:
        return type_.__module__
    return _STORED_APART.get(type_.__qualname__, stored)


def type_name(type_: type) -> str:
    """Return the name under which a type is saved: `module:qualname`."""
    return f"{stored_module(type_)}:{type_.__qualname__}"


def display_name(annotation: Any) -> str:
    """Return an annotation as people read it: `list[int]`, `orders.Order`, `int | None`."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if get_origin(annotation) in _UNIONS:
        return " | ".join(display_name(arg) for arg in get_args(annotation))
    if isinstance(annotation, type):
        module = stored_module(annotation)
        name = annotation.__qualname__
        return name if module in ("builtins", "typing") else f"{module}.{name}"
    args = get_args(annotation)
    origin = get_origin(annotation)
    if args and isinstance(origin, type):
        inner = ", ".join(_display_argument(arg) for arg in args)
        return f"{display_name(origin)}[{inner}]"
    return repr(annotation).replace("typing.", "")


def _display_argument(argument: Any) -> str:
    if isinstance(argument, list):  # the parameters of Callable[[...], ...]
        return f"[{', '.join(map(display_name, argument))}]"
    return display_name(argument)


def is_main_file(module_name: str) -> bool:
    """Return whether the running script is the file that `module_name` would be imported from."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name.removesuffix(".__main__") == module_name.removesuffix(
        ".__main__"
    ):
        return True
    path = getattr(main, "__file__", None)
    if not isinstance(path, str):
        return False
    from pathlib import PurePath  # slow to import and rarely needed

    parts = PurePath(path).with_suffix("").parts
    wanted = tuple(module_name.split("."))
    return parts[-len(wanted) :] == wanted or parts[-len(wanted) - 1 :] == (*wanted, "__main__")


# ------------------------------------------------------------------------------ reading annotations


def unwrap(annotation: Any) -> Any:
    """Remove wrappers that do not change the values: Annotated, NewType, aliases, Required."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated or origin in _WRAPPERS:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        elif (
            type(annotation).__name__ == "TypeAliasType" or type(origin).__name__ == "TypeAliasType"
        ):
            annotation = _alias_value(annotation)
        elif isinstance(annotation, (str, ForwardRef)):
            annotation = (
                _evaluate(annotation, vars(builtins), {})
                if isinstance(annotation, ForwardRef)
                else Any
            )
        elif (meant := _pydantic_meaning(annotation)) is not None:
            annotation = meant
        else:
            return types.NoneType if annotation is None else annotation


_PYDANTIC_MEANINGS: Mapping[str, Any] = {
    **dict.fromkeys(("AwareDatetime", "NaiveDatetime", "PastDatetime", "FutureDatetime"), datetime),
    **dict.fromkeys(("PastDate", "FutureDate"), date),
    **dict.fromkeys(("Json", "ImportString"), Any),
    "EmailStr": str,
}


def _pydantic_meaning(annotation: Any) -> Any:
    """Return the class of the values of a pydantic marker type, None for another type.

    Marker types have no instances; the values are plain datetimes, texts and addresses.
    """
    if not isinstance(annotation, type) or not annotation.__module__.startswith("pydantic."):
        return None
    name = annotation.__name__
    if name.startswith("IPvAny"):
        import ipaddress  # rarely needed

        kind = name.removeprefix("IPvAny")
        return getattr(ipaddress, f"IPv4{kind}") | getattr(ipaddress, f"IPv6{kind}")
    return _PYDANTIC_MEANINGS.get(name)


def choices(variable: TypeVar) -> tuple[Any, ...]:
    """Return the annotations that a type variable allows: constraints, bound, or Any."""
    module = sys.modules.get(variable.__module__)
    written = variable.__constraints__ or (variable.__bound__ or Any,)
    return tuple(
        _evaluate(choice, vars(module) if module is not None else {}, {}) for choice in written
    )


def _alias_value(alias: Any) -> Any:
    """Return the value of a `type X = ...` statement, with the alias's arguments filled in."""
    try:
        target = get_origin(alias) or alias
        value = target.__value__
    except NameError:
        return Any
    return substitute(
        value, dict(zip(getattr(target, "__type_params__", ()), get_args(alias), strict=False))
    )


class _Lenient(dict[str, Any]):
    """A namespace in which unknown names mean `Any`.

    One missing import must not hide the other types of an annotation.
    """

    def __init__(self, known: Mapping[str, Any], outer: Mapping[str, Any]) -> None:
        super().__init__(known)
        self._outer = outer

    def __missing__(self, name: str) -> Any:
        return self._outer.get(name, getattr(builtins, name, Any))


def _evaluate(annotation: Any, outer: Mapping[str, Any], inner: Mapping[str, Any]) -> Any:
    """Resolve the strings in an annotation; what cannot be resolved becomes `Any`."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(
            holder, dict(outer), _Lenient(inner, outer), include_extras=True
        )["it"]
    except Exception:  # invalid annotations fail in many ways, which must not refuse the graph
        return Any if isinstance(annotation, (str, ForwardRef)) else annotation


def _own_annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


@lru_cache(maxsize=2048)
def own_hints(cls: type) -> Mapping[str, Any]:
    """Return the annotations of one class body, with strings resolved where possible."""
    module = sys.modules.get(cls.__module__)
    outer = vars(module) if module is not None else {}
    inner = {**vars(cls), cls.__name__: cls}
    # A field may have the same name as a type ("date: date"): the annotation means the module's.
    inner = {
        name: value
        for name, value in inner.items()
        if isinstance(value, type) and name not in outer
    }
    return {name: _evaluate(hint, outer, inner) for name, hint in _own_annotations(cls).items()}


def is_struct_like(cls: type) -> bool:
    """Return whether a class consists of annotated fields: a dataclass, NamedTuple, TypedDict."""
    return (
        dataclasses.is_dataclass(cls)
        or is_attrs_class(cls)
        or typing.is_typeddict(cls)
        or _is_subclass_of_loaded(cls, "msgspec", "Struct")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
        or is_pydantic_model(cls)
    )


def is_attrs_class(cls: type) -> bool:
    """Return whether a class was created by attrs."""
    return isinstance(getattr(cls, "__attrs_attrs__", None), tuple)


def is_pydantic_model(cls: type) -> bool:
    """Return whether a class is a pydantic (v2) model, without importing pydantic."""
    return _is_subclass_of_loaded(cls, "pydantic", "BaseModel")


def _is_subclass_of_loaded(cls: type, module: str, name: str) -> bool:
    """Return whether a class derives from one of a package, without importing the package."""
    base = getattr(sys.modules.get(module), name, None)
    return isinstance(base, type) and issubclass(cls, base)


def reachable_types(annotations: Iterable[Any]) -> list[type]:
    """Return every class that a value of the given annotations can contain.

    Args:
        annotations: Types, unions, generics and so on. Strings that cannot be resolved are skipped.

    Returns:
        The classes in the order in which they were found, each once.
    """
    found: dict[type, None] = {}
    seen: set[int] = set()
    pending = list(annotations)
    pending.reverse()
    keep = []  # keeps the objects alive whose ids are in `seen`
    while pending:
        annotation = pending.pop()
        if id(annotation) in seen:
            continue
        seen.add(id(annotation))
        keep.append(annotation)
        if isinstance(annotation, type):
            found[annotation] = None
        pending.extend(reversed(list(_parts(annotation))))
    return list(found)


def twin_of(kind: type, annotations: Iterable[Any]) -> str:
    """Return a hint if annotations name another class of the same name: a cell was run again.

    Args:
        kind: The class of a value that does not match.
        annotations: What would have matched.

    Returns:
        A sentence to append to a message, or "".
    """
    name = type_name(kind)
    if all(cls is kind or type_name(cls) != name for cls in reachable_types(annotations)):
        return ""
    return f". {display_name(kind)} has been defined again since then, {DEFINED_AGAIN}"


DEFINED_AGAIN = (
    "for example because a notebook's cell was run again: also run the cells again that define the "
    "executors, create the values and build the workflow"
)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the parts of an annotation, one level down."""
    plain = unwrap(annotation)
    origin = get_origin(plain)
    if plain is not annotation:
        yield plain
    elif origin is Literal:
        yield from (type(value) for value in get_args(plain) if isinstance(value, Enum))
    elif origin is not None:
        yield origin
        for arg in get_args(plain):
            yield from arg if isinstance(arg, (list, tuple)) else (arg,)
    elif isinstance(plain, TypeVar):
        yield from choices(plain)
    elif isinstance(plain, (list, tuple)):
        yield from plain
    elif isinstance(plain, type) and is_struct_like(plain):
        yield from _field_annotations(plain)


def _field_annotations(cls: type) -> Iterator[Any]:
    for base in cls.__mro__:
        if base is not object and base is not Generic and not _is_library_base(base):
            yield from own_hints(base).values()
            yield from (
                arg for parent in getattr(base, "__orig_bases__", ()) for arg in get_args(parent)
            )
    # The bases of a TypedDict are not in the MRO, but their fields are in its annotations.
    if typing.is_typeddict(cls):
        yield from (
            arg
            for parent in getattr(cls, "__orig_bases__", ())
            for arg in (parent, *get_args(parent))
        )
    if is_pydantic_model(cls):  # pydantic has filled in the type variables of a parametrised model
        yield from (field.annotation for field in getattr(cls, "model_fields", {}).values())


def _is_library_base(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in (
        "builtins",
        "typing",
        "typing_extensions",
        "msgspec",
        "pydantic",
    )


def substitute(annotation: Any, mapping: Mapping[Any, Any]) -> Any:
    """Replace type variables in an annotation by their values in `mapping`."""
    try:
        if annotation in mapping:
            return mapping[annotation]
        parameters = getattr(annotation, "__parameters__", ())
        if not parameters or isinstance(annotation, type):
            return annotation
        return annotation[tuple(mapping.get(parameter, parameter) for parameter in parameters)]
    except TypeError:  # unhashable metadata, or arguments that the generic refuses
        return annotation


@lru_cache(maxsize=2048)
def generic_fields(origin: type, args: tuple[Any, ...]) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a user's generic class whose types depend on its arguments.

    Args:
        origin: The generic class, for example `RequestResponse`.
        args: Its type arguments, for example `(Question, str)`.

    Returns:
        Pairs of field name and annotation with the type variables replaced.
    """
    fields: dict[str, Any] = {}
    pending: list[tuple[type, Mapping[Any, Any]]] = [
        (origin, dict(zip(getattr(origin, "__parameters__", ()), args, strict=False)))
    ]
    for cls, mapping in pending:  # grows while it is read
        for name, hint in own_hints(cls).items():
            if getattr(hint, "__parameters__", ()) or isinstance(hint, TypeVar):
                fields.setdefault(name, substitute(hint, mapping))
        pending.extend(base_arguments(cls, mapping))
    return tuple(fields.items())


def base_arguments(
    cls: type, mapping: Mapping[Any, Any]
) -> Iterator[tuple[type, Mapping[Any, Any]]]:
    """Yield the generic user-defined bases of a class, each with the values of its variables."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin is not Generic and not _is_library_base(origin):
            args = (substitute(arg, mapping) for arg in get_args(base))
            yield origin, dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
