"""Labels as they are drawn: without what cannot be drawn, short enough, and how wide they are about."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind

ELLIPSIS = "…"

_NARROW = frozenset("ijl|!'.,:;()[]{}ftrI/\\ -`")
_WIDE = frozenset("mwMW@%—")


def printable(text: str) -> str:
    """Replace what has no shape, or would break the line it is in.

    Args:
        text: Anything.

    Returns:
        One line of text; line breaks and other white space are single spaces.
    """
    shown = "".join(
        # Controls, surrogates and marks that turn the direction of what follows: nothing a label
        # needs.
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") else c
        for c in " ".join(text.split())
        if c not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    return shown.strip()


def columns(text: str) -> int:
    """How many columns of a terminal a text takes.

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
    """About how wide a text is in a sans-serif font; rather too much than too little.

    Args:
        text: One line.
        size: Of the font.

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
    """Leave out the middle of a text that is too long: both ends tell names apart.

    Args:
        text: One line.
        room: How wide it may be.
        measure: How wide a text is.

    Returns:
        The text, or its ends with an ellipsis between.
    """
    if measure(text) <= room:
        return text
    fewest, most = 0, len(text)  # how many characters to keep
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
    """What is written at an edge.

    Args:
        edge: The edge.

    Returns:
        Its label, one line; "default" for the way out of a switch that is left.
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
    """What is written at a node for a mark, so that it is not its colour alone that tells it.

    Args:
        mark: The mark.

    Returns:
        A sign and what it stands for, with the count where it says something.
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
    """Marks for people who do not see the badges.

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
