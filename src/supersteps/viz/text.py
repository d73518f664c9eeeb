"""Pictures as text for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor

from supersteps.viz.canvas import ASCII, UNICODE, Canvas, Signs
from supersteps.viz.labels import columns, mark_text, printable, shortened
from supersteps.viz.layers import Extent, Item, Layers, Way, arrange, backward_ways
from supersteps.viz.outline import outline, way_text
from supersteps.viz.picture import Edge, Node, NodeKind, Picture
from supersteps.viz.routes import Channel, channel

LABEL_ROOM = 40
EDGE_LABEL_ROOM = 24
BETWEEN_NODES = 3
BETWEEN_LANES = 2


def to_ascii(picture: Picture, width: int = 100, *, unicode: bool = True) -> str:
    """Draw a picture as text.

    Args:
        picture: The picture.
        width: The number of columns. A wider picture becomes a list of nodes and their targets.
        unicode: Whether lines and signs may use characters other than ASCII; if not, those in
            labels are escaped.

    Returns:
        Lines without trailing spaces, each with a line break.
    """
    signs = UNICODE if unicode else ASCII
    title = signs.text(printable(picture.title))
    lines = [title, ""] if title else []
    lines += _drawing(picture, width, signs)
    return "".join(f"{line}\n" for line in lines)


def _drawing(picture: Picture, width: int, signs: Signs) -> list[str]:
    """Return the best drawing that fits: everything in one, inner pictures below, or a list."""
    drawn = _drawn(picture, width, signs, nested=True)
    if drawn is not None:
        return drawn
    inner = [node for node in picture.nodes if node.inner is not None]
    drawn = _drawn(picture, width, signs, nested=False) if inner else None
    if drawn is None:
        return list(outline(picture, signs))
    for node in inner:
        assert node.inner is not None
        drawn += ["", f"{_name(node, signs)}:", ""]
        drawn += [f"  {line}".rstrip() for line in _drawing(node.inner, width - 2, signs)]
    return drawn


def _name(node: Node, signs: Signs) -> str:
    return _short(printable(node.label) or printable(node.id), signs, LABEL_ROOM)


def _short(label: str, signs: Signs, room: int) -> str:
    """Return a label in the allowed characters, shortened after escaping."""
    return signs.text(shortened(label, room, lambda part: columns(signs.text(part))))


@dataclass(frozen=True, slots=True)
class _Box:
    """A node as lines of text; boxes have an odd width, so that they have a middle column."""

    lines: tuple[str, ...]
    width: int
    border: str

    @property
    def height(self) -> int:
        return len(self.lines) + 2

    def draw(self, canvas: Canvas, row: int, middle: int, *, is_left: bool) -> None:
        left = middle - self.width // 2
        top_left, top_right, low_left, low_right, flat, upright, leave = list(self.border)
        canvas.put(row, left, top_left + flat * (self.width - 2) + top_right)
        for number, line in enumerate(self.lines, row + 1):
            canvas.put(number, left, upright)
            canvas.put(number, left + 1 + (self.width - 2 - columns(line)) // 2, line)
            canvas.put(number, left + self.width - 1, upright)
        canvas.put(row + self.height - 1, left, low_left + flat * (self.width - 2) + low_right)
        if is_left:
            canvas.put(row + self.height - 1, middle, leave)


def _box(
    node: Node, notes: Sequence[str], inner: Sequence[str] | None, arriving: int, signs: Signs
) -> _Box:
    prefix = signs.switch if node.kind is NodeKind.SWITCH else ""
    if node.kind is NodeKind.SUB_WORKFLOW and inner is None:
        prefix = signs.folded
    lines = [prefix + _name(node, signs)]
    if node.marks:
        lines.append(signs.text("  ".join(mark_text(mark) for mark in node.marks)))
    if node.detail:
        lines.append(_short(printable(node.detail), signs, LABEL_ROOM))
    lines += notes
    if inner is not None:
        # As a block: the lines of a drawing must stay aligned.
        room = max(map(columns, inner), default=0)
        lines += [line + " " * (room - columns(line)) for line in inner]
    # Lines from different sources may arrive beside each other.
    width = max(max(map(columns, lines)) + 4, 2 * min(arriving, 4) + 3)
    border = (
        signs.start
        if node.is_start
        else signs.round
        if node.kind is NodeKind.FAN_IN
        else signs.plain
    )
    return _Box(tuple(lines), width + 1 - width % 2, border)


def _drawn(picture: Picture, width: int, signs: Signs, *, nested: bool) -> list[str] | None:
    """Return the drawing; None if it is too wide or its lines would be ambiguous."""
    number = {node.id: place for place, node in enumerate(picture.nodes)}
    roots = [place for place, node in enumerate(picture.nodes) if node.is_start]
    all_ways = [Way(number[edge.source], number[edge.target]) for edge in picture.edges]
    backward = backward_ways(len(picture.nodes), all_ways, roots)
    forward = [
        edge
        for way, edge in enumerate(picture.edges)
        if way not in backward and edge.source != edge.target
    ]
    boxes = []
    for place, node in enumerate(picture.nodes):
        inner = (
            _drawn(node.inner, width - 4, signs, nested=True)
            if nested and node.inner is not None
            else None
        )
        if nested and node.inner is not None and inner is None:
            return None
        leaving = [
            (edge, edge.source == edge.target)
            for way, edge in enumerate(picture.edges)
            if number[edge.source] == place and (way in backward or edge.source == edge.target)
        ]
        arriving = sum(edge.target == node.id for edge in forward)
        notes = [_note(picture, number, *found, signs) for found in leaving]
        boxes.append(_box(node, notes, inner, arriving, signs))
    drawing = _Drawing(boxes, _ways(forward, number, signs), roots, signs)
    return drawing.lines() if drawing.width <= width else None


def _note(picture: Picture, number: dict[str, int], edge: Edge, is_self: bool, signs: Signs) -> str:
    words = _short(way_text(edge), signs, EDGE_LABEL_ROOM)
    where = (
        signs.itself if is_self else signs.back + _name(picture.nodes[number[edge.target]], signs)
    )
    return where + (f" [{words}]" if words else "")


def _ways(edges: Sequence[Edge], number: dict[str, int], signs: Signs) -> list[tuple[Way, str]]:
    """Return the lines to draw with their labels; edges that look the same share a line."""
    found = {
        (
            number[edge.source],
            number[edge.target],
            _short(way_text(edge), signs, EDGE_LABEL_ROOM),
        ): None
        for edge in edges
    }
    ways = []
    for source, target, words in found:
        half = columns(words) // 2 + 0.5
        ways.append((Way(source, target, Extent(half, half) if words else None), words))
    return ways


class _Drawing:
    """The boxes and lines of one picture."""

    def __init__(
        self,
        boxes: Sequence[_Box],
        ways: Sequence[tuple[Way, str]],
        roots: Sequence[int],
        signs: Signs,
    ) -> None:
        self._boxes = boxes
        self._signs = signs
        self._layers: Layers = arrange(
            [Extent(box.width / 2, box.width / 2) for box in boxes],
            [way for way, _ in ways],
            roots,
            between_nodes=BETWEEN_NODES,
            between_lanes=BETWEEN_LANES,
            lane=1,
        )
        self._labels = {
            place: words
            for chain, (_, words) in zip(self._layers.chains, ways, strict=True)
            for place in chain
            if self._layers.items[place].is_label
        }
        self._below: dict[int, list[int]] = {}
        for chain in self._layers.chains:
            for upper, lower in pairwise(chain):
                self._below.setdefault(upper, []).append(lower)
        self.width = max(
            (floor(item.x + item.extent.right) for item in self._layers.items), default=0
        )

    def lines(self) -> list[str] | None:
        """Return the drawing; None if its lines would be ambiguous."""
        canvas, row = Canvas(), 0
        for rank in self._layers.ranks:
            height = max(self._height(place) for place in rank)
            for place in rank:
                self._draw(canvas, place, row, row + height)
            row += height
            lines = self._channel(rank)
            if lines is None:
                return None
            row = self._connect(canvas, rank, lines, row)
        return canvas.lines()

    def _item(self, place: int) -> Item:
        return self._layers.items[place]

    def _column(self, place: int) -> int:
        # All distances are whole numbers, so rounding down preserves them.
        return floor(self._item(place).x)

    def _height(self, place: int) -> int:
        node = self._item(place).node
        return 1 if node is None else self._boxes[node].height

    def _draw(self, canvas: Canvas, place: int, row: int, end: int) -> None:
        """Draw an item, and its line down to the end of the rank."""
        column, node = self._column(place), self._item(place).node
        is_left = place in self._below
        if node is not None:
            self._boxes[node].draw(canvas, row, column, is_left=is_left)
            row += self._boxes[node].height
        elif place in self._labels:
            words = self._labels[place]
            canvas.put(row, column - columns(words) // 2, words)
            row += 1
        for number in range(row, end if is_left else row):
            canvas.put(number, column, self._signs.lines[3])

    def _channel(self, rank: Sequence[int]) -> Channel | None:
        links = [
            (self._column(upper), self._column(lower))
            for upper in rank
            for lower in self._below.get(upper, ())
        ]
        room = {}
        for upper in rank:
            for lower in self._below.get(upper, ()):
                node = self._item(lower).node
                room[self._column(lower)] = 0 if node is None else self._boxes[node].width // 2 - 1
        return channel(links, room)

    def _connect(self, canvas: Canvas, rank: Sequence[int], lines: Channel, row: int) -> int:
        """Draw the lines to the next rank; return its first row."""
        for cells in lines.rows:
            for column, sides in cells.items():
                canvas.put(row, column, self._signs.lines[sides])
            row += 1
        targets = dict.fromkeys(lower for upper in rank for lower in self._below.get(upper, ()))
        if not any(self._item(lower).node is not None for lower in targets):
            return row
        for lower in targets:
            is_end = self._item(lower).node is not None
            for column in lines.arrivals[self._column(lower)]:
                canvas.put(row, column, self._signs.head if is_end else self._signs.lines[3])
        return row + 1
