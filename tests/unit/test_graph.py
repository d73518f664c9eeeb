"""`Graph`: what it derives, its description, its fingerprint, and how differences are told."""

import subprocess
import sys
from typing import Any

import msgspec

from supersteps import (
    Case,
    Default,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
)
from supersteps.checkpoint.sections.graph import GraphDescription
from supersteps.define.context import MISSING
from supersteps.define.graph import Graph, Reducer
from tests.unit.support import Counter, Reverse, Upper


class Join(Executor):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext) -> None:
        pass


def is_long(text: str) -> bool:
    return len(text) > 3


def graph() -> Graph:
    a, b, c, join = Upper("a"), Upper("b"), Upper("c"), Join("join")
    builder = WorkflowBuilder().add_switch_case_edge_group(a, [Case(is_long, b), Default(c)])
    return builder.add_fan_in_edges([b, c], join).set_start_executor(a).build().graph


def test_it_knows_the_ways() -> None:
    g = graph()

    assert {source: [group.id for group in groups] for source, groups in g.outgoing.items()} == {
        "a": ["switch_case:a->b+c"],
        "b": ["fan_in:b+c->join"],
        "c": ["fan_in:b+c->join"],
        "join": [],
    }
    assert g.reachable == {"a": {"b", "c"}, "b": {"join"}, "c": {"join"}, "join": frozenset()}
    assert list(g.fan_ins) == ["fan_in:b+c->join"]
    assert [(node_id, node.position) for node_id, node in g.nodes.items()] == [
        ("b", 0),
        ("c", 1),
        ("a", 2),
        ("join", 3),
    ]
    assert str in g.annotations
    assert list[str] in g.annotations


def test_the_description_is_plain_data() -> None:
    assert graph().description == GraphDescription(
        start="a",
        executors={"b": ["str"], "c": ["str"], "a": ["str"], "join": ["list[str]"]},
        edges=["fan_in:b+c->join []", "switch_case:a->b+c [is_long]"],
    )


def test_the_fingerprint_depends_on_the_structure_only() -> None:
    up, end = Upper("up"), Reverse("end")
    plain = (
        WorkflowBuilder(max_iterations=3, name="x").add_edge(up, end).set_start_executor(up).build()
    )
    limited = (
        WorkflowBuilder(max_iterations=9, name="y").add_edge(up, end).set_start_executor(up).build()
    )
    conditional = (
        WorkflowBuilder().add_edge(up, end, condition=is_long).set_start_executor(up).build()
    )

    assert len(plain.graph.fingerprint) == 64
    assert plain.graph_signature_hash == limited.graph_signature_hash == plain.graph.fingerprint
    assert conditional.graph_signature_hash != plain.graph_signature_hash


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    script = "from tests.unit.test_graph import graph; print(graph().fingerprint)"
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == graph().fingerprint


def test_differences_are_sentences() -> None:
    counter = Counter("a")
    other = WorkflowBuilder().add_edge(counter, counter).set_start_executor(counter).build().graph
    before = graph().description

    assert before.differences(before) == []
    assert before.differences(other.description) == [
        "executor 'b' was removed",
        "executor 'c' was removed",
        "executor 'join' was removed",
        "executor 'a' handled str and now handles int",
        "edge fan_in:b+c->join [] was removed",
        "edge switch_case:a->b+c [is_long] was removed",
        "edge edge:a->a [] was added",
    ]
    moved = GraphDescription("b", before.executors, before.edges)
    assert before.differences(moved) == ["the start was 'a' and is now 'b'"]


class Careful(Executor):
    """Asks before it goes on."""

    @handler
    async def begin(self, text: str, ctx: WorkflowContext[bytes]) -> None:
        pass

    @response_handler
    async def decided(
        self, question: str, answer: bool, ctx: WorkflowContext[float, complex]
    ) -> None:
        pass

    @response_handler
    async def later(self, question: str, answer: int | None, ctx: WorkflowContext) -> None:
        pass


class Medic(Executor):
    @handler
    async def treat(self, failure: ExecutorFailure, ctx: WorkflowContext) -> None:
        pass


class Anyone(Executor):
    @handler
    async def take(self, message: object, ctx: WorkflowContext) -> None:
        pass


def test_the_fingerprint_of_an_older_graph_stays_what_it_was() -> None:
    # As runs that were saved before there were response handlers have it stored.
    assert graph().fingerprint == "20f15d2c9147477bd73f51428507075534a073a34530343d80c8b58c3f8def29"
    assert set(msgspec.json.decode(msgspec.json.encode(graph().description))) == {
        "start",
        "executors",
        "edges",
    }


def test_response_handlers_are_part_of_the_structure() -> None:
    asking = WorkflowBuilder().set_start_executor(Careful("a")).build().graph
    mute = WorkflowBuilder().set_start_executor(Upper("a")).build().graph

    assert asking.description.responses == {"a": ["str -> bool", "str -> int | None"]}
    stored = msgspec.json.encode(asking.description)
    assert msgspec.json.decode(stored, type=GraphDescription) == asking.description
    assert asking.fingerprint != mute.fingerprint
    assert asking.annotations == [str, bytes, str, bool, float, complex, str, int | None]
    assert asking.description.differences(asking.description) == []
    assert asking.description.differences(mute.description) == [
        "executor 'a' took the answers str -> bool, str -> int | None and now takes no answers"
    ]
    assert mute.description.differences(asking.description) == [
        "executor 'a' took no answers and now takes the answers str -> bool, str -> int | None"
    ]
    other = WorkflowBuilder().set_start_executor(Upper("b")).build().graph
    assert asking.description.differences(other.description)[:2] == [
        "executor 'a' was removed",
        "executor 'b' was added",
    ]


def failing_graph() -> Graph:
    a, b, medic = Upper("a"), Reverse("b"), Medic("medic")
    builder = (
        WorkflowBuilder().add_edge(a, b).add_error_edge(a, medic).add_error_edge(a, Anyone("log"))
    )
    return builder.add_error_edge(b, medic).set_start_executor(a).build().graph


def test_error_edges_carry_failures_only() -> None:
    g = failing_graph()

    assert [group.id for group in g.outgoing["a"]] == ["edge:a->b"]
    assert g.reachable["a"] == {"b"}
    assert g.error_targets == {"a": ("medic", "log"), "b": ("medic",), "medic": (), "log": ()}
    assert graph().error_targets == {"a": (), "b": (), "c": (), "join": ()}


def test_error_edges_are_part_of_the_structure_and_what_they_deliver_can_be_saved() -> None:
    g = failing_graph()
    a, b = Upper("a"), Reverse("b")
    plain = WorkflowBuilder().add_edge(a, b).set_start_executor(a).build().graph
    only_any = (
        WorkflowBuilder().add_error_edge(a, Anyone("log")).set_start_executor(a).build().graph
    )

    assert g.description.edges == [
        "edge:a->b []",
        "on_error:a->log []",
        "on_error:a->medic []",
        "on_error:b->medic []",
    ]
    assert "edge on_error:a->medic [] was added" in plain.description.differences(g.description)
    assert ExecutorFailure in only_any.annotations
    assert ExecutorFailure not in plain.annotations


def test_failure_policies_may_change() -> None:
    a, b = Upper("a"), Reverse("b")
    builder = WorkflowBuilder().add_edge(a, b).set_start_executor(a)
    plain = builder.build().graph
    patient = builder.with_failure_policy(a, FailurePolicy(max_attempts=5)).build().graph

    assert plain.policies == {}
    assert patient.policies == {"a": FailurePolicy(max_attempts=5)}
    assert patient.fingerprint == plain.fingerprint


def test_a_reducer_folds_from_its_initial_value_or_the_first_update() -> None:
    initial: list[int] = []

    def add(value: list[int], update: int) -> list[int]:
        value.append(update)
        return value

    with_initial = Reducer(add, initial)
    assert with_initial.fold(with_initial.fold(MISSING, 1), 2) == [1, 2]
    assert initial == []
    total = Reducer(lambda value, update: value + update)
    first: Any = total.fold(MISSING, 5)
    assert total.fold(first, 2) == 7
