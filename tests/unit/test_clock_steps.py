"""The clock is set back between a superstep that failed and its resume: what was recorded stays."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    FailurePolicy,
    InMemoryCheckpointStorage,
    InterruptedCallError,
    StreamingRun,
    SubWorkflowRequestMessage,
    SuperStepCompletedEvent,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    executor,
    handler,
    response_handler,
)
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.timer import Timer
from supersteps.checkpoint.values import Sealer
from supersteps.engine.journal import Recorded
from supersteps.engine.plan import due_timers
from supersteps.engine.state import State

SetClock = Callable[[float], None]
SEALER = Sealer(Codec(), encoding=True)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Give a function that sets the engine's clock so many seconds ahead, or back."""
    ahead = timedelta(0)

    def now() -> str:
        return (datetime.now(UTC) + ahead).isoformat(timespec="microseconds")

    for name, module in list(sys.modules.items()):
        if name.startswith("supersteps.engine") and hasattr(module, "utc_now"):
            monkeypatch.setattr(module, "utc_now", now)

    def set_ahead(seconds: float) -> None:
        nonlocal ahead
        ahead = timedelta(seconds=seconds)

    return set_ahead


class Teller(Executor):
    """Sets a timer for a charge, and asks; its answer's handler fails as long as it is told to."""

    def __init__(self) -> None:
        super().__init__("teller")
        self.is_broken = True

    @handler
    async def begin(self, amount: int, ctx: WorkflowContext[str]) -> None:
        ctx.schedule("charge", delay=3600, target_id="charge")
        ctx.request_info("sure?", str, request_id="sure")

    @response_handler
    async def sure(self, asked: str, answer: str, ctx: WorkflowContext[str, str]) -> None:
        if self.is_broken:
            raise ValueError("a sibling fails")
        ctx.yield_output(answer)


async def one_superstep(run: StreamingRun) -> None:
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent):
            break


@pytest.mark.parametrize("policy", [None, FailurePolicy(at_most_once=True)])
async def test_a_recorded_call_of_a_timer_is_not_made_again(
    policy: FailurePolicy | None, set_clock: SetClock
) -> None:
    charged: list[str] = []

    @executor(id="charge")
    async def charge(what: str, ctx: WorkflowContext[Never, str]) -> None:
        charged.append(ctx.idempotency_key)
        ctx.yield_output("charged")

    teller, storage = Teller(), InMemoryCheckpointStorage()
    builder = WorkflowBuilder(name="bank").set_start_executor(teller).add_edge(teller, charge)
    if policy is not None:
        builder = builder.with_failure_policy(charge, policy)
    workflow = builder.with_checkpointing(storage).build()
    run = workflow.run_stream(1, run_id="r")
    await one_superstep(run)
    set_clock(3601)  # the timer is due, and the answer goes into the same superstep
    await run.send_response("sure", "yes")
    with pytest.raises(ValueError, match="a sibling fails"):
        await run.wait_for_completion()
    assert len(charged) == 1

    teller.is_broken = False
    set_clock(-5)
    result = await workflow.run_from_checkpoint("r-000001")
    assert len(charged) == 1
    assert sorted(result.get_outputs()) == ["charged", "yes"]
    head = await storage.load_checkpoint("r-000002")
    assert head is not None
    assert head.timers == {}


async def test_a_started_call_of_a_timer_is_not_begun_again(set_clock: SetClock) -> None:
    began = asyncio.Event()
    calls = 0

    @executor(id="charge")
    async def charge(what: str, ctx: WorkflowContext[Never, str]) -> None:
        nonlocal calls
        calls += 1
        began.set()
        await asyncio.Event().wait()

    teller, storage = Teller(), InMemoryCheckpointStorage()
    teller.is_broken = False
    builder = WorkflowBuilder(name="bank").set_start_executor(teller).add_edge(teller, charge)
    builder = builder.with_failure_policy(charge, FailurePolicy(at_most_once=True))
    workflow = builder.with_checkpointing(storage).build()
    run = workflow.run_stream(1, run_id="r")
    await one_superstep(run)
    set_clock(3601)
    driving = asyncio.create_task(run.wait_for_completion())
    await began.wait()
    driving.cancel()  # the process dies in the middle of the call
    await asyncio.gather(driving, return_exceptions=True)

    set_clock(-5)
    with pytest.raises(InterruptedCallError):
        await workflow.run_from_checkpoint("r-000001", responses={"sure": "yes"})
    assert calls == 1


@dataclass
class Query:
    text: str


async def test_a_recorded_default_of_a_question_inside_is_not_taken_again(
    set_clock: SetClock,
) -> None:
    taken: list[str] = []
    is_broken = True

    class Asker(Executor):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            ctx.request_info(Query(text), str, request_id="q", deadline=3600, default="late")

        @response_handler
        async def answered(self, asked: Query, answer: str, ctx: WorkflowContext[Any, str]) -> None:
            taken.append(answer)
            ctx.yield_output(answer)

    class Outer(Executor):
        """Takes the question, does not answer it, and asks one of its own."""

        @handler
        async def begin(self, text: str, ctx: WorkflowContext[str]) -> None:
            ctx.send_message(text)
            ctx.request_info("sure?", bool, request_id="sure")

        @handler
        async def question(
            self, asked: SubWorkflowRequestMessage[Any], ctx: WorkflowContext[Any]
        ) -> None:
            pass

        @response_handler
        async def sure(self, asked: str, answer: bool, ctx: WorkflowContext[str, str]) -> None:
            if is_broken:
                raise ValueError("a sibling fails")
            ctx.yield_output("sure")

        @handler
        async def done(self, result: list[str], ctx: WorkflowContext[str, str]) -> None:
            pass

    inner = WorkflowBuilder(name="inner").set_start_executor(Asker("asker")).build()
    outer, sub = Outer("outer"), WorkflowExecutor(inner, "sub", allow_direct_output=True)
    storage = InMemoryCheckpointStorage()
    builder = WorkflowBuilder(name="w").set_start_executor(outer)
    builder = builder.add_edge(outer, sub).add_edge(sub, outer)
    workflow = builder.with_checkpointing(storage).build()
    run = workflow.run_stream("a", run_id="r")
    for _ in range(3):
        await one_superstep(run)
    set_clock(3601)
    await run.send_response("sure", True)
    with pytest.raises(ValueError, match="a sibling fails"):
        await run.wait_for_completion()
    assert taken == ["late"]
    await run.aclose()

    is_broken = False
    set_clock(-5)
    head = await storage.get_run("r")
    assert head is not None
    run = workflow.run_stream_from_checkpoint(head.head)
    await one_superstep(run)
    await run.aclose()
    assert taken == ["late"]
    last = await storage.get_run("r")
    assert last is not None
    checkpoint = await storage.load_checkpoint(last.head)
    assert checkpoint is not None
    assert checkpoint.intercepted_requests == {}


def timer(timer_id: str, due: str) -> Timer:
    return Timer(timer_id, due, Message(SEALER.seal(1, ""), ("a",), ("b",)))


def test_what_was_begun_is_due_whatever_the_clock_says() -> None:
    state = State()
    for name, due in (("1.0", "3"), ("1.1", "1"), ("1.2", "2")):
        state.timers[name] = timer(name, due)
    assert due_timers(state, "1") == ["1.1"]
    assert due_timers(state, "1", {"timer:1.0"}) == ["1.1", "1.0"]
    assert due_timers(state, "0", {"timer:1.0", "answer:1.1", "0", "timer:9.9"}) == ["1.0"]


def test_a_journal_names_what_finished_began_and_sleeps() -> None:
    notes = [
        b'{"note":"started","executor_id":"a","key":"timer:1.0"}',
        b'{"note":"sleep","executor_id":"b","key":"answer:q","number":1,"due":"9"}',
        b'{"executor_id":"c","key":"3"}',
    ]
    assert Recorded.read(notes, SEALER).begun == {"timer:1.0", "answer:q", "3"}
