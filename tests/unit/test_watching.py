"""The watcher: names executors that keep the event loop from turning, and nobody else."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Never

import pytest

from supersteps import (
    BlockedLoopWarning,
    Executor,
    InMemoryCheckpointStorage,
    RunFencedError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowWarningEvent,
    executor,
    handler,
)
from supersteps.checkpoint.owner import this_process
from supersteps.engine import heartbeat, hold
from supersteps.engine import run_store as store
from supersteps.engine import watcher as watching
from supersteps.engine.watcher import LOOKS, Watcher


def still() -> Watcher:
    """A watcher that looks only when it is told to."""
    watcher = Watcher()
    watcher._thread = threading.current_thread()
    return watcher


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    made = still()
    use(made, monkeypatch)
    return made


def use(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "watch", watcher.watch)
    monkeypatch.setattr(watching, "unwatch", watcher.at_work.pop)
    monkeypatch.setattr(watching, "untold", watcher.untold)
    monkeypatch.setattr(watching, "tell", watcher.tell)


@pytest.fixture
def caught() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def looks(watcher: Watcher, times: int = LOOKS + 1) -> None:
    for _ in range(times):
        watcher.look()


def hog(watcher: Watcher, times: int = LOOKS + 1) -> Workflow:
    @executor(id="hog")
    async def block(number: int, ctx: WorkflowContext[int, int]) -> None:
        looks(watcher, times)
        if number:
            await ctx.send_message(number - 1)

    return WorkflowBuilder().add_edge(block, block).set_start_executor(block).build()


async def test_whoever_blocks_is_named_with_run_superstep_place_and_remedy(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    result = await hog(watcher).run(0, run_id="r")

    (warning,) = caught
    text = str(warning.message)
    assert warning.category is BlockedLoopWarning
    assert text.startswith(
        "run 'r', superstep 1: executor 'hog' has kept the event loop from turning for 5 "
        "seconds, in "
    )
    assert "block() at line" in text
    assert "plain `def` handler" in text
    assert "asyncio.to_thread" in text
    assert warning.filename == __file__
    (event,) = [event for event in result if isinstance(event, WorkflowWarningEvent)]
    assert text == f"run 'r', superstep 1: {event.data}"


async def test_the_event_comes_in_a_stream_too(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    events = [event async for event in hog(watcher).run_stream(0)]

    assert sum(isinstance(event, WorkflowWarningEvent) for event in events) == 1


async def test_each_executor_is_named_once_per_run(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    workflow = hog(watcher, 3 * LOOKS + 1)
    await workflow.run(3, run_id="one")
    await workflow.run(0, run_id="two")

    assert [str(warning.message).split(",")[0] for warning in caught] == ["run 'one'", "run 'two'"]


async def test_a_short_stand_is_nothing(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    await hog(watcher, LOOKS).run(0)

    assert caught == []


async def test_whoever_yields_is_not_named(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    @executor
    async def polite(number: int, ctx: WorkflowContext[Never, int]) -> None:
        for _ in range(3):
            looks(watcher, LOOKS)
            await asyncio.sleep(0)

    await WorkflowBuilder().set_start_executor(polite).build().run(1)

    assert caught == []


async def test_quick_supersteps_that_follow_each_other_are_not_named(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    await hog(watcher, 1).run(3 * LOOKS)

    assert caught == []


async def test_a_plain_handler_may_block(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    loop = asyncio.get_running_loop()

    async def turn() -> None:
        pass

    @executor
    def plain(number: int, ctx: WorkflowContext[Never, int]) -> None:
        for _ in range(2 * LOOKS):
            watcher.look()
            asyncio.run_coroutine_threadsafe(turn(), loop).result()

    await WorkflowBuilder().set_start_executor(plain).build().run(1)

    assert caught == []


async def test_of_several_the_one_that_was_seen_most_is_named(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    @executor(id="start")
    async def start(number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)

    @executor(id="long")
    async def long(number: int, ctx: WorkflowContext[Never, int]) -> None:
        await asyncio.sleep(0)
        looks(watcher, LOOKS - 1)

    @executor(id="short")
    async def short(number: int, ctx: WorkflowContext[Never, int]) -> None:
        await asyncio.sleep(0)
        watcher.look()

    @executor(id="asks")
    async def asks(number: int, ctx: WorkflowContext[Never, int]) -> None:
        await asyncio.sleep(0)  # all are at work when the loop is asked
        watcher.look()

    builder = (
        WorkflowBuilder().set_start_executor(start).add_fan_out_edges(start, [asks, long, short])
    )
    await builder.build().run(1)

    (warning,) = caught
    assert "executor 'long' has kept" in str(warning.message)


async def test_what_a_handler_starts_is_said_to_be_near_it(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    async def child() -> None:
        looks(watcher)

    @executor(id="parent")
    async def parent(number: int, ctx: WorkflowContext[Never, int]) -> None:
        await asyncio.gather(child())

    await WorkflowBuilder().set_start_executor(parent).build().run(1)

    (warning,) = caught
    assert "something that executor 'parent' started, or that runs beside it," in str(
        warning.message
    )
    assert warning.filename == __file__


async def test_a_warning_that_is_an_error_reaches_the_user_and_the_watcher_goes_on(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await hog(watcher).run(0, run_id="one")
        await hog(watcher).run(0, run_id="two")

    assert [args.exc_type for args in told] == [BlockedLoopWarning] * 2


def block_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done() and time.monotonic() < until:
        time.sleep(0.001)


def test_a_handler_that_does_not_return_is_named_meanwhile_in_every_loop(
    monkeypatch: pytest.MonkeyPatch, caught: list[warnings.WarningMessage]
) -> None:
    use(Watcher(0.02), monkeypatch)

    @executor(id="stuck")
    async def stuck(number: int, ctx: WorkflowContext[Never, int]) -> None:
        block_until(
            lambda: any(f"run 'r{number}'" in str(warning.message) for warning in list(caught))
        )

    workflow = WorkflowBuilder().set_start_executor(stuck).build()
    threads = [
        threading.Thread(
            target=lambda number=number: asyncio.run(workflow.run(number, run_id=f"r{number}"))
        )
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(str(warning.message)[:6] for warning in caught) == ["run 'r", "run 'r", "run 'r"]
    named = [thread for thread in threading.enumerate() if thread.name == "supersteps-watcher"]
    assert all(thread.daemon for thread in named)


def test_a_loop_that_does_not_run_is_not_blocked(
    watcher: Watcher, caught: list[warnings.WarningMessage]
) -> None:
    class Waits(Executor):
        @handler
        async def wait(self, number: int, ctx: WorkflowContext[Never, int]) -> None:
            await asyncio.sleep(3600)

    loop = asyncio.new_event_loop()
    task = loop.create_task(WorkflowBuilder().set_start_executor(Waits("waits")).build().run(1))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert watcher.at_work
    looks(watcher, 3 * LOOKS)
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    looks(watcher)

    assert caught == []
    assert not watcher.at_work
    assert not watcher._questions


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_a_watcher_too_and_none_keeps_its_process_alive() -> None:
    script = """
        import asyncio, os, sys, time
        from supersteps import WorkflowBuilder, WorkflowContext, executor
        from supersteps.engine import watcher as watching

        watching._watcher._seconds = 0.02

        @executor(id="stuck")
        async def stuck(number: int, ctx: WorkflowContext) -> None:
            until = time.monotonic() + 20
            while not watching._watcher._named and time.monotonic() < until:
                time.sleep(0.001)

        workflow = WorkflowBuilder().set_start_executor(stuck).build()
        asyncio.run(workflow.run(1, run_id="parent"))
        child = os.fork()
        if child:
            sys.exit(os.waitpid(child, 0)[1])
        asyncio.run(workflow.run(1, run_id="child"))
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    for run in ("parent", "child"):
        assert f"BlockedLoopWarning: run '{run}'" in done.stderr


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_lease_that_ran_out_matters_only_if_somebody_took_the_run(
    monkeypatch: pytest.MonkeyPatch, taken_over: bool
) -> None:
    for module in (hold, store):
        monkeypatch.setattr(module, "LEASE_SECONDS", 0.01)
    monkeypatch.setattr(
        heartbeat, "watch", lambda holder: None
    )  # as where C code keeps the interpreter
    monkeypatch.setattr(
        hold, "mark_advancing", lambda handle, busy: None
    )  # as if in another process
    storage = InMemoryCheckpointStorage()

    @executor(id="hog")
    async def block(number: int, ctx: WorkflowContext[Never, int]) -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - that is what is tried
        if taken_over:
            await storage.acquire("r", this_process("another handle"), 30.0)
        await ctx.yield_output(number)

    workflow = WorkflowBuilder().set_start_executor(block).with_checkpointing(storage).build()
    if taken_over:
        with pytest.raises(RunFencedError):
            await workflow.run(1, run_id="r")
    else:
        assert (await workflow.run(1, run_id="r")).get_outputs() == [1]
    run = await storage.get_run("r")
    assert run is not None
    assert run.head == ("r-000000" if taken_over else "r-000001")
