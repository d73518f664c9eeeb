"""Digraphs for Graphviz: shapes, clusters, marks, quoting."""

import re
import shutil

import pytest

from supersteps.viz.dot import to_dot
from supersteps.viz.graphviz import render
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture

INNERMOST = Picture(
    (Node("s/t/y", "y"), Node("s/t/x", "x", is_start=True)), (Edge("s/t/x", "s/t/y"),)
)
INNER = Picture((Node("s/t", "t", NodeKind.SUB_WORKFLOW, is_start=True, inner=INNERMOST),), ())
PICTURE = Picture(
    (
        Node(
            "a", "a", detail="str", is_start=True, marks=(Mark(MarkKind.RAN), Mark(MarkKind.FAILED))
        ),
        Node("sw", "switch", NodeKind.SWITCH),
        Node("in", "fan-in", NodeKind.FAN_IN, marks=(Mark(MarkKind.MESSAGES, 3),)),
        Node("s", "s", NodeKind.SUB_WORKFLOW, inner=INNER, marks=(Mark(MarkKind.ASKS),)),
        Node("g", "9 more", NodeKind.GROUP),
    ),
    (
        Edge("a", "sw"),
        Edge("sw", "s", EdgeKind.CASE, "is_spam"),
        Edge("sw", "in", EdgeKind.DEFAULT),
        Edge("s", "in", EdgeKind.CHOICE, "pick"),
        Edge("s", "s", EdgeKind.CONDITIONAL, "again"),
        Edge("a", "g", EdgeKind.ERROR),
    ),
    "order 7",
)


def test_the_whole_text_of_a_picture() -> None:
    assert (
        to_dot(PICTURE)
        == """\
digraph workflow {
    graph [rankdir=TB, compound=true, fontname="sans-serif"];
    node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="sans-serif"];
    edge [fontname="sans-serif", fontsize=11];
    label="order 7"; labelloc=t;
    n1 [label="a\\nstr\\nran, failed", shape=box, fillcolor="#fde7e9", color="#c62828", penwidth=2];
    n2 [label="switch", shape=diamond, style=filled];
    n3 [label="fan-in\\n3 messages", shape=invtrapezium, style=filled, \
fillcolor="#e3f0ff", color="#1f6fc4"];
    subgraph cluster_n4 {
        label="s\\n1 question"; style=rounded; color="#b7791f"; penwidth=2;
        subgraph cluster_n5 {
            label="t"; style=rounded; color="#888888"; penwidth=2;
            n6 [label="y", shape=box];
            n7 [label="x", shape=box, penwidth=2];
            n7 -> n6;
        }
    }
    n8 [label="9 more", shape=box3d];
    n1 -> n2;
    n2 -> n7 [label="is_spam", lhead=cluster_n4];
    n2 -> n3 [label="default", style=bold];
    n7 -> n3 [label="pick", style=dashed, arrowhead=empty, ltail=cluster_n4];
    n7 -> n7 [label="again", style=dashed];
    n1 -> n8 [label="on error", style=dashed, color="#c62828", fontcolor="#c62828"];
}
"""
    )


HOSTILE = [
    '"]; x [label="',
    "\\",
    "a\\",
    "\\N",
    "&amp;",
    "<b>html</b>",
    "line\nbreak",
    "node",
    "n1",
    "世界",
    " ",
    "{a|b}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_are_quoted(text: str) -> None:
    lines = to_dot(
        Picture((Node(text, text),), (Edge(text, text, EdgeKind.CONDITIONAL, text),), text)
    ).splitlines()
    quoted = r'"((?:[^"\\]|\\.)*)"'
    title = re.fullmatch(rf"    label={quoted}; labelloc=t;", lines[4])
    node = re.fullmatch(rf"    n1 \[label={quoted}, shape=box\];", lines[5])
    edge = re.fullmatch(rf"    n1 -> n1 \[label={quoted}, style=dashed\];", lines[6])

    assert lines[7:] == ["}"]
    for found in (title, node, edge):
        assert found is not None
        assert restored(found[1]) == text.replace("\n", " ")


def restored(label: str) -> str:
    return re.sub(r"\\(.)", r"\1", label).replace("&amp;", "&")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_it() -> None:
    texts = [Node(text, text) for text in HOSTILE]
    picture = Picture((*PICTURE.nodes, *texts), PICTURE.edges, "all")

    assert b"<svg" in render(to_dot(picture), "svg")
