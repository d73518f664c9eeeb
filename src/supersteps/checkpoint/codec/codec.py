"""The typed JSON codec: converts values to JSON and back.

Every saved value is loaded unchanged, with its type. Loading runs no code that the data names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time, timezone, tzinfo
from functools import partial
from math import isfinite
from types import ModuleType
from typing import Any, Self, TypeVar, cast

from supersteps._user_functions import check_plain
from supersteps.checkpoint.codec.advice import (
    MAKE_KNOWN,
    belongs_to_another,
    cannot_be_rebuilt,
    cannot_be_saved,
)
from supersteps.checkpoint.codec.builtins import (
    CAREFUL_ATOMS,
    ENCODERS,
    Encoder,
    EncodeWalk,
    encode_zone,
)
from supersteps.checkpoint.codec.classes import plan_for
from supersteps.checkpoint.codec.copies import IMMUTABLE, Copier, CopyWalk, copy_anything, copy_deep
from supersteps.checkpoint.codec.custom import (
    custom_copier,
    custom_encoder,
    custom_reviver,
    upgrading_reviver,
)
from supersteps.checkpoint.codec.decode import Decoding, keep_raw
from supersteps.checkpoint.codec.encode import Encoding, encode_raw
from supersteps.checkpoint.codec.plain import (
    ATOMS,
    CONTAINERS,
    MAX_DECODE_DEPTH,
    MAX_DIGITS,
    TAG,
    UNWRITABLE,
    dumps,
    is_plain,
    loads,
    may_have_tags,
)
from supersteps.checkpoint.codec.plans import Plan
from supersteps.checkpoint.codec.raw import RawValue
from supersteps.checkpoint.codec.revive import Reviver
from supersteps.checkpoint.codec.scope import PROCESS, Custom, Scope, Upgrade
from supersteps.checkpoint.codec.trouble import TooDeep, Trouble, short
from supersteps.checkpoint.codec.zones import is_zone_info
from supersteps.errors import CheckpointDecodeError, CheckpointEncodeError
from supersteps.typing import display_name, type_name

T = TypeVar("T")

__all__ = ["IMMUTABLE", "Codec", "RawValue", "checkpointable", "is_immutable"]

# Test libraries that freeze time replace a module's name `datetime`, but not a set's items.
_MOMENTS = frozenset({datetime, time})
_PLAIN = ATOMS | CONTAINERS | {float}


def checkpointable(cls: type[T]) -> type[T]:
    """Let all codecs of this process save a class and the classes of its fields.

    Use it for types that no handler's annotation names, such as the elements of an untyped list.

    Args:
        cls: A dataclass, attrs class, NamedTuple, Enum, msgspec.Struct or pydantic model, or a
            class with methods `to_dict` and `from_dict`.

    Returns:
        The same class.

    Raises:
        TypeError: The class is none of these, so its state is unknown.
    """
    given: Any = cls
    if not isinstance(given, type) or plan_of(given) is None:
        raise TypeError(
            f"@checkpointable cannot save {display_name(given)}: turn it into a "
            "dataclass, attrs class, NamedTuple, Enum, msgspec.Struct or pydantic model "
            "(@checkpointable goes above @dataclass), add methods to_dict and from_dict, or "
            "use codec.register(type, encode, decode)"
        )
    PROCESS.add_later(cls)
    return cls


def is_immutable(value: object) -> bool:
    """Return whether a value is an immutable scalar that JSON restores unchanged."""
    kind = type(value)
    if kind in IMMUTABLE:
        return True
    if kind in _MOMENTS:
        zone = cast(datetime, value).tzinfo
        return (
            zone is None
            or type(zone) is timezone
            or (is_zone_info(zone) and cast(Any, zone).key is not None)
        )
    return False


class Codec:
    """Converts values to typed JSON and back.

    You need one only to register types: `codec = Codec(); codec.register(Money, encode, decode)`,
    then pass `codec=codec` to the storage.

    Plain JSON data is written unchanged. Everything else is an object with the key `$`, whose value
    is a word for the types of the standard library (`{"$": "tuple", "v": [1, 2]}`) and
    `module:qualname` for the user's.

    Args:
        types: Annotations; every class reachable from them can be rebuilt.
    """

    def __init__(self, types: Iterable[Any] = ()) -> None:
        self._setup(Scope(PROCESS), types)

    def _setup(self, scope: Scope, types: Iterable[Any]) -> None:
        self._scope = scope
        self._encoding = Encoding(self._encoder_for, ATOMS, careful=False)
        self._careful = Encoding(self._encoder_for, CAREFUL_ATOMS, careful=True)
        self._copying = CopyWalk(self._copier_for)
        self._decoding = Decoding(self._reviver_for, self._content_of_raw)
        self._prefer_registered()
        scope.listen(self)
        self.add_types(types)

    def extended(self, types: Iterable[Any] = ()) -> Codec:
        """Return a codec with everything of this one, also what is added later, and more types.

        Args:
            types: Annotations, as for the constructor.

        Returns:
            The child.
        """
        child = object.__new__(type(self))
        child._setup(Scope(self._scope), types)
        return child

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # its types grow with the program; a copy would be out of date

    def __reduce__(self) -> Any:
        """Pickle it with its registered functions."""
        return _codec_with, (self._scope.customs(), self._scope.importable_classes())

    def add_types(self, types: Iterable[Any]) -> None:
        """Make everything reachable from the annotations rebuildable.

        Of two types with one name, the later one replaces the other.

        Args:
            types: Classes, unions, generics and other annotations.
        """
        self._scope.add(types)

    def register(
        self,
        type_: type[T],
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        *,
        name: str | None = None,
    ) -> None:
        """Save a type with your own functions. Subclasses are not included: register each.

        The functions take precedence over the codec's own way to save the type. So you can choose
        another one, or allow a `pydantic.SecretStr` to be saved.

        Args:
            type_: The exact type.
            encode: Returns any supported value for an instance.
            decode: Returns the instance for that value.
            name: Its name in the data; `module:qualname` by default.

        Raises:
            ValueError: The type is one of JSON's own.
            TypeError: One of the functions is not a function, or is an `async def`.
        """
        if type_ in _PLAIN:
            raise ValueError(
                f"{display_name(type_)} is saved as plain JSON by the codec itself; register "
                "one of your own types"
            )
        for function, role in ((encode, "encode"), (decode, "decode")):
            check_plain(
                function,
                f"register({display_name(type_)}, ...): {role}",
                "Nothing is awaited while a value is saved or loaded.",
            )
        full_name = type_name(type_) if name is None else name if ":" in name else f"custom:{name}"
        self._scope.add_custom(Custom(type_, full_name, encode, decode))

    def add_upgrades(self, upgrades: Mapping[str, Callable[[Any], Any]]) -> None:
        """Convert data of earlier types, or of earlier forms of a type, when it is loaded.

        Args:
            upgrades: Functions by the type's name in the data, `module:qualname`. Each gets the
                saved data (a dict of the fields) and returns a value. If the type still exists,
                data of its present form is loaded without the function.
        """
        for name, function in upgrades.items():
            check_plain(function, f"the upgrade of {name!r}", "Nothing is awaited while it loads.")
            self._scope.add_upgrade(Upgrade(name, function))

    def forget(self) -> None:
        """Clear the caches, because the known types have changed."""
        self._encoding.reset()
        self._careful.reset()
        self._copying = CopyWalk(self._copier_for)
        self._decoding.reset()
        self._prefer_registered()

    def _prefer_registered(self) -> None:
        """Make registered functions take precedence over the codec's own."""
        for custom in self._scope.customs():
            if custom.type_ in ENCODERS:
                encoder = custom_encoder(custom)
                self._encoding.table[custom.type_] = encoder
                self._careful.table[custom.type_] = encoder
                self._copying.table[custom.type_] = custom_copier(custom)

    # ------------------------------------------------------------------------------------- encoding

    def encode(self, value: Any, where: str = "value") -> bytes:
        """Encode a value as compact typed JSON.

        Args:
            value: Any supported value.
            where: A name for it, with which error messages begin.

        Returns:
            UTF-8 JSON; the same bytes for the same value.

        Raises:
            CheckpointEncodeError: Something in it cannot be saved; the message gives its path,
                type and the fix.
        """
        kind = type(value)
        try:
            if (
                kind in ATOMS
                or (kind is float and isfinite(value))
                or (kind in CONTAINERS and is_plain(value))
            ):
                data = dumps(value)
            else:
                data = dumps(self._tree(self._encoding, value, where))
            if len(data) <= MAX_DIGITS or 0 < sys.get_int_max_str_digits() <= MAX_DIGITS:
                return data
            # The program has removed Python's limit on digits, so a number may have been written
            # that cannot be read.
            return dumps(self._tree(self._careful, value, where))
        except CheckpointEncodeError:
            raise
        except UNWRITABLE:
            # Lone surrogates and huge ints are too rare to check for. If there is one, check every
            # str and int.
            return dumps(self._tree(self._careful, value, where))
        except RecursionError:
            raise CheckpointEncodeError(f"{where}: it is nested too deeply to be saved") from None

    def encode_builtins(self, value: Any, where: str = "value") -> Any:
        """Return the tree that `encode` would write, to embed it in a larger document.

        Args:
            value: Any supported value.
            where: A name for it, with which error messages begin.

        Returns:
            Dicts, lists and scalars (and msgspec.Raw). The tree may share parts with the value, so
            write it at once.

        Raises:
            CheckpointEncodeError: As for `encode`.
        """
        return self._tree(self._careful, value, where)

    def _tree(self, walk: Encoding, value: Any, where: str) -> Any:
        try:
            return walk.table[type(value)](walk, value, 1)
        except Trouble as trouble:
            raise CheckpointEncodeError(_refusal(trouble, where)) from trouble.__cause__
        except RecursionError:
            raise CheckpointEncodeError(f"{where}: it is nested too deeply to be saved") from None

    def _encoder_for(self, kind: type) -> Encoder:
        if custom := self._scope.custom_for(kind):
            return custom_encoder(custom)
        if kind is RawValue:
            return encode_raw
        if issubclass(kind, type):
            return self._encode_class
        if found := ENCODERS.get(kind) or _standard().standard_encoder(kind):
            return found
        if issubclass(kind, tzinfo):
            return encode_zone
        return self._plan(kind).encode

    def _encode_class(self, walk: EncodeWalk, value: type, depth: int) -> Any:
        name = type_name(value)
        if self._class(name) is not value:
            raise Trouble(f"the class {display_name(value)} could not be found again; {MAKE_KNOWN}")
        return {TAG: "type", "v": name}

    def _class(self, name: str) -> type | None:
        """Return a class that a value may be: a rebuildable one, or one of Python's own."""
        found = self._scope.find(name)
        if isinstance(found, Custom):
            return found.type_
        return found or _known_class(name)

    def _revive_class(self, node: dict[str, Any], *, raw: bool = False) -> Any:
        name = node.get("v")
        found = self._class(name) if type(name) is str and len(node) == 2 else None
        if found is not None:
            return found
        if raw:
            return RawValue(node, self._content_of_raw)
        raise Trouble(
            f"the class {short(name)} is unknown to this program; import its module and "
            f"{MAKE_KNOWN}"
        )

    def _plan(self, kind: type) -> Plan:
        plan = plan_of(kind)
        if plan is None:
            raise Trouble(cannot_be_saved(kind))
        name = type_name(kind)
        found = self._scope.find(name) or _known_class(name)
        if found is None:
            raise Trouble(cannot_be_rebuilt(kind))
        if found is not kind:
            raise Trouble(belongs_to_another(kind))
        return plan

    # ------------------------------------------------------------------------------------- decoding

    def decode(self, data: bytes, where: str = "value", *, raw: bool = False) -> Any:
        """Decode a value that `encode` wrote.

        Args:
            data: The JSON.
            where: A name for it, with which error messages begin.
            raw: Return a RawValue for a type that is unknown here, instead of raising.

        Returns:
            The value.

        Raises:
            CheckpointDecodeError: The data is damaged, or of a type that may not be rebuilt here.
        """
        node = loads(data, where)
        if type(node) not in CONTAINERS or not may_have_tags(data):
            return node
        return self.decode_builtins(node, where, raw=raw)

    def decode_builtins(self, node: Any, where: str = "value", *, raw: bool = False) -> Any:
        """Decode a value from a parsed tree, which is consumed.

        Args:
            node: What `encode_builtins` returned, after encoding to JSON and parsing.
            where: A name for it, with which error messages begin.
            raw: As for `decode`.

        Returns:
            The value.

        Raises:
            CheckpointDecodeError: As for `decode`.
        """
        if type(node) not in CONTAINERS:
            return node
        try:
            return self._decoding.revive(node, 1, raw)
        except Trouble as trouble:
            raise CheckpointDecodeError(
                f"{where}{trouble.path()}: {trouble.reason}"
            ) from trouble.__cause__
        except RecursionError:
            raise CheckpointDecodeError(
                f"{where}: the JSON is nested too deeply to be read"
            ) from None

    def _reviver_for(self, tag: Any, raw: bool) -> Reviver:
        if tag == "type":
            return partial(self._revive_class, raw=raw)
        if type(tag) is not str or ":" not in tag:
            return self._standard_reviver(tag)
        found = self._scope.find(tag) or _known_class(tag, may_import=not raw)
        reviver: Reviver
        if upgrade := self._scope.upgrade_for(tag):
            plan = None if found is None or isinstance(found, Custom) else plan_of(found)
            present = (
                custom_reviver(found)
                if isinstance(found, Custom)
                else None
                if plan is None
                else plan.revive
            )
            reviver = upgrading_reviver(upgrade, present, getattr(plan, "_keys", None))
        elif isinstance(found, Custom):
            reviver = custom_reviver(found)
        elif found is not None and (plan := plan_of(found)) is not None:
            reviver = plan.revive
        elif raw:
            return keep_raw
        else:
            raise Trouble(
                f"the type {short(tag)} is unknown to this program; import its module and "
                f"{MAKE_KNOWN}"
            )
        self._decoding.revivers[tag] = reviver
        return reviver

    def _standard_reviver(self, tag: Any) -> Reviver:
        known: Mapping[str, Reviver] = _standard().STANDARD_REVIVERS
        reviver = known.get(tag) if type(tag) is str else None
        if reviver is None:
            raise Trouble(f"{short(tag)} is not a type that this version of the library writes")
        self._decoding.revivers[tag] = reviver
        return reviver

    def _content_of_raw(self, data: bytes) -> Any:
        return self.decode(data, "raw value", raw=True)

    # -------------------------------------------------------------------------------------- copying

    def copy(self, value: Any, where: str = "value") -> Any:
        """Copy a value so that changes of the copy do not affect the original.

        Equals `decode(encode(value))` for supported values; other values are copied by
        `copy.deepcopy`.

        Args:
            value: Any value.
            where: A name for it, with which error messages begin.

        Returns:
            The copy; immutable scalars are returned unchanged.

        Raises:
            CheckpointEncodeError: It cannot be copied.
        """
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        try:
            return self._copying.table[kind](self._copying, value, 1)
        except (TooDeep, RecursionError):
            return copy_deep(value, where)
        except Trouble as trouble:
            raise CheckpointEncodeError(
                f"{where}{trouble.path()}: {trouble.reason}; messages and state are values: send "
                "the data itself, and keep connections, locks and other resources in the executor"
            ) from trouble.__cause__

    def _copier_for(self, kind: type) -> Copier:
        if custom := self._scope.custom_for(kind):
            return custom_copier(custom)
        try:
            plan = self._plan(kind)
        except Trouble:
            return copy_anything
        return _plan_copier(plan)


def _codec_with(customs: Iterable[Custom], classes: Iterable[type]) -> Codec:
    """Recreate a codec that was pickled."""
    codec = Codec(classes)
    for custom in customs:
        codec.register(custom.type_, custom.encode, custom.decode, name=custom.name)
    return codec


def plan_of(cls: type) -> Plan | None:
    """Return how values of a class are saved, None if they cannot be."""
    return _libraries().library_plan(cls) or plan_for(cls)


def _known_class(name: str, *, may_import: bool = False) -> type | None:
    """Return a class that every codec knows, of the standard library or a supported one."""
    found: type | None = _standard().standard_class(name)
    return found or _libraries().library_class(name, may_import=may_import)


def _standard() -> ModuleType:
    from supersteps.checkpoint.codec import (
        standard as _standard,  # rarely needed, and slow to import
    )

    return _standard


def _libraries() -> ModuleType:
    from supersteps.checkpoint.codec import libraries as _libraries  # likewise

    return _libraries


def _refusal(trouble: Trouble, where: str) -> str:
    if trouble.is_cycle:
        return (
            f"{where}{trouble.path()}: the value contains itself; refer to objects by an id instead"
        )
    return f"{where}{trouble.path()}: {trouble.reason}"


def _plan_copier(plan: Plan) -> Copier:
    def copy(walk: CopyWalk, value: Any, depth: int) -> Any:
        if depth > MAX_DECODE_DEPTH:
            raise TooDeep("it is nested too deeply, or contains itself")
        return plan.copy(walk, value, depth)

    return copy
