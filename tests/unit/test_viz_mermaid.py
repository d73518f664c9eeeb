"""Mermaid flowcharts: shapes, edges, marks, and labels that are safe whatever they hold."""

import re

import pytest

from supersteps.viz.mermaid import to_mermaid
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture

A, B = Node("a", "a"), Node("b", "b")


def test_the_whole_text_of_a_picture() -> None:
    inner = Picture((Node("s/x", "x", is_start=True), Node("s/y", "y")), (Edge("s/x", "s/y"),))
    picture = Picture(
        (
            Node("a", "a", detail="str, list[int]", is_start=True),
            Node("sw", "switch", NodeKind.SWITCH),
            Node("b", "b", marks=(Mark(MarkKind.ASKS), Mark(MarkKind.MESSAGES, 2))),
            Node("in", "fan-in", NodeKind.FAN_IN),
            Node("s", "s", NodeKind.SUB_WORKFLOW, inner=inner, marks=(Mark(MarkKind.ASKS),)),
            Node("g", "12 more", NodeKind.GROUP),
        ),
        (
            Edge("a", "sw"),
            Edge("sw", "b", EdgeKind.CASE, "is_spam"),
            Edge("sw", "s", EdgeKind.DEFAULT),
            Edge("a", "b", EdgeKind.CONDITIONAL, "<lambda>"),
            Edge("b", "in", EdgeKind.CHOICE, "pick"),
            Edge("b", "g", EdgeKind.ERROR),
        ),
        "order 7",
    )

    assert (
        to_mermaid(picture)
        == """\
---
title: "order 7"
---
flowchart TD
    n1(["a<br/>str, list[int]"])
    n2{"switch"}
    n3["b<br/>1 question, 2 messages"]
    n4[\\"fan-in"/]
    subgraph n5["s<br/>1 question"]
        n6(["x"])
        n7["y"]
        n6 --> n7
    end
    n8[["12 more"]]
    n1 --> n2
    n2 -->|"is_spam"| n3
    n2 -->|"default"| n5
    n1 -.->|"#lt;lambda#gt;"| n3
    n3 -.->|"pick"| n4
    n3 -.->|"on error"| n8
    classDef asks fill:#fff4d6,stroke:#b7791f,color:#5f3b00
    class n3,n5 asks
    linkStyle 6 stroke:#c62828,color:#c62828
"""
    )


HOSTILE = [
    'a"]; click n1 "javascript:alert(1)',
    "end",
    "%%{init: {'theme': 'x'}}%%",
    "`markdown`",
    "**bold** __strong__",
    "1. one",
    "- item",
    "style a:#b;",
    "<script>alert(1)</script>",
    "&quot;",
    "#35;",
    "a|b",
    "line\nbreak",
    "\\",
    "graph TD",
    " ",
    "世界",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_are_escaped(text: str) -> None:
    picture = Picture((Node(text, text), B), (Edge(text, "b", EdgeKind.CONDITIONAL, text),))
    header, node, other, edge = to_mermaid(picture).splitlines()

    assert header == "flowchart TD"
    assert other == '    n2["b"]'
    label = re.fullmatch(r'    n1\["(.*)"\]', node)
    said = re.fullmatch(r'    n1 -\.->\|"(.*)"\| n2', edge)
    assert label is not None
    assert said is not None
    for shown in (label[1], said[1]):
        plain = re.sub(r"#(\w+);", "", shown)
        assert not set(plain) & set('"<>&#;`%{}|\\:*\n'), shown
        assert restored(shown).strip() == text.replace("\n", " ").strip()


def restored(label: str) -> str:
    names = {"quot": '"', "amp": "&", "lt": "<", "gt": ">"}
    return re.sub(r"#(\w+);", lambda found: names.get(found[1]) or chr(int(found[1])), label)


def test_common_names_stay_readable() -> None:
    text = to_mermaid(Picture((Node("x", "my_agent-2.writer/v1 (b)", detail="orders.Order"),), ()))

    assert 'n1["my_agent-2.writer/v1 (b)<br/>orders.Order"]' in text


def test_a_title_cannot_leave_its_line() -> None:
    title, *_ = to_mermaid(Picture((A,), (), 'x"\n---\n\\')).splitlines()[1:]

    assert title == 'title: "x\\" --- \\\\"'


def test_the_same_picture_gives_the_same_text() -> None:
    picture = Picture((A, B), (Edge("a", "b"), Edge("b", "a")))

    assert to_mermaid(picture) == to_mermaid(picture)
