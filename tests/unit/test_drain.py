"""`run.drain()` and the signals of `run_sync`: the superstep under way is committed, nothing is
lost.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointSaveError,
    Executor,
    FailurePolicy,
    InMemoryCheckpointStorage,
    RunDrainedError,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    WorkflowStartedEvent,
    executor,
    handler,
)
from tests.unit.support import (
    CountingStorage,
    FailingStorage,
    SlowStorage,
    built,
    collect,
    counter_workflow,
    no_task_left,
    outputs,
    shout_workflow,
    take,
    until,
)

MakeStorage = Callable[[], Any]
Storages = pytest.mark.parametrize("make_storage", [InMemoryCheckpointStorage, SlowStorage])
OnOff = pytest.mark.parametrize(
    "make_storage", [lambda: None, InMemoryCheckpointStorage], ids=["off", "on"]
)
HOUR = timedelta(hours=1)


class Gate(Executor):
    """Counts its calls, and waits for leave in each."""

    def __init__(self) -> None:
        super().__init__("gate")
        self.leave = asyncio.Event()
        self.calls = 0

    @handler
    async def wait(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        self.calls += 1
        await self.leave.wait()
        await ctx.yield_output(left)
        if left:
            await ctx.send_message(left - 1)


def gate_workflow(**settings: Any) -> tuple[Gate, Workflow]:
    gate = Gate()
    return gate, built(WorkflowBuilder(name="gate").add_edge(gate, gate), gate, **settings)


class Sleepers:
    """A workflow of a handler that sleeps until a time and of quick ones beside it."""

    def __init__(self, until: datetime, *, at_most_once: bool = False, **settings: Any) -> None:
        self.log: list[str] = []
        self.leave = asyncio.Event()
        self.leave.set()

        @executor
        async def start(text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.send_message(text)

        @executor
        async def sleepy(text: str, ctx: WorkflowContext[Never, str]) -> None:
            self.log.append("sleepy")
            await asyncio.gather(ctx.sleep_until(until), ctx.sleep_until(until))
            await ctx.yield_output("slept")

        @executor
        async def quick(text: str, ctx: WorkflowContext[Never, str]) -> None:
            self.log.append("quick")
            await self.leave.wait()
            await ctx.yield_output("quick")

        builder = WorkflowBuilder(name="sleepers").add_fan_out_edges(start, [sleepy, quick])
        if at_most_once:
            builder.with_failure_policy(sleepy, FailurePolicy(at_most_once=True))
        self.workflow = built(builder, start, **settings)


async def drained(run: StreamingRun) -> None:
    """Drain within a second: nothing may wait for what nobody can end."""
    async with asyncio.timeout(1):
        await run.drain()


# -------------------------------------------------------------------------------------------- drain


@Storages
async def test_the_superstep_under_way_is_committed_and_the_stream_ends(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage()
    gate, workflow = gate_workflow(storage=storage)
    run = workflow.run_stream(3, run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.calls)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0.01)
    assert not draining.done()
    gate.leave.set()
    await draining
    events = await consumer

    assert isinstance(events[-1], SuperStepCompletedEvent)
    assert outputs(events) == [3]
    assert (await storage.list_checkpoints(run_id="r"))[-1].iteration_count == 1
    assert await no_task_left()

    rest = await collect(run)
    assert outputs(rest) == [2, 1, 0]
    assert gate.calls == 4


async def test_the_lease_is_given_up() -> None:
    storage = InMemoryCheckpointStorage()
    gate, workflow = gate_workflow(storage=storage)
    run = workflow.run_stream(3, run_id="r")
    consumer = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.calls)
    gate.leave.set()
    await drained(run)
    assert (await consumer).get_final_state() is WorkflowRunState.IN_PROGRESS

    second, other = gate_workflow(storage=storage)
    second.leave.set()
    assert (await other.run(3, run_id="r", if_exists="attach")).get_outputs() == [3, 2, 1, 0]


@OnOff
async def test_an_awaited_run_returns_what_it_has(make_storage: MakeStorage) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream(2)
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.calls)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0)
    gate.leave.set()
    await draining
    result = await waiting

    assert (result.get_outputs(), result.get_final_state()) == ([2], WorkflowRunState.IN_PROGRESS)
    rest = await run.wait_for_completion()
    assert (rest.get_outputs(), rest.get_final_state()) == ([2, 1, 0], WorkflowRunState.IDLE)


@OnOff
async def test_a_run_that_ends_meanwhile_is_done(make_storage: MakeStorage) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream(0)
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.calls)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0)
    gate.leave.set()
    await draining
    assert (await waiting).get_final_state() is WorkflowRunState.IDLE


@OnOff
async def test_between_supersteps_before_the_beginning_and_at_the_end(
    make_storage: MakeStorage,
) -> None:
    run = counter_workflow(storage=make_storage()).run_stream(1)
    await drained(run)
    stream = run.watch_stream()
    assert isinstance(await anext(stream), WorkflowStartedEvent)
    while not isinstance(await anext(stream), SuperStepCompletedEvent):
        pass
    await drained(run)
    assert await collect(stream) == []
    assert outputs(await collect(run)) == [0]
    await drained(run)
    await drained(run)
    assert (await run.wait_for_completion()).get_final_state() is WorkflowRunState.IDLE
    await run.aclose()
    await drained(run)


async def test_while_it_is_being_opened_the_first_checkpoint_is_made() -> None:
    storage = SlowStorage(turns=20)
    run = counter_workflow(storage=storage).run_stream(3, run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: storage.at == "before commit")
    await drained(run)

    assert (await waiting).get_final_state() is WorkflowRunState.IN_PROGRESS
    assert [cp.iteration_count for cp in await storage.list_checkpoints(run_id="r")] == [0]
    assert (await run.wait_for_completion()).get_outputs() == [3, 2, 1, 0]


@OnOff
async def test_a_wait_for_a_timer_is_cut_short(make_storage: MakeStorage) -> None:
    @executor
    async def later(text: str, ctx: WorkflowContext[str, str]) -> None:
        if text == "end":
            await ctx.yield_output(text)
        else:
            await ctx.schedule("end", delay=0.1, target_id="later")

    run = built(WorkflowBuilder(), later, storage=make_storage()).run_stream("x")
    waiting = asyncio.create_task(run.wait_for_completion())
    await asyncio.sleep(0.01)
    await drained(run)
    assert (await waiting).get_final_state() is WorkflowRunState.IN_PROGRESS
    assert await no_task_left()
    assert (await run.wait_for_completion()).get_outputs() == ["end"]


@pytest.mark.parametrize("turns", range(12))
async def test_at_any_moment_nothing_is_lost(turns: int) -> None:
    storage = SlowStorage(turns=1)
    sleepers = Sleepers(datetime.now(UTC) + timedelta(seconds=0.1), storage=storage)
    run = sleepers.workflow.run_stream("x", run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    for _ in range(turns * 2):
        await asyncio.sleep(0)
    await drained(run)
    await waiting
    assert await no_task_left()
    again = await run.wait_for_completion()

    assert again.get_outputs() == ["slept", "quick"]
    assert sleepers.log.count("quick") == 1
    assert [cp.iteration_count for cp in await storage.list_checkpoints(run_id="r")] == [0, 1, 2]


# ------------------------------------------------------------------------------------------- sleep


@Storages
async def test_sleep_is_cut_short_and_what_has_finished_is_recorded(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage()
    sleepers = Sleepers(datetime.now(UTC) + HOUR, storage=storage)
    run = sleepers.workflow.run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: len(sleepers.log) == 2)
    await drained(run)
    await consumer
    assert await no_task_left()

    records = await storage.read_journal("r", "r-000001")
    assert sorted(b'"note"' in record for record in records) == [False, True, True]
    again = Sleepers(datetime.now(UTC), storage=storage)
    run = again.workflow.run_stream("x", run_id="r", if_exists="attach")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: again.log)
    await asyncio.sleep(0.01)
    assert again.log == ["sleepy"]  # until the time that was noted; its sibling is done
    await run.aclose()
    await consumer


async def test_nobody_is_cut_short_while_somebody_works() -> None:
    storage = InMemoryCheckpointStorage()
    sleepers = Sleepers(datetime.now(UTC) + HOUR, storage=storage)
    sleepers.leave.clear()
    run = sleepers.workflow.run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: len(sleepers.log) == 2)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0.02)
    assert not draining.done()
    sleepers.leave.set()
    async with asyncio.timeout(1):
        await draining
    await consumer
    assert len(await storage.read_journal("r", "r-000001")) == 3


async def test_the_end_of_a_sleep_is_waited_for_where_a_call_must_not_run_twice() -> None:
    storage = InMemoryCheckpointStorage()
    sleepers = Sleepers(
        datetime.now(UTC) + timedelta(seconds=0.1), at_most_once=True, storage=storage
    )
    run = sleepers.workflow.run_stream("x", run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: len(sleepers.log) == 2)
    await drained(run)
    await waiting

    assert (await run.wait_for_completion()).get_outputs() == ["slept", "quick"]
    assert sorted(sleepers.log) == ["quick", "sleepy"]


async def test_a_hook_is_not_cut_short_beside_a_sleeper() -> None:
    leave, log, storage = asyncio.Event(), list[str](), InMemoryCheckpointStorage()

    class Hooked(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            log.append("hooked")

        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            if ctx.step_number == 2:
                log.append("hook")
                await leave.wait()

    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def sleepy(text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.sleep(HOUR)

    workflow = built(
        WorkflowBuilder().add_fan_out_edges(start, [Hooked("hooked"), sleepy]),
        start,
        storage=storage,
    )
    run = workflow.run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: "hook" in log)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0.02)
    assert not draining.done()
    leave.set()
    await draining
    await consumer
    assert len(await storage.read_journal("r", "r-000001")) == 2


async def test_a_journal_that_cannot_be_written_is_reported() -> None:
    storage = FailingStorage(journal=[1])
    sleepers = Sleepers(datetime.now(UTC) + HOUR, storage=storage)
    sleepers.leave.clear()
    run = sleepers.workflow.run_stream("x", run_id="r")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: storage.journals and len(sleepers.log) == 2)
    sleepers.leave.set()
    with pytest.raises(CheckpointSaveError, match="journal of finished calls"):
        await drained(run)
    await waiting
    assert await no_task_left()


async def test_a_drain_that_is_given_up_leaves_the_run_to_its_consumer() -> None:
    gate, workflow = gate_workflow(storage=InMemoryCheckpointStorage())
    run = workflow.run_stream(1)
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.calls)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    gate.leave.set()
    assert outputs(await consumer) == [1]
    assert outputs(await collect(run)) == [0]


async def test_a_drain_does_not_hold_up_the_end() -> None:
    gate, workflow = gate_workflow(storage=InMemoryCheckpointStorage())
    run = workflow.run_stream(1)
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.calls)
    draining = asyncio.create_task(run.drain())
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await run.cancel()
        await draining
    await consumer
    assert await no_task_left()


async def test_two_drains_at_once() -> None:
    gate, workflow = gate_workflow(storage=CountingStorage())
    run = workflow.run_stream(1)
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.calls)
    draining = [asyncio.create_task(run.drain()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.leave.set()
    await asyncio.gather(*draining)
    assert outputs(await consumer) == [1]
    assert outputs(await collect(run)) == [0]


async def test_a_parked_run_stays_parked() -> None:
    run = counter_workflow(storage=InMemoryCheckpointStorage()).run_stream(3)
    await take(run, SuperStepCompletedEvent)
    await drained(run)
    assert await no_task_left()
    assert outputs(await collect(run)) == [2, 1, 0]


# ------------------------------------------------------------------------------ signals of run_sync


def signalling(number: signal.Signals, *, then: Callable[[], Any], storage: Any = None) -> Workflow:
    """Make a workflow whose first superstep sends a signal to its own process."""

    @executor
    async def sender(left: int, ctx: WorkflowContext[int, int]) -> None:
        if left == 2:
            signal.raise_signal(number)
            await then()
        await ctx.yield_output(left)
        if left:
            await ctx.send_message(left - 1)

    return built(
        WorkflowBuilder(name="signalled").add_edge(sender, sender), sender, storage=storage
    )


async def moment() -> None:
    await asyncio.sleep(0.01)


Numbers = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")


@unix
@Numbers
def test_a_signal_stops_after_a_commit_and_says_how_to_go_on(number: signal.Signals) -> None:
    storage, before = (
        InMemoryCheckpointStorage(),
        [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)],
    )
    workflow = signalling(number, then=moment, storage=storage)
    with pytest.raises(RunDrainedError) as caught:
        workflow.run_sync(2, run_id="r")

    assert str(caught.value) == (
        f"run 'r' of workflow 'signalled' was asked to stop by {number.name} and stopped after "
        "superstep 1, at checkpoint 'r-000001'. Resume it by workflow.run_sync(..., run_id='r', "
        "if_exists=\"attach\") or workflow.run_from_checkpoint('r-000001')."
    )
    assert (caught.value.run_id, caught.value.checkpoint_id) == ("r", "r-000001")
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert workflow.run_sync(2, run_id="r", if_exists="attach").get_outputs() == [2, 1, 0]


@pytest.fixture(autouse=True)
def _signals_as_at_a_terminal() -> Iterator[None]:
    """Tests that are started in the background of a shell inherit an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@unix
def test_without_storage_nothing_can_be_resumed() -> None:
    with pytest.raises(
        RunDrainedError, match="It has no storage, so nothing can be resumed"
    ) as caught:
        signalling(signal.SIGTERM, then=moment).run_sync(2)
    assert caught.value.checkpoint_id is None


@unix
def test_a_run_that_ends_all_the_same_is_returned() -> None:
    @executor
    async def last(text: str, ctx: WorkflowContext[Never, str]) -> None:
        signal.raise_signal(signal.SIGTERM)
        await moment()
        await ctx.yield_output(text)

    assert built(WorkflowBuilder(), last).run_sync("x").get_outputs() == ["x"]


@unix
def test_a_failure_goes_before_a_signal() -> None:
    async def fail() -> None:
        await moment()
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        signalling(signal.SIGTERM, then=fail).run_sync(2)


@unix
def test_a_second_signal_interrupts_at_once() -> None:
    async def again() -> None:
        await moment()
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(30)

    storage, before = InMemoryCheckpointStorage(), signal.getsignal(signal.SIGINT)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        signalling(signal.SIGTERM, then=again, storage=storage).run_sync(2, run_id="r")
    assert time.monotonic() - began < 5
    assert signal.getsignal(signal.SIGINT) is before


@unix
def test_a_second_signal_goes_where_it_went_before() -> None:
    got: list[int] = []

    async def again() -> None:
        await moment()
        signal.raise_signal(signal.SIGTERM)
        await moment()

    before = signal.signal(signal.SIGTERM, lambda number, _frame: got.append(number))
    try:
        with pytest.raises(RunDrainedError):
            signalling(signal.SIGTERM, then=again).run_sync(2)
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@unix
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert signalling(signal.SIGINT, then=moment).run_sync(2).get_outputs() == [2, 1, 0]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_signals_are_left_alone() -> None:
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(shout_workflow().run_sync("hello").get_outputs())
    )
    thread.start()
    thread.join(10)
    assert results == [["OLLEH"]]
