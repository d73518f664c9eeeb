from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps.viz.groups import grouped
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, Node, NodeKind, Picture


def picture(*edges: tuple[str, str]) -> Picture:
    names = dict.fromkeys(name for edge in edges for name in edge)
    nodes = tuple(Node(name, name, is_start=place == 0) for place, name in enumerate(names))
    return Picture(nodes, tuple(Edge(source, target) for source, target in edges), "title")


def fan(count: int, name: str = "worker_{}") -> Picture:
    workers = [name.format(n) for n in range(count)]
    return picture(
        *[("start", worker) for worker in workers], *[(worker, "join") for worker in workers]
    )


def size(some: Picture) -> int:
    return sum(1 + (size(node.inner) if node.inner else 0) for node in some.nodes)


def labels(some: Picture) -> list[str]:
    return [node.label for node in some.nodes]


def sub(name: str, count: int, *more: Node) -> Node:
    inner = Picture((*(Node(f"{name}/{n}", str(n)) for n in range(count)), *more), ())
    return Node(name, name, NodeKind.SUB_WORKFLOW, inner=inner)


def test_few_nodes_stay_as_they_are() -> None:
    some = fan(58)

    assert grouped(some) is some
    assert grouped(some, 59) != some


def test_nodes_with_the_same_neighbours_become_one() -> None:
    found = grouped(fan(500))

    assert labels(found) == ["start", "worker_* (500)", "join"]
    start, group, join = found.nodes
    assert (group.kind, group.detail) == (NodeKind.GROUP, "side by side")
    count = "\N{MULTIPLICATION SIGN}500"
    assert found.edges == (
        Edge(start.id, group.id, EdgeKind.PLAIN, count),
        Edge(group.id, join.id, EdgeKind.PLAIN, count),
    )
    assert found.title == "title"
    assert grouped(found) is found


def test_names_without_a_common_beginning_are_listed() -> None:
    names = ["fetch", "summarise", "translate", "publish", "archive"]
    edges = [("s", name) for name in names]

    assert labels(grouped(picture(*edges), 2)) == ["s", "fetch, summarise and 3 more"]
    assert labels(grouped(picture(*edges[:3]), 2)) == ["s", "fetch, summarise, translate"]


def test_a_number_is_not_part_of_the_common_name() -> None:
    edges = [("s", f"w_{n}") for n in range(10, 20)]

    assert labels(grouped(picture(*edges), 2)) == ["s", "w_* (10)"]


def test_how_a_node_is_reached_tells_it_from_others() -> None:
    some = picture(("s", "a1"), ("s", "a2"), ("s", "b1"), ("s", "b2"))
    kinds = {"b1": EdgeKind.ERROR, "b2": EdgeKind.ERROR}
    some = replace(
        some, edges=tuple(replace(e, kind=kinds.get(e.target, e.kind)) for e in some.edges)
    )

    found = grouped(some, 3)

    assert labels(found) == ["s", "a1, a2", "b1, b2"]
    assert [edge.kind for edge in found.edges] == [EdgeKind.PLAIN, EdgeKind.ERROR]


def test_edges_of_several_kinds_become_plain() -> None:
    some = picture(("s", "a"), ("a", "b"), ("s", "c"), ("c", "b"))
    some = replace(
        some,
        edges=tuple(replace(e, kind=EdgeKind.CASE) if e.target == "a" else e for e in some.edges),
    )

    # At the same distance, but not reached in the same way.
    assert labels(grouped(some, 3)) == ["s", "a, c", "b"]
    assert [(edge.kind, edge.label) for edge in grouped(some, 3).edges] == [
        (EdgeKind.PLAIN, "\N{MULTIPLICATION SIGN}2"),
        (EdgeKind.PLAIN, "\N{MULTIPLICATION SIGN}2"),
    ]
    assert grouped(some, 1).edges == ()


def test_a_row_becomes_one() -> None:
    names = ["start", "fetch", "clean", "sort", "store", "end"]

    found = grouped(picture(*pairwise(names)), 2)

    assert labels(found) == ["start", "fetch → … → end (5)"]
    assert found.nodes[1].detail == "one after another"
    assert len(found.edges) == 1


def test_marks_are_summed() -> None:
    some = fan(3)
    marks = (Mark(MarkKind.MESSAGES, 2), Mark(MarkKind.RAN))
    some = replace(
        some, nodes=tuple(replace(n, marks=marks) if "_" in n.id else n for n in some.nodes)
    )

    assert grouped(some, 3).nodes[1].marks == (Mark(MarkKind.RAN, 3), Mark(MarkKind.MESSAGES, 6))


def test_a_loop_of_all_stays_and_edges_inside_go() -> None:
    some = picture(("s", "w1"), ("s", "w2"), ("w1", "w1"), ("w2", "w2"))

    found = grouped(some, 2)

    group = found.nodes[1].id
    assert [(edge.source, edge.target) for edge in found.edges] == [("s", group), (group, group)]


def test_sub_workflows_are_closed_first_the_innermost_before_the_others() -> None:
    asks = Node("outer/inner/9", "x", marks=(Mark(MarkKind.ASKS, 2),))
    inner = replace(sub("outer/inner", 4, asks), marks=(Mark(MarkKind.ASKS, 1),))
    some = Picture((sub("outer", 3, inner), sub("other", 2)), ())

    closed = grouped(some, 10)

    outer, other = closed.nodes
    assert size(closed) == 8
    assert other.inner is not None
    assert outer.inner is not None
    folded = outer.inner.nodes[-1]
    assert (folded.inner, folded.detail, folded.marks) == (
        None,
        "5 executors",
        (Mark(MarkKind.ASKS, 3),),
    )
    assert [node.detail for node in grouped(some, 2).nodes] == ["8 executors", "2 executors"]


def test_waiting_places_are_no_executors() -> None:
    some = Picture((sub("s", 1, Node("s/f", "fan-in", NodeKind.FAN_IN)),), ())

    assert grouped(some, 1).nodes[0].detail == "1 executor"


def test_a_group_has_an_id_of_its_own() -> None:
    some = fan(5)
    some = replace(some, nodes=(*some.nodes, Node("worker_0 and 4 more", "taken")))

    ids = [node.id for node in grouped(some, 4).nodes]

    assert len(set(ids)) == len(ids) == 4


@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=80), st.integers(-1, 45)
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_there_are_never_more_than_the_limit(edges: list[tuple[int, int]], limit: int) -> None:
    nodes = tuple(
        Node(str(n), f"n{n}", is_start=n == 0, marks=(Mark(MarkKind.MESSAGES),)) for n in range(40)
    )
    some = Picture(nodes, tuple(Edge(str(source), str(target)) for source, target in edges))

    found = grouped(some, limit)

    assert len(found.nodes) <= max(1, limit)
    assert grouped(found, limit) is found
    assert found == grouped(some, limit)
    ids = {node.id for node in found.nodes}
    assert len(ids) == len(found.nodes)
    assert all(edge.source in ids and edge.target in ids for edge in found.edges)
    assert sum(mark.count for node in found.nodes for mark in node.marks) == 40
    assert sum(node.is_start for node in found.nodes) == 1


@pytest.mark.parametrize("limit", [1, 2, 7, 60])
def test_a_graph_with_nothing_alike_is_folded_by_distance(limit: int) -> None:
    edges = [(f"n{n}", f"n{m}") for n in range(500) for m in (n + 1, n + 2 + n % 3) if m < 500]

    found = grouped(picture(*edges), limit)

    assert len(found.nodes) <= limit
    if limit > 2:
        assert {node.detail for node in found.nodes if node.kind is NodeKind.GROUP} == {
            "drawn as one"
        }
