"""What a refusal says to do: the lines that make a value savable."""

from __future__ import annotations

import functools
import io
import types
from collections.abc import ItemsView, Iterator, KeysView, ValuesView

from supersteps.typing import DEFINED_AGAIN, display_name, type_name

MAKE_KNOWN = (
    "make it known: use it in a handler's annotations, decorate it with @checkpointable, give it "
    "to with_checkpointing(storage, types=[...]), or use codec.register(type, encode, decode)"
)


_REMEDIES: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial),
        "functions are no data; keep them in the executor and send a name to find them by",
    ),
    ((types.ModuleType,), "keep it in the executor"),
    ((io.IOBase,), "send what is in it, or the path of the file"),
    ((types.GeneratorType, types.AsyncGeneratorType, Iterator), "make a list of it"),
    ((types.CoroutineType,), "await it, and send what it returns"),
    ((types.MappingProxyType,), "make it a dict: dict(value)"),
    ((KeysView, ValuesView, ItemsView), "make it a list: list(value)"),
    ((memoryview,), "make it bytes: bytes(value)"),
    ((BaseException,), "send its text, or a dataclass with what is worth knowing of it"),
)
"""What to do about values that nobody would want to register, by their class."""


def cannot_be_saved(kind: type) -> str:
    """Say that there is no way to save a class, and how to add one."""
    for kinds, remedy in _REMEDIES:
        if issubclass(kind, kinds):
            return f"values of type {display_name(kind)} cannot be saved; {remedy}"
    return (
        f"values of type {display_name(kind)} cannot be saved; keep it out of messages and state, "
        f"turn it into a dataclass, or register it:\n{registering(kind)}"
    )


def registering(kind: type) -> str:
    """Return the lines that register a class, and show where the codec goes."""
    name = kind.__name__
    return (
        f"    codec = Codec(); codec.register({name}, encode=..., decode=...)"
        "  # to data that can be saved, and back\n"
        '    storage = SqliteCheckpointStorage("runs.db", codec=codec)'
        "  # every storage takes codec="
    )


def cannot_be_rebuilt(kind: type) -> str:
    """Say that a class is not known to the workflow."""
    return f"the type {display_name(kind)} could not be rebuilt; {MAKE_KNOWN}"


def belongs_to_another(kind: type) -> str:
    """Say that the name of a class now means another class."""
    name = type_name(kind)
    return (
        f"the type {display_name(kind)} could not be rebuilt: its name {name!r} now belongs to "
        "another class. Where both are meant to be one, it was defined twice, "
        f"{DEFINED_AGAIN}; else give one of the two another name"
    )
