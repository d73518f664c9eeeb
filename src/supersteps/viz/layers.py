"""A graph in layers: the rank and position of each node.

Everything here is numbers: nodes and edges are indexes, widths are in the caller's unit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from supersteps.viz.coordinates import centres
from supersteps.viz.order import ordered


@dataclass(frozen=True, slots=True)
class Extent:
    """How far an item reaches to both sides of the line on which its edges arrive."""

    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Way:
    """An edge, for the layering.

    Attributes:
        source: The source node.
        target: The target node.
        label: The extent of its label; None without a label.
        is_minor: Whether it may bend to keep others straight.
    """

    source: int
    target: int
    label: Extent | None = None
    is_minor: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a rank: a node, or a point where an edge passes through the rank."""

    rank: int
    x: float
    extent: Extent
    node: int | None = None
    is_label: bool = False


@dataclass(frozen=True, slots=True)
class Layers:
    """The result of the layering.

    Attributes:
        items: Nodes first, in their order, then the points where edges pass.
        chains: For each edge the items it connects, downwards; empty for a self loop.
        backward: Edges that lead upwards, whose chains start at their targets.
        ranks: Items from left to right, top rank first.
    """

    items: tuple[Item, ...]
    chains: tuple[tuple[int, ...], ...]
    backward: frozenset[int]
    ranks: tuple[tuple[int, ...], ...]


def backward_ways(count: int, ways: Sequence[Way], roots: Sequence[int]) -> frozenset[int]:
    """Return the edges to reverse to break all cycles: the back edges of a depth-first search.

    Args:
        count: The number of nodes.
        ways: The edges; self loops are ignored.
        roots: Start nodes of the search.

    Returns:
        Indexes of edges.
    """
    leaving: list[list[int]] = [[] for _ in range(count)]
    entered = [False] * count
    for number, way in enumerate(ways):
        if way.source != way.target:
            leaving[way.source].append(number)
            entered[way.target] = True
    found = set()
    state = [0] * count  # 1 while on the path from the root, 2 when finished
    for root in [*roots, *(n for n in range(count) if not entered[n]), *range(count)]:
        if state[root]:
            continue
        state[root] = 1
        path = [(root, iter(leaving[root]))]
        while path:
            node, rest = path[-1]
            number = next(rest, -1)
            if number < 0:
                state[node] = 2
                path.pop()
                continue
            target = ways[number].target
            if state[target] == 1:
                found.add(number)
            elif not state[target]:
                state[target] = 1
                path.append((target, iter(leaving[target])))
    return frozenset(found)


def _ranks(count: int, arcs: Sequence[tuple[int, int, int]], roots: Sequence[int]) -> list[int]:
    """Return the longest path to each node; sources move down next to their targets."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    waiting = [0] * count
    for upper, lower, length in arcs:
        leaving[upper].append((lower, length))
        waiting[lower] += 1
    rank = [0] * count
    sources = [node for node in range(count) if not waiting[node]]
    ready = deque(sources)
    while ready:
        node = ready.popleft()
        for lower, length in leaving[node]:
            rank[lower] = max(rank[lower], rank[node] + length)
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    for node in sources:
        if leaving[node] and node not in roots:
            rank[node] = max(0, min(rank[lower] - length for lower, length in leaving[node]))
    return rank


def _lengths(ways: Sequence[Way], backward: frozenset[int]) -> list[int]:
    """Return the minimum length of each edge: a label needs a rank, siblings stay aligned."""
    labelled = {
        way.source
        for number, way in enumerate(ways)
        if way.label and way.source != way.target and number not in backward
    }
    return [
        2 if way.label or (number not in backward and way.source in labelled) else 1
        for number, way in enumerate(ways)
    ]


@dataclass(slots=True)
class _Draft:
    """Items under construction, and their links."""

    rank: list[int]
    extent: list[Extent]
    node: list[int | None]
    is_label: list[bool]
    links: list[tuple[int, int]]
    loose: set[tuple[int, int]]  # links that need not be straight

    def add(self, rank: int, extent: Extent, is_label: bool) -> int:
        self.rank.append(rank)
        self.extent.append(extent)
        self.node.append(None)
        self.is_label.append(is_label)
        return len(self.rank) - 1

    def chain(self, way: Way, is_backward: bool, is_loose: bool, lane: float) -> tuple[int, ...]:
        """Add the points where an edge passes through ranks."""
        upper, lower = (way.target, way.source) if is_backward else (way.source, way.target)
        between = range(self.rank[upper] + 1, self.rank[lower])
        # The label is next to the source, where the decision is made.
        labelled = (between[-1] if is_backward else between[0]) if way.label else None
        lane_extent = Extent(lane / 2, lane / 2)
        passes = [
            self.add(rank, way.label, True)
            if way.label and rank == labelled
            else self.add(rank, lane_extent, False)
            for rank in between
        ]
        chain = (upper, *passes, lower)
        links = list(pairwise(chain))
        self.links += links
        if is_loose:
            self.loose.update((links[0], links[-1]))
        return chain


def _first_order(ranks: int, draft: _Draft, roots: Sequence[int]) -> list[list[int]]:
    """Return items in the order of a search from the roots, which keeps related ones close."""
    down: list[list[int]] = [[] for _ in draft.rank]
    for upper, lower in draft.links:
        down[upper].append(lower)
    order: list[list[int]] = [[] for _ in range(ranks)]
    seen = [False] * len(draft.rank)
    for root in [*roots, *sorted(range(len(draft.rank)), key=lambda item: draft.rank[item])]:
        stack = [root]
        while stack:
            item = stack.pop()
            if not seen[item]:
                seen[item] = True
                order[draft.rank[item]].append(item)
                # The top of the stack comes first; backward edges are at the bottom, so that they
                # start at the right.
                forward = [lower for lower in down[item] if (item, lower) not in draft.loose]
                stack += [lower for lower in down[item] if (item, lower) in draft.loose]
                stack += reversed(forward)
    return order


def arrange(
    extents: Sequence[Extent],
    ways: Sequence[Way],
    roots: Sequence[int],
    *,
    between_nodes: float,
    between_lanes: float,
    lane: float,
) -> Layers:
    """Arrange a graph in layers with downward, mostly straight edges and few crossings.

    Args:
        extents: The extent of each node.
        ways: The edges.
        roots: Start nodes.
        between_nodes: Minimum distance between neighbouring nodes.
        between_lanes: Minimum distance between an edge and its neighbour.
        lane: Width of an edge that passes through a rank.

    Returns:
        Rank and position of all nodes, and of the edges in the ranks between.
    """
    backward = backward_ways(len(extents), ways, roots)
    lengths = _lengths(ways, backward)
    arcs = [
        (way.target, way.source, length) if number in backward else (way.source, way.target, length)
        for number, (way, length) in enumerate(zip(ways, lengths, strict=True))
        if way.source != way.target
    ]
    count = len(extents)
    draft = _Draft(
        _ranks(count, arcs, roots), list(extents), list(range(count)), [False] * count, [], set()
    )
    main = {
        way.source for number, way in enumerate(ways) if not way.is_minor and number not in backward
    }
    chains = tuple(
        ()
        if way.source == way.target
        # A backward edge is attached to the sides of nodes.
        else draft.chain(
            way,
            number in backward,
            number in backward or (way.is_minor and way.source in main),
            lane,
        )
        for number, way in enumerate(ways)
    )
    first = _first_order(max(draft.rank, default=-1) + 1, draft, roots)
    ranks = ordered(first, draft.links)

    def distance(left: int, right: int) -> float:
        both = draft.node[left] is not None and draft.node[right] is not None
        return (
            draft.extent[left].right
            + draft.extent[right].left
            + (between_nodes if both else between_lanes)
        )

    is_pass = [node is None for node in draft.node]
    xs = centres(
        ranks, [link for link in draft.links if link not in draft.loose], is_pass, distance
    )
    edge = min((x - extent.left for x, extent in zip(xs, draft.extent, strict=True)), default=0.0)
    items = tuple(
        Item(draft.rank[n], xs[n] - edge, draft.extent[n], draft.node[n], draft.is_label[n])
        for n in range(len(draft.rank))
    )
    return Layers(items, chains, backward, tuple(map(tuple, ranks)))
