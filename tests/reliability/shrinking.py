"""Make a failing sequence of operations as short as it can be: delta debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

OpT = TypeVar("OpT")


def shrink(
    ops: Sequence[OpT], fails: Callable[[Sequence[OpT]], bool], tries: int = 400
) -> list[OpT]:
    """Return a part of `ops`, in their order, that still fails and from which no single operation
    can be left out.

    Args:
        ops: Operations that fail together.
        fails: Performs some of them from the beginning.
        tries: How often to do that at most; then what was reached counts.
    """
    left = list(ops)
    size = max(1, len(left) // 2)
    while tries > 0:
        start, is_shorter = 0, False
        while start < len(left) and tries > 0:
            tries -= 1
            shorter = left[:start] + left[start + size :]
            if shorter and fails(shorter):
                left, is_shorter = shorter, True
            else:
                start += size
        if not is_shorter:
            if size == 1:
                break
            size = max(1, size // 2)
    return left
