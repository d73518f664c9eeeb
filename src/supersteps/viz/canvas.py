"""Characters on a grid."""

from __future__ import annotations

from dataclasses import dataclass

from supersteps.viz.labels import columns

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters of lines and boxes.

    Attributes:
        lines: Characters by the sides on which a cell is connected.
        plain: Corners, horizontal, vertical and lower exit of an ordinary box.
        start: The same for the start executor.
        round: The same for a fan-in.
        head: The end of an edge.
        switch: Before the label of a switch.
        folded: Before the label of a sub-workflow whose inside is not drawn.
        back: Before the target of an edge that leads back.
        itself: For an edge from a node to itself.
        to: Before a target in an outline.
        words: Other replacements.
        is_unicode: Whether characters other than ASCII are allowed.
    """

    lines: str
    plain: str
    start: str
    round: str
    head: str
    switch: str
    folded: str
    back: str
    itself: str
    to: str
    words: tuple[tuple[str, str], ...] = ()
    is_unicode: bool = True

    def text(self, content: str) -> str:
        """Return a label in the allowed characters."""
        for old, new in self.words:
            content = content.replace(old, new)
        return (
            content
            if self.is_unicode
            else content.encode("ascii", "backslashreplace").decode("ascii")
        )


UNICODE = Signs(
    lines=" ╵╷│╴┘┐┤╶└┌├─┴┬┼",
    plain="┌┐└┘─│┬",
    start="╔╗╚╝═║╤",
    round="╭╮╰╯─│┬",
    head="▼",
    switch="◇ ",
    folded="⊞ ",
    back="↑ back to ",
    itself="↺ self",
    to="→ ",
)
ASCII = Signs(
    lines=" ||||+++|+++-+++",
    plain="++++-|+",
    start="++++=|+",
    round="..''-|+",
    head="v",
    switch="<> ",
    folded="[+] ",
    back="^ back to ",
    itself="@ self",
    to="-> ",
    words=(
        ("…", "..."),
        ("→", "->"),
        ("✓ ", ""),
        ("✗ ", "! "),
        ("✉", "messages"),
        ("⏲", "timers"),
        ("\N{MULTIPLICATION SIGN}", "x"),
    ),
    is_unicode=False,
)


class Canvas:
    """A grid that grows downwards and to the right."""

    def __init__(self) -> None:
        self._rows: list[dict[int, str]] = []

    def put(self, row: int, column: int, content: str) -> None:
        """Write a text over existing content.

        Args:
            row: Counted from the top.
            column: Its first column.
            content: One line.
        """
        while len(self._rows) <= row:
            self._rows.append({})
        cells, last = self._rows[row], column
        for c in content:
            room = columns(c)
            if not room:
                # A combining character changes the one before it.
                cells[last] = cells.get(last, "") + c
                continue
            last = column
            cells[column] = c
            for covered in range(column + 1, column + room):
                cells[covered] = ""
            column += room

    def lines(self) -> list[str]:
        """The rows, without spaces at their ends."""
        return [
            "".join(cells.get(column, " ") for column in range(max(cells, default=-1) + 1)).rstrip()
            for cells in self._rows
        ]
