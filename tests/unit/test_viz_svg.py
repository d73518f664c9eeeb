import re
import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps.viz.groups import grouped
from supersteps.viz.labels import pixels, printable, shortened
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture
from supersteps.viz.svg import path_data, to_svg

SVG = "{http://www.w3.org/2000/svg}"

INNER = Picture(
    (Node("sub/a", "first", is_start=True), Node("sub/b", "second")), (Edge("sub/a", "sub/b"),)
)
EVERYTHING = Picture(
    (
        Node("start", "start", detail="str", is_start=True, marks=(Mark(MarkKind.RAN),)),
        Node("switch", "which?", NodeKind.SWITCH, marks=(Mark(MarkKind.MESSAGES, 1),)),
        Node("join", "fan-in", NodeKind.FAN_IN, marks=(Mark(MarkKind.MESSAGES, 3),)),
        Node(
            "group",
            "worker_* (50)",
            NodeKind.GROUP,
            marks=(Mark(MarkKind.FAILED, 2), Mark(MarkKind.TIMERS, 4)),
        ),
        Node(
            "sub",
            "review",
            NodeKind.SUB_WORKFLOW,
            detail="Draft",
            inner=INNER,
            marks=(Mark(MarkKind.ASKS, 2),),
        ),
        Node("closed", "closed", NodeKind.SUB_WORKFLOW, detail="12 executors"),
    ),
    (
        Edge("start", "switch"),
        Edge("switch", "group", EdgeKind.CASE, "is_big"),
        Edge("switch", "join", EdgeKind.DEFAULT),
        Edge("group", "join", EdgeKind.CONDITIONAL, "ready"),
        Edge("join", "sub", EdgeKind.CHOICE, "pick"),
        Edge("sub", "closed", EdgeKind.ERROR),
        Edge("closed", "start"),
        Edge("sub", "sub", EdgeKind.CONDITIONAL, "again"),
    ),
    "everything",
)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def tooltips(svg: str) -> list[str]:
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return [
        title.text or "" for group in groups if (title := group.find(f"{SVG}title")) is not None
    ]


def one_node(label: str) -> Picture:
    return Picture(
        (Node(label or "x", label, detail=label),),
        (Edge(label or "x", label or "x", label=label),),
        label,
    )


def test_everything_is_drawn_and_named() -> None:
    svg = to_svg(EVERYTHING)

    shown = texts(svg)
    for label in (
        "start",
        "which?",
        "fan-in",
        "worker_* (50)",
        "review",
        "first",
        "second",
        "closed",
        "12 executors",
    ):
        assert label in shown
    for label in ("is_big", "default", "ready", "pick", "again"):
        assert label in shown
    for badge in ("✓ ran", "✗ failed 2", "? 2", "✉ 3", "⏲ 4"):
        assert badge in shown
    root = ElementTree.fromstring(svg)
    assert root.findtext(f"{SVG}title") == "everything"
    assert "2 questions wait" in (root.findtext(f"{SVG}desc") or "")
    assert len(tooltips(svg)) == 8 + 5  # nodes and labels


def test_labels_are_drawn_over_a_gap_in_the_lines() -> None:
    some = Picture((Node("a", "a"), Node("b", "b")), (Edge("a", "b", EdgeKind.CONDITIONAL, "x_y"),))
    svg = to_svg(some)

    gap = re.search(
        r'<g><title>x_y</title><rect class="ss-back"[^>]*/><text [^>]*>x_y</text></g>', svg
    )

    assert gap
    assert svg.index('<path class="ss-edge ss-conditional"') < gap.start()


def test_the_file_needs_nothing_else_and_runs_nothing() -> None:
    svg = to_svg(EVERYTHING)

    assert re.findall(r'\bhttps?://[^"]*', svg) == ["http://www.w3.org/2000/svg"]
    tags = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(svg).iter()}
    assert tags <= {
        *(
            "svg",
            "title",
            "desc",
            "style",
            "defs",
            "marker",
            "g",
            "path",
            "rect",
            "polygon",
            "text",
        ),
    }
    assert not re.search(r"\son\w+=|@import|href", svg)
    assert "prefers-color-scheme:dark" in svg


def test_the_same_picture_gives_the_same_text() -> None:
    assert to_svg(EVERYTHING) == to_svg(replace(EVERYTHING))


@pytest.mark.parametrize(
    "label",
    [
        "<script>alert('x')</script>",
        "a & b \"c\" 'd' ]]> &amp;",
        "two\nlines\tand\r\nmore",
        "\x00\x1b[31m\ud800\ufffe",
        "日本語のラベル",
        "תווית מימין לשמאל",
        "تسمية\u202eturned",
        "e\u0301\u0301\u0301 👩‍👩‍👧",
        "x" * 200,
        "",
        " ",
    ],
)
def test_labels_may_be_anything(label: str) -> None:
    svg = to_svg(one_node(label))

    ElementTree.fromstring(svg.encode())
    assert "<script" not in svg
    assert "\u202e" not in svg


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_text_gives_well_formed_xml(label: str) -> None:
    ElementTree.fromstring(to_svg(one_node(label)).encode())


def test_a_long_label_is_shortened_in_the_middle_and_whole_in_the_tooltip() -> None:
    label = "first_" + "x" * 180 + "_last"
    svg = to_svg(Picture((Node("n", label),), ()))

    (shown,) = texts(svg)
    assert shown.startswith("first_")
    assert shown.endswith("_last")
    assert "…" in shown
    assert len(shown) < 50
    assert tooltips(svg) == [label]


def test_the_legend_names_what_occurs_and_nothing_else() -> None:
    plain = Picture((Node("a", "a"), Node("b", "b")), (Edge("a", "b"),))
    error = replace(plain, edges=(Edge("a", "b", EdgeKind.ERROR),))
    waits = replace(
        plain, nodes=(Node("a", "a", marks=(Mark(MarkKind.TIMERS, 2),)), Node("b", "b"))
    )

    assert texts(to_svg(plain)) == ["a", "b"]
    assert texts(to_svg(error)) == ["a", "b", "on failure"]
    assert texts(to_svg(waits)) == ["a", "⏲ 2", "b", "⏲ n", "delayed messages wait"]


def test_marks_inside_a_sub_workflow_are_explained_too() -> None:
    inner = Picture((Node("s/a", "a", marks=(Mark(MarkKind.RAN),)),), ())

    assert "ran in the last superstep" in texts(to_svg(Picture((Node("s", "s", inner=inner),), ())))


def test_an_empty_picture_is_a_picture() -> None:
    ElementTree.fromstring(to_svg(Picture((), ())))


def test_a_path_stops_where_the_arrow_head_starts() -> None:
    assert path_data(((0, 0), (0, 50))) == "M0 0L0 44"
    assert path_data(((0, 0), (40, 50))) == "M0 0C0 22 40 22 40 44"
    assert path_data(((0, 0), (20, 0), (20, 40))) == "M0 0L10 0Q20 0 20 10L20 34"


def test_text_is_measured_and_shortened() -> None:
    assert pixels("iii", 10) < pixels("nnn", 10) < pixels("WWW", 10)
    assert shortened("abcdefgh", 5, len) == "ab…gh"
    assert shortened("abc", 3, len) == "abc"
    assert shortened("abc", 0, len) == "…"
    assert printable(" a\n\tb ") == "a b"


@pytest.mark.parametrize("count", [60, 500])
def test_big_pictures_are_quick(count: int) -> None:
    nodes = tuple(Node(f"n{n}", f"executor_{n}", is_start=n == 0) for n in range(count))
    edges = [Edge(f"n{n // 3}", f"n{n}") for n in range(1, count)]
    edges += [Edge(f"n{n}", f"n{(n * 7 + 5) % count}") for n in range(0, count, 4)]
    began = time.process_time()

    svg = to_svg(grouped(Picture(nodes, tuple(edges))))

    assert time.process_time() - began < 2
    assert len(svg) < 100_000
