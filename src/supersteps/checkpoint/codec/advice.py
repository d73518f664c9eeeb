"""What error messages advise: how to make a value savable."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import ItemsView, Iterator, KeysView, ValuesView

from supersteps.typing import DEFINED_AGAIN, display_name, type_name

MAKE_KNOWN = (
    "make it known to the workflow: use it in a handler's annotations, decorate it with "
    "@checkpointable, pass it to with_checkpointing(storage, types=[...]), or use "
    "codec.register(type, encode, decode)"
)


_REMEDIES: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial),
        "functions are not data; keep them in the executor and send a name",
    ),
    ((types.ModuleType,), "keep it in the executor"),
    ((io.IOBase,), "send its content, or the path of the file"),
    (
        (types.GeneratorType, types.AsyncGeneratorType, Iterator),
        "convert it to a list: list(value)",
    ),
    ((types.CoroutineType,), "await it and send its result"),
    ((types.MappingProxyType,), "convert it to a dict: dict(value)"),
    ((KeysView, ValuesView, ItemsView), "convert it to a list: list(value)"),
    ((memoryview,), "convert it to bytes: bytes(value)"),
    ((BaseException,), "send its text, or a dataclass with the important facts"),
)
"""Advice for values that are not worth registering, by their class."""


def cannot_be_saved(kind: type) -> str:
    """Return that a class cannot be saved, and how to change that."""
    for kinds, remedy in _REMEDIES:
        if issubclass(kind, kinds):
            return f"values of type {display_name(kind)} cannot be saved; {remedy}"
    return (
        f"values of type {display_name(kind)} cannot be saved; keep such a value out of messages "
        f"and state, turn it into a dataclass, or register the type:\n{registering(kind)}"
    )


def registering(kind: type) -> str:
    """Return the lines of code that register a class and use the codec."""
    name = kind.__name__
    return (
        f"    codec = Codec(); codec.register({name}, encode=..., decode=...)"
        "  # to savable data, and back\n"
        '    storage = SqliteCheckpointStorage("runs.db", codec=codec)'
        "  # every storage has codec="
    )


def cannot_be_rebuilt(kind: type) -> str:
    """Return that a class is not known to the workflow."""
    return f"the type {display_name(kind)} could not be rebuilt; {MAKE_KNOWN}"


def belongs_to_another(kind: type) -> str:
    """Return that the name of a class now means another class."""
    name = type_name(kind)
    return (
        f"the type {display_name(kind)} could not be rebuilt: its name {name!r} now belongs to "
        "another class. If the two should be the same, it was defined twice, "
        f"{DEFINED_AGAIN}; otherwise rename one of them"
    )
