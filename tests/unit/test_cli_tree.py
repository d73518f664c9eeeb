"""Histories as drawings; each golden drawing is read from the newest checkpoint down."""

import pytest

from supersteps.cli.tree import ASCII, UNICODE, Row, Style, draw, style_for
from supersteps.service.views import LogEntry


def entry(name: str, parent: str | None) -> LogEntry:
    return LogEntry(
        checkpoint_id=name,
        run_id="run",
        parent=parent,
        step=0,
        branch=0,
        timestamp="2030-01-01T00:00:00+00:00",
        status="IN_PROGRESS",
    )


def history(text: str) -> list[LogEntry]:
    """Checkpoints as `child>parent`, newest first; one without a parent stands alone."""
    pairs = [word.partition(">") for word in text.split()]
    return [entry(name, parent or None) for name, _, parent in pairs]


def drawing(text: str, style: Style = ASCII, main: str | None = None) -> list[str]:
    width = 30
    rows = draw(history(text), style, main=main)
    return [
        f"{row.lanes} {row.entry.checkpoint_id}"[:width] if row.entry else row.lanes for row in rows
    ]


@pytest.mark.parametrize(
    ("what", "text", "main", "wanted"),
    [
        ("nothing", "", None, []),
        ("one", "a", None, ["* a"]),
        ("a straight line", "c>b b>a a", "c", ["* c", "* b", "* a"]),
        (
            "a branch that the run has left",
            "e>b d>c c>b b>a a",
            "e",
            ["* e", "| * d", "| * c", "|/", "* b", "* a"],
        ),
        (
            "two forks of one checkpoint",
            "f2>f1 g1>b f1>b c>b b>a a",
            "c",
            ["  * f2", "  | * g1", "  * | f1", "* | | c", "|/_/", "* b", "* a"],
        ),
        (
            "a fork of a fork",
            "h1>f1 f2>f1 c>b f1>a b>a a",
            "c",
            ["  * h1", "  | * f2", "* | | c", "| |/", "| * f1", "* | b", "|/", "* a"],
        ),
        (
            "a join across a lane that goes on",
            "x>a y>b z>b b>a a",
            "z",
            ["  * x", "  | * y", "* | | z", "|_|/", "* | b", "|/", "* a"],
        ),
        (
            "parents that were pruned",
            "d>c f>gone c>b b>older",
            "d",
            ["* d", "| * f", "| :", "* c", "* b", ":"],
        ),
        ("a head that is not shown", "b>a a", "elsewhere", ["* b", "* a"]),
    ],
)
def test_drawings(what: str, text: str, main: str | None, wanted: list[str]) -> None:
    assert drawing(text, main=main) == wanted, what


def test_ten_lanes_join_at_once() -> None:
    forks = " ".join(f"f{number}>a" for number in range(9))

    drawn = drawing(f"h>a {forks} a", main="h")

    assert drawn[:3] == ["* h", "| * f0", "| | * f1"]
    assert drawn[9] == "| | | | | | | | | * f8"
    assert drawn[10:] == ["|/_/_/_/_/_/_/_/_/", "* a"]


def test_a_lane_that_ended_is_used_again() -> None:
    assert drawing("m>b x>b b>a y>a a", main="m") == [
        "* m",
        "| * x",
        "|/",
        "* b",
        "| * y",
        "|/",
        "* a",
    ]


def test_unicode() -> None:
    assert drawing("f2>f1 g1>b f1>b c>b b>a a", UNICODE, "c") == [
        "  ● f2",
        "  │ ● g1",
        "  ● │ f1",
        "● │ │ c",
        "├─┴─╯",
        "● b",
        "● a",
    ]
    assert drawing("x>a y>b z>b b>a a", UNICODE, "z")[3] == "├─│─╯"
    assert drawing("b>gone", UNICODE) == ["● b", "┊"]


def test_every_checkpoint_is_drawn_once_and_in_order() -> None:
    entries = history("h1>f1 f2>f1 c>b f1>a b>a a")

    assert [row.entry for row in draw(entries) if row.entry] == entries
    assert draw(entries[-1:]) == [Row("*", entries[-1])]


@pytest.mark.parametrize(
    ("encoding", "style"),
    [("utf-8", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("nonsense", ASCII)],
)
def test_the_style_is_what_the_encoding_has(encoding: str | None, style: Style) -> None:
    assert style_for(encoding) is style
