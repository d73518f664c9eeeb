"""Names of a public module that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def lazy_name(module: str, sources: Mapping[str, tuple[str, ...]], name: str) -> Any:
    """Import a name for the `__getattr__` of a public module.

    Args:
        module: The public module's `__name__`.
        sources: The names that it offers, by the module that defines them.
        name: The name that is wanted.

    Raises:
        AttributeError: The public module does not offer it.
    """
    for source, names in sources.items():
        if name in names:
            return getattr(import_module(source), name)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
