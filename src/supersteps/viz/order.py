"""The order inside ranks, with few crossings: barycenter heuristic."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise

SWEEPS = 12
EXCHANGES = 6


def ordered(first: Sequence[Sequence[int]], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Reorder the items of each rank.

    Args:
        first: The initial order, rank by rank.
        links: Connected items, each from a rank to the one below it.

    Returns:
        The best order found, deterministically.
    """
    count = sum(map(len, first))
    up: list[list[int]] = [[] for _ in range(count)]
    down: list[list[int]] = [[] for _ in range(count)]
    for upper, lower in links:
        down[upper].append(lower)
        up[lower].append(upper)
    current = [list(rank) for rank in first]
    best, fewest = current, crossings(current, down)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        # Ties of the barycenter are reversed every other time, or equal items would never move.
        current = _swept(current, up, down, downwards=sweep % 2 == 0, turned=sweep % 4 >= 2)
        _exchange(current, up, down)
        found = crossings(current, down)
        if found < fewest:
            best, fewest = [list(rank) for rank in current], found
    return [list(rank) for rank in best]


def crossings(ranks: Sequence[Sequence[int]], down: Sequence[Sequence[int]]) -> int:
    """Return the number of edge crossings.

    Args:
        ranks: The order.
        down: For each item its neighbours in the next rank.

    Returns:
        The number.
    """
    total = 0
    for upper, lower in pairwise(ranks):
        place = {item: number for number, item in enumerate(lower)}
        seen: list[int] = []
        for item in upper:
            ends = sorted(place[end] for end in down[item])
            # Edges that start further left and end further right.
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _swept(
    ranks: list[list[int]],
    up: list[list[int]],
    down: list[list[int]],
    *,
    downwards: bool,
    turned: bool,
) -> list[list[int]]:
    """Sort each rank by the mean position of its items' neighbours in the previous rank."""
    result = [list(rank) for rank in ranks]
    numbers = range(1, len(ranks)) if downwards else range(len(ranks) - 2, -1, -1)
    near = up if downwards else down
    for number in numbers:
        fixed = result[number - 1 if downwards else number + 1]
        place = {item: where for where, item in enumerate(fixed)}
        rank = result[number]
        scale = len(fixed) / max(1, len(rank))
        weight = {
            item: sum(place[other] for other in near[item]) / len(near[item])
            if near[item]
            else where * scale
            for where, item in enumerate(rank)
        }
        result[number] = sorted(reversed(rank) if turned else rank, key=weight.__getitem__)
    return result


def _exchange(ranks: list[list[int]], up: list[list[int]], down: list[list[int]]) -> None:
    """Swap neighbours while that removes crossings."""
    for _ in range(EXCHANGES):
        changed = False
        for number, rank in enumerate(ranks):
            above = {item: where for where, item in enumerate(ranks[number - 1])} if number else {}
            below = (
                {item: where for where, item in enumerate(ranks[number + 1])}
                if number + 1 < len(ranks)
                else {}
            )
            for where in range(len(rank) - 1):
                left, right = rank[where], rank[where + 1]
                gain = _gain(up[left], up[right], above) + _gain(down[left], down[right], below)
                if gain > 0:
                    rank[where], rank[where + 1] = right, left
                    changed = True
        if not changed:
            return


def _gain(left: list[int], right: list[int], place: dict[int, int]) -> int:
    """Return how many crossings disappear if two neighbours are swapped."""
    ends = [place[item] for item in right]
    gain = 0
    for item in left:
        here = place[item]
        for end in ends:
            gain += (here > end) - (here < end)
    return gain
