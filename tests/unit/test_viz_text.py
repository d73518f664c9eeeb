import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps.viz.canvas import DOWN, LEFT, RIGHT, UP, Canvas
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture
from supersteps.viz.routes import Channel, channel
from supersteps.viz.text import to_ascii

Way = tuple[str, str] | tuple[str, str, EdgeKind] | tuple[str, str, EdgeKind, str]


def picture(*edges: Way, fan_in: str = "", switch: str = "") -> Picture:
    """The first node is the start."""
    names = dict.fromkeys(name for edge in edges for name in edge[:2])
    kinds = {fan_in: NodeKind.FAN_IN, switch: NodeKind.SWITCH}
    nodes = tuple(
        Node(name, name, kinds.get(name, NodeKind.EXECUTOR), is_start=place == 0)
        for place, name in enumerate(names)
    )
    return Picture(nodes, tuple(Edge(*edge) for edge in edges))


CHAIN = picture(("fetch", "summarise"), ("summarise", "publish"))
INNER = Picture(
    (
        Node("review/write", "write", is_start=True),
        Node("review/style", "style"),
        Node("review/facts", "facts"),
    ),
    (
        Edge("review/write", "review/style"),
        Edge("review/write", "review/facts", EdgeKind.CONDITIONAL, "has_facts"),
    ),
)
NESTED = Picture(
    (
        Node("plan", "plan", is_start=True),
        Node("review", "review", NodeKind.SUB_WORKFLOW, inner=INNER),
        Node("publish", "publish"),
    ),
    (
        Edge("plan", "review"),
        Edge("review", "publish"),
        Edge("review", "plan", EdgeKind.CONDITIONAL, "bad"),
    ),
    "nested",
)
BESIDE = Picture(
    (*NESTED.nodes[:2], Node("fast", "fast")),
    (Edge("plan", "review"), Edge("plan", "fast")),
    "beside",
)
MARKED = Picture(
    (
        Node(
            "ask",
            "ask",
            detail="Question",
            is_start=True,
            marks=(Mark(MarkKind.RAN), Mark(MarkKind.ASKS, 2)),
        ),
        Node("wait", "wait", marks=(Mark(MarkKind.MESSAGES, 3), Mark(MarkKind.TIMERS))),
        Node("bad", "bad", marks=(Mark(MarkKind.FAILED),)),
        Node("closed", "closed", NodeKind.SUB_WORKFLOW, detail="12 executors"),
    ),
    (Edge("ask", "wait"), Edge("ask", "bad"), Edge("bad", "closed", EdgeKind.ERROR, "ValueError")),
    "run 7f3a, superstep 4",
)


def drawn(some: Picture, width: int = 100, *, unicode: bool = True) -> str:
    return to_ascii(some, width, unicode=unicode)


def expected(text: str) -> str:
    """A drawing as it stands in a test, eight columns to the right."""
    return "".join(f"{line[8:]}\n" for line in text.splitlines()[1:-1])


def test_a_chain() -> None:
    assert drawn(CHAIN) == expected("""
          ╔═══════╗
          ║ fetch ║
          ╚═══╤═══╝
              ▼
        ┌───────────┐
        │ summarise │
        └─────┬─────┘
              ▼
         ┌─────────┐
         │ publish │
         └─────────┘
    """)


def test_a_chain_in_ascii() -> None:
    assert drawn(CHAIN, unicode=False) == expected("""
          +=======+
          | fetch |
          +===+===+
              v
        +-----------+
        | summarise |
        +-----+-----+
              v
         +---------+
         | publish |
         +---------+
    """)


def test_a_fan_out_and_fan_in() -> None:
    assert drawn(
        picture(
            *[("plan", name) for name in ("draft", "check", "paint")],
            *[(name, "join") for name in ("draft", "check", "paint")],
            ("join", "publish"),
            fan_in="join",
        )
    ) == expected("""
                    ╔═══════╗
                    ║ plan  ║
                    ╚═══╤═══╝
            ┌───────────┼───────────┐
            ▼           ▼           ▼
        ┌───────┐   ┌───────┐   ┌───────┐
        │ draft │   │ check │   │ paint │
        └───┬───┘   └───┬───┘   └───┬───┘
            └───────────┼───────────┘
                        ▼
                    ╭───────╮
                    │ join  │
                    ╰───┬───╯
                        ▼
                   ┌─────────┐
                   │ publish │
                   └─────────┘
    """)


def test_a_switch() -> None:
    assert drawn(
        picture(
            ("in", "which"),
            ("which", "spam", EdgeKind.CASE, "is_spam"),
            ("which", "other", EdgeKind.DEFAULT),
            switch="which",
        )
    ) == expected("""
               ╔═════╗
               ║ in  ║
               ╚══╤══╝
                  ▼
             ┌─────────┐
             │ ◇ which │
             └────┬────┘
            ┌─────┴─────┐
         is_spam     default
            ▼           ▼
        ┌───────┐   ┌───────┐
        │ spam  │   │ other │
        └───────┘   └───────┘
    """)


def test_a_loop() -> None:
    assert drawn(
        picture(
            ("guess", "judge"),
            ("judge", "judge", EdgeKind.CONDITIONAL, "unsure"),
            ("judge", "guess", EdgeKind.CONDITIONAL, "wrong"),
            ("judge", "tell", EdgeKind.CONDITIONAL, "right"),
        )
    ) == expected("""
                 ╔═══════╗
                 ║ guess ║
                 ╚═══╤═══╝
                     ▼
        ┌─────────────────────────┐
        │          judge          │
        │     ↺ self [unsure]     │
        │ ↑ back to guess [wrong] │
        └────────────┬────────────┘
                   right
                     ▼
                 ┌───────┐
                 │ tell  │
                 └───────┘
    """)


def test_lines_to_the_same_node_from_different_places_do_not_meet() -> None:
    assert drawn(
        picture(("s", "a"), ("s", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "e"))
    ) == expected("""
                 ╔═══╗
                 ║ s ║
                 ╚═╤═╝
               ┌───┴────┐
               ▼        ▼
             ┌───┐    ┌───┐
             │ a │    │ b │
             └─┬─┘    └─┬─┘
          ┌────┴───┐ ┌──┴───┐
          ▼        ▼ ▼      ▼
        ┌───┐   ┌─────┐   ┌───┐
        │ d │   │  c  │   │ e │
        └───┘   └─────┘   └───┘
    """)


def test_a_long_edge_passes_the_ranks_between() -> None:
    assert drawn(
        picture(("load", "parse"), ("parse", "store"), ("load", "store", EdgeKind.ERROR))
    ) == expected("""
            ╔═══════╗
            ║ load  ║
            ╚═══╤═══╝
            ┌───┴──┐
            │    error
            ▼      │
        ┌───────┐  │
        │ parse │  │
        └───┬───┘  │
            └───┬──┘
                ▼
            ┌───────┐
            │ store │
            └───────┘
    """)


def test_a_sub_workflow() -> None:
    assert drawn(NESTED) == expected("""
        nested

                ╔═══════╗
                ║ plan  ║
                ╚═══╤═══╝
                    ▼
        ┌───────────────────────┐
        │        review         │
        │ ↑ back to plan [bad]  │
        │       ╔═══════╗       │
        │       ║ write ║       │
        │       ╚═══╤═══╝       │
        │     ┌─────┴─────┐     │
        │     │       has_facts │
        │     ▼           ▼     │
        │ ┌───────┐   ┌───────┐ │
        │ │ style │   │ facts │ │
        │ └───────┘   └───────┘ │
        └───────────┬───────────┘
                    ▼
               ┌─────────┐
               │ publish │
               └─────────┘
    """)


def test_a_sub_workflow_too_wide_to_be_inside() -> None:
    assert drawn(BESIDE, 30) == expected("""
        beside

                 ╔═══════╗
                 ║ plan  ║
                 ╚═══╤═══╝
              ┌──────┴──────┐
              ▼             ▼
        ┌───────────┐   ┌───────┐
        │ ⊞ review  │   │ fast  │
        └───────────┘   └───────┘

        review:

                ╔═══════╗
                ║ write ║
                ╚═══╤═══╝
              ┌─────┴─────┐
              │       has_facts
              ▼           ▼
          ┌───────┐   ┌───────┐
          │ style │   │ facts │
          └───────┘   └───────┘
    """)


def test_what_does_not_fit_is_a_list() -> None:
    assert drawn(NESTED, 14) == expected("""
        nested

        plan (start)
          → review
        review (sub-workflow)
          → publish
          → plan [bad]
            write (start)
              → style
              → facts [has_facts]
            style
            facts
        publish
    """)


def test_marks() -> None:
    assert drawn(MARKED) == expected("""
        run 7f3a, superstep 4

               ╔═════════════╗
               ║     ask     ║
               ║ ✓ ran  ? 2  ║
               ║  Question   ║
               ╚══════╤══════╝
              ┌───────┴───────┐
              ▼               ▼
        ┌───────────┐   ┌───────────┐
        │   wait    │   │    bad    │
        │ ✉ 3  ⏲ 1  │   │ ✗ failed  │
        └───────────┘   └─────┬─────┘
                      error: ValueError
                              ▼
                      ┌───────────────┐
                      │   ⊞ closed    │
                      │ 12 executors  │
                      └───────────────┘
    """)


def test_marks_in_ascii() -> None:
    assert drawn(MARKED, unicode=False) == expected("""
        run 7f3a, superstep 4

                         +===========+
                         |    ask    |
                         | ran  ? 2  |
                         | Question  |
                         +=====+=====+
                    +----------+----------+
                    v                     v
        +-----------------------+   +-----------+
        |         wait          |   |    bad    |
        | messages 3  timers 1  |   | ! failed  |
        +-----------------------+   +-----+-----+
                                  error: ValueError
                                          v
                                  +---------------+
                                  |  [+] closed   |
                                  | 12 executors  |
                                  +---------------+
    """)


def passed(links: list[tuple[int, int]], found: Channel) -> set[tuple[int, int]]:
    """Follow all lines downwards as a reader does: which sources reach which columns at the end."""
    reached = set()
    for source in {source for source, _ in links}:
        falling = {source}
        for row in found.rows:
            falling = {end for column in falling for end in sideways(row, column)}
        reached |= {(source, column) for column in falling}
    return reached


def sideways(row: dict[int, int], column: int) -> set[int]:
    """The columns in which a line that comes from above leaves a row below."""
    assert row[column] & UP
    ends = {column} if row[column] & DOWN else set()
    for side, back, step in ((LEFT, RIGHT, -1), (RIGHT, LEFT, 1)):
        here, on = column, row[column] & side
        while on:
            here += step
            if row[here] == UP | DOWN:
                continue  # it goes on beyond the line that crosses it
            assert row[here] & back
            ends |= {here} if row[here] & DOWN else set()
            on = row[here] & side
    return ends


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=20),
    st.integers(0, 4),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_lines_lead_from_each_source_to_its_targets_and_no_others(
    edges: list[tuple[int, int]], room: int
) -> None:
    links = [(source * 12 + 6, target * 12 + 6 + target % 3) for source, target in edges]
    found = channel(links, {target: room for _, target in links})

    if found is not None:
        target_at = {
            column: target for target, columns in found.arrivals.items() for column in columns
        }
        assert {(source, target_at[column]) for source, column in passed(links, found)} == set(
            links
        )


def test_lines_that_would_lie_on_one_another_are_not_drawn() -> None:
    assert channel([(1, 9), (9, 1)], {}) is None
    assert channel([(1, 9), (9, 1)], {1: 2, 9: 2}) is not None


NODES = st.integers(0, 7)
LABELS = st.sampled_from(["", "", "if", "longer"])


@given(
    st.lists(st.tuples(NODES, NODES, LABELS), max_size=14),
    st.sampled_from([20, 40, 100]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_graph_is_drawn_or_listed(
    edges: list[tuple[int, int, str]], width: int, unicode: bool
) -> None:
    nodes = tuple(Node(str(n), f"node{n}", is_start=n == 0) for n in range(8))
    some = Picture(
        nodes, tuple(Edge(str(source), str(target), label=label) for source, target, label in edges)
    )

    text = to_ascii(some, width, unicode=unicode)

    assert text == to_ascii(some, width, unicode=unicode)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width or not width
    assert all(line == line.rstrip() for line in lines)
    assert unicode or text.isascii()
    for n in range(8):
        assert f"node{n}" in text
    if lines[0] == "node0 (start)":
        assert sum(line.lstrip().startswith(("-> ", "→ ")) for line in lines) == len(edges)


@pytest.mark.parametrize(
    "label", ["a\nb", "\x1b[31mred", "日本語", "e\u0301", "x" * 200, "", "עברית", "\ud800"]
)
@pytest.mark.parametrize("unicode", [True, False])
def test_labels_may_be_anything(label: str, unicode: bool) -> None:
    some = Picture(
        (Node("a", label, detail=label, is_start=True), Node("b", label)),
        (Edge("a", "b", label=label), Edge("b", "b", label=label)),
        label[:50],
    )

    text = to_ascii(some, unicode=unicode)

    text.encode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    assert unicode or text.isascii()


def test_wide_characters_keep_the_box_straight() -> None:
    assert drawn(Picture((Node("a", "日本語"),), ())) == expected("""
        ┌─────────┐
        │ 日本語  │
        └─────────┘
    """)


def test_an_empty_picture_is_empty() -> None:
    assert to_ascii(Picture((), ())) == ""


def test_a_canvas_grows() -> None:
    canvas = Canvas()
    canvas.put(1, 3, "x  ")
    canvas.put(1, 0, "日e\u0301")

    assert canvas.lines() == ["", "日e\u0301x"]


def test_sixty_nodes_are_quick() -> None:
    edges = [Edge(f"n{n // 3}", f"n{n}") for n in range(1, 60)] + [
        Edge(f"n{n}", f"n{n * 7 % 60}") for n in range(40)
    ]
    began = time.process_time()

    to_ascii(Picture(tuple(Node(f"n{n}", f"n{n}") for n in range(60)), tuple(edges)), 1000)

    assert time.process_time() - began < 1.5
