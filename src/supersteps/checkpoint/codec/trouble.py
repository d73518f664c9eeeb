"""How the walks over a value say where they had to stop."""

from __future__ import annotations

from typing import Any

from supersteps.typing import display_name

_LONGEST_PATH = 240


class Trouble(Exception):
    """A walk cannot go on; on its way up each level adds where it was.

    The path is built only when something goes wrong, so walks that succeed pay nothing for it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._parts: list[str] = []
        self._owners: list[int] = []

    @property
    def is_final(self) -> bool:
        """True if another way of writing the value would not help: it is too deep, or a secret."""
        return False

    def leave(self, owner: object, part: str) -> None:
        """Add one step of the path; `owner` is the container being left."""
        self._parts.append(part)
        self._owners.append(id(owner))

    @property
    def is_cycle(self) -> bool:
        """True if the path passes one object twice. All of them were alive on the stack, so ids are unique."""
        return len(set(self._owners)) < len(self._owners)

    def path(self) -> str:
        """Spell the path from the outside in, up to where a cycle closes."""
        parts = list(reversed(self._parts))
        if self.is_cycle:
            seen: set[int] = set()
            for index, owner in enumerate(reversed(self._owners)):
                if owner in seen:
                    parts = parts[:index]
                    break
                seen.add(owner)
        text = "".join(parts)
        return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}..."


class TooDeep(Trouble):
    """The walk went deeper than the limit: a cycle, or a value that is nested beyond reason."""

    @property
    def is_final(self) -> bool:
        return True


class SecretTrouble(Trouble):
    """A value that is a secret is never saved, in whatever way."""

    @property
    def is_final(self) -> bool:
        return True


def key_step(key: object) -> str:
    """Spell a dict key as a step of a path, without trusting the `repr` of user types."""
    return f"[{short(key)}]"


def short(value: Any) -> str:
    """Show a value of an error message in a few characters."""
    if type(value) in (str, int, float, bool, bytes, type(None)):
        try:
            text = repr(value)
        except ValueError:  # an int with more digits than Python agrees to print
            return "<a huge int>"
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"<{display_name(type(value))}>"
