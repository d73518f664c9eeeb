"""Labels of nodes and edges: printable, short enough, measured."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind

ELLIPSIS = "…"

_NARROW = frozenset("ijl|!'.,:;()[]{}ftrI/\\ -`")
_WIDE = frozenset("mwMW@%—")


def printable(text: str) -> str:
    """Replace characters that have no shape or break the line.

    Args:
        text: Anything.

    Returns:
        One line of text; line breaks and other white space are single spaces.
    """
    shown = "".join(
        # Control characters, surrogates and direction marks, which no label needs.
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") else c
        for c in " ".join(text.split())
        if c not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    return shown.strip()


def columns(text: str) -> int:
    """Return the width of a text in terminal columns.

    Args:
        text: One line.

    Returns:
        The number; wide characters take two, combining ones none.
    """
    return sum(_columns(c) for c in text)


def _columns(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def pixels(text: str, size: float) -> float:
    """Estimate the width of a text in a sans-serif font, rather too wide than too narrow.

    Args:
        text: One line.
        size: The font size.

    Returns:
        The width in the unit of `size`.
    """
    return sum(_em(c) for c in text) * size


def _em(c: str) -> float:
    width = _columns(c)
    if width != 1:
        return width * 0.52
    if c in _NARROW:
        return 0.36
    if c in _WIDE:
        return 0.92
    return 0.72 if c.isupper() else 0.61


def shortened(text: str, room: float, measure: Callable[[str], float]) -> str:
    """Shorten a long text in the middle, since both ends distinguish names.

    Args:
        text: One line.
        room: The maximum width.
        measure: Returns the width of a text.

    Returns:
        The text, or its ends with an ellipsis between.
    """
    if measure(text) <= room:
        return text
    fewest, most = 0, len(text)  # the number of characters to keep
    while fewest < most:
        kept = (fewest + most + 1) // 2
        if measure(_ends(text, kept)) <= room:
            fewest = kept
        else:
            most = kept - 1
    return _ends(text, fewest)


def _ends(text: str, kept: int) -> str:
    tail = kept // 2
    return (
        text[: kept - tail].rstrip()
        + ELLIPSIS
        + (text[len(text) - tail :].lstrip() if tail else "")
    )


def edge_label(edge: Edge) -> str:
    """Return the label of an edge.

    Args:
        edge: The edge.

    Returns:
        Its label, one line; "default" for the default of a switch.
    """
    return printable(edge.label) or ("default" if edge.kind is EdgeKind.DEFAULT else "")


_SIGNS = {
    MarkKind.RAN: "✓ ran",
    MarkKind.FAILED: "✗ failed",
    MarkKind.ASKS: "?",
    MarkKind.MESSAGES: "✉",
    MarkKind.TIMERS: "⏲",
}


def mark_text(mark: Mark) -> str:
    """Return the text of a mark, so that colour is not the only sign.

    Args:
        mark: The mark.

    Returns:
        A sign and its meaning, with the count if that is meaningful.
    """
    if mark.kind in (MarkKind.RAN, MarkKind.FAILED):
        return _SIGNS[mark.kind] + (f" {mark.count}" if mark.count > 1 else "")
    return f"{_SIGNS[mark.kind]} {mark.count}"


_WORDS = {
    MarkKind.RAN: ("ran", "ran"),
    MarkKind.FAILED: ("failed", "failed"),
    MarkKind.ASKS: ("question waits", "questions wait"),
    MarkKind.MESSAGES: ("message waits", "messages wait"),
    MarkKind.TIMERS: ("timer waits", "timers wait"),
}


def marks_in_words(marks: Iterable[Mark]) -> str:
    """Return marks as text, for screen readers.

    Args:
        marks: The marks of a node.

    Returns:
        "ran, 2 questions wait"; empty for none.
    """
    return ", ".join(
        (
            f"{mark.count} "
            if mark.count > 1 or mark.kind not in (MarkKind.RAN, MarkKind.FAILED)
            else ""
        )
        + _WORDS[mark.kind][mark.count != 1]
        for mark in marks
    )
