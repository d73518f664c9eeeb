"""`plan` and `merge`: pure functions of the graph, the state and the effects."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from supersteps import (
    Case,
    Default,
    Executor,
    FunctionExecutor,
    ReducerError,
    RequestResponse,
    RoutingError,
    StateConflictError,
    WorkflowBuilder,
    WorkflowContext,
)
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Ask, Request
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.define.graph import Graph
from supersteps.engine import merge as superstep
from supersteps.engine import plan as planning
from supersteps.engine.effects import Effects, Send
from supersteps.engine.levels import SHARED_STATE, Levels
from supersteps.engine.merged import Merged
from supersteps.engine.plan import Answer, Plan
from supersteps.engine.state import State
from supersteps.engine.view import Write
from tests.unit.support import Question

Sealers = pytest.mark.parametrize(
    "sealer", [Sealer(Codec(), encoding=e) for e in (False, True)], ids=["copy", "encode"]
)
PLAIN = Sealer(Codec(), encoding=False)


def plan(graph: Graph, state: State, answers: list[Answer]) -> Plan:
    return planning.plan(Levels(graph), state, answers)


def merge(graph: Graph, state: State, results: Sequence[Effects], sealer: Sealer) -> Merged:
    return superstep.merge(Levels(graph), state, Plan({}), results, sealer, 1)


def node(id: str, takes: Any = Any) -> Executor:
    def handle(message: Any, ctx: Any) -> None:
        pass

    handle.__annotations__ = {"message": takes, "ctx": WorkflowContext[Any, Any]}
    return FunctionExecutor(handle, id)


def fan(*targets: str, **takes: Any) -> Graph:
    """A graph whose start `s` leads to each of `targets`, in the order in which they were added."""
    nodes = [node(target, takes.get(target, Any)) for target in targets]
    start = node("s")
    builder = WorkflowBuilder()
    for target in nodes:
        builder.add_edge(start, target)
    return builder.set_start_executor(start).build().graph


def sent(
    sealer: Sealer, source: str, *values: Any, target: str | None = None, key: str = "0"
) -> Effects:
    return Effects(source, key, sends=[Send(sealer.seal(value, ""), target) for value in values])


def wrote(
    source: str,
    key: str,
    value: Any,
    *,
    is_update: bool = False,
    scope: tuple[str, ...] = SHARED_STATE,
) -> Effects:
    return Effects(
        source,
        "0",
        writes=[Write(scope, key, None if value is None else PLAIN.seal(value, ""), is_update)],
    )


def messages(merged: Merged) -> list[Any]:
    return [(m.payload.open(), m.source_ids, m.target_ids) for m in merged.messages]


def waiting(merged: Merged) -> Any:
    return {g: {s: [v.open() for v in w] for s, w in b.items()} for g, b in merged.fan_in.items()}


# --------------------------------------------------------------------------------------------- plan


def test_executors_come_as_they_were_added_and_messages_as_they_were_sent() -> None:
    graph = fan("c", "a", "b")

    def message(value: int, *targets: str) -> Message:
        return Message(PLAIN.seal(value, ""), ("s",), targets)

    state = State(messages=[message(1, "b", "a"), message(2, "a", "c"), message(3, "b")])
    planned = plan(graph, state, [])

    assert list(planned.calls) == ["c", "a", "b"]
    queues = {
        id: [(c.key, c.payload.open(), c.source_ids) for c in queue]
        for id, queue in planned.calls.items()
    }
    assert queues == {
        "c": [("0", 2, ("s",))],
        "a": [("0", 1, ("s",)), ("1", 2, ("s",))],
        "b": [("0", 1, ("s",)), ("1", 3, ("s",))],
    }


@Sealers
def test_answers_come_last_in_the_order_of_their_acceptance(sealer: Sealer) -> None:
    graph = fan("port")
    sealer = Sealer(Codec([Question]), encoding=sealer.encoding)
    state = State(messages=[Message(sealer.seal("x", ""), ("Workflow",), ("s",))])
    for key in ("q1", "q2"):
        question = sealer.seal(Question(request_id=key), "")
        state.requests[key] = Request(key, "s", "port", 1, "", str, "str", question)
    answers = [Answer(1, "q2", sealer.seal("two", "")), Answer(2, "q1", sealer.seal("one", ""))]

    planned = plan(graph, state, answers)

    assert [(c.key, c.source_ids) for c in planned.calls["s"]] == [
        ("0", ("Workflow",)),
        ("answer:q2", ("port",)),
        ("answer:q1", ("port",)),
    ]
    second = planned.calls["s"][1].payload.open()
    assert isinstance(second, RequestResponse)
    assert (second.data, second.request_id, second.original_request.request_id) == (
        "two",
        "q2",
        "q2",
    )


# ------------------------------------------------------------------------------------------ routing


@Sealers
def test_a_message_takes_every_edge_that_accepts_it(sealer: Sealer) -> None:
    graph = fan("a", "b", "n", n=int)
    merged = merge(
        graph,
        State(),
        [sent(sealer, "s", "text", 7), sent(sealer, "s", "only", target="b", key="1")],
        sealer,
    )

    assert messages(merged) == [
        ("text", ("s",), ("a", "b")),
        (7, ("s",), ("a", "b", "n")),
        ("only", ("s",), ("b",)),
    ]
    assert merged.undelivered == []


@Sealers
def test_what_goes_nowhere_is_noted(sealer: Sealer) -> None:
    graph = fan("n", n=int)
    merged = merge(graph, State(), [sent(sealer, "s", "text", 1), sent(sealer, "n", 2.5)], sealer)

    assert len(merged.messages) == 1
    assert merged.undelivered == [
        "executor 's' sent a message of type str that goes nowhere: none of its edges "
        "(edge:s->n) accepts it: conditions, selections and handled types all said no",
        "executor 'n' sent a message of type float that goes nowhere: it has no outgoing edges",
    ]


def test_a_condition_cannot_change_what_is_delivered() -> None:
    start, a, b = node("s"), node("a"), node("b")

    def spoil(message: list[int]) -> bool:
        message.append(99)
        return True

    graph = (
        WorkflowBuilder()
        .add_edge(start, a, spoil)
        .add_edge(start, b)
        .set_start_executor(start)
        .build()
        .graph
    )
    for sealer in (PLAIN, Sealer(Codec(), encoding=True)):
        merged = merge(graph, State(), [sent(sealer, "s", [1])], sealer)
        assert merged.messages[0].payload.open() == [1]


def test_functions_that_raise_or_answer_nonsense_are_routing_errors() -> None:
    start, a, b = node("s"), node("a"), node("b")

    def raises(message: Any) -> bool:
        raise KeyError("gone")

    def strays(message: Any, targets: list[str]) -> list[str]:
        return ["elsewhere"]

    def raises_too(message: Any, targets: list[str]) -> list[str]:
        raise KeyError("gone")

    for builder, expected in (
        (
            WorkflowBuilder().add_edge(start, a, raises),
            "condition 'raises' of edge:s->a raised KeyError",
        ),
        (
            WorkflowBuilder().add_switch_case_edge_group(start, [Case(raises, a), Default(b)]),
            "condition 'raises' of switch_case:s",
        ),
        (
            WorkflowBuilder().add_multi_selection_edge_group(start, [a, b], strays),
            r"chose \['elsewhere'\]",
        ),
        (
            WorkflowBuilder().add_multi_selection_edge_group(start, [a, b], raises_too),
            "selection function 'raises_too'",
        ),
    ):
        graph = builder.set_start_executor(start).build().graph
        with pytest.raises(RoutingError, match=expected):
            merge(graph, State(), [sent(PLAIN, "s", 1)], PLAIN)


# ------------------------------------------------------------------------------------------- fan-in


def joining() -> Graph:
    start, a, b, c, join = node("s"), node("a"), node("b"), node("c"), node("join", list[Any])
    builder = (
        WorkflowBuilder().add_fan_out_edges(start, [a, b, c]).add_fan_in_edges([c, a, b], join)
    )
    return builder.set_start_executor(start).build().graph


@Sealers
def test_a_fan_in_waits_for_all_and_lists_in_the_order_of_its_sources(sealer: Sealer) -> None:
    graph = joining()
    effects = [sent(sealer, "a", "a1", "a2"), sent(sealer, "b", "b1")]
    first = merge(graph, State(), effects, sealer)
    assert messages(first) == []
    assert waiting(first) == {"fan_in:c+a+b->join": {"a": ["a1", "a2"], "b": ["b1"]}}

    second = merge(graph, State(fan_in=first.fan_in), [sent(sealer, "c", "c1", "c2")], sealer)
    assert messages(second) == [(["c1", "a1", "b1"], ("c", "a", "b"), ("join",))]
    assert waiting(second) == {"fan_in:c+a+b->join": {"a": ["a2"], "c": ["c2"]}}
    assert waiting(first) == {
        "fan_in:c+a+b->join": {"a": ["a1", "a2"], "b": ["b1"]}
    }  # not changed by the second

    third = merge(graph, State(fan_in=second.fan_in), [sent(sealer, "b", "b2")], sealer)
    assert messages(third) == [(["c2", "a2", "b2"], ("c", "a", "b"), ("join",))]
    assert waiting(third) == {"fan_in:c+a+b->join": {}}


def test_a_fan_in_delivers_several_lists_at_once_oldest_first() -> None:
    effects = [sent(PLAIN, name, f"{name}1", f"{name}2") for name in "abc"]
    merged = merge(joining(), State(), effects, PLAIN)
    assert [m[0] for m in messages(merged)] == [["c1", "a1", "b1"], ["c2", "a2", "b2"]]


def pair_join(takes: Any) -> Graph:
    start, a, b, join = node("s"), node("a"), node("b"), node("join", takes)
    builder = WorkflowBuilder().add_fan_out_edges(start, [a, b]).add_fan_in_edges([a, b], join)
    return builder.set_start_executor(start).build().graph


@Sealers
def test_what_the_target_of_a_fan_in_does_not_take_does_not_wait_there(sealer: Sealer) -> None:
    effects = [sent(sealer, "a", "note", 1, "more"), sent(sealer, "b", 2)]
    merged = merge(pair_join(list[int]), State(), effects, sealer)

    assert messages(merged) == [([1, 2], ("a", "b"), ("join",))]
    assert waiting(merged) == {"fan_in:a+b->join": {}}
    assert [text.partition(":")[0] for text in merged.undelivered] == [
        "executor 'a' sent a message of type str that goes nowhere"
    ] * 2


@Sealers
def test_a_list_that_the_target_has_no_handler_for_is_noted(sealer: Sealer) -> None:
    graph = pair_join(list[int] | list[str])
    merged = merge(graph, State(), [sent(sealer, "a", 1, "y"), sent(sealer, "b", "x")], sealer)

    assert merged.messages == []
    assert waiting(merged) == {"fan_in:a+b->join": {"a": ["y"]}}
    assert merged.undelivered == [
        "fan_in:a+b->join made a list of (int, str) that 'join' has no handler for"
    ]


@Sealers
def test_what_an_earlier_version_let_wait_in_a_fan_in_does_not_take_others_with_it(
    sealer: Sealer,
) -> None:
    before = {"a": [sealer.seal(v, "") for v in ("note", 1)], "b": [sealer.seal("note", "")]}
    state = State(fan_in={"fan_in:a+b->join": before})
    merged = merge(pair_join(list[int]), state, [sent(sealer, "b", 2)], sealer)

    assert messages(merged) == [([1, 2], ("a", "b"), ("join",))]
    assert merged.undelivered == [
        "fan_in:a+b->join made a list of (str, str) that 'join' has no handler for"
    ]

    state = State(fan_in={"fan_in:a+b->join": {"a": [sealer.seal("note", "")]}})
    merged = merge(pair_join(list[int]), state, [sent(sealer, "b", 2)], sealer)

    assert messages(merged) == []
    assert waiting(merged) == {"fan_in:a+b->join": {"b": [2]}}
    assert merged.undelivered == [
        "fan_in:a+b->join made a list of (str) that 'join' has no handler for"
    ]


# ------------------------------------------------------------------------------------------- writes


def reducing(*keys: str) -> Graph:
    start, a, b = node("s"), node("a"), node("b")
    builder = WorkflowBuilder().add_edge(start, a).add_edge(start, b)
    for key in keys:
        builder.with_reducer(key, lambda value, update: f"{value}{update}", initial=">")
    return builder.set_start_executor(start).build().graph


def value(merged: Merged, key: str) -> Any:
    sealed = merged.writes[SHARED_STATE, key]
    return None if sealed is None else sealed.open()


def test_two_writers_of_one_key_are_a_conflict_which_names_both_and_the_key() -> None:
    graph = reducing()
    with pytest.raises(
        StateConflictError,
        match=r"executors 'a' and 'b' both wrote shared state 'k'.*with_reducer\('k'",
    ):
        merge(graph, State(), [wrote("a", "k", 1), wrote("b", "k", 1)], PLAIN)
    with pytest.raises(StateConflictError, match="key 'k' of scope 'team'"):
        merge(
            graph,
            State(),
            [
                wrote("a", "k", 1, scope=("scopes", "team")),
                wrote("b", "k", 1, scope=("scopes", "team")),
            ],
            PLAIN,
        )
    with pytest.raises(StateConflictError):
        merge(graph, State(), [wrote("a", "k", 1), wrote("b", "k", None)], PLAIN)


def test_no_conflict_with_oneself_nor_between_scopes() -> None:
    graph = reducing()
    merged = merge(
        graph,
        State(),
        [
            wrote("a", "k", 1),
            wrote("a", "k", 2),
            wrote("b", "other", 3),
            wrote("a", "k", "own", scope=("executor_states", "a")),
            wrote("b", "k", "own", scope=("executor_states", "b")),
        ],
        PLAIN,
    )
    assert value(merged, "k") == 2
    assert len(merged.writes) == 4


def test_updates_are_folded_in_the_order_of_the_plan() -> None:
    graph = reducing("log")
    state = State(scopes={SHARED_STATE: {"log": PLAIN.seal("old", "")}})
    effects = [
        wrote("a", "log", 1, is_update=True),
        wrote("a", "log", 2, is_update=True),
        wrote("b", "log", 3, is_update=True),
    ]

    assert value(merge(graph, State(), effects, PLAIN), "log") == ">123"
    assert value(merge(graph, state, effects, PLAIN), "log") == "old123"


def test_deleting_and_updating() -> None:
    graph = reducing("log")
    state = State(scopes={SHARED_STATE: {"log": PLAIN.seal("old", "")}})
    update, delete = wrote("a", "log", 1, is_update=True), wrote("a", "log", None)

    assert value(merge(graph, state, [update, delete], PLAIN), "log") is None
    assert value(merge(graph, state, [delete, update], PLAIN), "log") == ">1"
    for order in itertools.permutations(
        [wrote("a", "log", None), wrote("b", "log", 1, is_update=True)]
    ):
        with pytest.raises(
            StateConflictError, match=r"'[ab]' and '[ab]' both wrote shared state 'log'"
        ):
            merge(graph, state, order, PLAIN)


@Sealers
def test_appends_grow_a_list_or_begin_one(sealer: Sealer) -> None:
    graph = reducing()
    effects = [wrote("a", "list", 1, is_update=True), wrote("b", "list", 2, is_update=True)]

    def appended(state: State) -> Any:
        merged = merge(graph, state, effects, sealer)
        if (SHARED_STATE, "list") in merged.appends:
            return [item.open() for item in merged.appends[SHARED_STATE, "list"]]
        return ("whole", value(merged, "list"))

    assert appended(State()) == [1, 2]
    assert appended(State(scopes={SHARED_STATE: {"list": sealer.seal_list([0], "")}})) == [1, 2]
    assert appended(State(scopes={SHARED_STATE: {"list": sealer.seal([0], "")}})) == (
        "whole",
        [0, 1, 2],
    )
    with pytest.raises(StateConflictError):
        merge(
            graph, State(), [wrote("a", "list", [5]), wrote("b", "list", 1, is_update=True)], sealer
        )
    with pytest.raises(StateConflictError):
        merge(
            graph, State(), [wrote("a", "list", 1, is_update=True), wrote("b", "list", [5])], sealer
        )


def test_a_reducer_that_raises_fails_the_merge() -> None:
    start = node("s")
    builder = WorkflowBuilder().with_reducer("k", lambda value, update: value / 0, initial=1)
    graph = builder.set_start_executor(start).build().graph
    with pytest.raises(ReducerError, match="'k' raised ZeroDivisionError"):
        merge(graph, State(), [wrote("s", "k", 1, is_update=True)], PLAIN)


# ----------------------------------------------------------------------------- the rest, and purity


def test_outputs_and_questions_keep_the_order_of_the_plan() -> None:
    def out(source: str, *values: str) -> Effects:
        asks = [Ask(f"q{value}", source, PLAIN.seal(value, ""), "", "str", str) for value in values]
        return Effects(source, "0", outputs=[PLAIN.seal(value, "") for value in values], asks=asks)

    merged = merge(fan("a", "b"), State(), [out("a", "1", "2"), out("b", "3")], PLAIN)

    assert [(source, output.open()) for source, output in merged.outputs] == [
        ("a", "1"),
        ("a", "2"),
        ("b", "3"),
    ]
    asked = [(request.request_executor_id, request.request_id) for request in merged.opened]
    assert asked == [("a", "q1"), ("a", "q2"), ("b", "q3")]


def test_merging_changes_nothing_it_was_given() -> None:
    graph = joining()
    sealed: Sealed = PLAIN.seal([1], "")
    state = State(
        scopes={SHARED_STATE: {"k": sealed}}, fan_in={"fan_in:c+a+b->join": {"a": [sealed]}}
    )
    effects = [sent(PLAIN, "b", "x"), wrote("c", "k", 2)]
    for _ in range(2):
        merged = merge(graph, state, effects, PLAIN)
        assert waiting(merged) == {"fan_in:c+a+b->join": {"a": [[1]], "b": ["x"]}}
    assert state.scopes[SHARED_STATE]["k"] is sealed
    assert state.fan_in == {"fan_in:c+a+b->join": {"a": [sealed]}}
