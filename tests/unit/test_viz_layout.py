from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps.viz.layers import Way, backward_ways
from supersteps.viz.layout import Box, Layout, Route, Size, laid_out
from supersteps.viz.picture import Edge, Node, NodeKind, Picture


def picture(*edges: tuple[str, str], label: str = "") -> Picture:
    """The first node is the start."""
    names = dict.fromkeys(name for edge in edges for name in edge)
    nodes = tuple(Node(name, name, is_start=place == 0) for place, name in enumerate(names))
    return Picture(nodes, tuple(Edge(source, target, label=label) for source, target in edges))


def size(node: Node, inner: Layout | None) -> Size:
    if inner is not None:
        return Size(inner.width + 20, inner.height + 40, (10, 30))
    return Size(40 + 12 * len(node.label), 30 + 10 * (len(node.label) % 3))


def label_size(edge: Edge) -> Size | None:
    return Size(7.0 * len(edge.label), 16) if edge.label else None


def layout(drawn: Picture) -> Layout:
    return laid_out(drawn, size, label_size)


def places(found: Layout) -> dict[str, Box]:
    return {placed.node.id: placed.box for placed in found.nodes}


def ranks(found: Layout) -> dict[str, int]:
    return {placed.node.id: placed.rank for placed in found.nodes}


def overlap(one: Box, other: Box, slack: float = 0.01) -> bool:
    return (
        one.left < other.right - slack
        and other.left < one.right - slack
        and one.top < other.bottom - slack
        and other.top < one.bottom - slack
    )


def on_border(point: tuple[float, float], box: Box) -> bool:
    x, y = point
    inside = box.left - 0.01 <= x <= box.right + 0.01 and box.top - 0.01 <= y <= box.bottom + 0.01
    at_side = (
        min(abs(x - box.left), abs(x - box.right), abs(y - box.top), abs(y - box.bottom)) < 0.01
    )
    return inside and at_side


def crossed(route: Route, boxes: dict[str, Box]) -> list[str]:
    """Boxes an edge runs through; a curve stays in the rectangle its ends span."""
    found = []
    for (x, y), (x2, y2) in zip(route.points, route.points[1:], strict=False):
        part = Box(min(x, x2) - 0.5, min(y, y2), abs(x - x2) + 1, abs(y - y2))
        found += [
            name
            for name, box in boxes.items()
            if name not in (route.edge.source, route.edge.target) and overlap(part, box, 0.1)
        ]
    return found


def check(found: Layout) -> None:
    boxes = places(found)
    for one, other in combinations(boxes.values(), 2):
        assert not overlap(one, other)
    labels = [route.label for route in found.routes if route.label]
    for label in labels:
        assert not any(overlap(label, box) for box in boxes.values())
    for one, other in combinations(labels, 2):
        assert not overlap(one, other)
    for route in found.routes:
        assert on_border(route.points[0], boxes[route.edge.source])
        assert on_border(route.points[-1], boxes[route.edge.target])
        assert crossed(route, boxes) == []
    for box in (*boxes.values(), *labels):
        assert box.left >= -0.01
        assert box.top >= -0.01
        assert box.right <= found.width + 0.01
        assert box.bottom <= found.height + 0.01


TYPICAL = {
    "chain": picture(("a", "b"), ("b", "c")),
    "diamond": picture(
        ("a", "b"), ("a", "cc"), ("a", "ddd"), ("b", "e"), ("cc", "e"), ("ddd", "e"), ("a", "e")
    ),
    "labels": picture(
        ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "a"), ("d", "d"), label="condition"
    ),
    "loops": picture(
        ("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("b", "b"), ("c", "d"), ("d", "a")
    ),
    "islands": picture(("a", "b"), ("x", "y"), ("y", "x"), ("z", "z")),
    "twice": Picture(
        (Node("a", "a"), Node("b", "b")), (Edge("a", "b", label="x"), Edge("a", "b", label="y"))
    ),
    "one": Picture((Node("a", "a", is_start=True),), ()),
    "all to all": picture(*[(f"a{n}", f"b{m}") for n in range(4) for m in range(4)]),
}


@pytest.mark.parametrize("name", TYPICAL)
def test_boxes_are_apart_and_edges_touch_only_their_own(name: str) -> None:
    check(layout(TYPICAL[name]))


NODES = st.integers(0, 11)


@given(
    st.lists(
        st.tuples(NODES, NODES, st.sampled_from(["", "", "if", "a longer label"])),
        min_size=1,
        max_size=28,
    )
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_same_of_any_graph(edges: list[tuple[int, int, str]]) -> None:
    nodes = tuple(Node(str(n), "x" * (n % 5), is_start=n == 0) for n in range(12))
    drawn = Picture(
        nodes, tuple(Edge(str(source), str(target), label=label) for source, target, label in edges)
    )

    found = layout(drawn)

    check(found)
    assert found == layout(drawn)


def test_edges_lead_down_except_those_that_close_a_cycle() -> None:
    found = layout(TYPICAL["loops"])

    assert ranks(found) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert {(r.edge.source, r.edge.target) for r in found.routes if r.is_back} == {
        ("c", "a"),
        ("c", "b"),
        ("b", "b"),
        ("d", "a"),
    }
    for route in found.routes:
        if not route.is_back:
            assert [y for _, y in route.points] == sorted(y for _, y in route.points)


def test_the_rank_is_the_longest_way() -> None:
    assert ranks(layout(picture(("a", "b"), ("b", "c"), ("a", "c")))) == {"a": 0, "b": 1, "c": 2}


def test_the_start_is_at_the_top_of_a_cycle_whatever_the_order() -> None:
    nodes = (Node("b", "b"), Node("a", "a", is_start=True))

    assert ranks(layout(Picture(nodes, (Edge("b", "a"), Edge("a", "b"))))) == {"a": 0, "b": 1}


def test_a_source_that_is_not_the_start_stands_right_above_what_it_leads_to() -> None:
    assert ranks(layout(picture(("a", "b"), ("b", "c"), ("c", "d"), ("x", "d"))))["x"] == 2


def test_a_chain_is_a_straight_line() -> None:
    found = layout(picture(*[(f"n{n}", f"n{n + 1}") for n in range(6)]))

    assert len({x for route in found.routes for x, _ in route.points}) == 1


def test_a_long_edge_is_straight_between_the_ranks_it_passes() -> None:
    found = layout(picture(("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("a", "e")))

    (long,) = [
        route for route in found.routes if (route.edge.source, route.edge.target) == ("a", "e")
    ]
    assert len({round(x, 6) for x, _ in long.points[1:-1]}) == 1


def test_a_fan_out_is_symmetric() -> None:
    boxes = places(
        layout(picture(("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("d", "e")))
    )

    assert boxes["a"].middle[0] == boxes["c"].middle[0] == boxes["e"].middle[0]


def test_edges_that_need_not_cross_do_not() -> None:
    boxes = places(
        layout(picture(("s", "a"), ("s", "b"), ("s", "c"), ("a", "z"), ("b", "y"), ("c", "x")))
    )

    above = sorted("abc", key=lambda name: boxes[name].left)
    below = sorted("xyz", key=lambda name: boxes[name].left)
    assert [{"a": "z", "b": "y", "c": "x"}[name] for name in above] == below


def test_what_is_inside_a_node_fits_in_it() -> None:
    deep = Picture((Node("s/t/a", "a"), Node("s/t/b", "b")), (Edge("s/t/a", "s/t/b"),))
    inner = Picture(
        (Node("s/t", "t", NodeKind.SUB_WORKFLOW, inner=deep), Node("s/u", "u")),
        (Edge("s/t", "s/u"),),
    )
    found = layout(Picture((Node("s", "s", NodeKind.SUB_WORKFLOW, inner=inner),), ()))

    def check_inside(some: Layout) -> None:
        check(some)
        for placed in some.nodes:
            if placed.inner is not None:
                left, top = placed.inner_at
                room = Box(left, top, placed.inner.width, placed.inner.height)
                assert placed.box.left < room.left < room.right < placed.box.right
                assert placed.box.top < room.top < room.bottom < placed.box.bottom
                check_inside(placed.inner)

    check_inside(found)


def test_nothing_is_laid_out_to_nothing() -> None:
    assert layout(Picture((), ())) == Layout(0, 0, (), ())


def test_a_cycle_is_broken_where_the_search_comes_back() -> None:
    assert backward_ways(3, [Way(0, 1), Way(1, 2), Way(2, 0), Way(1, 1)], [0]) == {2}
    assert backward_ways(3, [Way(0, 1), Way(1, 2), Way(2, 0)], [2]) == {1}
