"""Coordinates of ordered ranks, so that edges are mostly straight.

The method of Brandes and Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2001): items
are aligned with the middle one of their neighbours in four ways (from above and below, leftmost
and rightmost), and the four are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf


def centres(
    ranks: Sequence[Sequence[int]],
    links: Sequence[tuple[int, int]],
    is_pass: Sequence[bool],
    distance: Callable[[int, int], float],
) -> list[float]:
    """Compute the centre of each item in its rank.

    Args:
        ranks: Items from left to right, from top to bottom.
        links: Connected items, the upper one first.
        is_pass: For each item whether an edge passes through it; edges are straight between such
            items.
        distance: The minimum distance between the centres of two neighbours.

    Returns:
        The centre of each item, without overlaps.
    """
    count = len(is_pass)
    up: list[list[int]] = [[] for _ in range(count)]
    down: list[list[int]] = [[] for _ in range(count)]
    for upper, lower in links:
        down[upper].append(lower)
        up[lower].append(upper)
    barred = _conflicts(ranks, up, is_pass)
    found = []
    for rows, near in ((list(ranks), up), (list(reversed(ranks)), down)):
        found.append(_leftmost(rows, near, barred, distance))
        mirrored = [list(reversed(row)) for row in rows]
        turned = _leftmost(mirrored, near, barred, lambda left, right: distance(right, left))
        found.append([-x for x in turned])
    return _balanced(found)


def _conflicts(
    ranks: Sequence[Sequence[int]], up: Sequence[Sequence[int]], is_pass: Sequence[bool]
) -> set[tuple[int, int]]:
    """Return the links that cross a long edge between two ranks, which have to bend."""
    barred = set()
    for upper, lower in pairwise(ranks):
        place = {item: number for number, item in enumerate(upper)}
        inner = [
            (place[up[item][0]], number)
            for number, item in enumerate(lower)
            if is_pass[item] and up[item] and is_pass[up[item][0]]
        ]
        for number, item in enumerate(lower):
            for end in up[item]:
                if is_pass[item] and is_pass[end]:
                    continue
                if any((place[end] - above) * (number - below) < 0 for above, below in inner):
                    barred.add((end, item))
    return barred


def _leftmost(
    rows: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
    barred: set[tuple[int, int]],
    distance: Callable[[int, int], float],
) -> list[float]:
    """Align items with neighbours in the previous rank, preferring the left, and compact."""
    count = len(near)
    place = {item: number for row in rows for number, item in enumerate(row)}
    root, aligned = list(range(count)), list(range(count))
    for row in rows:
        last = -1
        for item in row:
            ends = sorted(near[item], key=place.__getitem__)
            for middle in ends[(len(ends) - 1) // 2 : len(ends) // 2 + 1]:
                if aligned[item] != item or place[middle] <= last:
                    continue
                if (middle, item) in barred or (item, middle) in barred:
                    continue
                aligned[middle] = item
                root[item] = aligned[item] = root[middle]
                last = place[middle]
    where = _compacted(rows, root, distance)
    return [where[root[item]] for item in range(count)]


def _compacted(
    rows: Sequence[Sequence[int]], root: Sequence[int], distance: Callable[[int, int], float]
) -> dict[int, float]:
    """Move blocks of aligned items to the left, then back to the right if there is room."""
    after: dict[int, dict[int, float]] = {item: {} for item in dict.fromkeys(root)}
    waiting = dict.fromkeys(after, 0)
    for row in rows:
        for left, right in pairwise(row):
            first, second = root[left], root[right]
            if second not in after[first]:
                waiting[second] += 1
            after[first][second] = max(after[first].get(second, 0.0), distance(left, right))
    where = dict.fromkeys(after, 0.0)
    ready = [block for block in after if not waiting[block]]
    for block in ready:  # grows during the iteration
        for other, gap in after[block].items():
            where[other] = max(where[other], where[block] + gap)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for block in reversed(ready):
        room = min((where[other] - gap for other, gap in after[block].items()), default=-inf)
        where[block] = max(where[block], room)
    return where


def _balanced(found: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each item's two median positions, with all placements aligned."""
    if not found[0]:
        return []
    spans = [(min(xs), max(xs)) for xs in found]
    low, high = min(spans, key=lambda span: span[1] - span[0])
    shifted = []
    for number, (xs, (left, right)) in enumerate(zip(found, spans, strict=True)):
        # Even placements lean left, odd ones right.
        shift = low - left if number % 2 == 0 else high - right
        shifted.append([x + shift for x in xs])
    return [sum(sorted(places)[1:3]) / 2 for places in zip(*shifted, strict=True)]
