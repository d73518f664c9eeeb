"""`WorkflowContext`: what annotations mean, and that everything takes effect at the call."""

from types import NoneType
from typing import Any, Never

import pytest

from supersteps import Ready, WorkflowBuilder, WorkflowContext, WorkflowEvent, executor
from supersteps.context import context_types
from tests.unit.support import Asker, Upper


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (WorkflowContext, ((), ())),
        (WorkflowContext[str], ((str,), ())),
        (WorkflowContext[Never, str], ((), (str,))),
        (WorkflowContext[int | str, bytes | None], ((int, str), (bytes, NoneType))),
        (WorkflowContext[None], ((NoneType,), ())),
        (WorkflowContext[list[int]], ((list[int],), ())),
        (WorkflowContext[Any, Any], ((Any,), (Any,))),
        (str, None),
        (list[int], None),
    ],
)
def test_what_an_annotation_allows(annotation: Any, expected: Any) -> None:
    assert context_types(annotation) == expected


def test_one_or_two_types() -> None:
    context: Any = WorkflowContext
    with pytest.raises(TypeError, match="one or two types"):
        context[int, str, bytes]


async def test_ready_is_there_already() -> None:
    ready = Ready(7)

    assert await ready == 7
    assert await ready == ready.result() == 7
    assert repr(ready) == "Ready(7)"


async def test_everything_takes_effect_at_the_call_awaited_or_not() -> None:
    @executor
    async def lazy(text: str, ctx: WorkflowContext[str, Any]) -> None:
        ctx.set_state({"a": 1})
        ctx.set_shared_state("k", 2)
        ctx.send_message(text + "!") if text == "x" else None
        ctx.yield_output((text, ctx.get_state().result(), await ctx.get_shared_state("k")))

    result = await WorkflowBuilder().add_edge(lazy, lazy).set_start_executor(lazy).build().run("x")
    assert result.get_outputs() == [("x", {"a": 1}, 2), ("x!", {"a": 1}, 2)]


async def test_a_call_knows_where_it_is() -> None:
    seen: list[Any] = []

    @executor
    async def look(text: str, ctx: WorkflowContext[str]) -> None:
        seen.append((ctx.executor_id, ctx.workflow_id, ctx.run_id, ctx.step_number))
        seen.append((ctx.get_source_executor_id(), ctx.source_executor_ids))

    up = Upper("up")
    workflow = WorkflowBuilder(name="w").add_edge(up, look).set_start_executor(up).build()
    await workflow.run("x", run_id="r")
    assert seen == [("look", "w", "r", 2), ("up", ["up"])]


async def test_events_of_a_handler_are_events() -> None:
    wrong: Any = "not an event"

    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.add_event(wrong)

    with pytest.raises(TypeError, match="add_event takes a WorkflowEvent, not str"):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")
    assert repr(WorkflowEvent(1)) == "WorkflowEvent(data=1)"


@pytest.mark.parametrize("state", [None, [], {1: 2}, {"": 1}])
async def test_state_is_a_dict_with_names(state: Any) -> None:
    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.set_state(state)

    with pytest.raises(TypeError, match="set_state of executor 'careless' takes a dict with non-empty string keys"):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")


@pytest.mark.parametrize("key", ["", None, 7])
async def test_keys_are_names(key: Any) -> None:
    @executor
    async def careless(text: str, ctx: WorkflowContext) -> None:
        await ctx.set_shared_state(key, 1)

    with pytest.raises(TypeError, match="state keys are non-empty strings"):
        await WorkflowBuilder().set_start_executor(careless).build().run("x")


async def test_appending_to_a_shared_list() -> None:
    @executor
    async def adder(text: str, ctx: WorkflowContext[str, Any]) -> None:
        await ctx.append_shared_state("log", text)
        await ctx.append_shared_state("log", [1])
        await ctx.yield_output(await ctx.get_shared_state("log"))
        await ctx.set_shared_state("number", 1)
        with pytest.raises(TypeError, match="is a int, not a list"):
            await ctx.append_shared_state("number", 2)
        with pytest.raises(TypeError, match="has a reducer"):
            await ctx.append_shared_state("reduced", 2)
        if len(text) < 2:
            await ctx.send_message(text + "!")

    builder = WorkflowBuilder().add_edge(adder, adder).with_reducer("reduced", lambda a, b: a + b)
    result = await builder.set_start_executor(adder).build().run("x")
    assert result.get_outputs() == [["x", [1]], ["x", [1], "x!", [1]]]


def test_an_executor_that_asks_says_so() -> None:
    assert [kind.__name__ for kind in Asker("a").output_types] == ["Question"]
