"""The style of SVG pictures: colours, arrow heads, legend."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from supersteps.viz.labels import pixels
from supersteps.viz.picture import EdgeKind, MarkKind

FONT = 14.0
SMALL = 11.5
BADGE_HEIGHT = 18.0

# Custom properties would be shorter, but many SVG viewers do not support them. Classes have a
# prefix because an inline picture shares the style sheet of its page.
STYLE = """\
.ss-picture{font-family:system-ui,sans-serif;font-size:14px}
.ss-back{fill:#fff}
.ss-text{fill:#0f172a}.ss-head{font-weight:600;font-size:15px}\
.ss-small{fill:#64748b;font-size:11.5px}
.ss-box{fill:#f8fafc;stroke:#64748b;stroke-width:1.25}
.ss-frame{fill:#fff;stroke:#94a3b8;stroke-width:1.25}.ss-strip{fill:#eef2f7;stroke:none}
.ss-switch{fill:#eef2ff;stroke:#6366f1;stroke-width:1.25}
.ss-bar{fill:#475569;stroke:#475569;stroke-width:1.25}.ss-bartext{fill:#fff;font-size:11.5px}
.ss-start{stroke:#2563eb;stroke-width:3}.ss-ran{fill:#ecfdf5;stroke:#16a34a}\
.ss-failed{fill:#fef2f2;stroke:#dc2626}
.ss-badge{font-size:11.5px}
.ss-b-ran{fill:#bbf7d0}.ss-b-failed{fill:#fecaca}.ss-b-asks{fill:#fde68a}
.ss-b-messages{fill:#bfdbfe}.ss-b-timers{fill:#ddd6fe}
.ss-t-ran{fill:#14532d}.ss-t-failed{fill:#7f1d1d}.ss-t-asks{fill:#713f12}
.ss-t-messages{fill:#1e3a8a}.ss-t-timers{fill:#4c1d95}
.ss-edge{fill:none;stroke:#64748b;stroke-width:1.5}.ss-head-plain{fill:#64748b}
.ss-conditional,.ss-choice{stroke-dasharray:6 4}.ss-choice{stroke-dasharray:2 3}
.ss-error{stroke:#dc2626;stroke-dasharray:1.5 4;stroke-linecap:round;stroke-width:2}\
.ss-head-error{fill:#dc2626}
.ss-label{fill:#334155;font-size:11.5px}
.ss-label-error{fill:#b91c1c}
@media (prefers-color-scheme:dark){
.ss-back{fill:#0f172a}.ss-text{fill:#e2e8f0}.ss-small{fill:#94a3b8}
.ss-box{fill:#1e293b;stroke:#94a3b8}.ss-frame{fill:#0f172a;stroke:#64748b}.ss-strip{fill:#1e293b}
.ss-switch{fill:#1e1b4b;stroke:#818cf8}.ss-bar{fill:#94a3b8;stroke:#94a3b8}.ss-bartext{fill:#0f172a}
.ss-start{stroke:#60a5fa}.ss-ran{fill:#052e16;stroke:#4ade80}.ss-failed{fill:#450a0a;stroke:#f87171}
.ss-edge{stroke:#94a3b8}.ss-head-plain{fill:#94a3b8}.ss-error{stroke:#f87171}\
.ss-head-error{fill:#f87171}
.ss-label{fill:#cbd5e1}.ss-label-error{fill:#fca5a5}
}
.ss-open{fill:none}"""

_HEAD = (
    '<marker id="ss-arrow-{0}" viewBox="0 0 10 8" refX="4" refY="4" markerWidth="10" '
    'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
    '<path class="ss-head-{0}" d="M0 0L10 4L0 8Z"/></marker>'
)
MARKERS = f"<defs>{_HEAD.format('plain')}{_HEAD.format('error')}</defs>"
# How far an arrow head extends beyond its line, so that the line does not show at the tip.
HEAD_REACH = 6.0

_EDGES = {
    EdgeKind.PLAIN: "always",
    EdgeKind.CONDITIONAL: "if the condition holds",
    EdgeKind.CHOICE: "may be chosen",
    EdgeKind.ERROR: "on failure",
}
# The edges of a switch look like plain ones; their labels distinguish them.
_WAYS_OUT = (EdgeKind.CASE, EdgeKind.DEFAULT)
_MARKS = {
    MarkKind.RAN: ("✓ ran", "ran in the last superstep"),
    MarkKind.FAILED: ("✗ failed", "failed after the checkpoint"),
    MarkKind.ASKS: ("? n", "questions wait for answers"),
    MarkKind.MESSAGES: ("✉ n", "messages wait"),
    MarkKind.TIMERS: ("⏲ n", "delayed messages wait"),
}


def num(value: float) -> str:
    """Format a number for SVG, with one decimal."""
    # adding zero turns minus zero into zero
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def text(content: str, x: float, y: float, style: str, anchor: str = "middle") -> str:
    """Draw a line of text, vertically centred at `y`."""
    # Not dominant-baseline: several viewers do not support it.
    anchored = f' text-anchor="{anchor}"' if anchor != "start" else ""
    place = f'x="{num(x)}" y="{num(y + 0.35 * size_of(style))}"'
    return f'<text class="{style}" {place}{anchored}>{escape(content)}</text>'


def size_of(style: str) -> float:
    """Return the font size of a class of text."""
    if "ss-head" in style:
        return 15.0
    return FONT if style == "ss-text" else SMALL


def edge_style(kind: EdgeKind) -> str:
    """Return the attributes of an edge's line."""
    head = "error" if kind is EdgeKind.ERROR else "plain"
    return f'class="ss-edge ss-{kind}" marker-end="url(#ss-arrow-{head})"'


def badge_width(content: str) -> float:
    """Return the width of a badge."""
    return pixels(content, SMALL) + 14


def badge(kind: MarkKind, content: str, left: float, middle: float) -> str:
    """Draw a badge with a mark's text."""
    width = badge_width(content)
    return (
        f'<rect class="ss-b-{kind}" x="{num(left)}" y="{num(middle - BADGE_HEIGHT / 2)}" '
        f'width="{num(width)}" height="{num(BADGE_HEIGHT)}" rx="{num(BADGE_HEIGHT / 2)}"/>'
        + text(content, left + width / 2, middle, f"ss-badge ss-t-{kind}")
    )


def _lines(edges: Sequence[EdgeKind]) -> dict[EdgeKind, str]:
    """Return the meaning of each kind of line; kinds that look the same share one."""
    found = {kind: words for kind, words in _EDGES.items() if kind in edges}
    if any(kind in edges for kind in _WAYS_OUT):
        out = "in the labelled case"
        found[EdgeKind.PLAIN] = f"always, or {out}" if EdgeKind.PLAIN in edges else out
    return {kind: found[kind] for kind in EdgeKind if kind in found}


def legend(
    edges: Sequence[EdgeKind], marks: Sequence[MarkKind], width: float
) -> tuple[list[str], float, float]:
    """Explain the kinds of edges and marks that occur.

    Args:
        edges: Kinds of edges.
        marks: Kinds of marks.
        width: Width of the picture, at which lines wrap.

    Returns:
        Elements to draw below the picture, with their width and height; empty if all is plain.
    """
    entries: list[tuple[EdgeKind | MarkKind, str, float]] = []
    if any(kind is not EdgeKind.PLAIN for kind in edges):
        entries += [(kind, words, 38.0) for kind, words in _lines(edges).items()]
    entries += [
        (kind, _MARKS[kind][1], badge_width(_MARKS[kind][0]) + 6)
        for kind in MarkKind
        if kind in marks
    ]
    parts: list[str] = []
    x, y, widest = 0.0, 0.0, 0.0
    for kind, words, sample in entries:
        room = sample + pixels(words, SMALL)
        if x and x + room > width:
            x, y = 0.0, y + 24
        if isinstance(kind, EdgeKind):
            parts.append(
                f'<path {edge_style(kind)} d="M{num(x)} {num(y + 9)}H{num(x + 30 - HEAD_REACH)}"/>'
            )
        else:
            parts.append(badge(kind, _MARKS[kind][0], x, y + 9))
        parts.append(text(words, x + sample, y + 9, "ss-small", "start"))
        widest = max(widest, x + room)
        x += room + 22
    return parts, widest, y + 18 if entries else 0.0
