"""The layout of a picture: layers from top to bottom.

The method is that of Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical
System Structures" (1981): break cycles, put nodes in ranks, let long edges pass through the ranks
between, order each rank by the barycenter heuristic, and assign coordinates. docs/ARCHITECTURE.md
says why this is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from supersteps.viz.layers import Extent, Layers, Way, arrange, backward_ways
from supersteps.viz.picture import Edge, EdgeKind, Node, Picture

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right side."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower side."""
        return self.top + self.height

    @property
    def middle(self) -> Point:
        """The point in the middle."""
        return self.left + self.width / 2, self.top + self.height / 2


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a node or label.

    Attributes:
        width: The width. height: The height. inner_at: For a node with an inner picture, the
            position of that picture in the node.
    """

    width: float
    height: float
    inner_at: Point = (0, 0)


@dataclass(frozen=True, slots=True)
class Spacing:
    """Distances, in the unit of the sizes.

    Attributes:
        nodes: Between neighbouring nodes.
        ranks: Between ranks.
        label_ranks: The same if one of the two ranks has only labels and passing edges.
        lanes: Between an edge and its neighbours.
        loop: How far edges at the side of a node extend.
        slope: Added between two ranks for each unit that an edge goes sideways, so that it is not
            flat.
        steepest: The maximum of that addition.
    """

    nodes: float = 32
    ranks: float = 44
    label_ranks: float = 24
    lanes: float = 18
    loop: float = 20
    slope: float = 0.09
    steepest: float = 60


@dataclass(frozen=True, slots=True)
class Placed:
    """A node and its position.

    Attributes:
        node: The node.
        box: Its rectangle.
        rank: Its layer, counted from the top.
        inner: The layout of its inner picture, if any, in its own coordinates.
        inner_at: The position of the inner picture in this layout.
    """

    node: Node
    box: Box
    rank: int
    inner: Layout | None = None
    inner_at: Point = (0, 0)


@dataclass(frozen=True, slots=True)
class Route:
    """An edge and its route.

    Attributes:
        edge: The edge.
        points: From the source's border to the target's. Consecutive points are above each other,
            beside each other (only at a node's side), or on both sides of the empty space between
            two ranks.
        is_back: Whether it leads upwards.
        label: The rectangle of its label.
    """

    edge: Edge
    points: tuple[Point, ...]
    is_back: bool = False
    label: Box | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a picture, between (0, 0) and (width, height).

    Attributes:
        width: From left to right.
        height: From top to bottom.
        nodes: In the order of the picture.
        routes: In the order of the picture's edges.
    """

    width: float
    height: float
    nodes: tuple[Placed, ...]
    routes: tuple[Route, ...]


NodeSize = Callable[[Node, Layout | None], Size]
LabelSize = Callable[[Edge], Size | None]


def laid_out(
    picture: Picture, node_size: NodeSize, label_size: LabelSize, spacing: Spacing | None = None
) -> Layout:
    """Compute the layout of a picture.

    Args:
        picture: The picture; inner pictures are laid out first.
        node_size: Returns the size of a node, given the layout of its inner picture.
        label_size: Returns the size of an edge's label; None for no label.
        spacing: Distances; the default suits pixels.

    Returns:
        The position of every node and the route of every edge. Boxes do not overlap, and no edge
        runs through a box.
    """
    spacing = spacing or Spacing()
    inners = [
        laid_out(node.inner, node_size, label_size, spacing) if node.inner is not None else None
        for node in picture.nodes
    ]
    sizes = [node_size(node, inner) for node, inner in zip(picture.nodes, inners, strict=True)]
    labels = [label_size(edge) for edge in picture.edges]
    number = {node.id: place for place, node in enumerate(picture.nodes)}
    ways = [
        Way(
            number[edge.source],
            number[edge.target],
            Extent(label.width / 2, label.width / 2) if label else None,
            edge.kind is EdgeKind.ERROR,
        )
        for edge, label in zip(picture.edges, labels, strict=True)
    ]
    roots = [place for place, node in enumerate(picture.nodes) if node.is_start]
    layers = arrange(
        _extents(picture, sizes, ways, labels, roots, spacing),
        ways,
        roots,
        between_nodes=spacing.nodes,
        between_lanes=spacing.lanes,
        lane=0,
    )
    return _Tracer(picture, layers, sizes, labels, inners, spacing).layout()


def _extents(
    picture: Picture,
    sizes: Sequence[Size],
    ways: Sequence[Way],
    labels: Sequence[Size | None],
    roots: Sequence[int],
    spacing: Spacing,
) -> list[Extent]:
    """Return the extent of each node, including the edges at its sides."""
    beside: list[float] = [0.0] * len(sizes)
    for place in backward_ways(len(sizes), ways, roots):
        for end in (ways[place].source, ways[place].target):
            beside[end] = max(beside[end], spacing.loop)
    loops: dict[int, float] = {}
    for way, label in zip(ways, labels, strict=True):
        if way.source == way.target:
            room = label.width + spacing.lanes / 3 if label else 0
            loops[way.source] = loops.get(way.source, spacing.loop) + room
    left, right = list(beside), list(beside)
    for place, room in loops.items():
        right[place] = room
        if beside[place]:
            # The free side is not known yet.
            left[place] = room
    return [
        Extent(size.width / 2 + left[place], size.width / 2 + right[place])
        for place, size in enumerate(sizes)
    ]


def _distinct(points: Sequence[Point]) -> tuple[Point, ...]:
    """Remove points that coincide with the previous one, apart from rounding."""
    first, *others = points
    kept = [first]
    for point in others:
        if abs(point[0] - kept[-1][0]) > 0.01 or abs(point[1] - kept[-1][1]) > 0.01:
            kept.append(point)
    # The first and last point are at the nodes.
    return (*kept[:-1], points[-1]) if len(kept) > 1 else tuple(kept)


class _Tracer:
    """Assigns heights to ranks and points to edges."""

    def __init__(
        self,
        picture: Picture,
        layers: Layers,
        sizes: Sequence[Size],
        labels: Sequence[Size | None],
        inners: Sequence[Layout | None],
        spacing: Spacing,
    ) -> None:
        self._picture = picture
        self._layers = layers
        self._sizes = sizes
        self._labels = labels
        self._inners = inners
        self._spacing = spacing
        self._right = self._backs_at_the_right()
        self._tops, self._bottoms = self._bands()
        self._boxes = [self._box(place) for place in range(len(sizes))]

    def layout(self) -> Layout:
        """Return the layout."""
        nodes = []
        for place, (node, inner) in enumerate(zip(self._picture.nodes, self._inners, strict=True)):
            box, (across, down) = self._boxes[place], self._sizes[place].inner_at
            at = (box.left + across, box.top + down)
            nodes.append(Placed(node, box, self._layers.items[place].rank, inner, at))
        width = max((item.x + item.extent.right for item in self._layers.items), default=0.0)
        height = self._bottoms[-1] if self._bottoms else 0.0
        routes = tuple(self._route(number) for number in range(len(self._picture.edges)))
        return Layout(width, height, tuple(nodes), routes)

    def _backs_at_the_right(self) -> dict[tuple[int, int], bool]:
        """Return for both ends of each backward edge whether it is at the node's right side."""
        sides = {}
        items = self._layers.items
        for number in self._layers.backward:
            chain = self._layers.chains[number]
            # With nothing in between, both ends use the side of the lower node.
            direct = items[chain[-1]].x >= items[chain[0]].x
            for end, beside in ((chain[0], chain[1]), (chain[-1], chain[-2])):
                sides[number, end] = direct if len(chain) == 2 else items[beside].x >= items[end].x
        return sides

    def _bands(self) -> tuple[list[float], list[float]]:
        """Return top and bottom of every rank."""
        tops: list[float] = []
        bottoms: list[float] = []
        below = 0.0
        thin_above = True
        leaning = self._leaning()
        label_height = {
            item: label.height
            for chain, label in zip(self._layers.chains, self._labels, strict=True)
            for item in chain
            if label and self._layers.items[item].is_label
        }
        for rank, items in enumerate(self._layers.ranks):
            thin = all(self._layers.items[item].node is None for item in items)
            if rank:
                gap = self._spacing.label_ranks if thin or thin_above else self._spacing.ranks
                below += gap + min(self._spacing.steepest, self._spacing.slope * leaning[rank])
            heights = [
                self._sizes[item].height
                for item in items
                if self._layers.items[item].node is not None
            ]
            heights += [label_height[item] for item in items if item in label_height]
            tops.append(below)
            below += max(heights, default=0.0)
            bottoms.append(below)
            thin_above = thin
        return tops, bottoms

    def _leaning(self) -> dict[int, float]:
        """Return for each rank the largest sideways distance of an edge from the rank above."""
        found = dict.fromkeys(range(len(self._layers.ranks)), 0.0)
        items = self._layers.items
        for chain in self._layers.chains:
            for upper, lower in pairwise(chain):
                rank = items[lower].rank
                found[rank] = max(found[rank], abs(items[upper].x - items[lower].x))
        return found

    def _box(self, place: int) -> Box:
        item, size = self._layers.items[place], self._sizes[place]
        middle = (self._tops[item.rank] + self._bottoms[item.rank]) / 2
        return Box(item.x - size.width / 2, middle - size.height / 2, size.width, size.height)

    def _route(self, number: int) -> Route:
        edge = self._picture.edges[number]
        chain = self._layers.chains[number]
        if not chain:
            return self._loop(number)
        is_back = number in self._layers.backward
        points: list[Point] = []
        for item in chain:
            points += self._passing(
                number, item, is_first=item == chain[0], is_last=item == chain[-1]
            )
        if is_back:
            points.reverse()
        return Route(edge, _distinct(points), is_back, self._label(number))

    def _passing(self, number: int, place: int, *, is_first: bool, is_last: bool) -> list[Point]:
        """Return the points of an edge inside one rank, downwards."""
        item = self._layers.items[place]
        top, bottom = self._tops[item.rank], self._bottoms[item.rank]
        if item.node is None:
            return [(item.x, top), (item.x, bottom)]
        box = self._boxes[item.node]
        if number in self._layers.backward:
            right = self._right[number, place]
            side = box.right if right else box.left
            lane = side + (self._spacing.loop if right else -self._spacing.loop)
            middle = box.middle[1]
            return (
                [(side, middle), (lane, middle), (lane, bottom)]
                if is_first
                else [
                    (lane, top),
                    (lane, middle),
                    (side, middle),
                ]
            )
        return (
            [(item.x, box.bottom), (item.x, bottom)]
            if not is_last
            else [(item.x, top), (item.x, box.top)]
        )

    def _label(self, number: int) -> Box | None:
        size = self._labels[number]
        for place in self._layers.chains[number]:
            item = self._layers.items[place]
            if size and item.is_label:
                middle = (self._tops[item.rank] + self._bottoms[item.rank]) / 2
                return Box(
                    item.x - size.width / 2, middle - size.height / 2, size.width, size.height
                )
        return None

    def _loop(self, number: int) -> Route:
        """Route a self loop: at the right, unless back edges are there and not at the left."""
        edge = self._picture.edges[number]
        place = next(n for n, node in enumerate(self._picture.nodes) if node.id == edge.source)
        taken = {right for (_, end), right in self._right.items() if end == place}
        to_right = True not in taken or False in taken
        # Several loops are nested, with their labels side by side.
        others = [
            other
            for other in range(number)
            if self._picture.edges[other].source == self._picture.edges[other].target == edge.source
        ]
        gap = self._spacing.lanes / 3
        across = (
            sum(label.width + gap for label in map(self._labels.__getitem__, others) if label) + gap
        )
        box, size = self._boxes[place], self._labels[number]
        middle, reach = box.middle[1], min(box.height / 4, self._spacing.loop) / (len(others) + 1)
        side, way = (box.right, 1) if to_right else (box.left, -1)
        outer = side + way * self._spacing.loop
        lane = side + way * self._spacing.loop / (1 + len(others) / 2)
        points = (
            (side, middle + reach),
            (lane, middle + reach),
            (lane, middle - reach),
            (side, middle - reach),
        )
        label = None
        if size:
            left = outer + across if to_right else outer - across - size.width
            label = Box(left, middle - size.height / 2, size.width, size.height)
        return Route(edge, points, True, label)
