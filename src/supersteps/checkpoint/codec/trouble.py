"""`Trouble`: why and where a walk over a value had to stop."""

from __future__ import annotations

from typing import Any

from supersteps.typing import display_name

_LONGEST_PATH = 240


class Trouble(Exception):
    """A walk cannot continue; while it is raised, each level adds its step of the path.

    So the path costs nothing in walks that succeed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._parts: list[str] = []
        self._owners: list[int] = []

    @property
    def is_final(self) -> bool:
        """Whether another way to encode the value would not help: it is too deep, or a secret."""
        return False

    def leave(self, owner: object, part: str) -> None:
        """Add one step of the path; `owner` is the container being left."""
        self._parts.append(part)
        self._owners.append(id(owner))

    @property
    def is_cycle(self) -> bool:
        """Whether the path contains one object twice (all were alive, so ids are unique)."""
        return len(set(self._owners)) < len(self._owners)

    def path(self) -> str:
        """Return the path from the outside in, up to the end of a cycle."""
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
    """The walk went deeper than the limit: a cycle, or a value that is nested extremely deeply."""

    @property
    def is_final(self) -> bool:
        return True


class SecretTrouble(Trouble):
    """A value is a secret, which is never saved."""

    @property
    def is_final(self) -> bool:
        return True


def key_step(key: object) -> str:
    """Return a dict key as a step of a path, without trusting the `repr` of user types."""
    return f"[{short(key)}]"


def short(value: Any) -> str:
    """Return a value in a few characters, for an error message."""
    if type(value) in (str, int, float, bool, bytes, type(None)):
        try:
            text = repr(value)
        except ValueError:  # an int with more digits than Python prints
            return "<a huge int>"
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"<{display_name(type(value))}>"
