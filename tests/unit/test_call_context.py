"""Each call of users' code runs in a context of its own: what it sets reaches nobody else."""

import asyncio
import decimal
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from decimal import Decimal
from typing import Any, Never

import pytest

from supersteps import (
    Case,
    Default,
    Executor,
    FailurePolicy,
    InMemoryCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)
from tests.unit.support import built, collect, questions

TRACE: ContextVar[str] = ContextVar("trace", default="nobody")


class Seen:
    """What each call finds in the variable, which it then sets to something of its own."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}

    def note(self, who: str) -> None:
        self.found.setdefault(who, set()).add(TRACE.get())
        TRACE.set(who)


class Everything(Executor):
    """Has every kind of code that the engine calls on an executor."""

    def __init__(self, seen: Seen, id: str = "everything") -> None:
        super().__init__(id)
        self.seen = seen
        self.fails = 1

    @handler
    async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        self.seen.note("async handler")
        await asyncio.sleep(0)
        assert TRACE.get() == "async handler"
        if self.fails:
            self.fails -= 1
            raise OSError("not yet")
        await ctx.set_shared_state("sum", 1)
        await ctx.request_info("well?", bool, request_id=f"{self.id}-q")
        await ctx.send_message(text)

    @response_handler
    async def answered(self, question: str, answer: bool, ctx: WorkflowContext[str, str]) -> None:
        self.seen.note("response handler")
        await ctx.send_message("answered")

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.seen.note("on_checkpointing")
        await asyncio.sleep(0)
        assert TRACE.get() == "on_checkpointing"

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.seen.note("on_checkpoint_restored")


def builder_of(seen: Seen) -> WorkflowBuilder:
    def noting(who: str, result: Any) -> Callable[..., Any]:
        def function(*_: Any) -> Any:
            seen.note(who)
            return result

        return function

    @executor(id="plain")
    def plain(text: str, ctx: WorkflowContext[str]) -> None:
        seen.note("plain handler")
        ctx.set_shared_state("sum", 2)
        ctx.send_message(text)

    async def hidden(text: str, ctx: WorkflowContext[Any, Any]) -> None:
        seen.note("coroutine of a plain handler")
        await asyncio.sleep(0)
        assert TRACE.get() == "coroutine of a plain handler"

    def wrapper(text: str, ctx: WorkflowContext[Never, str]) -> Any:
        return functools.partial(hidden, text, ctx)()

    @executor(id="end")
    async def end(text: str, ctx: WorkflowContext[Never, str]) -> None:
        seen.note("end")
        await ctx.yield_output(text)

    first, second = Everything(seen), Everything(seen, "second")
    wrapped = executor(id="wrapped")(wrapper)
    return (
        WorkflowBuilder(name="w")
        .set_start_executor(first)
        .add_edge(first, second)
        .add_multi_selection_edge_group(first, [plain, wrapped], noting("selection", ["plain"]))
        .add_switch_case_edge_group(plain, [Case(noting("case", False), wrapped), Default(end)])
        .add_edge(second, wrapped, noting("condition", True))
        .add_edge(second, end)
        .with_reducer("sum", noting("reducer", 3))
        .with_failure_policy(first, FailurePolicy(max_attempts=2, backoff=0))
        .with_failure_policy(second, FailurePolicy(max_attempts=2, backoff=0))
    )


@pytest.mark.parametrize("make_storage", [lambda: None, InMemoryCheckpointStorage])
@pytest.mark.parametrize("streaming", [False, True])
async def test_what_a_call_sets_reaches_no_other_and_what_the_caller_set_arrives(
    make_storage: Callable[[], InMemoryCheckpointStorage | None], streaming: bool
) -> None:
    seen = Seen()
    storage = make_storage()
    builder = builder_of(seen)
    workflow = (builder if storage is None else builder.with_checkpointing(storage)).build()
    TRACE.set("caller")
    run = workflow.run_stream("x", run_id="r")
    events = await collect(run) if streaming else list(await run.wait_for_completion())
    await run.send_responses(dict.fromkeys(questions(events), True))
    await (collect(run) if streaming else run.wait_for_completion())
    if storage is not None:
        await collect(workflow.run_stream_from_checkpoint("r-000001"))

    expected = {"async handler", "response handler", "plain handler", "end", "on_checkpointing"}
    expected |= {"coroutine of a plain handler", "selection", "case", "condition", "reducer"}
    expected |= {"on_checkpoint_restored"}
    assert seen.found == {who: {"caller"} for who in expected}
    assert TRACE.get() == "caller"


async def test_each_message_of_one_executor_is_a_call_of_its_own() -> None:
    seen: list[str] = []

    @executor
    async def start(texts: list[str], ctx: WorkflowContext[str]) -> None:
        for text in texts:
            await ctx.send_message(text)

    @executor
    async def worker(text: str, ctx: WorkflowContext[Never, str]) -> None:
        seen.append(TRACE.get())
        TRACE.set(text)

    await built(WorkflowBuilder().add_edge(start, worker), start).run(["a", "b", "c"])
    assert seen == ["nobody"] * 3


# ----------------------------------------------------------------------------------------- decimals


@pytest.fixture(params=["used", "unused"])
def decimals(request: pytest.FixtureRequest) -> Iterator[None]:
    """The caller has used decimals before, so that copies share their context, or not."""
    if request.param == "used":
        decimal.getcontext()
    yield
    decimal.setcontext(decimal.Context())


@pytest.mark.usefixtures("decimals")
@pytest.mark.parametrize("mode", ["async", "plain"])
async def test_the_precision_that_one_handler_sets_is_not_that_of_another(mode: str) -> None:
    found: list[int] = []

    def careless() -> None:
        found.append(decimal.getcontext().prec)
        decimal.getcontext().prec = 3 + len(found)
        assert len(str(Decimal(1) / 3)) == 2 + decimal.getcontext().prec

    if mode == "async":

        @executor(id="loop")
        async def loop(left: int, ctx: WorkflowContext[int]) -> None:
            careless()
            if left:
                await ctx.send_message(left - 1)
                await ctx.send_message(0)
    else:

        @executor(id="loop")
        def loop(left: int, ctx: WorkflowContext[int]) -> None:
            careless()
            if left:
                ctx.send_message(left - 1)
                ctx.send_message(0)

    def also_careless(message: Any) -> bool:
        careless()
        return True

    builder = WorkflowBuilder().add_edge(loop, loop, also_careless)
    await built(builder, loop).run(2)
    assert len(found) > 5
    assert set(found) == {decimal.DefaultContext.prec}
    assert decimal.getcontext().prec == decimal.DefaultContext.prec


async def test_the_precision_of_the_caller_arrives() -> None:
    found: list[int] = []

    @executor
    async def divides(text: str, ctx: WorkflowContext[Never, str]) -> None:
        found.append(decimal.getcontext().prec)

    with decimal.localcontext(prec=50):
        await built(WorkflowBuilder(), divides).run("x")
    assert found == [50]


# ------------------------------------------------------------------------- what goes on as usual


async def test_timeouts_tasks_and_tokens_work_as_in_any_coroutine() -> None:
    steps: list[tuple[str, str]] = []

    async def child() -> None:
        steps.append(("child", TRACE.get()))
        TRACE.set("child")

    @executor
    async def works(text: str, ctx: WorkflowContext[Never, str]) -> None:
        token = TRACE.set("mine")
        task = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        assert await asyncio.to_thread(TRACE.get) == "mine"
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("of the future"))
        with pytest.raises(OSError, match="of the future"):
            await future
        TRACE.reset(token)
        await ctx.yield_output(TRACE.get())

    result = await built(WorkflowBuilder(), works).run("x")
    assert result.get_outputs() == ["nobody"]
    assert steps == [("child", "mine")]


async def test_the_engine_itself_keeps_the_context_of_the_caller() -> None:
    found: list[str] = []

    class Watching(InMemoryCheckpointStorage):
        async def commit(self, *args: Any, **kwargs: Any) -> None:
            found.append(TRACE.get())
            await super().commit(*args, **kwargs)

    @executor
    async def loop(left: int, ctx: WorkflowContext[int]) -> None:
        TRACE.set("handler")
        if left:
            await ctx.send_message(left - 1)

    TRACE.set("caller")
    builder = WorkflowBuilder().add_edge(loop, loop)
    before = copy_context()
    await built(builder, loop, storage=Watching()).run(3)
    assert set(found) == {"caller"}
    assert copy_context() == before
