"""The choice of a handler: by types of messages, questions and answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from types import UnionType
from typing import Any, Union, get_args, get_origin, is_typeddict

from supersteps.define.handler_spec import HandlerSpec, ResponseSpec
from supersteps.errors import HandlerDefinitionError
from supersteps.typing import display_name, matches, unwrap


class DispatchTable:
    """Chooses the handler of a message by its type.

    The order is: exact type, nearest base class, any other annotation that matches, `Any`.

    For the same class, annotations of the content (`list[int]`) come before the bare class
    (`list`).
    """

    __slots__ = ("_bare", "_cache", "_inside", "_last", "_other")

    def __init__(self, specs: Sequence[HandlerSpec]) -> None:
        self._bare: dict[type, HandlerSpec] = {}
        self._inside: dict[type, list[tuple[Any, HandlerSpec]]] = {}
        self._other: list[tuple[Any, HandlerSpec]] = []
        self._last: HandlerSpec | None = None
        self._cache: dict[type, HandlerSpec | None] = {}
        for spec in specs:
            for member in union_members(spec.message_type):
                self._add(type(None) if member is None else member, spec)

    def _add(self, annotation: Any, spec: HandlerSpec) -> None:
        origin = get_origin(annotation)
        if annotation is Any or annotation is object:
            self._last = self._last or spec
        elif is_typeddict(annotation):
            self._inside.setdefault(dict, []).append((annotation, spec))
        elif isinstance(origin, type):
            self._inside.setdefault(origin, []).append((annotation, spec))
            if _has_virtual_subclasses(origin):
                self._other.append((annotation, spec))
        elif isinstance(annotation, type):
            self._bare[annotation] = spec
            if _has_virtual_subclasses(annotation):
                self._other.append((annotation, spec))
        else:
            self._other.append((annotation, spec))  # Literal, Annotated, NewType, type variables

    def find(self, message: Any) -> HandlerSpec | None:
        """Return the handler for a message, None if there is none."""
        kind = type(message)
        try:
            return self._cache[kind]
        except KeyError:
            pass
        for base in kind.__mro__:
            for annotation, spec in self._inside.get(base, ()):
                if matches(message, annotation):
                    return spec
            if base in self._bare:
                return self._remember(kind, self._bare[base])
        for annotation, spec in self._other:
            if matches(message, annotation):
                return spec
        return self._remember(kind, self._last)

    def _remember(self, kind: type, spec: HandlerSpec | None) -> HandlerSpec | None:
        """Cache a choice that depends only on the message's class."""
        looks_inside = any(base in self._inside for base in kind.__mro__)
        if not looks_inside and not self._other:
            self._cache[kind] = spec
        return spec


def _has_virtual_subclasses(annotation: type) -> bool:
    """Return whether isinstance() can be true without inheritance: ABCs, protocols."""
    return type(annotation).__instancecheck__ is not type.__instancecheck__


def specificity(value: Any, annotation: Any) -> tuple[int, int] | None:
    """Return how closely an annotation matches a value's type: smaller is closer.

    The order is that of `DispatchTable`.

    Args:
        value: A question or an answer.
        annotation: What a handler accepts; of a union, the closest member counts.

    Returns:
        The rank, None if the value does not match.
    """
    ranks = [_rank(value, member) for member in union_members(annotation) if matches(value, member)]
    return min(ranks, default=None)


def _rank(value: Any, annotation: Any) -> tuple[int, int]:
    mro = type(value).__mro__
    if annotation is Any or annotation is object:
        return len(mro) + 1, 0
    inside = dict if is_typeddict(annotation) else get_origin(annotation)
    if inside in mro:
        return mro.index(inside), 0
    if annotation in mro:
        return mro.index(annotation), 1
    return len(mro), 0  # abstract base classes, protocols, Literal


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, also of nested ones, or the annotation itself."""
    annotation = unwrap(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in union_members(part))
    return (annotation,)


def refuse_twins(owner: str, specs: Iterable[HandlerSpec]) -> None:
    """Refuse two handlers of one class (`owner`) for one message type.

    Raises:
        HandlerDefinitionError: There are two such handlers.
    """
    seen: dict[Any, str] = {}
    for spec in specs:
        for member in union_members(spec.message_type):
            if member in seen:
                raise HandlerDefinitionError(
                    f"handlers {owner}.{seen[member]} and {owner}.{spec.name} both take "
                    f"{display_name(member)}; a message type can have only one handler. Merge "
                    "them, or narrow one annotation."
                )
            seen[member] = spec.name


def refuse_response_twins(owner: str, specs: Iterable[ResponseSpec]) -> None:
    """Refuse two response handlers of a class (`owner`) for the same question and answer.

    Raises:
        HandlerDefinitionError: There are two such handlers.
    """
    seen: dict[tuple[Any, Any], str] = {}
    for spec in specs:
        for pair in product(union_members(spec.request_type), union_members(spec.response_type)):
            if pair in seen:
                raise HandlerDefinitionError(
                    f"response handlers {owner}.{seen[pair]} and {owner}.{spec.name} both take "
                    f"{display_name(pair[1])} as the answer to {display_name(pair[0])}; a question "
                    "and its answer can have only one handler. Merge them, or narrow one "
                    "annotation."
                )
            seen[pair] = spec.name
