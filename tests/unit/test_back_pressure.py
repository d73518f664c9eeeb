"""Live events of one superstep: a handler that awaits `ctx.add_event` does not get far ahead of
its consumer.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    StreamingRun,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    handler,
)
from supersteps.engine.backends.local import EVENTS_AHEAD
from supersteps.run import driver, work
from supersteps.run.stream import UNDELIVERED
from tests.unit.support import until

MANY = 10 * UNDELIVERED


class Talker(Executor):
    """Gives events, then an output."""

    def __init__(self) -> None:
        super().__init__("talker")
        self.given = 0

    @handler
    async def talk(self, count: int, ctx: WorkflowContext[Never, int]) -> None:
        for number in range(count):
            self.given += 1
            await ctx.add_event(WorkflowEvent(number))
        await ctx.yield_output(count)


class PlainTalker(Executor):
    """The same in a thread."""

    def __init__(self) -> None:
        super().__init__("talker")
        self.given = 0
        self.ended = threading.Event()

    @handler
    def talk(self, count: int, ctx: WorkflowContext[Never, int]) -> None:
        try:
            for number in range(count):
                self.given += 1
                ctx.add_event(WorkflowEvent(number))
            ctx.yield_output(count)
        finally:
            self.ended.set()


def start(talker: Executor, count: int = MANY) -> StreamingRun:
    builder = (
        WorkflowBuilder().set_start_executor(talker).with_checkpointing(InMemoryCheckpointStorage())
    )
    return builder.build().run_stream(count, run_id="r")


async def is_committed(run: StreamingRun) -> bool:
    return run.latest_checkpoint is not None and run.latest_checkpoint.step_number == 1


async def first(run: StreamingRun) -> AsyncIterator[Any]:
    """Iterate until the handler waits; return the iterator."""
    events = aiter(run)
    while type(await anext(events)) is not WorkflowEvent:
        pass
    await until(lambda: run._stream._space is not None)
    for _ in range(5):
        await asyncio.sleep(0)
    return events


@pytest.mark.parametrize("talker", [Talker, PlainTalker])
async def test_a_slow_consumer_bounds_what_is_kept(talker: type[Talker | PlainTalker]) -> None:
    run = start(talker())
    most, numbers = 0, []
    async for event in run:
        if type(event) is WorkflowEvent:
            numbers.append(event.data)
            most = max(most, len(run._stream.events))
            for _ in range(3 if event.data % 50 == 0 else 0):
                await asyncio.sleep(0.001)

    assert numbers == list(range(MANY))
    assert most <= UNDELIVERED + (EVENTS_AHEAD if talker is PlainTalker else 1)
    assert await is_committed(run)


async def test_several_handlers_wait_together() -> None:
    gate, talkers = Gate("gate"), [Talker() for _ in range(20)]
    for number, talker in enumerate(talkers):
        talker.id = f"talker{number}"
    builder = WorkflowBuilder().set_start_executor(gate).add_fan_out_edges(gate, talkers)
    run = builder.build().run_stream(UNDELIVERED)
    most, count = 0, 0
    async for event in run:
        if type(event) is WorkflowEvent:
            count += 1
            most = max(most, len(run._stream.events))

    assert count == 20 * UNDELIVERED
    assert most <= UNDELIVERED + 2 * len(talkers)


class Gate(Executor):
    @handler
    async def go(self, count: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(count)


async def test_a_handler_waits_for_a_consumer_that_pauses() -> None:
    talker = Talker()
    run = start(talker)
    events = await first(run)
    given = talker.given
    for _ in range(100):
        await asyncio.sleep(0)

    assert talker.given == given <= UNDELIVERED + 2
    for _ in range(UNDELIVERED):
        await anext(events)
    assert talker.given > given


async def test_nobody_waits_for_a_consumer_that_has_left() -> None:
    talker = Talker()
    run = start(talker)
    events = await first(run)
    del events
    await until(lambda: talker.given == MANY)
    await until(lambda: not run.is_active())

    assert await is_committed(run)
    assert (await run.wait_for_completion()).get_outputs() == [MANY]


async def test_nobody_waits_for_a_consumer_whose_task_was_cancelled() -> None:
    talker = Talker()
    run = start(talker)
    paused = asyncio.Event()
    kept: list[Any] = []

    async def consume() -> None:
        kept.append(events := aiter(run))
        while type(await anext(events)) is not WorkflowEvent:
            pass
        paused.set()
        run._stream.events.clear()
        while True:
            await anext(events)

    task = asyncio.create_task(consume())
    await paused.wait()
    task.cancel()
    await asyncio.wait({task})
    await until(lambda: talker.given == MANY)


async def test_whoever_only_wants_the_result_holds_nobody_up() -> None:
    run = start(Talker())
    result = await run.wait_for_completion()

    assert result.get_outputs() == [MANY]


@pytest.mark.parametrize("talker", [Talker, PlainTalker])
async def test_a_consumer_that_drains_the_run_does_not_wait_for_itself(
    talker: type[Talker | PlainTalker],
) -> None:
    run = start(talker())
    events = await first(run)
    await run.drain()

    assert await is_committed(run)
    assert sum([type(event) is WorkflowEvent async for event in events]) == MANY - 1


@pytest.mark.parametrize("how", ["cancel", "aclose"])
@pytest.mark.parametrize("talker", [Talker, PlainTalker])
async def test_a_consumer_can_end_the_run(talker: type[Talker | PlainTalker], how: str) -> None:
    made = talker()
    run = start(made)
    events = await first(run)
    await getattr(run, how)()

    assert made.given < MANY
    assert not [event async for event in events if type(event) is WorkflowEvent]
    if isinstance(made, PlainTalker):
        assert await asyncio.to_thread(made.ended.wait, 20)


async def test_a_consumer_can_rewind_the_run() -> None:
    run = start(Talker())
    events = await first(run)
    await run.restore_checkpoint("r-000000")

    assert [event.data async for event in events if type(event) is WorkflowEvent] == list(
        range(MANY)
    )
    assert await is_committed(run)


async def test_events_that_are_not_awaited_all_arrive() -> None:
    class Careless(Talker):
        @handler
        async def talk(self, count: int, ctx: WorkflowContext[Never, int]) -> None:
            for number in range(count):
                ctx.add_event(WorkflowEvent(number))

    run = start(Careless())

    assert [event.data async for event in run if type(event) is WorkflowEvent] == list(range(MANY))


def test_a_thread_is_let_go_when_its_loop_ends() -> None:
    talker = PlainTalker()

    async def main() -> None:
        await first(start(talker))

    asyncio.run(main())

    assert talker.ended.wait(20)


async def test_supersteps_that_wait_for_nothing_let_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(driver, "TURN_SECONDS", -1.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Loop(Executor):
        @handler
        async def step(self, left: int, ctx: WorkflowContext[int]) -> None:
            if left:
                await ctx.send_message(left - 1)

    looping = Loop("loop")
    task = asyncio.create_task(other())
    await WorkflowBuilder().add_edge(looping, looping).set_start_executor(looping).build().run(50)
    task.cancel()

    assert turns >= 50
