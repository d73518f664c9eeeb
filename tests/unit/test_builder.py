"""`WorkflowBuilder`: executors in every shape, edges of every kind, and what is refused."""

from collections.abc import Callable
from typing import Any, Never

import pytest

from supersteps import (
    Case,
    Default,
    EdgeDuplicationError,
    EdgeGroupError,
    ErrorEdgeGroup,
    Executor,
    ExecutorDuplicationError,
    ExecutorFailure,
    FailurePolicy,
    InMemoryCheckpointStorage,
    MissingStartError,
    UnknownExecutorError,
    ValidationTypeEnum,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowValidationError,
    executor,
    handler,
)
from tests.unit.support import Counter, Reverse, Upper


class Join(Executor):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("".join(texts))


class Medic(Executor):
    @handler
    async def treat(self, failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(failure.error_message)


async def test_every_method_returns_the_builder_and_edges_of_all_kinds_build() -> None:
    a, b, c, d, join = Upper("a"), Upper("b"), Upper("c"), Upper("d"), Join("join")

    builder = WorkflowBuilder(max_iterations=7, name="all")
    assert builder.add_edge(a, b) is builder
    assert builder.add_fan_in_edges([c, d], join) is builder
    assert builder.add_fan_out_edges(b, [c, d]) is builder
    assert builder.set_start_executor(a) is builder
    assert builder.with_reducer("k", lambda x, y: x) is builder
    assert builder.with_checkpointing(InMemoryCheckpointStorage()) is builder
    assert builder.set_max_iterations(9) is builder
    workflow = builder.build()

    assert workflow.max_iterations == 9
    assert (await workflow.run("x")).get_outputs() == ["XX"]


async def test_a_chain_is_its_edges() -> None:
    a, b, end = Upper("a"), Upper("b"), Reverse("end")
    workflow = WorkflowBuilder().add_chain([a, b, end]).set_start_executor(a).build()

    assert [group.id for group in workflow.graph.groups] == ["edge:a->b", "edge:b->end"]
    assert (await workflow.run("ab")).get_outputs() == ["BA"]


def test_factories_may_be_classes_functions_or_registered_names() -> None:
    def make_end() -> Reverse:
        return Reverse("end")

    workflow = (
        WorkflowBuilder()
        .add_edge(make_end_up := (lambda: Upper("up")), make_end)
        .add_edge("up", "named")
        .register_executor(lambda: Reverse("named"), "named")
        .set_start_executor(make_end_up)
        .build()
    )
    assert list(workflow.graph.nodes) == ["up", "end", "named"]
    assert all(node.factory is not None for node in workflow.graph.nodes.values())


async def test_a_factory_is_called_once_per_run() -> None:
    made: list[Upper] = []

    def make() -> Upper:
        made.append(Upper("up"))
        return made[-1]

    workflow = WorkflowBuilder().add_edge(make, Reverse("end")).set_start_executor(make).build()
    assert len(made) == 1
    await workflow.run("x")
    await workflow.run("x")
    assert len(made) == 3


def test_what_is_not_an_executor_is_refused() -> None:
    def needs_arguments(a: int) -> Executor:
        return Upper(str(a))

    builder: Any = WorkflowBuilder()
    for wrong, error, expected in (
        (7, TypeError, "expected an executor, got int"),
        (
            needs_arguments,
            TypeError,
            "'needs_arguments' cannot be called without arguments.*@executor",
        ),
        (lambda: 7, TypeError, "returned a int, not an Executor"),
    ):
        with pytest.raises(error, match=expected):
            builder.set_start_executor(wrong)


def test_ids_are_unique() -> None:
    builder = WorkflowBuilder().add_edge(Upper("up"), Reverse("end"))
    with pytest.raises(ExecutorDuplicationError, match="two executors have the id 'up'") as caught:
        builder.add_edge(Upper("up"), "end")
    assert caught.value.executor_id == "up"
    assert caught.value.validation_type is ValidationTypeEnum.EXECUTOR_DUPLICATION
    with pytest.raises(ExecutorDuplicationError, match="which is already used"):
        builder.set_start_executor(lambda: Upper("up"))
    with pytest.raises(ExecutorDuplicationError, match="'up' is already used"):
        builder.register_executor(lambda: Upper("up"), "up")
    with pytest.raises(
        WorkflowValidationError, match=r"registered as 'a' creates an executor with id 'b'"
    ):
        builder.register_executor(lambda: Upper("b"), "a")


def test_no_start_is_an_error() -> None:
    with pytest.raises(
        MissingStartError, match=r"call set_start_executor\(executor\) before build"
    ):
        WorkflowBuilder().add_edge(Upper("up"), Reverse("end")).build()


def test_an_unregistered_name_is_an_error() -> None:
    up = Upper("up")
    with pytest.raises(
        UnknownExecutorError,
        match=r"'end' is named.*known are 'up'.*register_executor\(factory, 'end'\)",
    ):
        WorkflowBuilder().add_edge(up, "end").set_start_executor(up).build()
    with pytest.raises(UnknownExecutorError, match="known are none"):
        WorkflowBuilder().set_start_executor("start").build()


def test_groups_need_members() -> None:
    up, end = Upper("up"), Reverse("end")
    builder = WorkflowBuilder()
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: builder.add_chain([up]), "add_chain needs at least two executors, not 1"),
        (
            lambda: builder.add_fan_out_edges(up, [end]),
            "add_fan_out_edges needs at least two targets, not 1",
        ),
        (
            lambda: builder.add_multi_selection_edge_group(up, [], lambda m, t: t),
            "add_multi_selection_edge_group needs at least two targets, not 0",
        ),
        (
            lambda: builder.add_fan_in_edges([up], end),
            "add_fan_in_edges needs at least two sources, not 1",
        ),
        (lambda: builder.add_switch_case_edge_group(up, [Default(end)]), "at least one Case"),
        (
            lambda: builder.add_switch_case_edge_group(up, [Case(lambda m: True, end)]),
            "exactly one Default",
        ),
    ]
    for call, expected in attempts:
        with pytest.raises(EdgeGroupError, match=expected):
            call()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "7"])
def test_the_limit_is_a_number_of_supersteps(limit: Any) -> None:
    with pytest.raises(
        WorkflowValidationError, match="max_iterations must be a number of supersteps, at least 1"
    ):
        WorkflowBuilder(max_iterations=limit)


def test_settings_are_checked_where_they_are_made() -> None:
    builder: Any = WorkflowBuilder()
    with pytest.raises(TypeError, match="condition of edge up -> end is a function"):
        builder.add_edge(Upper("up"), Reverse("end"), condition="yes")
    with pytest.raises(TypeError, match="reducer of shared key 'k' is a function"):
        builder.with_reducer("k", 7)
    with pytest.raises(TypeError, match="list has no save_checkpoint, load_checkpoint"):
        builder.with_checkpointing([])
    with pytest.raises(ValueError, match="workflow name"):
        WorkflowBuilder(name="")


def test_failure_policies() -> None:
    up, end = Upper("up"), Reverse("end")
    often, never = FailurePolicy(max_attempts=3), FailurePolicy(at_most_once=True)
    builder = WorkflowBuilder().add_edge(up, end).set_start_executor(up)
    assert builder.with_failure_policy("end", never) is builder
    plain = builder.with_failure_policy(up, never).with_failure_policy(up, often).build()

    assert plain.graph.policies == {"up": often, "end": never}
    builder.with_failure_policy("up", never)
    assert plain.graph.policies["up"] is often


def test_a_failure_policy_is_valid_and_for_a_known_executor() -> None:
    up = Upper("up")
    builder: Any = WorkflowBuilder().set_start_executor(up)
    with pytest.raises(
        TypeError, match=r"with_failure_policy takes a FailurePolicy, not 3: write FailurePolicy\("
    ):
        builder.with_failure_policy(up, 3)
    with pytest.raises(
        UnknownExecutorError,
        match=r"'down' is named .* by a failure policy .*, but was not added",
    ):
        builder.with_failure_policy("down", FailurePolicy()).build()


def test_error_edges() -> None:
    up, end = Upper("up"), Reverse("end")
    builder = WorkflowBuilder().add_edge(up, end)
    assert builder.add_error_edge(up, lambda: Medic("medic")) is builder
    graph = builder.add_error_edge("end", "medic").set_start_executor(up).build().graph

    assert graph.groups[1:] == (
        ErrorEdgeGroup(("up",), ("medic",)),
        ErrorEdgeGroup(("end",), ("medic",)),
    )
    assert graph.groups[1].id == "on_error:up->medic"


def test_an_error_edge_is_added_once_and_between_known_executors() -> None:
    up, medic = Upper("up"), Medic("medic")
    builder = WorkflowBuilder().set_start_executor(up).add_error_edge(up, medic)
    with pytest.raises(UnknownExecutorError, match="'surgeon'"):
        WorkflowBuilder().set_start_executor(up).add_error_edge(up, "surgeon").build()
    with pytest.raises(
        EdgeDuplicationError, match=r"error edge up -> medic was added 2 times.*Keep one"
    ) as caught:
        builder.add_error_edge(up, medic).build()
    assert caught.value.edge_id == "up->medic"


def test_building_twice_gives_two_workflows() -> None:
    counter = Counter("c")
    builder = WorkflowBuilder().add_edge(counter, counter).set_start_executor(counter)
    first = builder.build()

    @executor
    async def more(number: int) -> None:
        pass

    second = builder.add_edge(counter, more).build()
    assert list(first.graph.nodes) == ["c"]
    assert list(second.graph.nodes) == ["c", "more"]
