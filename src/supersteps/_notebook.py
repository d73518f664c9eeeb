"""`Shown`: base of what a notebook draws, by way of `viz`."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Shown:
    """A value that a notebook shows as a picture or a table.

    The drawing is done by `supersteps.viz.notebook`, which knows what it draws and so stands above
    it. It is loaded by name, when a notebook asks, and from nowhere else below it.
    """

    __slots__ = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows, by MIME type."""
        bundle: dict[str, str] = import_module("supersteps.viz.notebook").bundle_of(self)
        return {
            kind: text
            for kind, text in bundle.items()
            if (not include or kind in include) and (not exclude or kind not in exclude)
        }
