"""`Secret`: a secret by its name. What is sent, kept and shown is the name; the value is looked up where it is needed.

The values that were looked up last are remembered in this process, to be struck out of what the
library writes about failures: an error's text often quotes what it was given.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NoReturn, final
from urllib.parse import quote, quote_plus

from supersteps._process_fork import forkable_lock

__all__ = ["Secret", "redact"]

STRUCK_OUT: Final = "***"

Resolver = Callable[[str], str | None]
"""Gives the value of a secret by its name, None when it has none."""

_REMEMBERED: Final = 256
_SHORTEST: Final = 4
"""Values shorter than this are not struck out: they would be found in any text."""
_LINE: Final = 8
"""Lines shorter than this are not struck out by themselves."""

_lock = forkable_lock()
_revealed: OrderedDict[str, set[str]] = OrderedDict()
_struck: tuple[str, ...] = ()
"""What is struck out, the longest first, so that a secret that holds another one goes as a whole."""


def _environment(name: str) -> str | None:
    return os.environ.get(name)


_process_resolver: Resolver = _environment
_resolver: ContextVar[Resolver | None] = ContextVar("supersteps secrets", default=None)


@final
class Secret:
    """A reference to a secret: put it into messages and state instead of the secret itself.

    What is saved, logged, shown and compared is the name. `reveal()` looks the value up: in the
    environment, or with what `Secret.use` or `Secret.using` say.

    Args:
        name: The secret's name, by default that of an environment variable.

    Attributes:
        name: The name; `***` for one made by `Secret.of`.
    """

    __slots__ = ("_value", "name")

    name: str
    _value: str | None

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(
                "a Secret is made with the name under which its value is found, not with the value"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_value", None)

    @classmethod
    def of(cls, value: str) -> Secret:
        """Return a secret whose value is at hand. It can be passed around in memory; it is never saved."""
        if not isinstance(value, str):
            raise TypeError("the value of a Secret is a str")
        secret = cls(STRUCK_OUT)
        object.__setattr__(secret, "_value", value)
        _remember(value)
        return secret

    @property
    def is_reference(self) -> bool:
        """Whether this is a name to be looked up, and so can be saved."""
        return self._value is None

    def reveal(self) -> str:
        """Return the value.

        Raises:
            LookupError: There is none under this name.
        """
        if self._value is not None:
            return self._value
        value = (_resolver.get() or _process_resolver)(self.name)
        if value is None:
            raise LookupError(
                f"there is no secret {self.name!r} here: set the environment variable of this "
                "name, or say with Secret.use(...) where secrets are found"
            )
        if not isinstance(value, str):
            value = None  # a traceback may show the variables
            raise TypeError(f"what was found for secret {self.name!r} is no str")
        _remember(value)
        return value

    @staticmethod
    def use(resolver: Resolver | None) -> None:
        """Have all secrets of this process looked up by a function, None for the environment."""
        global _process_resolver
        _process_resolver = _environment if resolver is None else resolver

    @staticmethod
    @contextmanager
    def using(resolver: Resolver) -> Iterator[None]:
        """Have secrets looked up by a function inside a `with` block, and in the tasks that are begun there."""
        token = _resolver.set(resolver)
        try:
            yield
        finally:
            _resolver.reset(token)

    def __repr__(self) -> str:
        return f"Secret({self.name!r})" if self._value is None else f"Secret({STRUCK_OUT})"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._value is None and other._value is None:
            return self.name == other.name
        return self is other  # comparing values would tell something of them

    def __hash__(self) -> int:
        return hash((Secret, self.name)) if self._value is None else id(self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Secret does not change; {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Secret does not change; {name!r} cannot be deleted")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._value is not None:
            raise TypeError(
                "a Secret.of(...) holds a value and is never saved or sent; use Secret(name)"
            )
        return Secret, (self.name,)

    def __getstate__(self) -> Any:  # what object has by itself holds the value
        return self.__reduce__()[1]


def _remember(value: str) -> None:
    global _struck
    if len(value) < _SHORTEST:
        return
    with _lock:
        if value in _revealed:
            _revealed.move_to_end(value)
            return
        _revealed[value] = _forms_of(value)
        if len(_revealed) > _REMEMBERED:
            _revealed.popitem(last=False)
        _struck = tuple(
            sorted({form for forms in _revealed.values() for form in forms}, key=len, reverse=True)
        )


def _forms_of(value: str) -> set[str]:
    """Return what a value looks like in texts: as it is, stripped, line by line, by its repr, in JSON and URLs."""
    # An exception group indents the lines of a key in PEM, and what is read from a file ends with a
    # line break.
    plain = {
        value,
        value.strip(),
        *(line for line in map(str.strip, value.splitlines()) if len(line) >= _LINE),
    }
    forms = set(plain)
    for text in plain:
        raw = text.encode("utf-8", "surrogatepass")
        shown = repr(text)[1:-1]
        forms |= {shown, shown.replace("'", "\\'"), ascii(text)[1:-1], repr(raw)[2:-1]}
        forms |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        forms |= {quote(raw), quote(raw, ""), quote_plus(raw)}
    return {form for form in forms if len(form) >= _SHORTEST}


def redact(text: str) -> str:
    """Return a text in which the values of secrets that were revealed in this process are struck out."""
    for value in _struck:
        if value in text:
            text = text.replace(value, STRUCK_OUT)
    return text
