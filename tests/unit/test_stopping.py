"""Stopping a run, from wherever: no lease and no handler is left, and the handle knows."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Never

import pytest

from supersteps import (
    CalledFromHandlerError,
    Executor,
    InMemoryCheckpointStorage,
    RunClosedError,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    WorkflowRuntimeError,
    executor,
    handler,
)

from .support import (
    SlowStorage,
    asking_workflow,
    built,
    collect,
    counter_workflow,
    no_task_left,
    outputs,
    questions,
    until,
)

Steering = Callable[[StreamingRun], Awaitable[Any]]

STEERING: dict[str, Steering] = {
    "cancel": lambda run: run.cancel(),
    "aclose": lambda run: run.aclose(),
    "drain": lambda run: run.drain(),
    "restore": lambda run: run.restore_checkpoint(run.checkpoints[0]),
    "wait": lambda run: run.wait_for_completion(),
    "iterate": lambda run: collect(run),
}


async def _in_a_task(call: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.create_task(call)


async def assert_given_up(storage: InMemoryCheckpointStorage, run_id: str) -> None:
    """Nobody has the run, and nobody works on it."""
    assert await no_task_left()
    stored = await storage.get_run(run_id)
    assert stored is None or stored.lease is None


# ------------------------------------------------------------------------------------- from inside


def steered_workflow(
    steer: Callable[[], Awaitable[Any]], calls: list[str], *, siblings: bool, storage: Any
) -> Workflow:
    @executor(id="start")
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor(id="steers")
    async def steers(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        await steer()

    @executor(id="sibling")
    async def sibling(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await asyncio.sleep(0)

    builder = WorkflowBuilder().add_edge(start, steers)
    if siblings:
        builder.add_edge(start, sibling)
    return built(builder, start, storage=storage)


@pytest.mark.parametrize("siblings", [False, True])
@pytest.mark.parametrize("what", STEERING)
async def test_steering_a_run_from_its_own_handler_is_an_error_at_the_call(
    what: str, siblings: bool
) -> None:
    storage, calls = InMemoryCheckpointStorage(), list[str]()
    workflow = steered_workflow(
        lambda: STEERING[what](run), calls, siblings=siblings, storage=storage
    )
    run = workflow.run_stream("x", run_id="r")

    with pytest.raises(CalledFromHandlerError, match="called by a handler of run 'r' itself"):
        await collect(run)

    assert calls == ["x"]
    assert run.state is WorkflowRunState.FAILED
    await assert_given_up(storage, "r")


async def test_steering_from_a_task_that_the_handler_waits_for_is_an_error_too() -> None:
    storage, calls = InMemoryCheckpointStorage(), list[str]()
    workflow = steered_workflow(
        lambda: _in_a_task(run.cancel()), calls, siblings=False, storage=storage
    )
    run = workflow.run_stream("x")

    with pytest.raises(CalledFromHandlerError):
        await run.wait_for_completion()

    assert calls == ["x"]


async def test_steering_from_a_plain_handlers_thread_is_an_error_too() -> None:
    loop = asyncio.get_running_loop()

    @executor
    def plain(text: str, ctx: WorkflowContext[Never, str]) -> None:
        asyncio.run_coroutine_threadsafe(run.cancel(), loop).result(10)

    run = built(WorkflowBuilder(), plain).run_stream("x")

    with pytest.raises(CalledFromHandlerError):
        await run.wait_for_completion()


async def test_steering_an_outer_run_from_a_run_that_a_handler_drives_is_an_error_too() -> None:
    @executor
    async def inner(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await run.cancel()

    @executor
    async def outer(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await built(WorkflowBuilder(), inner).run(text)

    run = built(WorkflowBuilder(), outer).run_stream("x")

    with pytest.raises(CalledFromHandlerError):
        await run.wait_for_completion()


async def test_another_run_may_be_ended_from_a_handler() -> None:
    other = counter_workflow().run_stream(1)

    @executor
    async def ends_another(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await other.cancel()

    await built(WorkflowBuilder(), ends_another).run("x")

    assert other.state is WorkflowRunState.CANCELLED


async def test_what_a_handler_has_started_may_end_the_run_once_the_handler_has_returned() -> None:
    storage, ends = InMemoryCheckpointStorage(), list[asyncio.Task[None]]()

    class Starts(Executor):
        @handler
        async def go(self, left: int, ctx: WorkflowContext[int, int]) -> None:
            if not ends:
                ends.append(asyncio.create_task(run.cancel()))
            else:
                await asyncio.sleep(0)
            await ctx.send_message(left + 1)

    starts = Starts("starts")
    workflow = built(
        WorkflowBuilder(max_iterations=100_000).add_edge(starts, starts), starts, storage=storage
    )
    run = workflow.run_stream(1)
    await collect(run)

    await ends[0]
    assert run.state is WorkflowRunState.CANCELLED
    await assert_given_up(storage, run.run_id)


async def test_a_hook_that_answers_while_the_run_is_rewound_gets_an_error() -> None:
    refused: list[BaseException] = []

    class Hooked(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output(text)

        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            pass

        async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
            for call in (run.send_response("q", "yes"), run.cancel()):
                try:
                    await call
                except CalledFromHandlerError as error:
                    refused.append(error)

    run = built(
        WorkflowBuilder(), Hooked("hooked"), storage=InMemoryCheckpointStorage()
    ).run_stream("x")
    await collect(run)

    await run.restore_checkpoint(run.checkpoints[0])

    assert len(refused) == 2


# ---------------------------------------------------------------------- handlers that do not listen


class Deaf(Executor):
    """Catches its cancellation, then returns, goes on, or raises something else."""

    def __init__(self, then: str) -> None:
        super().__init__("deaf")
        self.then = then
        self.calls: list[int] = []
        self.cancelled = 0

    @handler
    async def go(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        self.calls.append(left)
        while True:
            try:
                await asyncio.sleep(30 if len(self.calls) == 2 else 0)
                break
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.then == "raise":
                    raise ValueError("no") from None
                if self.then == "return" or self.cancelled == 3:
                    break
        await ctx.yield_output(left)
        if left:
            await ctx.send_message(left - 1)


@pytest.mark.parametrize("how", ["cancel the task", "timeout", "aclose", "cancel", "restore"])
@pytest.mark.parametrize("then", ["return", "raise", "go on"])
async def test_a_handler_that_catches_its_cancellation_does_not_keep_the_run_going(
    then: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supersteps.run.driver.GRACE_SECONDS", 0.01)
    storage, deaf = InMemoryCheckpointStorage(), Deaf(then)
    workflow = built(WorkflowBuilder().add_edge(deaf, deaf), deaf, storage=storage)
    run = workflow.run_stream(20, run_id="r")
    task = asyncio.create_task(run.wait_for_completion())
    await until(lambda: len(deaf.calls) == 2)

    if how == "cancel the task":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await task
    elif how == "restore":
        await run.restore_checkpoint(run.checkpoints[0])
    else:
        await (run.aclose() if how == "aclose" else run.cancel())

    if how == "restore":
        assert outputs(await task)[:2] == [20, 19]  # from the beginning
        return
    assert deaf.calls == [20, 19]
    assert deaf.cancelled == (3 if then == "go on" else 1)
    if how != "cancel":
        result = await workflow.run(20, run_id="r", if_exists="attach")
        assert result.get_outputs() == list(range(20, -1, -1))  # what it did deaf does not count
    await asyncio.gather(task, return_exceptions=True)
    await assert_given_up(storage, "r")


async def test_no_further_message_is_handled_once_the_work_is_cancelled() -> None:
    calls: list[int] = []

    @executor(id="start")
    async def start(text: str, ctx: WorkflowContext[int]) -> None:
        for number in range(10):
            await ctx.send_message(number)

    @executor(id="deaf")
    async def deaf(number: int, ctx: WorkflowContext[Never, int]) -> None:
        calls.append(number)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)

    run = built(WorkflowBuilder().add_edge(start, deaf), start).run_stream("x")
    task = asyncio.create_task(run.wait_for_completion())
    await until(lambda: calls)
    await run.aclose()

    with pytest.raises(RunClosedError):
        await task
    assert calls == [0]


async def test_so_it_is_where_calls_run_side_by_side() -> None:
    calls: list[int] = []
    storage = InMemoryCheckpointStorage()

    @executor(id="start")
    async def start(text: str, ctx: WorkflowContext[int]) -> None:
        for number in range(10):
            await ctx.send_message(number)

    @executor(id="deaf", max_concurrency=3)
    async def deaf(number: int, ctx: WorkflowContext[Never, int]) -> None:
        calls.append(number)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)

    workflow = built(WorkflowBuilder().add_edge(start, deaf), start, storage=storage)
    run = workflow.run_stream("x", run_id="r")
    task = asyncio.create_task(run.wait_for_completion())
    await until(lambda: len(calls) == 3)
    task.cancel()
    await asyncio.wait({task})

    assert calls == [0, 1, 2]
    await assert_given_up(storage, "r")
    stored = await storage.get_run("r")
    assert stored is not None
    assert await storage.read_journal("r", stored.head) == []


async def test_a_handler_that_cancels_its_own_task_is_not_called_for_ever() -> None:
    calls: list[str] = []

    @executor
    async def cancels_itself(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    storage = InMemoryCheckpointStorage()
    workflow = built(WorkflowBuilder(), cancels_itself, storage=storage)
    run = workflow.run_stream("x", run_id="r")

    with pytest.raises(WorkflowRuntimeError):
        await collect(run)
    with pytest.raises(WorkflowRuntimeError):
        await workflow.run("y", run_id="s")

    assert calls == ["x", "y"]
    await assert_given_up(storage, "r")
    await assert_given_up(storage, "s")


# --------------------------------------------------------------------------------- cancelled again


@pytest.mark.parametrize("turn", range(0, 60, 2))
@pytest.mark.parametrize("how", ["wait", "aclose", "cancel", "async with"])
async def test_cancelled_again_and_again_nothing_is_left(how: str, turn: int) -> None:
    storage = SlowStorage(turns=3)
    run = counter_workflow(storage=storage).run_stream(3)

    async def end() -> None:
        if how == "async with":
            async with run:
                await run.wait_for_completion()
        elif how == "wait":
            await run.wait_for_completion()
        else:
            driving = asyncio.create_task(run.wait_for_completion())
            for _ in range(turn):
                await asyncio.sleep(0)
            try:
                await (run.aclose() if how == "aclose" else run.cancel())
            finally:
                await asyncio.gather(driving, return_exceptions=True)

    task = asyncio.create_task(end())
    for _ in range(turn + 1):
        await asyncio.sleep(0)
    for _ in range(1000):  # as anyio does
        if not task.cancel():
            break
        await asyncio.sleep(0)

    await asyncio.wait({task})
    await assert_given_up(storage, run.run_id)
    if how != "wait" and task.cancelled() and turn > 1:
        with pytest.raises(RunClosedError):
            await run.wait_for_completion()


# --------------------------------------------------------------------------- event loops that end


def cut_off(work: Coroutine[Any, Any, Any], turns: int, *, torn_down: bool) -> bool:
    """Run an event loop for so many turns, then end it; return whether the work was done.

    Args:
        work: The work.
        turns: How many turns.
        torn_down: Whether the loop cancels its tasks, as `asyncio.run` does, or is just closed.
    """

    async def some_turns() -> bool:
        task = asyncio.create_task(work)
        for _ in range(turns):
            await asyncio.sleep(0)
        return task.done()

    if torn_down:
        return asyncio.run(some_turns())
    loop = asyncio.new_event_loop()
    try:
        is_done = loop.run_until_complete(some_turns())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        return is_done
    finally:
        loop.close()
        gc.collect()


@pytest.mark.parametrize("torn_down", [True, False])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # by loops that were closed
def test_a_handle_goes_on_in_another_loop_wherever_the_first_one_ended(torn_down: bool) -> None:
    for turns in range(0, 400, 7):
        storage = SlowStorage(turns=2)
        run = counter_workflow(storage=storage).run_stream(3, run_id="r")
        is_done = cut_off(collect(run), turns, torn_down=torn_down)

        rest = asyncio.run(collect(run))

        stored = asyncio.run(storage.get_run("r"))
        assert stored is not None, turns
        assert (stored.status, stored.lease) == ("IDLE", None), turns
        assert len(run.checkpoints) == 5, turns
        assert asyncio.run(run.wait_for_completion()).get_outputs() == [3, 2, 1, 0], turns
        if is_done:
            assert not outputs(rest)
            return
    raise AssertionError("the run never came to its end")


def test_a_question_is_answered_in_another_loop_wherever_the_first_one_ended() -> None:
    for turns in range(0, 300, 3):
        storage = SlowStorage(turns=2)
        run = asking_workflow(storage=storage).run_stream("a", run_id="r")
        is_done = cut_off(collect(run), turns, torn_down=True)

        async def rest(run: StreamingRun = run) -> list[Any]:
            found = questions(await collect(run)) or ["ask-a"]
            await run.send_response(found[0], "yes")
            await collect(run)
            return (await run.wait_for_completion()).get_outputs()

        assert asyncio.run(rest()) == ["a=yes"], turns
        if is_done:
            return


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # by loops that were closed
def test_a_finished_call_is_not_repeated_where_a_loop_ended_while_the_journal_was_read() -> None:
    """It is read once the run is acquired, and the handle still holds the run in the next loop."""
    calls: list[str] = []

    class Stuck(InMemoryCheckpointStorage):
        is_stuck = False

        async def read_journal(self, *args: Any, **kwargs: Any) -> list[bytes]:
            run = await self.get_run("r")
            assert run is not None
            if self.is_stuck and run.lease is not None:
                await asyncio.Event().wait()
            return await super().read_journal(*args, **kwargs)

    @executor
    async def split(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def works(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append("works")
        await ctx.yield_output(text)

    @executor
    async def fails(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append("fails")
        if calls.count("fails") == 1:
            raise ZeroDivisionError

    storage = Stuck()
    builder = WorkflowBuilder().add_edge(split, works).add_edge(split, fails)
    workflow = built(builder, split, storage=storage)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(workflow.run("x", run_id="r"))
    assert sorted(calls) == ["fails", "works"]

    run = workflow.run_stream("x", run_id="r", if_exists="attach")
    storage.is_stuck = True
    assert not cut_off(collect(run), 50, torn_down=False)
    storage.is_stuck = False
    assert outputs(asyncio.run(collect(run))) == ["x"]

    assert sorted(calls) == ["fails", "fails", "works"]


@pytest.mark.parametrize("torn_down", [True, False])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # by loops that were closed
def test_a_fork_is_created_once_wherever_the_loop_ended(torn_down: bool) -> None:
    for turns in range(0, 60, 5):
        storage = SlowStorage(turns=2)
        workflow = counter_workflow(storage=storage)
        first = asyncio.run(_first_checkpoint(workflow))
        run = workflow.fork(first, run_id="fork")
        is_done = cut_off(collect(run), turns, torn_down=torn_down)

        asyncio.run(collect(run))

        assert asyncio.run(run.wait_for_completion()).get_outputs() == [2, 1, 0], turns
        if is_done:
            return


async def _first_checkpoint(workflow: Workflow) -> str:
    run = workflow.run_stream(2, run_id="source")
    await collect(run)
    return run.checkpoints[0].checkpoint_id


def test_a_wait_for_a_timer_goes_on_in_another_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []

    class Later(Executor):
        @handler
        async def go(self, text: str, ctx: WorkflowContext[str, str]) -> None:
            if text == "go":
                await ctx.schedule("later", delay=0.3)
            else:
                await ctx.yield_output(text)

    from supersteps.engine.alarm import Alarm

    wait = Alarm.wait

    async def counted(self: Alarm, due: str) -> None:
        waits.append(due)
        await wait(self, due)

    monkeypatch.setattr(Alarm, "wait", counted)
    later = Later("later")
    run = built(
        WorkflowBuilder().add_edge(later, later), later, storage=InMemoryCheckpointStorage()
    ).run_stream("go")

    async def until_it_waits() -> None:
        task = asyncio.create_task(collect(run))
        await until(lambda: waits)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(until_it_waits())
    events = asyncio.run(collect(run))

    assert outputs(events) == ["later"]
    assert len(waits) <= 2  # it does not wait again and again


def test_a_handle_that_several_tasks_steered_serves_another_loop() -> None:
    storage = SlowStorage()
    run = counter_workflow(storage=storage).run_stream(3)

    async def together() -> None:
        driving = asyncio.create_task(run.wait_for_completion())
        await until(lambda: len(run.checkpoints) > 1)
        first = run.checkpoints[0]
        await asyncio.gather(*(run.restore_checkpoint(first) for _ in range(3)), run.drain())
        await asyncio.wait({driving})
        await run.restore_checkpoint(first)

    asyncio.run(together())
    asyncio.run(together())

    assert outputs(asyncio.run(collect(run)))[-1] == 0
