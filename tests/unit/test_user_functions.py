"""Users' functions: where nothing is awaited, an `async def` is refused; no coroutine counts."""

import asyncio
import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Never

import pytest

from supersteps import (
    Case,
    Codec,
    Default,
    Executor,
    FunctionExecutor,
    HandlerDefinitionError,
    IgnoredResultWarning,
    InMemoryCheckpointStorage,
    ReducerError,
    RequestInfoMessage,
    RoutingError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowWarningEvent,
    executor,
    handler,
    response_handler,
)
from supersteps._user_functions import check_plain, is_unfinished, unusual_form
from tests.unit.support import Tally, built


async def coroutine(*_: Any) -> bool:
    return False


def generator(*_: Any) -> Iterator[bool]:
    yield False


async def async_generator(*_: Any) -> AsyncIterator[bool]:
    yield False


def plain(*_: Any) -> bool:
    return False


@types.coroutine
def old_coroutine(*_: Any) -> Iterator[bool]:
    yield False


class Object:
    """Can be called, and has methods of every kind."""

    async def __call__(self, *_: Any) -> bool:
        return False

    async def coroutine(self, *_: Any) -> bool:
        return False

    def plain(self, *_: Any) -> bool:
        return False


UNUSUAL = [
    coroutine,
    generator,
    async_generator,
    Object(),
    Object().coroutine,
    functools.partial(coroutine, 1),
    functools.partial(functools.partial(Object(), 1), 2),
]
"""In every form that can be told without a call."""

UNTOLD = [lambda *_: coroutine(), lambda *_: generator(), lambda *_: asyncio.sleep(0)]
"""That give what would have to be awaited all the same."""


def test_forms() -> None:
    assert all(unusual_form(function) for function in UNUSUAL)
    for usual in (plain, Object().plain, functools.partial(plain, 1), bool, len, old_coroutine):
        assert unusual_form(usual) is None
        check_plain(usual, "it", "")
    assert not any(map(is_unfinished, (None, True, [], "x", {}, range(3), iter([]))))
    with pytest.raises(TypeError, match="it is a function, not 7"):
        check_plain(7, "it", "")


# ----------------------------------------------------------------------------------------- building


class Node(Executor):
    @handler
    async def take(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        await ctx.send_message(number)


class End(Executor):
    @handler
    async def take(self, number: int, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(self.id)


def edge(function: Any) -> WorkflowBuilder:
    start, a, b = Node("start"), End("a"), End("b")
    return (
        WorkflowBuilder().set_start_executor(start).add_edge(start, a, function).add_edge(start, b)
    )


def switch(function: Any) -> WorkflowBuilder:
    start, a, b = Node("start"), End("a"), End("b")
    builder = WorkflowBuilder().set_start_executor(start)
    return builder.add_switch_case_edge_group(start, [Case(function, a), Default(b)])


def selection(function: Any) -> WorkflowBuilder:
    start, a, b = Node("start"), End("a"), End("b")
    builder = WorkflowBuilder().set_start_executor(start)
    return builder.add_multi_selection_edge_group(start, [a, b], function)


PLACES: dict[str, Callable[[Any], object]] = {
    "condition": edge,
    "case": switch,
    "selection function": selection,
    "reducer": lambda function: WorkflowBuilder().with_reducer("k", function),
    "executor_state": lambda f: WorkflowBuilder().with_migration(executor_state=f),
    "shared_state": lambda f: WorkflowBuilder().with_migration(shared_state=f),
    "message": lambda f: WorkflowBuilder().with_migration(message=f),
    "upgrade": lambda f: WorkflowBuilder().with_migration(upgrade={"m:T": f}),
    "encode": lambda f: Codec().register(Object, f, lambda _: Object()),
    "decode": lambda f: Codec().register(Object, plain, f),
}


@pytest.mark.parametrize("function", [*UNUSUAL, 7], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_a_plain_function_is_refused_where_it_is_handed_over(
    place: str, function: Any
) -> None:
    with pytest.raises(TypeError, match=place):
        PLACES[place](function)


@pytest.mark.parametrize("place", PLACES)
def test_plain_functions_are_taken_in_every_form(place: str) -> None:
    for function in (plain, Object().plain, functools.partial(plain, 1), bool):
        PLACES[place](function)


def test_a_factory_that_has_to_be_awaited_is_refused() -> None:
    factory: Any = coroutine
    with pytest.raises(
        TypeError, match=r"returned a coroutine, not an Executor: it is a coroutine"
    ):
        WorkflowBuilder().register_executor(factory, "x")


# ------------------------------------------------------------------------------------------- asking


@pytest.mark.parametrize("function", UNTOLD)
@pytest.mark.parametrize("wire", [edge, switch, selection])
async def test_what_would_have_to_be_awaited_decides_nothing(
    wire: Callable[[Any], WorkflowBuilder], function: Any
) -> None:
    with pytest.raises(
        RoutingError, match=r"returned a (coroutine|generator), which would have to be"
    ):
        await wire(function).build().run(1)


@pytest.mark.parametrize("function", UNTOLD)
async def test_what_would_have_to_be_awaited_is_no_value_of_a_shared_key(function: Any) -> None:
    @executor
    async def write(number: int, ctx: WorkflowContext) -> None:
        await ctx.set_shared_state("k", number)

    workflow = built(WorkflowBuilder().with_reducer("k", function, initial=0), write)
    with pytest.raises(ReducerError, match=r"shared key 'k' returned a (coroutine|generator)"):
        await workflow.run(1)


# ----------------------------------------------------------------------------------------- handlers


def test_generators_are_refused_as_handlers_when_they_are_defined() -> None:
    with pytest.raises(
        HandlerDefinitionError, match=r"handler .*Async\.take is an async generator"
    ):

        class Async(Executor):
            @handler
            async def take(self, number: int, ctx: WorkflowContext) -> AsyncIterator[int]:
                yield number

    with pytest.raises(HandlerDefinitionError, match=r"handler .*Plain\.take is a generator"):

        class Plain(Executor):
            @handler
            def take(self, number: int, ctx: WorkflowContext) -> Iterator[int]:
                yield number

    with pytest.raises(
        HandlerDefinitionError, match=r"response handler .*Asking\.hear is an async"
    ):

        class Asking(Executor):
            @response_handler
            async def hear(
                self, asked: RequestInfoMessage, answer: str, ctx: WorkflowContext
            ) -> AsyncIterator[int]:
                yield 1

    with pytest.raises(HandlerDefinitionError, match=r"executor function .*count is a generator"):

        @executor
        def count(number: int) -> Iterator[int]:
            yield number

    for hook in ("on_checkpointing", "on_checkpoint_restored"):
        with pytest.raises(HandlerDefinitionError, match=rf"Hooked: {hook} is an async generator"):
            type("Hooked", (Node,), {hook: async_generator})


async def returns(number: int) -> Any:
    return number


def returns_plainly(number: int) -> Any:
    return number


@pytest.mark.parametrize("function", [returns, returns_plainly])
async def test_a_value_that_a_handler_returns_is_warned_about_by_name(function: Any) -> None:
    many = FunctionExecutor(function)

    @executor
    async def start(number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(1)
        await ctx.send_message(2)

    said = rf"handler {many.id} of executor '{many.id}' returned a int, which goes nowhere: send it"
    with pytest.warns(IgnoredResultWarning, match=said):
        result = await built(WorkflowBuilder().add_edge(start, many), start).run(7)
    (event,) = [event for event in result if isinstance(event, WorkflowWarningEvent)]
    assert event.data.startswith(f"handler {many.id} of executor")


async def test_a_method_that_returns_a_value_is_named_with_its_class() -> None:
    class Teller(Executor):
        @handler
        async def tell(self, number: int, ctx: WorkflowContext) -> str:
            return "x"

    with pytest.warns(IgnoredResultWarning, match=r"Teller\.tell of executor 't' returned a str"):
        await built(WorkflowBuilder(), Teller("t")).run(1)


@pytest.mark.filterwarnings("error")
async def test_what_a_handler_returns_is_awaited_where_it_can_be() -> None:
    class Delegate(Executor):
        @handler
        async def begin(self, number: int, ctx: WorkflowContext[str]) -> Any:
            return ctx.send_message(str(number))

        @handler
        async def go_on(self, text: str, ctx: WorkflowContext[Never, str]) -> Any:
            return self._work(text, ctx)

        @handler
        def plainly(self, text: bytes, ctx: WorkflowContext[Never, str]) -> Any:
            return self._work("plain", ctx)

        async def _work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(text)

    node = Delegate("d")
    workflow = built(WorkflowBuilder().add_edge(node, node), node)
    assert (await workflow.run(1)).get_outputs() == ["1"]
    assert (await workflow.run(b"")).get_outputs() == ["plain"]


@pytest.mark.parametrize("make", [generator, async_generator])
async def test_a_generator_that_a_handler_hands_back_fails_the_call(make: Any) -> None:
    @executor
    async def delegate(number: int) -> Any:
        return make()

    with pytest.raises(TypeError, match=r"handler delegate .* returned a \w*generator, which goes"):
        await built(WorkflowBuilder(), delegate).run(1)


# -------------------------------------------------------------------------------------------- hooks


class PlainTally(Tally):
    """The same with plain functions as hooks."""

    def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:  # type: ignore[override]
        ctx.queue_state_update("total", self.total)

    def on_checkpoint_restored(self, ctx: Any) -> None:  # type: ignore[override]
        self.total = ctx.read_state("total", default=0).result()


def tallying(tally: Tally) -> Workflow:
    builder = WorkflowBuilder(name="tallying").add_edge(start := Node("n"), tally)
    return built(builder.add_edge(tally, tally), start)


async def test_hooks_may_be_plain_functions() -> None:
    storage, again = InMemoryCheckpointStorage(), PlainTally("tally")
    result = await tallying(PlainTally("tally")).run(3, checkpoint_storage=storage)
    steps = await storage.list_checkpoints()
    assert [s.executor_states["tally"]["total"] for s in steps] == [0, 0, 3, 5, 6]

    resumed = await tallying(again).run_from_checkpoint(steps[2], checkpoint_storage=storage)
    assert resumed.get_outputs() == result.get_outputs() == [6]
    assert again.calls == ["add 2", "add 1"]


async def test_a_value_that_a_hook_returns_is_an_error() -> None:
    class Saver(End):
        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> Any:
            return {"total": 1}

    class Loader(End):
        def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> Any:
            return 7

    with pytest.raises(TypeError, match="on_checkpointing of executor 's' returned a dict, which"):
        await built(WorkflowBuilder(), Saver("s")).run(1)
    storage = InMemoryCheckpointStorage()
    await built(WorkflowBuilder(name="w"), End("s")).run(1, checkpoint_storage=storage)
    (start, *_) = await storage.list_checkpoints()
    with pytest.raises(TypeError, match="on_checkpoint_restored of executor 's' returned a int"):
        await built(WorkflowBuilder(name="w"), Loader("s")).run_from_checkpoint(
            start, checkpoint_storage=storage
        )
