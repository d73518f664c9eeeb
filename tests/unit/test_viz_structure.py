"""Pictures of built workflows: every kind of edge, hostile ids, sub-workflows, marks of
checkpoints.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supersteps import (
    Case,
    Default,
    Executor,
    ExecutorFailure,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
)
from supersteps.viz.checkpoints import marks_of, structure_of, words
from supersteps.viz.picture import Edge, EdgeKind, Mark, MarkKind, NodeKind, Picture
from supersteps.viz.structure import gate_id, picture_of, read_group
from tests.unit.support import Asker, Reverse, built, collect


class Relay(Executor):
    """Takes everything and passes it on."""

    @handler
    async def take(
        self, value: str | list[str] | ExecutorFailure, ctx: WorkflowContext[Any, str]
    ) -> None:
        if isinstance(value, str):
            await ctx.send_message(value)


def is_spam(message: Any) -> bool:
    return True


def is_long(message: Any) -> bool:
    return False


def pick(message: Any, targets: list[str]) -> list[str]:
    return targets


def drawn(workflow: Workflow) -> Picture:
    # through JSON, as from a checkpoint
    structure = msgspec.json.decode(msgspec.json.encode(workflow.graph.description))
    return picture_of(structure, workflow.workflow_id)


def edges(picture: Picture) -> set[tuple[str, str, EdgeKind, str]]:
    return {(edge.source, edge.target, edge.kind, edge.label) for edge in picture.edges}


def ends_are_nodes(picture: Picture) -> bool:
    ids = [node.id for node in picture.nodes]
    return len(set(ids)) == len(ids) and all(
        e.source in ids and e.target in ids for e in picture.edges
    )


# ----------------------------------------------------------------------------------- kinds of edges


def test_direct_and_conditional_edges() -> None:
    a, b, c = map(Relay, "abc")
    picture = drawn(
        built(WorkflowBuilder(name="w").add_edge(a, b).add_edge(b, c, is_spam).add_edge(c, c), a)
    )

    assert picture.title == "w"
    assert [(node.id, node.is_start, node.kind) for node in picture.nodes] == [
        ("a", True, NodeKind.EXECUTOR),
        ("b", False, NodeKind.EXECUTOR),
        ("c", False, NodeKind.EXECUTOR),
    ]
    assert picture.edges == (
        Edge("a", "b"),
        Edge("b", "c", EdgeKind.CONDITIONAL, "is_spam"),
        Edge("c", "c"),
    )
    assert "str" in picture.nodes[0].detail


def test_a_lambda_is_a_condition() -> None:
    a, b = map(Relay, "ab")
    picture = drawn(built(WorkflowBuilder().add_edge(a, b, lambda message: True), a))

    assert picture.edges == (Edge("a", "b", EdgeKind.CONDITIONAL, "<lambda>"),)


def test_fan_out_and_selection() -> None:
    a, b, c, d = map(Relay, "abcd")
    builder = (
        WorkflowBuilder()
        .add_fan_out_edges(a, [b, c])
        .add_multi_selection_edge_group(b, [d, c], pick)
    )

    # the builder met b before a
    assert drawn(built(builder, a)).edges == (
        Edge("b", "d", EdgeKind.CHOICE, "pick"),
        Edge("b", "c", EdgeKind.CHOICE, "pick"),
        Edge("a", "b"),
        Edge("a", "c"),
    )


def test_a_switch_is_a_node_with_its_cases_in_order() -> None:
    a, b, c, d = map(Relay, "abcd")
    cases: list[Case | Default] = [Case(is_spam, d), Case(is_long, b), Default(c)]
    picture = drawn(built(WorkflowBuilder().add_switch_case_edge_group(a, cases), a))

    switch = gate_id("switch_case:a->d+b+c")
    assert {node.id: node.kind for node in picture.nodes}[switch] is NodeKind.SWITCH
    assert picture.edges == (
        Edge("a", switch),
        Edge(switch, "d", EdgeKind.CASE, "is_spam"),
        Edge(switch, "b", EdgeKind.CASE, "is_long"),
        Edge(switch, "c", EdgeKind.DEFAULT),
    )


def test_several_fan_ins_are_nodes_of_their_own() -> None:
    a, b, c, d, e = map(Relay, "abcde")
    builder = (
        WorkflowBuilder()
        .add_fan_out_edges(a, [b, c])
        .add_fan_in_edges([b, c], d)
        .add_fan_in_edges([c, b], e)
    )
    picture = drawn(built(builder, a))

    first, second = gate_id("fan_in:b+c->d"), gate_id("fan_in:c+b->e")
    assert [node.id for node in picture.nodes if node.kind is NodeKind.FAN_IN] == [first, second]
    assert {(s, t) for s, t, _, _ in edges(picture)} >= {
        ("b", first),
        ("c", first),
        (first, "d"),
        (second, "e"),
    }


def test_error_edges() -> None:
    a, b = map(Relay, "ab")
    picture = drawn(built(WorkflowBuilder().add_error_edge(a, b), a))

    assert picture.edges == (Edge("a", "b", EdgeKind.ERROR),)


# -------------------------------------------------------------------------------------- hostile ids

HOSTILE = [
    "a+b",
    "a->b",
    "%2B",
    "100%",
    "-",
    ">",
    "a-",
    ">b",
    "b [x]",
    "b [x",
    "b] [",
    "edge:a->b []",
    "fan_in:a+b->c",
    "x, y",
    " ",
    "a/b#3/c",
    '"quoted" & <b>',
    "é世界",
    "on_error:x",
    "-%3E",
]


def everything(ids: list[str]) -> tuple[Workflow, set[tuple[str, str]]]:
    """One workflow with each kind of group along neighbours in a list, and the edges between its
    executors.
    """
    nodes = [Relay(i) for i in ids]
    builder, wanted = WorkflowBuilder(), set[tuple[str, str]]()
    start = Relay("START")
    for n in range(0, len(nodes) - 3, 4):
        a, b, c, d = nodes[n : n + 4]
        builder.add_switch_case_edge_group(start, [Case(is_spam, a), Case(is_long, b), Default(a)])
        switch = gate_id(builder._groups[-1].id)
        builder.add_multi_selection_edge_group(a, [b, c], pick).add_fan_in_edges(
            [b, c], d
        ).add_error_edge(b, c)
        gate = gate_id(builder._groups[-2].id)
        builder.add_edge(c, d, is_spam).add_edge(d, start)
        wanted |= {
            ("START", switch),
            (switch, a.id),
            (switch, b.id),
            (a.id, b.id),
            (a.id, c.id),
            (b.id, gate),
        }
        wanted |= {(c.id, gate), (gate, d.id), (b.id, c.id), (c.id, d.id), (d.id, "START")}
    return built(builder, start), wanted


def test_hostile_ids_are_drawn_as_they_are() -> None:
    workflow, wanted = everything(HOSTILE)
    picture = drawn(workflow)

    assert ends_are_nodes(picture)
    assert {(edge.source, edge.target) for edge in picture.edges} == wanted
    assert {edge.label for edge in picture.edges} == {"", "is_spam", "is_long", "pick"}


@given(
    st.lists(
        st.text("ab+->% []:,/#", min_size=1, max_size=8).filter(lambda i: i != "START"),
        min_size=4,
        max_size=8,
        unique=True,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_ids_are_drawn_as_they_are(ids: list[str]) -> None:
    workflow, wanted = everything(ids)

    assert {(edge.source, edge.target) for edge in drawn(workflow).edges} == wanted


def named(name: str) -> Callable[[Any], bool]:
    def condition(message: Any) -> bool:
        return True

    condition.__name__ = name
    return condition


def test_odd_names_of_conditions_lead_nowhere_else() -> None:
    a, b, c = map(Relay, "abc")
    builder = WorkflowBuilder().add_edge(a, b, named("x->c [y] + z, %"))
    builder.add_switch_case_edge_group(
        b, [Case(named("one, two"), a), Case(is_spam, c), Default(c)]
    )
    picture = drawn(built(builder, a))

    assert Edge("a", "b", EdgeKind.CONDITIONAL, "x->c [y] + z, %") in picture.edges
    # three names for two cases: which is whose cannot be told
    switch = [(edge.target, edge.label) for edge in picture.edges if edge.kind is EdgeKind.CASE]
    assert switch == [("a", ""), ("c", "")]


def test_the_only_case_of_a_switch_has_its_whole_name() -> None:
    a, b, c = map(Relay, "abc")
    builder = WorkflowBuilder().add_switch_case_edge_group(
        a, [Case(named("one, two"), b), Default(c)]
    )

    assert {e.label for e in drawn(built(builder, a)).edges if e.kind is EdgeKind.CASE} == {
        "one, two"
    }


@pytest.mark.parametrize(
    "line", ["", "edge:a->b", "edge:a->nobody []", "a->b []", "edge:nobody->b []", "->", "[]"]
)
def test_lines_that_make_no_sense_are_left_out(line: str) -> None:
    assert read_group(line, {"a": [], "b": []}) is None
    assert picture_of({"start": "a", "executors": {"a": [], "b": []}, "edges": [line]}).edges == ()


def test_a_kind_of_edges_that_is_unknown_here_is_drawn_like_a_fan_out() -> None:
    edges = ["later:a->b+c []", "lottery:b->a+c [weights]"]
    picture = picture_of({"executors": {"a": [], "b": [], "c": []}, "edges": edges})

    assert {(edge.source, edge.target, edge.kind, edge.label) for edge in picture.edges} == {
        ("a", "b", EdgeKind.PLAIN, ""),
        ("a", "c", EdgeKind.PLAIN, ""),
        ("b", "a", EdgeKind.CHOICE, "weights"),
        ("b", "c", EdgeKind.CHOICE, "weights"),
    }


def test_an_empty_structure_is_an_empty_picture() -> None:
    assert picture_of({}) == Picture((), ())


# ------------------------------------------------------------------------------------ sub-workflows


class Ask(Executor):
    """Asks without a port."""

    @handler
    async def take(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.request_info(text, str)

    @response_handler
    async def answered(self, question: str, answer: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.yield_output(answer)


def nested_workflow(**settings: Any) -> Workflow:
    writer, checker = Relay("writer"), Ask("checker")
    innermost = built(WorkflowBuilder(name="innermost").add_edge(writer, checker), writer)
    first = Relay("first")
    check = WorkflowExecutor(innermost, "check#1")
    inner = built(WorkflowBuilder(name="inner").add_edge(first, check), first)
    entry, end = Relay("entry"), Relay("end")
    review = WorkflowExecutor(inner, "review")
    return built(
        WorkflowBuilder(name="outer").add_edge(entry, review).add_edge(review, end),
        entry,
        **settings,
    )


def test_sub_workflows_hold_pictures() -> None:
    picture = drawn(nested_workflow())
    review = next(node for node in picture.nodes if node.id == "review")

    assert review.kind is NodeKind.SUB_WORKFLOW
    assert review.inner is not None
    assert [node.id for node in review.inner.nodes] == ["review/first", "review/check#1"]
    assert [node.label for node in review.inner.nodes] == ["first", "check#1"]
    assert review.inner.edges == (Edge("review/first", "review/check#1"),)
    check = review.inner.nodes[1]
    assert check.inner is not None
    assert check.inner.edges == (Edge("review/check#1/writer", "review/check#1/checker"),)
    assert check.inner.nodes[0].is_start


# -------------------------------------------------------------------------------------------- marks


def checkpoints_of(
    workflow: Workflow, storage: InMemoryCheckpointStorage
) -> list[WorkflowCheckpoint]:
    async def run() -> list[WorkflowCheckpoint]:
        handle = workflow.run_stream("hello", checkpoint_storage=storage)
        async for _event in handle:
            pass
        found = [await storage.load_checkpoint(info.checkpoint_id) for info in handle.checkpoints]
        return [checkpoint for checkpoint in found if checkpoint is not None]

    return asyncio.run(run())


def marked(checkpoint: WorkflowCheckpoint) -> dict[str, str]:
    return {node: words(marks) for node, marks in marks_of(checkpoint).items()}


def test_marks_of_a_run_that_waits_inside_a_sub_workflow() -> None:
    begun, *_, last = checkpoints_of(nested_workflow(), InMemoryCheckpointStorage())

    assert marked(begun) == {"entry": "1 message"}
    assert marked(last) == {
        "review": "1 question",
        "review/check#1": "1 question",
        "review/check#1/checker": "1 question",
    }
    structure = structure_of(last)
    assert structure is not None
    picture = picture_of(structure, marks=marks_of(last))
    assert {node.id: node.marks for node in picture.nodes}["review"] == (Mark(MarkKind.ASKS),)


def test_a_question_is_marked_where_it_went_out() -> None:
    asker, port = Asker("asker"), RequestInfoExecutor("port")
    workflow = built(WorkflowBuilder().add_edge(asker, port).add_edge(port, asker), asker)

    assert marked(checkpoints_of(workflow, InMemoryCheckpointStorage())[-1]) == {
        "port": "1 question"
    }


def test_a_fan_in_that_is_half_full_and_a_timer() -> None:
    class Late(Executor):
        @handler
        async def take(self, text: str, ctx: WorkflowContext[str]) -> None:
            if text == "later":
                await ctx.send_message(text)
            else:
                await ctx.schedule("later", delay=timedelta(seconds=0.05), target_id=self.id)

    a, b, late, join = Relay("a"), Relay("b"), Late("late"), Relay("join")
    builder = WorkflowBuilder().add_fan_out_edges(a, [b, late]).add_fan_in_edges([b, late], join)
    half = checkpoints_of(built(builder, a), InMemoryCheckpointStorage())[2]

    gate = gate_id("fan_in:b+late->join")
    assert marked(half) == {gate: "1 message", "late": "1 timer"}
    structure = structure_of(half)
    assert structure is not None
    picture = picture_of(structure, marks=marks_of(half))
    assert [node.marks for node in picture.nodes if node.kind is NodeKind.FAN_IN] == [
        (Mark(MarkKind.MESSAGES),)
    ]


def test_a_fan_in_to_which_a_message_comes_later() -> None:
    coming = {
        "due": "2026-01-01T00:00:00.000000+00:00",
        "data": 1,
        "target_ids": ["review#2/fan_in:a+b->c"],
    }
    structure = {"executors": {"review": []}, "sub_workflows": {"review": {}}}

    found = marks_of(WorkflowCheckpoint(timers={"2.0": coming}), structure=structure)

    gate = f"review/{gate_id('fan_in:a+b->c')}"
    assert {node: words(marks) for node, marks in found.items()} == {
        "review": "1 timer",
        gate: "1 timer",
    }


def test_a_fan_in_inside_a_sub_workflow() -> None:
    checkpoint = WorkflowCheckpoint(fan_in={"review#2.1/fan_in:a+b->c": {"a": [1, 2], "b": []}})
    structure = {"executors": {"review": []}, "sub_workflows": {"review": {}}}

    found = marks_of(checkpoint, structure=structure)

    assert found == {
        "review": [Mark(MarkKind.MESSAGES, 2)],
        f"review/{gate_id('fan_in:a+b->c')}": [Mark(MarkKind.MESSAGES, 2)],
    }


def test_what_ran_and_what_failed() -> None:
    structure = msgspec.to_builtins(nested_workflow().graph.description)
    found = marks_of(
        None,
        ran=["entry", "review#2/first"],
        failed=["review#2/check#1#3/writer"],
        structure=structure,
    )

    assert {node: words(marks) for node, marks in found.items()} == {
        "entry": "ran",
        "review": "failed, ran",
        "review/first": "ran",
        "review/check#1": "failed",
        "review/check#1/writer": "failed",
    }


def test_an_id_with_a_slash_is_not_a_path() -> None:
    a = Relay("a#3/b")
    workflow = built(WorkflowBuilder().add_edge(a, Reverse("c")), a)
    first = checkpoints_of(workflow, InMemoryCheckpointStorage())[0]

    assert marked(first) == {"a#3/b": "1 message"}
    assert marks_of(first, structure=structure_of(first)) == {"a#3/b": [Mark(MarkKind.MESSAGES)]}


def test_marking_leaves_a_checkpoint_undecoded() -> None:
    last = checkpoints_of(nested_workflow(), InMemoryCheckpointStorage())[-1]
    marks_of(last)

    assert "messages" not in vars(last)


def test_a_checkpoint_made_by_hand_has_no_structure() -> None:
    checkpoint = WorkflowCheckpoint(messages={"": [{"data": "x", "target_id": "a"}]})

    assert structure_of(checkpoint) is None
    assert marked(checkpoint) == {"a": "1 message"}


async def test_the_structure_survives_a_trip_through_json() -> None:
    storage = InMemoryCheckpointStorage()
    run = nested_workflow(storage=storage).run_stream("hi")
    await collect(run)
    assert run.latest_checkpoint is not None
    loaded = await storage.load_checkpoint(run.latest_checkpoint.checkpoint_id)
    assert loaded is not None

    again = WorkflowCheckpoint.from_dict(msgspec.json.decode(msgspec.json.encode(loaded.to_dict())))

    assert structure_of(again) == structure_of(loaded) is not None
    assert marks_of(again) == marks_of(loaded)
