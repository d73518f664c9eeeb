"""Messages for later and handlers that sleep: durable times, order, restarts, and how a waiting
run is woken.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointInfo,
    Executor,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RunBusyError,
    RunFencedError,
    SuperStepCompletedEvent,
    UnknownTargetError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowRunState,
    executor,
    handler,
    response_handler,
)
from supersteps.engine import alarm
from tests.unit.support import (
    CountingStorage,
    Question,
    Reverse,
    built,
    collect,
    no_task_left,
    outputs,
    states,
    take,
    until,
)

MakeStorage = Callable[[], Any]
OnOff = pytest.mark.parametrize(
    "make_storage", [lambda: None, InMemoryCheckpointStorage], ids=["off", "on"]
)
HOUR = 3600.0


class Later(Executor):
    """Sends each word of its input later, the first after the longest delay."""

    def __init__(self, delay: float = 0.03, id: str = "later") -> None:
        super().__init__(id)
        self.delay = delay

    @handler
    async def begin(self, text: str, ctx: WorkflowContext[str]) -> None:
        words = text.split()
        for number, word in enumerate(words):
            await ctx.schedule(word, delay=self.delay * (len(words) - number))


class Sink(Executor):
    def __init__(self, id: str = "sink") -> None:
        super().__init__(id)
        self.got: list[str] = []

    @handler
    async def take(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.got.append(text)
        await ctx.yield_output(text)


def later_workflow(delay: float = 0.03, sink: Sink | None = None, **settings: Any) -> Workflow:
    later = Later(delay)
    return built(WorkflowBuilder(name="later").add_edge(later, sink or Sink()), later, **settings)


# ----------------------------------------------------------------------------------------- schedule


@OnOff
async def test_messages_for_later_are_delivered_once_in_the_order_of_their_times(
    make_storage: MakeStorage,
) -> None:
    began = time.monotonic()
    events = await collect(later_workflow(storage=make_storage()).run_stream("c b a"))

    assert outputs(events) == ["a", "b", "c"]
    assert time.monotonic() - began >= 0.09
    assert states(events) == [WorkflowRunState.IN_PROGRESS, WorkflowRunState.IDLE]


@OnOff
async def test_those_that_are_due_together_come_in_the_order_of_their_times(
    make_storage: MakeStorage,
) -> None:
    now = datetime.now(UTC)

    @executor
    async def late(text: str, ctx: WorkflowContext[str]) -> None:
        for word, seconds in (("c", -1), ("a", -3), ("b", -2)):
            await ctx.schedule(word, at=now + timedelta(seconds=seconds))
        await ctx.send_message("now")

    workflow = built(WorkflowBuilder().add_edge(late, Sink()), late, storage=make_storage())
    result = await workflow.run("x")

    assert result.get_outputs() == ["now", "a", "b", "c"]
    assert len([event for event in result if isinstance(event, SuperStepCompletedEvent)]) == 2


class Side(Executor):
    """Sends what it gets, at once or later."""

    def __init__(self, id: str, delay: float | None = None) -> None:
        super().__init__(id)
        self.delay = delay

    @handler
    async def take(self, text: str, ctx: WorkflowContext[str]) -> None:
        if self.delay is None:
            await ctx.send_message(text)
        else:
            await ctx.schedule(text, delay=self.delay)


class Both(Executor):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("+".join(texts))


def half_later(delay: float, storage: Any, late: str = "late") -> WorkflowBuilder:
    start, quick, slow = Side("start"), Side("quick"), Side(late, delay)
    builder = (
        WorkflowBuilder(name="half")
        .add_fan_out_edges(start, [quick, slow])
        .set_start_executor(start)
    )
    return builder.add_fan_in_edges([quick, slow], Both("both")).with_checkpointing(storage)


async def test_a_message_for_later_comes_to_a_fan_in_at_its_time() -> None:
    storage = InMemoryCheckpointStorage()
    run = half_later(HOUR, storage).build().run_stream("ab", run_id="r")
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent) and event.step_number == 2:
            break
    head = (await storage.list_checkpoints(run_id="r"))[-1]
    (timer,) = head.timers.values()
    assert (timer["data"], timer["target_ids"]) == ("ab", ["fan_in:quick+late->both"])
    assert head.fan_in == {"fan_in:quick+late->both": {"quick": ["ab"]}}
    assert head.status == "IN_PROGRESS"

    began = time.monotonic()
    later = await half_later(0.05, InMemoryCheckpointStorage()).build().run("ab")
    assert later.get_outputs() == ["ab+ab"]
    assert time.monotonic() - began >= 0.05


async def test_a_message_for_later_to_a_fan_in_survives_a_restart_and_a_rename() -> None:
    storage = InMemoryCheckpointStorage()
    run = half_later(0.05, storage).build().run_stream("ab", run_id="r")
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent) and event.step_number == 2:
            break
    assert await no_task_left()

    def never(target: str, _message: Any) -> Any:
        raise AssertionError(f"{target} gets it in a list")

    changed = half_later(HOUR, storage, "slow").with_migration(
        rename={"late": "slow"}, message=never
    )
    assert (await changed.build().run_from_checkpoint("r-000002")).get_outputs() == ["ab+ab"]
    assert (
        await half_later(HOUR, storage).build().run_from_checkpoint("r-000002")
    ).get_outputs() == ["ab+ab"]


async def test_a_message_for_later_to_a_fan_in_inside_a_sub_workflow() -> None:
    inner = half_later(0.02, InMemoryCheckpointStorage()).build()
    sub = WorkflowExecutor(inner, "sub")
    assert (await built(WorkflowBuilder().add_edge(sub, Sink()), sub).run("ab")).get_outputs() == [
        "ab+ab"
    ]


async def test_a_checkpoint_shows_what_comes_when() -> None:
    storage = InMemoryCheckpointStorage()
    await take(
        later_workflow(HOUR, storage=storage).run_stream("x", run_id="r"), SuperStepCompletedEvent
    )

    head = (await storage.list_checkpoints(run_id="r"))[-1]
    ((timer_id, timer),) = head.timers.items()
    assert (timer_id, timer["data"], timer["attempt"]) == ("1.0", "x", 1)
    assert (
        abs((datetime.fromisoformat(timer["due"]) - datetime.now(UTC)).total_seconds() - HOUR) < 60
    )
    assert (head.status, head.messages) == ("IN_PROGRESS", {})
    run = await storage.get_run("r")
    assert run is not None
    assert run.status == "IN_PROGRESS"


async def test_a_message_for_later_survives_a_restart() -> None:
    storage, first, second = InMemoryCheckpointStorage(), Sink(), Sink()
    await take(
        later_workflow(0.05, first, storage=storage).run_stream("b a", run_id="r"),
        SuperStepCompletedEvent,
    )
    assert await no_task_left()

    result = await later_workflow(HOUR, second, storage=storage).run_from_checkpoint("r-000001")

    assert (first.got, second.got) == ([], ["a", "b"])
    assert result.get_outputs() == ["a", "b"]
    again = Sink()
    assert (
        await later_workflow(sink=again, storage=storage).run_from_checkpoint("r-000003")
    ).get_outputs() == [
        "a",
        "b",
    ]
    assert again.got == []


async def test_each_branch_delivers_it_once() -> None:
    storage, sink = InMemoryCheckpointStorage(), Sink()
    run = later_workflow(0.01, sink, storage=storage).run_stream("x", run_id="r")
    await run.wait_for_completion()
    await run.restore_checkpoint("r-000001")
    result = await run.wait_for_completion()

    assert sink.got == ["x", "x"]
    assert result.get_outputs() == ["x"]


@OnOff
async def test_an_executor_can_send_to_itself_later_without_an_edge(
    make_storage: MakeStorage,
) -> None:
    @executor
    async def ticker(left: int, ctx: WorkflowContext[int, int]) -> None:
        await ctx.yield_output(left)
        if left:
            await ctx.schedule(left - 1, delay=timedelta(seconds=0.01), target_id="ticker")

    result = await built(WorkflowBuilder(), ticker, storage=make_storage()).run(3)

    assert result.get_outputs() == [3, 2, 1, 0]


async def test_to_others_an_edge_must_lead() -> None:
    @executor
    async def lost(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.schedule(text, delay=0, target_id="nobody")

    with pytest.raises(UnknownTargetError, match="target_id='nobody', but there is no edge to it"):
        await built(WorkflowBuilder(), lost).run("x")


@pytest.mark.parametrize("target", [None, "inner"])
async def test_a_message_for_later_begins_a_sub_workflow(target: str | None) -> None:
    inner = WorkflowExecutor(later_workflow(0.02), "inner")

    @executor
    async def outer(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.schedule(text, delay=0.02, target_id=target)

    storage = InMemoryCheckpointStorage()

    def build() -> Workflow:
        return built(
            WorkflowBuilder(name="o").add_edge(outer, inner).add_edge(inner, Reverse("out")),
            outer,
            storage=storage,
        )

    await take(build().run_stream("ab cd", run_id="r"), SuperStepCompletedEvent)
    result = await build().run_from_checkpoint("r-000001")

    assert result.get_outputs() == ["dc", "ba"]
    assert (await storage.list_checkpoints(run_id="r"))[-1].sub_workflows == {}


async def test_what_is_to_be_sent_later_is_copied_at_the_call() -> None:
    @executor
    async def early(text: str, ctx: WorkflowContext[list[str]]) -> None:
        message = [text]
        await ctx.schedule(message, delay=0.01)
        message.append("changed")

    @executor
    async def end(message: list[str], ctx: WorkflowContext[Never, list[str]]) -> None:
        await ctx.yield_output(message)

    assert (await built(WorkflowBuilder().add_edge(early, end), early).run("x")).get_outputs() == [
        ["x"]
    ]


# ---------------------------------------------------------------------- waiting, waking and leaving


class Reminder(Executor):
    """Asks, and reminds of its question later."""

    def __init__(self, delay: float, id: str = "reminder") -> None:
        super().__init__(id)
        self.delay = delay

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        if text.startswith("remind"):
            await ctx.yield_output(text)
            return
        await ctx.request_info(Question(prompt=text), str, request_id="q")
        await ctx.schedule(f"remind of {text}", delay=self.delay, target_id=self.id)

    @response_handler
    async def answered(
        self, question: Question, answer: str, ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"{question.prompt}={answer}")


def reminding(delay: float, **settings: Any) -> Workflow:
    return built(WorkflowBuilder(name="remind"), Reminder(delay), **settings)


@OnOff
async def test_a_run_that_waits_for_an_answer_goes_on_until_the_timer(
    make_storage: MakeStorage,
) -> None:
    events = await collect(reminding(0.03, storage=make_storage()).run_stream("x"))

    assert outputs(events) == ["remind of x"]
    assert states(events)[-2:] == [
        WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS,
        WorkflowRunState.IDLE_WITH_PENDING_REQUESTS,
    ]


@OnOff
async def test_an_answer_wakes_a_run_that_waits_for_a_timer(make_storage: MakeStorage) -> None:
    run = reminding(HOUR, storage=make_storage()).run_stream("x")
    seen: list[Any] = []

    async def consume() -> None:
        async for event in run:
            seen.append(event)
            if "x=yes" in outputs(seen) and isinstance(event, SuperStepCompletedEvent):
                break

    consumer = asyncio.create_task(consume())
    await until(lambda: any(isinstance(event, RequestInfoEvent) for event in seen))
    await asyncio.sleep(0.01)
    await run.send_response("q", "yes")
    await consumer
    assert outputs(seen) == ["x=yes"]


async def test_leaving_a_run_that_waits_for_a_timer_parks_it() -> None:
    storage = CountingStorage()
    run = reminding(HOUR, storage=storage).run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: storage.writes.count("commit") == 2)
    await asyncio.sleep(0.01)

    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert await no_task_left()

    waiting = asyncio.create_task(run.wait_for_completion())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await no_task_left()
    await run.aclose()


@OnOff
async def test_leaving_at_the_last_event_before_the_wait_leaves_no_task(
    make_storage: MakeStorage,
) -> None:
    for turns in range(6):
        run = later_workflow(HOUR, storage=make_storage()).run_stream("x")
        stream = run.watch_stream()
        while not isinstance(await anext(stream), SuperStepCompletedEvent):
            pass
        waiting = asyncio.ensure_future(anext(stream))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del stream, waiting
        assert await no_task_left()


async def test_of_two_handles_one_delivers_and_the_other_is_told() -> None:
    storage, sinks = InMemoryCheckpointStorage(), [Sink(), Sink()]
    await take(
        later_workflow(0.1, storage=storage).run_stream("x", run_id="r"), SuperStepCompletedEvent
    )

    results = await asyncio.gather(
        *(
            later_workflow(sink=sink, storage=storage).run_from_checkpoint("r-000001")
            for sink in sinks
        ),
        return_exceptions=True,
    )

    assert sinks[0].got + sinks[1].got == ["x"]
    (told,) = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(told, RunBusyError | RunFencedError)


# -------------------------------------------------------------------------------- sleeping handlers


def sleepy_workflow(
    log: list[str], delay: float, begun: asyncio.Event | None = None, **settings: Any
) -> Workflow:
    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def sleepy(text: str, ctx: WorkflowContext[Never, str]) -> None:
        log.append("sleepy begins")
        await ctx.sleep(0)
        await ctx.sleep_until(datetime.now(UTC) + timedelta(seconds=delay))
        log.append("sleepy ends")
        await ctx.yield_output(f"sleepy {text}")

    @executor
    async def quick(text: str, ctx: WorkflowContext[Never, str]) -> None:
        log.append("quick")
        if begun is not None:
            await begun.wait()
        await ctx.yield_output(f"quick {text}")

    return built(
        WorkflowBuilder(name="sleepy").add_fan_out_edges(start, [sleepy, quick]), start, **settings
    )


@OnOff
async def test_a_handler_sleeps(make_storage: MakeStorage) -> None:
    log: list[str] = []
    began = time.monotonic()
    result = await sleepy_workflow(log, 0.05, storage=make_storage()).run("x")

    assert time.monotonic() - began >= 0.05
    assert result.get_outputs() == ["sleepy x", "quick x"]


class RecordCounting(InMemoryCheckpointStorage):
    """Counts what is in journals."""

    records = 0

    async def append_journal(
        self, run_id: str, epoch: int, head: str, records: Sequence[bytes], **which: Any
    ) -> None:
        await super().append_journal(run_id, epoch, head, records, **which)
        self.records += len(records)


async def test_a_time_that_is_noted_is_kept_after_a_crash() -> None:
    storage, log = RecordCounting(), list[str]()
    run = sleepy_workflow(log, 0.2, storage=storage).run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    began = time.monotonic()
    await until(lambda: storage.records == 3)  # two sleeps and a finished call
    await run.aclose()
    await consumer

    result = await sleepy_workflow(log, HOUR, storage=storage).run_from_checkpoint("r-000001")

    assert 0.19 <= time.monotonic() - began < 5
    assert result.get_outputs() == ["sleepy x", "quick x"]
    assert sorted(log) == ["quick", "sleepy begins", "sleepy begins", "sleepy ends"]


# ---------------------------------------------------------------------------------- crash and order


async def test_a_timer_due_between_crash_and_resume_does_not_disturb_finished_calls() -> None:
    storage = InMemoryCheckpointStorage()
    fails = [True]
    log: list[tuple[str, str]] = []

    class Worker(Executor):
        @handler
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            log.append((text, ctx.idempotency_key))
            await ctx.append_shared_state("worked", text)
            if text == "two" and fails:
                raise OSError("down")
            await ctx.yield_output(text)

    class Feeder(Executor):
        @handler
        async def feed(self, text: str, ctx: WorkflowContext[str]) -> None:
            await ctx.schedule("timed", delay=0.06)
            await ctx.send_message("one")
            await ctx.send_message("two")

    def build() -> Workflow:
        feeder = Feeder("feeder")
        return built(
            WorkflowBuilder(name="feed").add_edge(feeder, Worker("worker")), feeder, storage=storage
        )

    with pytest.raises(OSError, match="down"):
        await build().run("x", run_id="r")
    assert [text for text, _ in log] == ["one", "two"]
    fails.clear()
    await asyncio.sleep(0.08)
    result = await build().run_from_checkpoint("r-000001")

    assert [text for text, _ in log] == ["one", "two", "two", "timed"]
    assert log[1] == log[2]
    assert len({key for _, key in log}) == 3
    assert result.get_outputs() == ["one", "two", "timed"]
    head = (await storage.list_checkpoints(run_id="r"))[-1]
    assert (head.iteration_count, head.shared_state, head.timers) == (
        2,
        {"worked": ["one", "two", "timed"]},
        {},
    )


async def test_a_timed_call_that_finished_before_a_crash_is_not_repeated() -> None:
    storage = InMemoryCheckpointStorage()
    fails, log = [True], list[str]()

    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.schedule("b", delay=0.05)
        await ctx.schedule("a", delay=0.01)

    @executor
    async def worker(text: str, ctx: WorkflowContext[Never, str]) -> None:
        log.append(text)
        await ctx.yield_output(text)

    @executor
    async def bad(text: str, ctx: WorkflowContext[Never, str]) -> None:
        if fails:
            raise OSError("down")

    def build() -> Workflow:
        return built(
            WorkflowBuilder(name="t").add_fan_out_edges(start, [worker, bad]),
            start,
            storage=storage,
        )

    with pytest.raises(OSError, match="down"):
        await build().run("x", run_id="r")
    assert log == ["a"]
    fails.clear()
    await asyncio.sleep(0.06)
    result = await build().run_from_checkpoint("r-000001")

    assert log == result.get_outputs() == ["a", "b"]
    assert isinstance((await storage.list_checkpoints(run_id="r"))[-1].info, CheckpointInfo)


async def test_one_can_sleep_for_years(monkeypatch: pytest.MonkeyPatch) -> None:
    left = timedelta(days=3650).total_seconds()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal left
        left -= seconds
        waits.append(seconds)

    monkeypatch.setattr(alarm, "_seconds_until", lambda moment: left)
    monkeypatch.setattr(alarm, "asyncio", SimpleNamespace(sleep=sleep))

    await alarm.sleep_until(datetime.now(UTC).isoformat())

    assert len(waits) == 3650 * 24  # the clock is looked at every hour
