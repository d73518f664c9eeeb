"""Types that the user registered, with functions to encode and decode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supersteps.checkpoint.codec.builtins import Encoder, EncodeWalk
from supersteps.checkpoint.codec.copies import Copier, CopyWalk
from supersteps.checkpoint.codec.plain import TAG, VALUE
from supersteps.checkpoint.codec.revive import Reviver
from supersteps.checkpoint.codec.scope import Custom, Upgrade
from supersteps.checkpoint.codec.trouble import Trouble, short


def custom_encoder(custom: Custom) -> Encoder:
    """Return the encoder of a registered type."""

    def encode(walk: EncodeWalk, value: Any, depth: int) -> Any:
        content = _run(custom, custom.encode, value, "encode")
        kind = type(content)
        coded = content if kind in walk.atoms else walk.table[kind](walk, content, depth + 1)
        return {TAG: custom.name, VALUE: coded}

    return encode


def custom_reviver(custom: Custom) -> Reviver:
    """Return the reviver of a registered type."""

    def revive(node: dict[str, Any]) -> Any:
        if node.keys() != {TAG, VALUE}:
            raise Trouble(
                f"{custom.name!r} is registered here, but was saved without its registered "
                "functions"
            )
        value = _run(custom, custom.decode, node[VALUE], "decode")
        if type(value) is not custom.type_:
            raise Trouble(
                f"the registered decode function of {custom.name!r} returned {short(value)}"
            )
        return value

    return revive


def upgrading_reviver(
    upgrade: Upgrade, present: Reviver | None, names: frozenset[str] | None
) -> Reviver:
    """Return the reviver of a type with an upgrade of its earlier form.

    Args:
        upgrade: The function.
        present: The reviver of the type's present form, None if the type no longer exists.
        names: The keys of the present form, None if it has to be tried.
    """

    def revive(node: dict[str, Any]) -> Any:
        if present is not None and (names is None or node.keys() == names):
            try:
                return present(dict(node))
            except Trouble:
                pass
        content = (
            node[VALUE]
            if node.keys() == {TAG, VALUE}
            else {key: node[key] for key in node if key != TAG}
        )
        try:
            return upgrade.function(content)
        except (
            Exception
        ) as error:  # the user's function may raise anything; the message contains it
            raise Trouble(
                f"the upgrade of {upgrade.name!r} raised {type(error).__name__}: {error}"
            ) from error

    return revive


def custom_copier(custom: Custom) -> Copier:
    """Return the copier of a registered type, which encodes and decodes."""

    def copy(walk: CopyWalk, value: Any, depth: int) -> Any:
        content = walk.copy(_run(custom, custom.encode, value, "encode"), depth + 1)
        return _run(custom, custom.decode, content, "decode")

    return copy


def _run(custom: Custom, function: Callable[[Any], Any], value: Any, role: str) -> Any:
    try:
        return function(value)
    except Exception as error:  # the user's function may raise anything
        reason = (
            f"the registered {role} function of {custom.name!r} raised "
            f"{type(error).__name__}: {error}"
        )
        raise Trouble(reason) from error
