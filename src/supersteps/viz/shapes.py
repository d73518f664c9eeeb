"""The sizes and shapes of nodes in SVG pictures."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

from supersteps.viz.labels import (
    edge_label,
    mark_text,
    marks_in_words,
    pixels,
    printable,
    shortened,
)
from supersteps.viz.layout import Box, Layout, Placed, Size
from supersteps.viz.picture import Edge, MarkKind, Node, NodeKind
from supersteps.viz.style import BADGE_HEIGHT, FONT, SMALL, badge, badge_width, num, text

LABEL_ROOM = 230.0
EDGE_LABEL_ROOM = 170.0
SWITCH_LABEL_ROOM = 130.0
TITLE_HEIGHT = 34.0
INSET = 18.0
STACK = 6.0
BADGE_GAP = 5.0


def edge_text(edge: Edge) -> str:
    """Return an edge's label, shortened to the available room."""
    return shortened(edge_label(edge), EDGE_LABEL_ROOM, lambda part: pixels(part, SMALL))


def edge_label_size(edge: Edge) -> Size | None:
    """Return the size of an edge's label."""
    label = edge_text(edge)
    return Size(pixels(label, SMALL) + 8, 18) if label else None


def _label(node: Node, room: float = LABEL_ROOM, size: float = FONT) -> str:
    return shortened(
        printable(node.label) or printable(node.id), room, lambda part: pixels(part, size)
    )


def _detail(node: Node) -> str:
    return shortened(printable(node.detail), LABEL_ROOM, lambda part: pixels(part, SMALL))


def _badges_width(node: Node) -> float:
    return sum(badge_width(mark_text(mark)) + BADGE_GAP for mark in node.marks) - (
        BADGE_GAP if node.marks else 0
    )


def _badges(node: Node, left: float, middle: float) -> str:
    parts = []
    for mark in node.marks:
        content = mark_text(mark)
        parts.append(badge(mark.kind, content, left, middle))
        left += badge_width(content) + BADGE_GAP
    return "".join(parts)


def node_size(node: Node, inner: Layout | None) -> Size:
    """Return the size of a node.

    Args:
        node: The node.
        inner: The layout of its content.

    Returns:
        Its size in pixels.
    """
    if inner is not None:
        return _frame_size(node, inner)
    badges = _badges_width(node)
    if node.kind is NodeKind.FAN_IN:
        width = pixels(_label(node, size=SMALL), SMALL) + 28 + (badges + 8 if badges else 0)
        return Size(max(64, width), 26 if badges else 22)
    if node.kind is NodeKind.SWITCH:
        # The width of a diamond at its text equals its height above the text.
        words = max(pixels(_label(node, SWITCH_LABEL_ROOM, SMALL), SMALL), badges)
        return Size(words * 1.4 + 44, 68 if badges else 46)
    width = max(pixels(_label(node), FONT), pixels(_detail(node), SMALL), badges) + 32
    height = 40 + (16 if node.detail else 0) + (BADGE_HEIGHT + 6 if node.marks else 0)
    extra = STACK if node.kind is NodeKind.GROUP else 0
    return Size(max(88, width) + extra, height + extra)


def _frame_size(node: Node, inner: Layout) -> Size:
    title = pixels(_label(node), FONT) + 24
    title += pixels(_detail(node), SMALL) + 14 if node.detail else 0
    title += _badges_width(node) + 14 if node.marks else 0
    width = max(inner.width + 2 * INSET, title + 8)
    return Size(
        width,
        TITLE_HEIGHT + inner.height + 2 * INSET,
        ((width - inner.width) / 2, TITLE_HEIGHT + INSET),
    )


def tooltip(node: Node) -> str:
    """Return the tooltip of a node, with texts that may be too long to draw."""
    kind = "" if node.kind is NodeKind.EXECUTOR else str(node.kind).replace("_", "-")
    lines = [
        node.label,
        kind,
        node.detail,
        "start" if node.is_start else "",
        marks_in_words(node.marks),
    ]
    return (
        f"<title>{escape(chr(10).join(filter(None, (printable(line) for line in lines))))}</title>"
    )


def node_shape(placed: Placed) -> str:
    """Draw a node without its content.

    Args:
        placed: The node and its position.

    Returns:
        SVG elements.
    """
    if placed.inner is not None:
        return _frame(placed)
    return _SHAPES.get(placed.node.kind, _executor)(placed)


def _state(node: Node, own: str) -> str:
    """Return the CSS classes: the shape's own, the start's, and the checkpoint's marks."""
    kinds = {mark.kind for mark in node.marks}
    failed, ran = MarkKind.FAILED in kinds, MarkKind.RAN in kinds
    start = " ss-start" if node.is_start else ""
    return f"{own}{start}{' ss-failed' if failed else ' ss-ran' if ran else ''}"


def rect(box: Box, style: str, radius: float, inset: float = 0) -> str:
    """Draw a rectangle with round corners, inset from the box on each side."""
    return (
        f'<rect class="{style}" x="{num(box.left + inset)}" y="{num(box.top + inset)}" '
        f'width="{num(box.width - 2 * inset)}" height="{num(box.height - 2 * inset)}" '
        f'rx="{num(radius)}"/>'
    )


def _words(node: Node, box: Box) -> str:
    """Draw label, detail and badges below each other in the middle of a box."""
    heights = [18.0, 16.0 if node.detail else 0.0, BADGE_HEIGHT + 6 if node.marks else 0.0]
    x, y = box.middle[0], box.middle[1] - sum(heights) / 2
    parts = [text(_label(node), x, y + 9, "ss-text")]
    if node.detail:
        parts.append(text(_detail(node), x, y + 18 + 8, "ss-small"))
    middle = y + heights[0] + heights[1] + 6 + BADGE_HEIGHT / 2
    return "".join(parts) + _badges(node, x - _badges_width(node) / 2, middle)


def _executor(placed: Placed) -> str:
    return rect(placed.box, _state(placed.node, "ss-box"), 8) + _words(placed.node, placed.box)


def _folded(placed: Placed) -> str:
    style = _state(placed.node, "ss-box")
    return (
        rect(placed.box, style, 8) + rect(placed.box, style, 5, 4) + _words(placed.node, placed.box)
    )


def _group(placed: Placed) -> str:
    box, style = placed.box, _state(placed.node, "ss-box")
    width, height = box.width - STACK, box.height - STACK
    stack = [
        Box(box.left + shift, box.top + STACK - shift, width, height)
        for shift in (STACK, STACK / 2, 0)
    ]
    return "".join(rect(sheet, style, 8) for sheet in stack) + _words(placed.node, stack[-1])


def _fan_in(placed: Placed) -> str:
    node, box = placed.node, placed.box
    label = _label(node, size=SMALL)
    words, badges = pixels(label, SMALL), _badges_width(node)
    left = box.middle[0] - (words + (badges + 8 if badges else 0)) / 2
    style = "ss-bar ss-start" if node.is_start else "ss-bar"
    return (
        rect(box, style, 4)
        + text(label, left + words / 2, box.middle[1], "ss-bartext")
        + _badges(node, left + words + 8, box.middle[1])
    )


def _switch(placed: Placed) -> str:
    node, box = placed.node, placed.box
    x, y = box.middle
    corners = ((x, box.top), (box.right, y), (x, box.bottom), (box.left, y))
    points = " ".join(f"{num(across)},{num(down)}" for across, down in corners)
    shift = BADGE_HEIGHT / 2 + 1 if node.marks else 0
    return (
        f'<polygon class="{_state(node, "ss-switch")}" points="{points}"/>'
        + text(_label(node, SWITCH_LABEL_ROOM, SMALL), x, y - shift, "ss-text ss-badge")
        + _badges(node, x - _badges_width(node) / 2, y + shift)
    )


def _frame(placed: Placed) -> str:
    node, box = placed.node, placed.box
    middle, label = box.top + TITLE_HEIGHT / 2, _label(node)
    strip = (
        f'<path class="ss-strip" d="M{num(box.left)} {num(box.top + TITLE_HEIGHT)}'
        f"V{num(box.top + 10)}"
        f'q0 -10 10 -10H{num(box.right - 10)}q10 0 10 10V{num(box.top + TITLE_HEIGHT)}Z"/>'
    )
    outline = rect(box, _state(node, "ss-frame") + " ss-open", 10)
    parts = [
        rect(box, "ss-frame", 10),
        strip,
        outline,
        text(label, box.left + 14, middle, "ss-text", "start"),
    ]
    if node.detail:
        across = box.left + 14 + pixels(label, FONT) + 10
        parts.append(text(_detail(node), across, middle + 1, "ss-small", "start"))
    return "".join(parts) + _badges(node, box.right - 12 - _badges_width(node), middle)


_SHAPES: dict[NodeKind, Callable[[Placed], str]] = {
    NodeKind.SUB_WORKFLOW: _folded,
    NodeKind.GROUP: _group,
    NodeKind.FAN_IN: _fan_in,
    NodeKind.SWITCH: _switch,
}
