"""Checkpoints drawn as lanes beside a list, like a version control log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from supersteps.service.views import LogEntry


class Style(NamedTuple):
    """The characters of a drawing.

    Attributes:
        node: A checkpoint.
        lane: A lane that continues.
        join: Where other lanes end in this one.
        corner: The end of the last lane that joins.
        between: The end of another lane that joins.
        across: The line from the lane to the ends.
        cut: Under a checkpoint whose parent is not shown.
    """

    node: str
    lane: str
    join: str
    corner: str
    between: str
    across: str
    cut: str


ASCII = Style("*", "|", "|", "/", "/", "_", ":")
UNICODE = Style("●", "│", "├", "╯", "┴", "─", "┊")


class Row(NamedTuple):
    """A line of a drawing.

    Attributes:
        lanes: The drawing at the left.
        entry: The checkpoint of this line; None for a line between two.
    """

    lanes: str
    entry: LogEntry | None = None


def style_for(encoding: str | None) -> Style:
    """Return the best characters that an encoding has."""
    try:
        "".join(UNICODE).encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return UNICODE


def draw(
    entries: Sequence[LogEntry], style: Style = ASCII, *, main: str | None = None
) -> list[Row]:
    """Return a drawing of checkpoints.

    Args:
        entries: The checkpoints, each before its parent.
        style: The characters.
        main: The checkpoint at the top of the leftmost lane: the head of the run.
    """
    return list(_Drawing(entries, style, main).rows())


class _Drawing:
    """Lanes, each with the checkpoint it leads to; None for a free lane.

    The main lane stays free until its checkpoint comes, so that the run itself is on the left.
    """

    def __init__(self, entries: Sequence[LogEntry], style: Style, main: str | None) -> None:
        self._entries = entries
        self._style = style
        self._known = {entry.checkpoint_id for entry in entries}
        self._main = main if main in self._known else None
        self._lanes: list[str | None] = []
        if self._main is not None:
            self._lanes.append(None)

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        for entry in self._entries:
            at, joining = self._find(entry.checkpoint_id)
            if joining:
                rows.append(Row(self._joined(at, joining)))
                for lane in joining:
                    self._lanes[lane] = None
            rows.append(Row(self._line({at: self._style.node}), entry))
            is_cut = entry.parent is not None and entry.parent not in self._known
            if is_cut:
                rows.append(Row(self._line({at: self._style.cut})))
            self._lanes[at] = None if is_cut else entry.parent
            self._shrink()
        return rows

    def _find(self, checkpoint_id: str) -> tuple[int, list[int]]:
        """Return the lane of a checkpoint, and those that end in it."""
        leading = [lane for lane, target in enumerate(self._lanes) if target == checkpoint_id]
        if checkpoint_id == self._main:
            self._main = None
            self._lanes[0] = checkpoint_id
            return 0, [lane for lane in leading if lane]
        if leading:
            return leading[0], leading[1:]
        reserved = 0 if self._main is not None else -1
        free = [
            lane for lane, target in enumerate(self._lanes) if target is None and lane != reserved
        ]
        if not free:
            self._lanes.append(None)
            free = [len(self._lanes) - 1]
        self._lanes[free[0]] = checkpoint_id
        return free[0], []

    def _shrink(self) -> None:
        reserved = 1 if self._main is not None else 0
        while len(self._lanes) > reserved and self._lanes[-1] is None:
            self._lanes.pop()

    def _line(self, special: dict[int, str]) -> str:
        cells = [
            special.get(lane, " " if target is None else self._style.lane)
            for lane, target in enumerate(self._lanes)
        ]
        return " ".join(cells).rstrip()

    def _joined(self, at: int, joining: list[int]) -> str:
        """Return the line on which lanes join; in ASCII, an end is drawn left of its lane."""
        style, last = self._style, max(joining)
        line = list(self._line({}).ljust(2 * last + 1))
        line[2 * at] = style.join
        for position in range(2 * at + 1, 2 * last + 1):
            lane = position // 2
            if position % 2 or self._lanes[lane] is None or lane in joining:
                line[position] = style.across
        for lane in joining:
            if style is ASCII:
                line[2 * lane - 1] = style.corner
                if lane == last:
                    line[2 * lane] = " "
            else:
                line[2 * lane] = style.corner if lane == last else style.between
        return "".join(line).rstrip()
