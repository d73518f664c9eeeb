"""What a refusal says to do: the lines that make a value savable."""

from __future__ import annotations

from .._typing import DEFINED_AGAIN, display_name, type_name

MAKE_KNOWN = (
    "make it known: use it in a handler's annotations, decorate it with @checkpointable, give it "
    "to with_checkpointing(storage, types=[...]), or use codec.register(type, encode, decode)"
)


def cannot_be_saved(kind: type) -> str:
    """Say that there is no way to save a class, and how to add one."""
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
