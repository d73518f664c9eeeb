"""`Secret`: a secret by its name, whose value is looked up when needed.

Only the name is sent, saved and shown. The process remembers the values that it looked up last, so
that they can be redacted from what the library writes about failures: an error's message often
quotes its input.
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

REDACTED: Final = "***"

Resolver = Callable[[str], str | None]
"""Gives the value of a secret by its name, None when it has none."""

_REMEMBERED: Final = 256
_SHORTEST: Final = 4
"""Shorter values are not redacted: they would match in any text."""
_LINE: Final = 8
"""Shorter lines are not redacted by themselves."""

_lock = forkable_lock()
_revealed: OrderedDict[str, set[str]] = OrderedDict()
_redacted: tuple[str, ...] = ()
"""What is redacted, longest first: a secret may contain another one."""


def _environment(name: str) -> str | None:
    return os.environ.get(name)


_process_resolver: Resolver = _environment
_resolver: ContextVar[Resolver | None] = ContextVar("supersteps secrets", default=None)


@final
class Secret:
    """A reference to a secret: put it into messages and state instead of the secret itself.

    Only the name is saved, logged, shown and compared. Call `reveal()` where the value is needed,
    for example `client = Client(token=Secret("API_TOKEN").reveal())`: it looks the value up in the
    environment, or with the function passed to `Secret.use` or `Secret.using`.

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
                "Secret(...) takes the name under which the value is found, as a non-empty str"
            )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_value", None)

    @classmethod
    def of(cls, value: str) -> Secret:
        """Return a secret that holds its value: use it in memory only, it cannot be saved."""
        if not isinstance(value, str):
            raise TypeError(f"the value of a Secret must be a str, not a {type(value).__name__}")
        secret = cls(REDACTED)
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
            LookupError: There is no secret of this name.
        """
        if self._value is not None:
            return self._value
        value = (_resolver.get() or _process_resolver)(self.name)
        if value is None:
            raise LookupError(
                f"there is no secret {self.name!r}: set the environment variable of this name, or "
                "call Secret.use(...) with a function that finds it"
            )
        if not isinstance(value, str):
            value = None  # a traceback may show the variables
            raise TypeError(f"the value found for secret {self.name!r} is not a str")
        _remember(value)
        return value

    @staticmethod
    def use(resolver: Resolver | None) -> None:
        """Look up all secrets of this process with a function; None: in the environment."""
        global _process_resolver
        _process_resolver = _environment if resolver is None else resolver

    @staticmethod
    @contextmanager
    def using(resolver: Resolver) -> Iterator[None]:
        """Look up secrets with a function inside a `with` block and in tasks started there."""
        token = _resolver.set(resolver)
        try:
            yield
        finally:
            _resolver.reset(token)

    def __repr__(self) -> str:
        return f"Secret({self.name!r})" if self._value is None else f"Secret({REDACTED})"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        if self._value is None and other._value is None:
            return self.name == other.name
        return self is other  # comparing values would reveal something about them

    def __hash__(self) -> int:
        return hash((Secret, self.name)) if self._value is None else id(self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Secret is immutable; {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Secret is immutable; {name!r} cannot be deleted")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._value is not None:
            raise TypeError(
                "Secret.of(...) holds its value, so it cannot be pickled; use Secret(name)"
            )
        return Secret, (self.name,)

    def __getstate__(self) -> Any:  # object's own would contain the value
        return self.__reduce__()[1]


def _remember(value: str) -> None:
    global _redacted
    if len(value) < _SHORTEST:
        return
    with _lock:
        if value in _revealed:
            _revealed.move_to_end(value)
            return
        _revealed[value] = _forms_of(value)
        if len(_revealed) > _REMEMBERED:
            _revealed.popitem(last=False)
        _redacted = tuple(
            sorted({form for forms in _revealed.values() for form in forms}, key=len, reverse=True)
        )


def _forms_of(value: str) -> set[str]:
    """Return how a value may appear in a text: unchanged, by line, as repr, in JSON, in a URL."""
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
    """Return a text without the values of secrets that this process has revealed."""
    for value in _redacted:
        if value in text:
            text = text.replace(value, REDACTED)
    return text
