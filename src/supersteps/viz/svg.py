"""Pictures as SVG: one self-contained file without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, hypot
from xml.sax.saxutils import escape

from supersteps.viz.labels import marks_in_words, pixels, printable, shortened
from supersteps.viz.layout import Layout, Point, Route, laid_out
from supersteps.viz.picture import Edge, EdgeKind, MarkKind, Node, Picture
from supersteps.viz.shapes import edge_label_size, edge_text, node_shape, node_size, rect, tooltip
from supersteps.viz.style import HEAD_REACH, MARKERS, STYLE, edge_style, legend, num, text

MARGIN = 24.0
HEADING = 34.0
HEADING_ROOM = 620.0
LEGEND_GAP = 28.0
LEAST_WIDTH = 300.0
CORNER = 12.0


def to_svg(picture: Picture) -> str:
    """Draw a picture.

    Args:
        picture: The picture.

    Returns:
        An SVG document; the same for the same picture.
    """
    layout = laid_out(picture, node_size, edge_label_size)
    nodes, edges = list(_all_nodes(picture)), list(_all_edges(picture))
    kinds = [kind for kind in EdgeKind if any(edge.kind is kind for edge in edges)]
    marks = [
        kind for kind in MarkKind if any(mark.kind is kind for node in nodes for mark in node.marks)
    ]
    title = printable(picture.title)
    heading = shortened(title, HEADING_ROOM, lambda part: pixels(part, 16))
    top = MARGIN + (HEADING if heading else 0)
    notes, notes_width, notes_height = legend(kinds, marks, max(layout.width, LEAST_WIDTH))
    content = max(layout.width, notes_width, pixels(heading, 16))
    # Whole pixels, so that the background covers the last one.
    width = ceil(content + 2 * MARGIN)
    height = ceil(top + layout.height + (LEGEND_GAP + notes_height if notes else 0) + MARGIN)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" class="ss-picture" '
        f'width="{num(width)}" height="{num(height)}" '
        f'viewBox="0 0 {num(width)} {num(height)}" role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(title or 'Workflow')}</title>",
        f"<desc>{escape(description(picture))}</desc>",
        f"<style>{STYLE}</style>",
        MARKERS,
        '<rect class="ss-back" width="100%" height="100%"/>',
    ]
    if heading:
        parts.append(text(heading, MARGIN, MARGIN + 8, "ss-text ss-head", "start"))
    parts.append(
        f'<g transform="translate({num(MARGIN + (content - layout.width) / 2)} {num(top)})">'
    )
    parts += _drawn(layout)
    parts.append("</g>")
    if notes:
        parts.append(
            f'<g transform="translate({num(MARGIN)} {num(top + layout.height + LEGEND_GAP)})">'
        )
        parts += [*notes, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def description(picture: Picture) -> str:
    """Describe a picture in words.

    Args:
        picture: The picture.

    Returns:
        Its nodes with their marks and targets; only numbers for large pictures.
    """
    nodes = list(_all_nodes(picture))
    words = f"{len(nodes)} nodes, {len(list(_all_edges(picture)))} edges."
    name = {node.id: printable(node.label) for node in nodes}
    marked = [f"{name[node.id]}: {marks_in_words(node.marks)}." for node in nodes if node.marks]
    ways = [f"{name[edge.source]} to {name[edge.target]}." for edge in _all_edges(picture)]
    return " ".join([words, *marked[:20], *(ways if len(ways) <= 40 else ())])


def _all_nodes(picture: Picture) -> Iterator[Node]:
    for node in picture.nodes:
        yield node
        if node.inner is not None:
            yield from _all_nodes(node.inner)


def _all_edges(picture: Picture) -> Iterator[Edge]:
    yield from picture.edges
    for node in picture.nodes:
        if node.inner is not None:
            yield from _all_edges(node.inner)


def _drawn(layout: Layout) -> Iterator[str]:
    """Draw lines first, then nodes, then labels, so that labels are never covered."""
    yield from map(_line, layout.routes)
    for placed in layout.nodes:
        shape = node_shape(placed)
        data = _quoted(placed.node.id)
        yield f'<g class="ss-node" data-id="{data}">{tooltip(placed.node)}{shape}'
        if placed.inner is not None:
            yield f'<g transform="translate({num(placed.inner_at[0])} {num(placed.inner_at[1])})">'
            yield from _drawn(placed.inner)
            yield "</g>"
        yield "</g>"
    for route in layout.routes:
        label = edge_text(route.edge)
        if label and route.label is not None:
            style = "ss-label ss-label-error" if route.edge.kind is EdgeKind.ERROR else "ss-label"
            whole = f"<title>{escape(printable(route.edge.label) or label)}</title>"
            # Not a stroke around the letters: the line would show above an underscore, and not all
            # viewers can paint a stroke below its text.
            gap = rect(route.label, "ss-back", 3, 1.5)
            yield f"<g>{whole}{gap}{text(label, *route.label.middle, style)}</g>"


def _quoted(value: str) -> str:
    return escape(printable(value), {'"': "&quot;"})


def _line(route: Route) -> str:
    return f'<path {edge_style(route.edge.kind)} d="{path_data(route.points)}"/>'


def path_data(points: Sequence[Point]) -> str:
    """Return a smooth line through the points of a route.

    Args:
        points: As in `Route.points`.

    Returns:
        The path; it ends before the last point, where the arrow head continues.
    """
    points = [*points[:-1], _towards(points[-1], points[-2], HEAD_REACH)]
    parts = [f"M{_pair(points[0])}"]
    for number in range(1, len(points)):
        before, here = points[number - 1], points[number]
        after = points[number + 1] if number + 1 < len(points) else None
        if before[0] != here[0] and before[1] != here[1]:
            # Vertical at both ends, to continue the neighbouring segments.
            half = (before[1] + here[1]) / 2
            parts.append(f"C{num(before[0])} {num(half)} {num(here[0])} {num(half)} {_pair(here)}")
        elif (
            after is not None
            and (before[0] == here[0]) != (here[0] == after[0])
            and here[1] in (before[1], after[1])
        ):
            radius = min(CORNER, _distance(before, here) / 2, _distance(here, after) / 2)
            start, end = _towards(here, before, radius), _towards(here, after, radius)
            parts.append(f"L{_pair(start)}Q{_pair(here)} {_pair(end)}")
        else:
            parts.append(f"L{_pair(here)}")
    return "".join(parts)


def _towards(start: Point, end: Point, distance: float) -> Point:
    """Return the point at a distance from the start; between ranks, lines start vertically."""
    across, down = end[0] - start[0], end[1] - start[1]
    if across and down:
        return start[0], start[1] + (distance if down > 0 else -distance)
    length = hypot(across, down) or 1.0
    distance = min(distance, length)
    return start[0] + across / length * distance, start[1] + down / length * distance


def _distance(one: Point, other: Point) -> float:
    return hypot(one[0] - other[0], one[1] - other[1])


def _pair(point: Point) -> str:
    return f"{num(point[0])} {num(point[1])}"
