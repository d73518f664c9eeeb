"""Routes of character lines between two ranks, without ambiguity.

Lines run sideways on tracks and join only if that is correct: sources with the same targets share a
track. All others arrive beside each other; where lines cross, the vertical one interrupts the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supersteps.viz.canvas import DOWN, LEFT, RIGHT, UP

STEP = 2
"""Columns between lines that arrive at the same box."""


@dataclass(frozen=True, slots=True)
class Net:
    """Lines that share a track: every source leads to every target.

    Attributes:
        sources: Columns where the lines start.
        arrivals: Columns where they end.
    """

    sources: frozenset[int]
    arrivals: frozenset[int]

    @property
    def is_straight(self) -> bool:
        """Whether it is a single vertical line, which needs no track."""
        return len(self.sources) == 1 and self.sources == self.arrivals

    @property
    def span(self) -> tuple[int, int]:
        """The columns its track covers."""
        both = self.sources | self.arrivals
        return min(both), max(both)


@dataclass(frozen=True, slots=True)
class Channel:
    """The lines between two ranks.

    Attributes:
        rows: For each track the cells by column, as the sides they are connected to.
        arrivals: For each target the columns where lines end.
    """

    rows: tuple[dict[int, int], ...]
    arrivals: dict[int, tuple[int, ...]]


def channel(links: Sequence[tuple[int, int]], room: dict[int, int]) -> Channel | None:
    """Route the lines between two ranks.

    Args:
        links: Columns of source and target, for each line.
        room: For each target how far from its column lines may end.

    Returns:
        The tracks; None if lines would overlap.
    """
    sources = {source for source, _ in links}
    # Lines that swap columns block each other, unless they end beside the columns of other sources.
    for avoided in (set[int](), sources):
        found = _nets(links, room, avoided)
        tracks = _tracks(found[0]) if found else None
        if found and tracks is not None:
            nets, arrivals = found
            return Channel(_drawn(nets, tracks), arrivals)
    return None


def _nets(
    links: Sequence[tuple[int, int]], room: dict[int, int], avoided: set[int]
) -> tuple[list[Net], dict[int, tuple[int, ...]]] | None:
    """Group sources with the same targets; None if a box is too narrow for its lines."""
    ends: dict[int, set[int]] = {}
    for source, target in links:
        ends.setdefault(source, set()).add(target)
    together: dict[tuple[int, ...], list[int]] = {}
    for source in sorted(ends):
        together.setdefault(tuple(sorted(ends[source])), []).append(source)
    groups = list(together.items())
    arriving: list[set[int]] = [set() for _ in groups]
    arrivals = {}
    for target in sorted({target for _, target in links}):
        coming = [number for number, (targets, _) in enumerate(groups) if target in targets]
        columns = _arrivals(
            target, [groups[number][1] for number in coming], room.get(target, 0), avoided
        )
        if columns is None:
            return None
        for number, column in zip(coming, columns, strict=True):
            arriving[number].add(column)
        arrivals[target] = tuple(columns)
    nets = [
        Net(frozenset(sources), frozenset(columns))
        for (_, sources), columns in zip(groups, arriving, strict=True)
    ]
    return nets, arrivals


def _arrivals(
    target: int, coming: Sequence[Sequence[int]], room: int, avoided: set[int]
) -> list[int] | None:
    """Assign a column to each group of sources of a target, from left to right."""
    order = sorted(
        range(len(coming)), key=lambda number: (sum(coming[number]) / len(coming[number]), number)
    )
    # A source directly above the middle goes straight down.
    above = [place for place, number in enumerate(order) if coming[number] == [target]]
    middle = above[0] if above else (len(order) - 1) // 2
    free = [
        column
        for column in range(target - room, target + room + 1)
        if column not in avoided or (above and column == target)
    ]
    found: dict[int, int] = {}
    for place in range(middle, len(order)):
        ideal = found[place - 1] + STEP if found else target
        found[place] = _nearest(ideal, [column for column in free if column >= ideal or not found])
    for place in range(middle - 1, -1, -1):
        ideal = found[place + 1] - STEP
        found[place] = _nearest(ideal, [column for column in free if column <= ideal])
    if any(column < 0 for column in found.values()):
        return None
    return [found[order.index(number)] for number in range(len(coming))]


def _nearest(ideal: int, free: Sequence[int]) -> int:
    """Return the nearest free column; -1 if there is none."""
    return min(free, key=lambda column: (abs(column - ideal), column), default=-1)


def _tracks(nets: Sequence[Net]) -> dict[int, int] | None:
    """Assign tracks to the nets that need one; None if they block each other."""
    bent = [number for number, net in enumerate(nets) if not net.is_straight]
    # A source's line has to leave its column before another ends there.
    before = {
        number: {
            other
            for other in bent
            if other != number and nets[other].sources & nets[number].arrivals
        }
        for number in bent
    }
    waiting = sorted(bent, key=lambda number: nets[number].span)
    tracks: dict[int, int] = {}
    track = 0
    while waiting:
        end, chosen = -1, []
        for number in waiting:
            left, right = nets[number].span
            if before[number] <= tracks.keys() and left > end:
                chosen.append(number)
                end = right
        if not chosen:
            return None
        tracks.update(dict.fromkeys(chosen, track))
        waiting = [number for number in waiting if number not in tracks]
        track += 1
    return tracks


def _drawn(nets: Sequence[Net], tracks: dict[int, int]) -> tuple[dict[int, int], ...]:
    """The cells of every track."""
    count = max(tracks.values(), default=-1) + 1
    rows: list[dict[int, int]] = [{} for _ in range(count)]
    for number, net in enumerate(nets):
        own = tracks.get(number, count)
        for column in net.sources:
            for row in range(own):
                rows[row][column] = UP | DOWN
        for column in net.arrivals:
            for row in range(own + 1, count):
                rows[row][column] = UP | DOWN
    for number, track in tracks.items():
        net = nets[number]
        left, right = net.span
        for column in range(left, right + 1):
            # A vertical line of another net continues, above this one.
            if column in net.sources or column in net.arrivals or column not in rows[track]:
                rows[track][column] = (
                    (LEFT if column > left else 0)
                    | (RIGHT if column < right else 0)
                    | (UP if column in net.sources else 0)
                    | (DOWN if column in net.arrivals else 0)
                )
    return tuple(rows)
