"""Values of other libraries that are saved without registration.

Saving never imports a library: if there is a value, its library is imported. Loading imports the
one module that is named here, except when a value is only inspected.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

from supersteps.checkpoint.codec.builtins import EncodeWalk, encode_frozen, encode_int, encode_str
from supersteps.checkpoint.codec.numpy_values import ArrayPlan, ScalarPlan
from supersteps.checkpoint.codec.plain import TAG, VALUE
from supersteps.checkpoint.codec.plans import CopyWalk, Plan
from supersteps.checkpoint.codec.trouble import SecretTrouble, Trouble, short
from supersteps.typing import display_name, type_name

_PYDANTIC_URLS: Final = ("_BaseUrl", "_BaseMultiHostUrl")

_PYDANTIC_SECRETS: Final = ("SecretStr", "SecretBytes", "Secret")


def library_plan(cls: type) -> Plan | None:
    """Return how values of a supported library's class are saved, None for other classes."""
    module = cls.__module__
    if module == "numpy":
        if cls is getattr(sys.modules.get(module), "ndarray", None):
            return ArrayPlan(cls)
        return ScalarPlan(cls) if _derives(cls, module, ("generic",)) else None
    if module == "pydantic_core._pydantic_core" and cls.__qualname__ in ("Url", "MultiHostUrl"):
        return TextPlan(cls)
    if module == "pydantic.types" and cls.__qualname__ == "ByteSize":
        return ByteSizePlan(cls)
    if _derives(cls, "pydantic.types", _PYDANTIC_SECRETS):
        return SecretPlan(cls)
    if module == "freezegun.api" and cls.__qualname__ in ("FakeDatetime", "FakeDate"):
        return FrozenPlan()
    # A program's own URL classes have to be known like its other classes.
    return TextPlan(cls) if _derives(cls, "pydantic.networks", _PYDANTIC_URLS) else None


def library_class(name: str, *, may_import: bool = False) -> type | None:
    """Return the class that data names if it is always known.

    Args:
        name: `module:qualname`.
        may_import: Whether the library may be imported if the program has not.

    Returns:
        The class, or None.
    """
    module_name, _, qualname = name.partition(":")
    if module_name not in _MODULES:
        return None
    if may_import and module_name not in sys.modules:
        try:
            import_module(module_name)
        except ImportError:
            return None
    found = getattr(sys.modules.get(module_name), "__dict__", {}).get(qualname)
    if not isinstance(found, type) or type_name(found) != name or library_plan(found) is None:
        return None
    return found


_MODULES: Final = frozenset(
    {
        *("numpy", "pydantic.networks", "pydantic.types"),
        *("pydantic_core._pydantic_core", "freezegun.api"),
    }
)


def _derives(cls: type, module: str, names: tuple[str, ...]) -> bool:
    bases = [getattr(sys.modules.get(module), name, None) for name in names]
    return any(isinstance(base, type) and issubclass(cls, base) for base in bases)


class TextPlan:
    """URLs, by their text; refused if the text would be read as a different URL."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._tag = type_name(cls)

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        text = str(value)
        if self._made(text) != value:
            raise Trouble(f"its text {short(text)} is read as another {display_name(self._cls)}")
        return {TAG: self._tag, VALUE: encode_str(walk, text, depth)}

    def revive(self, node: dict[str, Any]) -> Any:
        return self._made(content(node, str))

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value

    def _made(self, text: str) -> Any:
        try:
            return self._cls(text)
        except ValueError as error:
            reason = f"{short(text)} is not a valid {display_name(self._cls)}: {error}"
            raise Trouble(reason) from error


class ByteSizePlan:
    """pydantic's `ByteSize`, an int that is shown with a unit."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        return {TAG: type_name(self._cls), VALUE: encode_int(walk, int(value), depth)}

    def revive(self, node: dict[str, Any]) -> Any:
        return self._cls(content(node, int))

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value


class SecretPlan:
    """pydantic's secrets, whose values are not saved unless the program registers them."""

    def __init__(self, cls: type) -> None:
        self._name = cls.__name__

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        raise SecretTrouble(
            f"it is a {self._name}, and values of secrets are not saved. Store the value where it "
            "can be looked up, and use supersteps.Secret(name) instead; or, if the storage is "
            f"encrypted, allow it: codec.register({self._name}, {self._name}.get_secret_value, "
            f"{self._name}), and pass codec=codec to the storage"
        )

    def revive(self, node: dict[str, Any]) -> Any:
        raise Trouble(f"a {self._name} can be loaded only if it is registered")

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value


class FrozenPlan:
    """The datetime and date of freezegun; read by the revivers of the types that they replace."""

    def encode(self, walk: EncodeWalk, value: Any, depth: int) -> Any:
        return encode_frozen(walk, value, depth)

    def revive(self, node: dict[str, Any]) -> Any:
        raise Trouble("a frozen time is saved as the time that it replaces")

    def copy(self, walk: CopyWalk, value: Any, depth: int) -> Any:
        return value


def content(node: dict[str, Any], kind: type) -> Any:
    """Return the content of a type without fields after checking its shape."""
    if node.keys() != {TAG, VALUE} or type(node[VALUE]) is not kind:
        raise Trouble(f"a saved {short(node[TAG])} needs a {kind.__name__} under {VALUE!r}")
    return node[VALUE]
