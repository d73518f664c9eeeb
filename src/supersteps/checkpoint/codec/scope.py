"""Which types may be rebuilt: the only place where names are looked up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from weakref import WeakSet

from supersteps._process_fork import forkable_rlock
from supersteps.typing import reachable_types, type_name
from supersteps.typing.annotations import is_main_file

# Base classes of everything: knowing one of them must not make all of its subclasses known.
_FOUNDATIONS: Final = sys.stdlib_module_names - {"test"} | {
    "typing_extensions",
    "msgspec",
    "pydantic",
}

_lock = forkable_rlock()


@dataclass(frozen=True, slots=True)
class Custom:
    """A type with registered functions to encode and decode."""

    type_: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A function that converts saved data of a type's earlier form to a value."""

    name: str
    function: Callable[[Any], Any]


class Listener(Protocol):
    """An object that caches answers of a scope."""

    def forget(self) -> None: ...


class Scope:
    """The types that one codec can rebuild, in addition to its parent's."""

    def __init__(self, parent: Scope | None) -> None:
        self._parent = parent
        self._classes: dict[str, type] = {}
        self._customs: dict[type, Custom] = {}
        self._custom_names: dict[str, Custom] = {}
        self._upgrades: dict[str, Upgrade] = {}
        self._unread: list[type] = []
        self._listeners: WeakSet[Any] = WeakSet()
        self._children: WeakSet[Scope] = WeakSet()
        if parent is not None:
            with _lock:
                parent._children.add(self)

    # --------------------------------------------------------------------------------------- adding

    def listen(self, listener: Listener) -> None:
        """Call `listener.forget()` whenever an earlier answer may be out of date."""
        with _lock:
            self._listeners.add(listener)

    def add(self, annotations: Iterable[Any]) -> None:
        """Make every user class that the annotations reach rebuildable."""
        found = {type_name(cls): cls for cls in reachable_types(annotations)}
        if any(self._classes.get(name) is not cls for name, cls in found.items()):
            with _lock:
                self._classes.update(found)
                self._changed()

    def add_later(self, cls: type) -> None:
        """Make a class rebuildable now, and the classes of its fields on first use.

        Then all names are defined.
        """
        with _lock:
            self._classes[type_name(cls)] = cls
            self._unread.append(cls)
            self._changed()

    def add_custom(self, custom: Custom) -> None:
        """Register functions for one exact type."""
        with _lock:
            self._customs[custom.type_] = custom
            self._custom_names[custom.name] = custom
            self._changed()

    def add_upgrade(self, upgrade: Upgrade) -> None:
        """Register a function for data that was saved under a type's name."""
        with _lock:
            self._upgrades[upgrade.name] = upgrade
            self._changed()

    def _changed(self) -> None:
        for listener in list(self._listeners):
            listener.forget()
        for child in list(self._children):
            child._changed()

    # --------------------------------------------------------------------------------------- asking

    def _chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            if scope._unread:
                with _lock:
                    unread, scope._unread = scope._unread, []
                scope.add(unread)
            yield scope
            scope = scope._parent

    def custom_for(self, cls: type) -> Custom | None:
        """Return the functions registered for exactly this type."""
        return next((scope._customs[cls] for scope in self._chain() if cls in scope._customs), None)

    def customs(self) -> list[Custom]:
        """Return all types that were registered with functions; the outer scopes' first."""
        return [custom for scope in [*self._chain()][::-1] for custom in scope._customs.values()]

    def importable_classes(self) -> list[type]:
        """Return the known classes that another process can find by their names."""
        known = [cls for scope in self._chain() for cls in scope._classes.values()]
        return [cls for cls in known if _importable(type_name(cls)) is cls]

    def find(self, name: str) -> Custom | type | None:
        """Look up the name of a type in the data.

        Args:
            name: `module:qualname`, or the name given to `register`.

        Returns:
            The registered functions, the class, or None. No module is imported and no module
            attribute is computed.
        """
        return self._known(name) or self._imported_subclass(name) or self._of_main(name)

    def upgrade_for(self, name: str) -> Upgrade | None:
        """Return the function that was registered for data saved under a type's name."""
        return next(
            (scope._upgrades[name] for scope in self._chain() if name in scope._upgrades), None
        )

    def _known(self, name: str) -> Custom | type | None:
        # Registered functions first, wherever they are: a workflow's annotations may reach a
        # registered class as well.
        for scope in self._chain():
            if custom := scope._custom_names.get(name):
                return custom
        for scope in self._chain():
            if cls := scope._classes.get(name):
                return cls
        return None

    def _imported_subclass(self, name: str) -> type | None:
        found = _importable(name)
        if found is None:
            return None
        roots = (base for base in found.__mro__ if base is found or not _is_foundation(base))
        return found if any(self._known(type_name(base)) is base for base in roots) else None

    def _of_main(self, name: str) -> type | None:
        """Find a class that moved between `__main__` and the module of the same file."""
        module_name, _, qualname = name.partition(":")
        if module_name != "__main__":
            found = self._known(f"__main__:{qualname}") if is_main_file(module_name) else None
            return found if isinstance(found, type) else None
        same = {
            id(cls): cls
            for scope in self._chain()
            for cls in list(scope._classes.values())
            if cls.__qualname__ == qualname
        }
        return next(iter(same.values())) if len(same) == 1 else None


def _importable(name: str) -> type | None:
    """Return the class of an imported module by its name, without importing."""
    module_name, _, qualname = name.partition(":")
    namespace: Any = getattr(sys.modules.get(module_name), "__dict__", {})
    found: Any = None
    for part in qualname.split("."):
        found = namespace.get(part)
        if not isinstance(found, type):
            return None
        namespace = vars(found)
    return cast(type, found)


def _is_foundation(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _FOUNDATIONS or bool(
        getattr(cls, "_is_protocol", False)
    )


PROCESS: Final = Scope(None)
"""The classes that `@checkpointable` registered, for every codec."""
