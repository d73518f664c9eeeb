"""`with_concurrency`: calls of one executor side by side, merged in the order of the messages."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    ExecutorFailure,
    ExecutorInvokedEvent,
    FailurePolicy,
    InMemoryCheckpointStorage,
    InterruptedCallError,
    StateConflictError,
    SuperStepStartedEvent,
    UnknownExecutorError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowValidationError,
    executor,
    handler,
)
from supersteps.engine.event_loops import map_bounded
from tests.unit.support import Tally, built, collect, no_task_left, outputs, shout_workflow, until


class Split(Executor):
    """Sends each of the items that it gets."""

    @handler
    async def split(self, items: list[int], ctx: WorkflowContext[int]) -> None:
        for item in items:
            await ctx.send_message(item)


class Worker(Executor):
    """Does with each item what it is told, and notes how many are under way."""

    def __init__(self, work: Callable[[int, Any], Any], id: str = "worker") -> None:
        super().__init__(id)
        self.does = work
        self.begun: list[int] = []
        self.running = self.peak = 0

    @handler
    async def work(self, item: int, ctx: WorkflowContext[int, Any]) -> None:
        self.begun.append(item)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.does(item, ctx)
        finally:
            self.running -= 1


def mapping(
    worker: Executor,
    limit: int = 3,
    *,
    storage: Any = None,
    policy: FailurePolicy | None = None,
    errors: Executor | None = None,
    reducers: tuple[str, ...] = (),
) -> Workflow:
    split = Split("split")
    builder = WorkflowBuilder(name="map").add_edge(split, worker).with_concurrency(worker, limit)
    for key in reducers:
        builder.with_reducer(key, lambda value, update: [*value, update], initial=[])
    if policy is not None:
        builder.with_failure_policy(worker, policy)
    if errors is not None:
        builder.add_error_edge(worker, errors)
    return built(builder, split, storage=storage)


async def backwards(item: int, ctx: WorkflowContext[int, int]) -> None:
    """Yield the item; later ones are done earlier."""
    for _ in range(50 - item):
        await asyncio.sleep(0)
    await ctx.yield_output(item)


@pytest.mark.parametrize(("limit", "peak"), [(1, 1), (3, 3), (8, 8), (100, 10)])
async def test_as_many_as_allowed_run_and_the_order_is_that_of_the_messages(
    limit: int, peak: int
) -> None:
    worker = Worker(backwards)
    result = await mapping(worker, limit).run(list(range(10)))
    assert worker.peak == peak
    assert worker.begun == list(range(10))
    assert result.get_outputs() == list(range(10))
    assert await no_task_left()


async def test_the_decorator_says_the_same_and_the_builder_has_the_last_word() -> None:
    meeting = threading.Barrier(3, timeout=30)

    @executor(max_concurrency=3)
    def meets(item: int, ctx: WorkflowContext[Never, int]) -> None:
        meeting.wait()
        ctx.yield_output(item)

    split = Split("split")
    builder = WorkflowBuilder().add_edge(split, meets).set_start_executor(split)
    assert (await builder.build().run([1, 2, 3])).get_outputs() == [1, 2, 3]
    assert builder.build().graph.concurrency == {"meets": 3}
    assert builder.with_concurrency(meets, 1).build().graph.concurrency == {}


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", None])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WorkflowBuilder().with_concurrency(Split("split"), value)
    with pytest.raises(ValueError, match="at least 1"):
        executor(max_concurrency=value)


def test_it_is_refused_where_the_state_would_be_undefined() -> None:
    builder = WorkflowBuilder().set_start_executor(tally := Tally())
    with pytest.raises(WorkflowValidationError, match="checkpoint hooks"):
        builder.with_concurrency(tally, 2).build()
    assert builder.with_concurrency(tally, 1).build()

    inner = WorkflowExecutor(shout_workflow(), "inner")
    with pytest.raises(WorkflowValidationError, match="is a sub-workflow"):
        WorkflowBuilder().set_start_executor(inner).with_concurrency(inner, 2).build()
    with pytest.raises(UnknownExecutorError, match="with_concurrency"):
        WorkflowBuilder().set_start_executor(tally).with_concurrency("nobody", 2).build()


# ------------------------------------------------------------------------------------------- state


async def test_each_call_sees_the_state_of_the_barrier_and_its_own_writes() -> None:
    seen: list[tuple[Any, Any, Any]] = []

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        before = await ctx.get_state()
        await ctx.queue_state_update(f"key {item}", item)
        await asyncio.sleep(0)
        await ctx.append_shared_state("list", item)
        await ctx.set_shared_state("sum", item)
        lists = await ctx.get_shared_state("list"), await ctx.get_shared_state("sum")
        seen.append((before, await ctx.get_state(), lists))

    storage = InMemoryCheckpointStorage()
    await mapping(Worker(work), storage=storage, reducers=("sum",)).run([1, 2, 3, 4])
    assert seen == [(None, {f"key {i}": i}, ([i], [i])) for i in (1, 2, 3, 4)]
    last = (await storage.list_checkpoints())[-1]
    assert last.shared_state == {"list": [1, 2, 3, 4], "sum": [1, 2, 3, 4]}
    assert last.executor_states["worker"] == {f"key {i}": i for i in (1, 2, 3, 4)}


WRITES: dict[str, Callable[[Any, int], Any]] = {
    "own key": lambda ctx, item: ctx.queue_state_update("count", item),
    "whole state": lambda ctx, item: ctx.set_state({"last": item}),
    "emptied state": lambda ctx, item: ctx.set_state({}),
    "shared key": lambda ctx, item: ctx.set_shared_state("last", item),
    "named scope": lambda ctx, item: ctx.queue_state_update("last", item, "scope"),
    "deletion": lambda ctx, item: ctx.delete_shared_state("last"),
    "update and deletion": lambda ctx, item: (
        ctx.append_shared_state("last", item) if item % 2 else ctx.delete_shared_state("last")
    ),
}


@pytest.mark.parametrize("kind", WRITES)
async def test_two_calls_that_write_one_key_are_an_error(kind: str) -> None:
    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        WRITES[kind](ctx, item)

    with pytest.raises(StateConflictError, match="two calls of executor 'worker'"):
        await mapping(Worker(work)).run([1, 2])
    await mapping(Worker(work)).run([1])  # one call has nobody to lose a write to
    if kind != "update and deletion":
        await mapping(Worker(work), 1).run([1, 2])  # one after the other sees what was before


async def test_one_call_may_write_a_key_as_often_as_it_likes() -> None:
    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        key = f"key {item}"
        for value in range(3):
            await ctx.set_shared_state(key, value)
            await ctx.queue_state_update(key, value)
        await ctx.delete_shared_state(key)
        await ctx.append_shared_state(key, item)

    storage = InMemoryCheckpointStorage()
    await mapping(Worker(work), storage=storage).run([1, 2])
    assert (await storage.list_checkpoints())[-1].shared_state == {"key 1": [1], "key 2": [2]}


# ---------------------------------------------------------------------------------------- failures


async def test_after_a_failure_no_call_is_started_and_finished_ones_are_kept() -> None:
    broken = {3}

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        if item in broken:
            raise OSError(f"no item {item}")
        await backwards(item, ctx)

    storage, first = InMemoryCheckpointStorage(), Worker(work)
    with pytest.raises(OSError, match="no item 3"):
        await mapping(first, storage=storage).run(list(range(9)), run_id="r")
    assert first.begun == [0, 1, 2, 3]  # 2 was the first to finish, 0 and 1 still ran

    broken.clear()
    second = Worker(work)
    events = await collect(mapping(second, storage=storage).run_stream_from_checkpoint("r-000001"))
    assert sorted(second.begun) == [3, 4, 5, 6, 7, 8]
    assert outputs(events) == list(range(9))
    (begun,) = (event for event in events if isinstance(event, SuperStepStartedEvent))
    assert begun.start_info.recorded == {"worker": 3}
    assert sum(isinstance(event, ExecutorInvokedEvent) for event in events) == 6


async def test_of_several_failures_that_of_the_first_message_is_reported() -> None:
    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        for _ in range(10 - item):
            await asyncio.sleep(0)
        raise OSError(f"no item {item}")

    with pytest.raises(OSError, match="no item 0"):
        await mapping(Worker(work)).run([0, 1, 2, 3])


async def test_policies_and_error_edges_are_applied_to_each_call() -> None:
    attempts: dict[int, int] = {}
    failed: list[tuple[int, int]] = []

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        attempts[item] = ctx.attempt
        await asyncio.sleep(0)
        if item == 7 or (item % 2 and ctx.attempt == 1):
            raise OSError
        await ctx.yield_output(item)

    @executor
    async def complains(failure: ExecutorFailure) -> None:
        failed.append((failure.message, failure.attempts))

    policy = FailurePolicy(max_attempts=3, backoff=0, timeout=30)
    result = await mapping(
        Worker(work), 4, storage=InMemoryCheckpointStorage(), policy=policy, errors=complains
    ).run(list(range(8)))
    assert sorted(result.get_outputs()) == [0, 1, 2, 3, 4, 5, 6]
    assert attempts == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2, 6: 1, 7: 3}
    assert failed == [(7, 3)]


async def test_each_call_that_must_not_run_twice_is_noted_by_itself() -> None:
    storage, effects = InMemoryCheckpointStorage(), list[int]()

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        effects.append(item)
        if item != 1:
            await ctx.yield_output(item)
        else:
            await asyncio.get_running_loop().create_future()

    @executor
    async def asks(failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{failure.message} {failure.error_type}")

    def build() -> Workflow:
        policy = FailurePolicy(at_most_once=True)
        return mapping(Worker(work), 2, storage=storage, policy=policy, errors=asks)

    run = build().run_stream([0, 1, 2, 3], run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: len(effects) == 4)
    for _ in range(50):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    result = await build().run_from_checkpoint("r-000001")
    assert sorted(effects) == [0, 1, 2, 3]
    assert result.get_outputs() == [0, 2, 3, f"1 {InterruptedCallError.__name__}"]


async def test_a_cancelled_run_leaves_no_call_running() -> None:
    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        await asyncio.get_running_loop().create_future()

    worker = Worker(work)
    run = mapping(worker).run_stream(list(range(9)))
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: worker.running == 3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert worker.running == 0
    assert await no_task_left()


@pytest.mark.parametrize("others_sleep", [False, True])
async def test_a_drain_cuts_calls_short_only_where_all_of_them_sleep(others_sleep: bool) -> None:
    leave = asyncio.Event()

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        if item == 0 or others_sleep:
            await ctx.sleep(3600)
        else:
            await leave.wait()

    worker = Worker(work)
    run = mapping(worker, storage=InMemoryCheckpointStorage()).run_stream([0, 1, 2])
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: worker.running == 3)
    for _ in range(50):
        await asyncio.sleep(0)
    draining = asyncio.create_task(run.drain())
    for _ in range(50):
        await asyncio.sleep(0)
    if others_sleep:
        await draining
        assert worker.running == 0
        await waiting
        return
    assert worker.running == 3  # two of them work: they are not cut short
    leave.set()
    await draining
    await waiting


# -------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("seed", range(30))
async def test_however_it_is_cut_and_timed_the_outcome_is_that_of_one_after_the_other(
    seed: int,
) -> None:
    chance = random.Random(seed)
    items = list(range(chance.randint(2, 12)))
    cuts = chance.randint(0, 3)
    made: list[int] = []

    async def work(item: int, ctx: WorkflowContext[int, int]) -> None:
        nonlocal cuts
        for _ in range(chance.randint(0, 5)):
            await asyncio.sleep(0)
        if cuts and chance.random() < 0.3:
            cuts -= 1
            raise OSError
        await ctx.append_shared_state("list", item)
        await ctx.queue_state_update(str(item), item)
        await ctx.yield_output(item)
        made.append(item)

    async def outcome(limit: int, storage: InMemoryCheckpointStorage) -> Any:
        workflow = mapping(Worker(work), limit, storage=storage)
        run = workflow.run_stream(items, run_id="r")
        while True:
            try:
                result = await run.wait_for_completion()
            except OSError:
                head = run.latest_checkpoint
                assert head is not None
                run = workflow.run_stream_from_checkpoint(head)
            else:
                last = (await storage.list_checkpoints())[-1]
                return result.get_outputs(), last.shared_state, last.executor_states

    found = await outcome(chance.randint(2, 6), InMemoryCheckpointStorage())
    assert sorted(made) == items  # finished calls are not made again
    cuts = 0
    assert found == await outcome(1, InMemoryCheckpointStorage())


async def test_map_bounded_with_nothing_to_do() -> None:
    async def never(item: int) -> None:
        raise AssertionError

    assert await map_bounded(never, [], 3, "x") == []
