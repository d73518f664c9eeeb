"""The lookup of annotations by stored type names.

A question is stored with the name of the type that its answer must have. That type may be narrower
than what the handler accepts, and after a restart only its name is left. It is looked up among the
types that the program's own annotations reach: the name causes no import and runs no code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, Union

from supersteps.typing import display_name, reachable_types
from supersteps.typing.annotations import is_main_file

_PLAIN = (bool, int, float, str, bytes, list, dict, tuple, set, frozenset, object)
_TOKEN = re.compile(r"""\s*([\w.<>]+|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-|\[|\]|,|\|)""")


def annotation_named(name: str, options: Sequence[Any]) -> Any | None:
    """Return the annotation with this `display_name`, None if it is unknown.

    Args:
        name: The result of `display_name`.
        options: Annotations. Their classes, imported subclasses of these, and plain types may
            occur in the name.
    """
    known = _known(options)
    name = _TOKEN.sub(
        lambda token: token[0].removesuffix(token[1]) + _present(token[1], known), name
    )
    try:
        annotation = _Reader(_TOKEN.findall(name), known).union()
    except (LookupError, TypeError, ValueError, SyntaxError):
        return None
    return annotation if display_name(annotation) == name else None


def _known(options: Iterable[Any]) -> dict[str, Any]:
    classes: dict[Any, None] = dict.fromkeys([*_PLAIN, *reachable_types(options)])
    pending = [cls for cls in classes if cls is not object and cls is not type]
    while pending:
        below = [cls for cls in pending.pop().__subclasses__() if cls not in classes]
        classes.update(dict.fromkeys(below))
        pending += below
    known: dict[str, Any] = {}
    for cls in classes:
        known.setdefault(display_name(cls), cls)
    return known | {"None": NoneType, "Any": Any, "...": ...}


def _present(name: str, known: Mapping[str, Any]) -> str:
    """Return the present name of a class that was stored under another one.

    That is the case if the class was in a script and is imported now, or vice versa. A stored
    `__main__` means any module that has such a class, as for the codec. A present one means the
    module whose file is the script.
    """
    if name in known:
        return name
    module, _, qualname = name.partition(".")
    if module == "__main__":
        same = [
            present
            for present, cls in known.items()
            if getattr(cls, "__qualname__", None) == qualname
        ]
        return same[0] if len(same) == 1 else name
    for present in known:
        ending = present.removeprefix("__main__")
        if present != ending and name.endswith(ending) and is_main_file(name.removesuffix(ending)):
            return present
    return name


class _Reader:
    """Parses names, brackets and bars; everything else is an error."""

    def __init__(self, tokens: Sequence[str], known: dict[str, Any]) -> None:
        self._tokens = [*tokens, "", ""]
        self._known = known
        self._place = 0

    def union(self) -> Any:
        members = [self._member()]
        while self._took("|"):
            members.append(self._member())
        return Union[tuple(members)]  # noqa: UP007  # the members are only known now

    def _member(self) -> Any:
        name = self._next()
        if name == "Literal":
            return Literal[tuple(self._arguments(literal=True))]
        origin = self._known[name]
        if self._tokens[self._place] != "[":
            return origin
        return origin[tuple(self._arguments(literal=False))]

    def _arguments(self, *, literal: bool) -> list[Any]:
        self._expect("[")
        arguments = []
        while not self._took("]"):
            arguments.append(self._literal() if literal else self._argument())
            if self._tokens[self._place] != "]":
                self._expect(",")
        return arguments

    def _argument(self) -> Any:
        return ... if self._took("...") else self.union()

    def _literal(self) -> Any:
        sign = self._next() if self._tokens[self._place] == "-" else ""
        return ast.literal_eval(sign + self._next())

    def _next(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1]

    def _took(self, token: str) -> bool:
        found = self._tokens[self._place] == token
        self._place += found
        return found

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise SyntaxError(token)
