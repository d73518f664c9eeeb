"""Who is asked on the way of a message: only what could lead to somebody who handles it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never

import pytest

from supersteps import (
    Case,
    Default,
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    RequestResponse,
    UnhandledMessageError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowWarningEvent,
    handler,
)
from tests.unit.support import Asker, Question, Upper, built


@dataclass
class Order:
    total: int


class Shop(Executor):
    """Sends an order for each number, and a line for the log: now, or a little later."""

    def __init__(self, *, targeted: bool, later: bool) -> None:
        super().__init__("shop")
        self.line_to = "log" if targeted else None
        self.later = later

    @handler
    async def sell(self, number: int, ctx: WorkflowContext[Order | str]) -> None:
        if self.later:
            await ctx.schedule(Order(number), delay=0)
            await ctx.schedule("a line", delay=0, target_id=self.line_to)
        else:
            await ctx.send_message(Order(number))
            await ctx.send_message("a line", target_id=self.line_to)


class Till(Executor):
    @handler
    async def take(self, order: Order, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{self.id} {order.total}")


class Pack(Executor):
    @handler
    async def pack(self, orders: list[Order], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{self.id} {[order.total for order in orders]}")


class Log(Executor):
    @handler
    async def write(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"logged {text}")


class Copy(Executor):
    """Passes on what it gets, of either kind."""

    @handler
    async def copy(self, value: Order | str, ctx: WorkflowContext[Order | str]) -> None:
        await ctx.send_message(value)


def is_big(order: Order) -> bool:
    return order.total > 10


def is_small(order: Order) -> bool:
    return order.total <= 10


def by_size(order: Order, targets: list[str]) -> list[str]:
    return ["big"] if order.total > 10 else ["small"]


def inside(executor: Executor) -> WorkflowExecutor:
    """A sub-workflow of one executor, two levels deep."""
    innermost = WorkflowBuilder(name="innermost").set_start_executor(executor).build()
    middle = WorkflowExecutor(innermost, "middle", allow_direct_output=True)
    return WorkflowExecutor(
        WorkflowBuilder(name="inner").set_start_executor(middle).build(),
        executor.id,
        allow_direct_output=True,
    )


Wiring = Callable[[WorkflowBuilder, Executor, Executor, Executor], WorkflowBuilder]
WIRINGS: dict[str, Wiring] = {
    "condition": lambda builder, shop, big, small: builder.add_edge(shop, big, is_big).add_edge(
        shop, small, is_small
    ),
    "switch": lambda builder, shop, big, small: builder.add_switch_case_edge_group(
        shop, [Case(is_big, big), Default(small)]
    ),
    "selection": lambda builder, shop, big, small: builder.add_multi_selection_edge_group(
        shop, [big, small], by_size
    ),
}


@pytest.mark.parametrize("targeted", [True, False], ids=["targeted", "by type"])
@pytest.mark.parametrize("later", [True, False], ids=["later", "now"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
@pytest.mark.parametrize("wiring", WIRINGS)
async def test_functions_written_for_one_type_are_not_asked_about_another(
    wiring: str, nested: bool, later: bool, targeted: bool
) -> None:
    shop, log = Shop(targeted=targeted, later=later), Log("log")
    big, small = (inside(till) if nested else till for till in (Till("big"), Till("small")))
    builder = WIRINGS[wiring](WorkflowBuilder(), shop, big, small).add_edge(shop, log)
    result = await built(builder, shop).run(50)

    assert sorted(result.get_outputs()) == ["big 50", "logged a line"]


def joined(*, nested: bool, later: bool) -> Workflow:
    """Two executors that send lines and orders into a fan-in for orders, and to a log."""
    shop, left, right = Shop(targeted=False, later=later), Copy("left"), Copy("right")
    pack: Executor = inside(Pack("pack")) if nested else Pack("pack")
    log = Log("log")
    builder = WorkflowBuilder().add_fan_out_edges(shop, [left, right]).add_edge(left, log)
    return built(builder.add_fan_in_edges([left, right], pack), shop)


@pytest.mark.parametrize("later", [True, False], ids=["later", "now"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
async def test_a_fan_in_takes_only_what_its_target_handles(nested: bool, later: bool) -> None:
    storage = InMemoryCheckpointStorage()
    with pytest.warns(UserWarning, match="executor 'right' sent a message of type str that goes"):
        result = await joined(nested=nested, later=later).run(5, checkpoint_storage=storage)

    assert sorted(result.get_outputs()) == ["logged a line", "pack [5, 5]"]
    assert (await storage.list_checkpoints())[-1].fan_in == {}
    assert [
        event.data.partition(":")[0] for event in result if isinstance(event, WorkflowWarningEvent)
    ] == ["executor 'right' sent a message of type str that goes nowhere"]


async def test_a_message_for_a_fan_ins_target_comes_by_a_plain_edge_beside_it() -> None:
    class Source(Executor):
        @handler
        async def send(self, number: int, ctx: WorkflowContext[int]) -> None:
            await ctx.send_message(number)

    class Sum(Executor):
        @handler
        async def one(self, number: int, ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.yield_output(number)

        @handler
        async def several(self, numbers: list[int], ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.yield_output(numbers)

    start, a, b, end = Source("start"), Source("a"), Source("b"), Sum("end")
    builder = WorkflowBuilder().add_fan_out_edges(start, [a, b])
    builder.add_fan_in_edges([a, b], end).add_edge(a, end)

    assert (await built(builder, start).run(1)).get_outputs() == [1, [1, 1]]


async def test_an_answer_to_nobodys_question_does_not_begin_a_sub_workflow() -> None:
    up, asker, port = Upper("up"), Asker("asker"), RequestInfoExecutor("port")
    chain = WorkflowBuilder(name="asking").add_chain([up, asker, port]).add_edge(port, asker)
    middle = WorkflowExecutor(built(chain, up), "middle")
    outer = WorkflowExecutor(built(WorkflowBuilder(name="inner"), middle), "outer")
    workflow = WorkflowBuilder().set_start_executor(outer).build()

    with pytest.raises(UnhandledMessageError, match="cannot start with a"):
        await workflow.run(RequestResponse(7, Question(request_id="q"), "q"))


async def test_the_handler_that_routing_has_found_is_not_looked_up_again_at_the_call() -> None:
    looked: list[object] = []

    class Looked(type):
        def __instancecheck__(cls, value: object) -> bool:
            looked.append(value)
            return isinstance(value, str)

    class Word(metaclass=Looked):
        """Any text; whether something is one is looked at each time."""

    class Start(Executor):
        @handler
        async def start(self, number: int, ctx: WorkflowContext[Any]) -> None:
            await ctx.send_message(f"word {number}")

    class Taker(Executor):
        @handler
        async def take(self, word: Word, ctx: WorkflowContext[Any, str]) -> None:
            await ctx.yield_output(f"{word} taken")

    start, taker = Start("start"), Taker("taker")
    workflow = built(WorkflowBuilder().add_edge(start, taker), start)

    assert (await workflow.run(1)).get_outputs() == ["word 1 taken"]
    assert looked == ["word 1"]
