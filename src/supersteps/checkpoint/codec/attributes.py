"""Attributes of an instance that are not fields of its class."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from supersteps.checkpoint.codec.builtins import is_text
from supersteps.checkpoint.codec.plain import TAG
from supersteps.checkpoint.codec.trouble import Trouble
from supersteps.typing import display_name

MISSING: Final = object()
"""The value of a field that was never set."""

_HEAP_TYPE: Final = 1 << 9
_CACHED_HASH: Final = "_attrs_cached_hash"


def is_heap_type(cls: type) -> bool:
    """Return whether a class was created by a class statement and not in C."""
    return bool(cls.__flags__ & _HEAP_TYPE)


class InstanceState:
    """The attributes of an instance that are not fields of its class.

    Libraries set them on the objects they return (`_request_id` of OpenAI's responses), and classes
    in their `__post_init__`. They are saved with the fields; cached results are not.
    """

    def __init__(self, cls: type, fields: frozenset[str]) -> None:
        self._cls = cls
        self.has_dict = cls.__dictoffset__ != 0
        cached = {
            name for base in cls.__mro__ for name, member in vars(base).items() if _is_cache(member)
        }
        # typing leaves __orig_class__ on instances of subscripted generics.
        self._known = fields | cached | {"__orig_class__"}
        self._other_slots = sorted(_slots(cls) - fields)
        self._trivial = not self.has_dict and not self._other_slots

    def surplus(self, value: Any) -> dict[str, Any]:
        """Return the attributes of an instance that are not fields, by name.

        Raises:
            Trouble: One has a name that cannot be saved.
        """
        if self._trivial:
            return {}
        state = value.__dict__ if self.has_dict else {}
        found = {name: state[name] for name in sorted(state.keys() - self._known)}
        for name in self._other_slots:
            item = getattr(value, name, MISSING)
            if item is not MISSING:
                found[name] = item
        for name in found:
            if name == TAG or not is_text(name):
                raise Trouble(f"its attribute {name!r} has a name that cannot be saved")
        if _CACHED_HASH in found:  # is another one in each process
            found[_CACHED_HASH] = None
        return found

    def attach(self, value: Any, attributes: Any) -> None:
        """Set the other attributes of an instance that was created from its fields.

        Raises:
            Trouble: They are not attributes, or instances of the class cannot have them.
        """
        if type(attributes) is not dict:
            raise Trouble(f"the attributes of a saved {display_name(self._cls)} are not an object")
        for name, item in attributes.items():
            if name in self._other_slots:
                object.__setattr__(value, name, item)
            elif self.has_dict and name not in self._known:
                value.__dict__[name] = item
            else:
                raise Trouble(f"{display_name(self._cls)} cannot have an attribute {name!r}")


def _is_cache(member: Any) -> bool:
    if type(member).__name__ == "PydanticDescriptorProxy":  # computed_field
        member = member.wrapped
    return (
        isinstance(member, functools.cached_property) or type(member).__name__ == "cached_property"
    )


def _slots(cls: type) -> set[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        # The slots of msgspec's classes are the fields; those of pydantic's base class are saved as
        # parts of the model.
        if (
            is_heap_type(base)
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
