"""Failure policies and error edges in a run: repetition, limits of time, at most once, what a
failure leaves.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    ExecutorFailedEvent,
    ExecutorFailure,
    FailurePolicy,
    HandlerError,
    HandlerTimeoutError,
    InMemoryCheckpointStorage,
    InterruptedCallError,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    RoutingError,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowRunState,
    executor,
    handler,
    response_handler,
)
from tests.unit.support import (
    Asker,
    Question,
    Reverse,
    Tally,
    built,
    collect,
    no_task_left,
    outputs,
    questions,
    take,
    until,
)

MakeStorage = Callable[[], Any]
OnOff = pytest.mark.parametrize(
    "make_storage", [lambda: None, InMemoryCheckpointStorage], ids=["off", "on"]
)
SOON = FailurePolicy(max_attempts=3, backoff=0.01)


class Flaky(Executor):
    """Fails until an attempt, after it has written, sent and yielded."""

    def __init__(
        self, id: str = "flaky", good: int = 3, error: type[BaseException] = ValueError
    ) -> None:
        super().__init__(id)
        self.good = good
        self.error = error
        self.attempts: list[int] = []
        self.keys: list[str] = []

    @handler
    async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        self.attempts.append(ctx.attempt)
        self.keys.append(ctx.idempotency_key)
        await ctx.append_shared_state("attempts", ctx.attempt)
        await ctx.set_state({"by": ctx.attempt})
        await ctx.send_message(f"{text}{ctx.attempt}")
        await ctx.yield_output(f"flaky {ctx.attempt}")
        await ctx.schedule("never", delay=3600, target_id=self.id)
        if ctx.attempt < self.good:
            raise self.error(f"attempt {ctx.attempt} of {text}")


class Once(Flaky):
    """Does not schedule anything."""

    @handler
    async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        self.attempts.append(ctx.attempt)
        await ctx.append_shared_state("attempts", ctx.attempt)
        await ctx.send_message(f"{text}{ctx.attempt}")
        if ctx.attempt < self.good:
            raise self.error(f"attempt {ctx.attempt} of {text}")
        await ctx.yield_output(f"flaky {ctx.attempt}")


class Sibling(Executor):
    """Goes on for some supersteps."""

    def __init__(self, id: str = "sibling") -> None:
        super().__init__(id)

    @handler
    async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.append_shared_state("sibling", text)
        await ctx.yield_output(f"sibling {text}")
        if len(text) < 3:
            await ctx.send_message(text + ".")


class Handles(Executor):
    def __init__(self, id: str = "handles") -> None:
        super().__init__(id)
        self.failures: list[ExecutorFailure] = []

    @handler
    async def failed(self, failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
        self.failures.append(failure)
        await ctx.yield_output(f"{failure.error_type} after {failure.attempts}")


class Start(Executor):
    @handler
    async def start(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)


def flaky_workflow(
    flaky: Executor, policy: FailurePolicy | None = SOON, **settings: Any
) -> Workflow:
    sibling, start = Sibling(), Start("start")
    builder = (
        WorkflowBuilder(name="flaky")
        .add_fan_out_edges(start, [flaky, sibling])
        .add_edge(sibling, sibling)
    )
    builder.add_edge(flaky, Reverse("back"))
    if policy is not None:
        builder.with_failure_policy(flaky, policy)
    return built(builder, start, **settings)


def alone(
    flaky: Executor,
    policy: FailurePolicy | None = SOON,
    *,
    handles: Handles | None = None,
    **s: Any,
) -> Workflow:
    builder = WorkflowBuilder(name="alone").add_edge(flaky, Reverse("back"))
    if handles is not None:
        builder.add_error_edge(flaky, handles)
    if policy is not None:
        builder.with_failure_policy(flaky, policy)
    return built(builder, flaky, **s)


# ------------------------------------------------------------------------------------------ retries


@OnOff
async def test_a_call_is_repeated_while_the_others_go_on(make_storage: MakeStorage) -> None:
    flaky = Once()
    result = await flaky_workflow(flaky, storage=make_storage()).run("x")

    assert flaky.attempts == [1, 2, 3]
    got = result.get_outputs()
    assert [text for text in got if "sibling" in text] == ["sibling x", "sibling x.", "sibling x.."]
    assert [text for text in got if "sibling" not in text] == ["flaky 3", "3x"]
    assert result.get_final_state() is WorkflowRunState.IDLE
    failed = [event for event in result if isinstance(event, ExecutorFailedEvent)]
    assert [event.details.message for event in failed] == ["attempt 1 of x", "attempt 2 of x"]
    assert [event.details.extra["attempt"] for event in failed if event.details.extra] == [1, 2]


async def test_what_siblings_did_is_committed_and_what_failed_is_dropped() -> None:
    storage, flaky = InMemoryCheckpointStorage(), Flaky()
    workflow = flaky_workflow(flaky, FailurePolicy(max_attempts=2, backoff=60), storage=storage)
    run = workflow.run_stream("x", run_id="r")
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent) and event.step_number == 2:
            break

    head = (await storage.list_checkpoints(run_id="r"))[-1]
    assert head.shared_state == {"sibling": ["x"]}
    assert head.executor_states == {}
    assert head.outputs == ["sibling x"]
    assert [m["data"] for ms in head.messages.values() for m in ms] == ["x."]
    ((timer_id, timer),) = head.timers.items()
    assert (timer_id, timer["attempt"], timer["data"]) == ("2.0", 2, "x")
    left = (datetime.fromisoformat(timer["due"]) - datetime.now(UTC)).total_seconds()
    assert 50 < left < 67


async def test_attempts_and_the_due_time_survive_a_restart() -> None:
    storage, first = InMemoryCheckpointStorage(), Once()
    policy = FailurePolicy(max_attempts=3, backoff=0.15, backoff_factor=1, jitter=0)
    run = flaky_workflow(first, policy, storage=storage).run_stream("x", run_id="r")
    began = time.monotonic()
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent) and event.step_number == 2:
            break
    del event
    assert await no_task_left()
    before = (await storage.list_checkpoints(run_id="r"))[-1].timers

    second = Once()
    workflow = flaky_workflow(second, policy, storage=storage)
    result = await workflow.run_from_checkpoint("r-000002")

    assert time.monotonic() - began >= 0.3
    assert (first.attempts, second.attempts) == ([1], [2, 3])
    assert [timer["attempt"] for timer in before.values()] == [2]
    assert "flaky 3" in result.get_outputs()
    again = next(cp for cp in await storage.list_checkpoints(run_id="r") if cp.iteration_count == 3)
    assert again.timers == before
    assert (await storage.list_checkpoints(run_id="r"))[-1].timers == {}


@OnOff
async def test_every_attempt_has_the_idempotency_key_of_the_first(
    make_storage: MakeStorage,
) -> None:
    flaky = Flaky(good=9)
    with pytest.raises(ValueError, match="attempt 3"):
        await alone(flaky, storage=make_storage()).run("x", run_id="r")
    assert len(flaky.keys) == 3
    assert len(set(flaky.keys)) == 1


@OnOff
async def test_a_used_up_policy_raises_the_last_error(make_storage: MakeStorage) -> None:
    flaky = Once(good=9)
    with pytest.raises(ValueError, match="attempt 3 of x"):
        await alone(flaky, storage=make_storage()).run("x")
    assert flaky.attempts == [1, 2, 3]


async def test_errors_that_are_not_to_be_retried_are_final() -> None:
    flaky = Once(error=KeyError)
    with pytest.raises(KeyError):
        await alone(
            flaky, FailurePolicy(max_attempts=3, backoff=0, retry_on=(OSError, ValueError))
        ).run("x")
    assert flaky.attempts == [1]

    ours = Once(error=FileNotFoundError)
    policy = FailurePolicy(max_attempts=3, backoff=0, retry_on=(OSError,))
    assert (await alone(ours, policy).run("x")).get_outputs() == ["flaky 3", "3x"]


async def test_messages_behind_a_failed_one_are_handled() -> None:
    seen: list[tuple[str, int]] = []

    @executor
    async def twice(text: str, ctx: WorkflowContext[str]) -> None:
        for part in text:
            await ctx.send_message(part)

    @executor
    async def picky(text: str, ctx: WorkflowContext[Never, str]) -> None:
        seen.append((text, ctx.attempt))
        if text == "b" and ctx.attempt == 1:
            raise ValueError("b")
        await ctx.yield_output(text)

    builder = WorkflowBuilder().add_edge(twice, picky).with_failure_policy(picky, SOON)
    result = await built(builder, twice, storage=InMemoryCheckpointStorage()).run("abc")

    assert seen == [("a", 1), ("b", 1), ("c", 1), ("b", 2)]
    assert result.get_outputs() == ["a", "c", "b"]


async def test_max_iterations_counts_attempts() -> None:
    flaky = Once(good=3)
    builder = WorkflowBuilder(10).add_edge(flaky, Reverse("back")).with_failure_policy(flaky, SOON)
    assert (await built(builder, flaky).run("x")).get_outputs() == ["flaky 3", "3x"]


async def test_a_retry_inside_a_sub_workflow_keeps_its_run_alive() -> None:
    flaky = Once()
    inner = WorkflowExecutor(alone(flaky), "inner")
    workflow = built(
        WorkflowBuilder().add_edge(inner, Reverse("out")),
        inner,
        storage=InMemoryCheckpointStorage(),
    )

    result = await workflow.run("x")

    assert flaky.attempts == [1, 2, 3]
    assert result.get_outputs() == ["3 ykalf", "x3"]


# -------------------------------------------------------------------------------------- error edges


@OnOff
async def test_a_used_up_policy_leads_along_the_error_edge(make_storage: MakeStorage) -> None:
    handles, flaky = Handles(), Once(good=9)
    result = await alone(flaky, handles=handles, storage=make_storage()).run("x")

    assert result.get_outputs() == ["ValueError after 3"]
    assert result.get_final_state() is WorkflowRunState.IDLE
    (failure,) = handles.failures
    assert (failure.executor_id, failure.message, failure.error_message) == (
        "flaky",
        "x",
        "attempt 3 of x",
    )
    assert (failure.attempts, failure.interrupted) == (3, False)
    assert failure.traceback is not None
    assert "in work" in failure.traceback
    assert "ValueError: attempt 3 of x" in failure.traceback


async def test_without_a_policy_the_first_failure_takes_the_error_edge() -> None:
    storage, handles, flaky = InMemoryCheckpointStorage(), Handles(), Flaky(good=9)
    result = await alone(flaky, None, handles=handles, storage=storage).run("x", run_id="r")

    assert result.get_outputs() == ["ValueError after 1"]
    last = (await storage.list_checkpoints(run_id="r"))[-1]
    assert (last.shared_state, last.executor_states, last.timers) == ({}, {}, {})


async def test_a_failure_on_its_way_survives_a_restart() -> None:
    storage, flaky = InMemoryCheckpointStorage(), Once(good=9)
    workflow = alone(flaky, None, handles=Handles(), storage=storage)
    await take(workflow.run_stream("x", run_id="r"), SuperStepCompletedEvent)

    handles = Handles()
    result = await alone(Once(), None, handles=handles, storage=storage).run_from_checkpoint(
        "r-000001"
    )

    assert result.get_outputs() == ["ValueError after 1"]
    assert handles.failures[0].message == "x"


# ----------------------------------------------------------------------------------------- timeouts


class Slow(Executor):
    def __init__(self, id: str = "slow", good: int = 9) -> None:
        super().__init__(id)
        self.good = good

    @handler
    async def work(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.yield_output(f"{text}{ctx.attempt}")
        if ctx.attempt < self.good:
            await asyncio.sleep(30)


async def test_a_handler_that_takes_too_long() -> None:
    with pytest.raises(
        HandlerTimeoutError, match=r"'slow' took longer than the 0.02 s .*attempt 1 in superstep 1"
    ):
        await alone(Slow(), FailurePolicy(timeout=0.02)).run("x")

    handles = Handles()
    assert (
        await alone(Slow(), FailurePolicy(timeout=0.02), handles=handles).run("x")
    ).get_outputs() == ["HandlerTimeoutError after 1"]

    again = alone(Slow(good=2), FailurePolicy(timeout=0.02, max_attempts=2, backoff=0))
    assert (await again.run("x")).get_outputs() == ["x2"]


async def test_a_handler_that_catches_its_cancellation_has_taken_too_long_all_the_same() -> None:
    @executor
    async def deaf(text: str, ctx: WorkflowContext[str, str]) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await ctx.yield_output("half")

    with pytest.raises(HandlerTimeoutError):
        await alone(deaf, FailurePolicy(timeout=0.02)).run("x")


async def test_a_timeout_of_its_own_is_no_limit_of_the_policy() -> None:
    @executor
    async def own(text: str, ctx: WorkflowContext[str]) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError) as caught:
        await alone(own, FailurePolicy(timeout=5)).run("x")
    assert not isinstance(caught.value, HandlerTimeoutError)


async def test_a_plain_function_that_takes_too_long_has_no_effect_any_more() -> None:
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @executor
    def blocking(text: str, ctx: WorkflowContext[str, str]) -> None:
        time.sleep(0.1)
        try:
            ctx.yield_output("late")
        except RuntimeError as error:
            said.get_loop().call_soon_threadsafe(said.set_result, str(error))

    with pytest.raises(HandlerTimeoutError):
        await alone(blocking, FailurePolicy(timeout=0.02)).run("x")
    assert "has returned" in await said


# ------------------------------------------------------------------------------------------ answers


class ByMessage(Asker):
    """Handles answers as messages, at first without success."""

    def __init__(self, id: str = "asker") -> None:
        super().__init__(id)
        self.attempts: list[int] = []

    @handler
    async def answer(
        self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        self.attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise OSError("not yet")
        await ctx.yield_output(f"{answer.original_request.prompt}={answer.data}")


class Direct(Executor):
    """Asks directly, and fails at the first attempt to take the answer."""

    def __init__(self, id: str = "asker") -> None:
        super().__init__(id)
        self.attempts: list[int] = []

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
        await ctx.request_info(Question(prompt=text), str, request_id=f"ask-{text}")

    @response_handler
    async def answer(
        self, question: Question, answer: str, ctx: WorkflowContext[Never, str]
    ) -> None:
        self.attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise OSError("not yet")
        await ctx.yield_output(f"{question.prompt}={answer}")


def answered_workflow(
    asker: Executor, policy: FailurePolicy, handles: Handles | None = None, **s: Any
) -> Workflow:
    builder = WorkflowBuilder(name="ask")
    if isinstance(asker, ByMessage):
        port = RequestInfoExecutor("port")
        builder.add_edge(asker, port).add_edge(port, asker)
    if handles is not None:
        builder.add_error_edge(asker, handles)
    return built(builder.with_failure_policy(asker, policy), asker, **s)


@OnOff
@pytest.mark.parametrize("kind", [ByMessage, Direct])
async def test_an_answer_is_kept_for_the_next_attempt(
    make_storage: MakeStorage, kind: type[ByMessage] | type[Direct]
) -> None:
    asker = kind()
    run = answered_workflow(asker, SOON, storage=make_storage()).run_stream("q")
    events = []
    async for event in run:
        events.append(event)
        if isinstance(event, RequestInfoEvent):
            await run.send_response("ask-q", "yes")

    assert asker.attempts == [1, 2]
    assert outputs(events) == ["q=yes"]
    assert questions(events) == ["ask-q"]


@pytest.mark.parametrize("kind", [ByMessage, Direct])
async def test_an_answer_for_the_next_attempt_survives_a_restart(
    kind: type[ByMessage] | type[Direct],
) -> None:
    storage = InMemoryCheckpointStorage()
    policy = FailurePolicy(max_attempts=2, backoff=0.02)
    workflow = answered_workflow(kind(), policy, storage=storage)
    run = workflow.run_stream("q", run_id="r")
    asked = await run.wait_for_completion()
    await run.send_response("ask-q", "yes")
    await take(run, SuperStepCompletedEvent)
    head = (await storage.list_checkpoints(run_id="r"))[-1]
    assert (list(head.pending_requests), len(head.timers)) == ([], 1)
    assert [answered.request_id for answered in head.answered] == ["ask-q"]

    asker = kind()
    again = answered_workflow(asker, policy, storage=storage)
    result = await again.run_from_checkpoint(head.checkpoint_id)

    assert asked.get_outputs() == []
    assert asker.attempts == [2]
    assert result.get_outputs() == ["q=yes"]
    assert len((await storage.list_checkpoints(run_id="r"))[-1].answered) == 1


@pytest.mark.parametrize("kind", [ByMessage, Direct])
async def test_an_answer_that_nobody_could_take_goes_along_the_error_edge(
    kind: type[ByMessage] | type[Direct],
) -> None:
    handles = Handles()
    workflow = answered_workflow(
        kind(), FailurePolicy(), handles, storage=InMemoryCheckpointStorage()
    )
    await workflow.run("q")
    result = await workflow.send_responses({"ask-q": "yes"})

    assert result.get_outputs() == ["OSError after 1"]
    message = handles.failures[0].message
    assert isinstance(message, RequestResponse)
    assert (message.data, message.request_id, message.original_request.prompt) == (
        "yes",
        "ask-q",
        "q",
    )


# -------------------------------------------------------------------------------------------- hooks


class Stumbling(Tally):
    """Fails at the first attempt at a number, after it has counted it."""

    def __init__(self, bad: int) -> None:
        super().__init__("tally")
        self.bad = bad

    @handler
    async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        self.calls.append(f"add {number} to {self.total}")
        self.total += number
        if number == self.bad and ctx.attempt == 1:
            raise OSError("stumbled")
        await ctx.yield_output(self.total)


@OnOff
async def test_attributes_come_back_after_a_failed_attempt(make_storage: MakeStorage) -> None:
    @executor
    async def numbers(count: int, ctx: WorkflowContext[int]) -> None:
        for number in range(1, count + 1):
            await ctx.send_message(number)

    tally = Stumbling(bad=2)
    builder = WorkflowBuilder().add_edge(numbers, tally).with_failure_policy(tally, SOON)
    result = await built(builder, numbers, storage=make_storage()).run(3)

    assert [call for call in tally.calls if call.startswith("add")] == [
        "add 1 to 0",
        "add 2 to 1",
        "add 3 to 1",
        "add 2 to 4",
    ]
    assert result.get_outputs() == [1, 4, 6]


async def test_attributes_come_back_when_the_failure_is_routed() -> None:
    tally, handles = Stumbling(bad=5), Handles()
    builder = WorkflowBuilder().add_error_edge(tally, handles)
    storage = InMemoryCheckpointStorage()
    result = await built(builder, tally, storage=storage).run(5, run_id="r")

    assert result.get_outputs() == ["OSError after 1"]
    assert tally.total == 0
    assert (await storage.list_checkpoints(run_id="r"))[-1].executor_states["tally"] == {"total": 0}


# ------------------------------------------------------------------------------------- at most once


@dataclass
class Effects:
    done: int = 0


class Charge(Executor):
    """Has an effect that must not happen twice, and waits before it finishes."""

    def __init__(self, effects: Effects, leave: asyncio.Event) -> None:
        super().__init__("charge")
        self.effects = effects
        self.leave = leave

    @handler
    async def charge(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.effects.done += 1
        await self.leave.wait()
        await ctx.yield_output(f"charged {text}")


def charging(
    effects: Effects, leave: asyncio.Event, handles: Handles | None = None, **settings: Any
) -> Workflow:
    charge, start = Charge(effects, leave), Start("start")
    builder = WorkflowBuilder(name="charge").add_edge(start, charge)
    builder.with_failure_policy(charge, FailurePolicy(at_most_once=True))
    if handles is not None:
        builder.add_error_edge(charge, handles)
    return built(builder, start, **settings)


async def cut_short(effects: Effects, storage: Any) -> None:
    run = charging(effects, asyncio.Event(), storage=storage).run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: effects.done)
    await run.aclose()
    await consumer


async def test_a_call_that_was_cut_short_is_not_begun_again() -> None:
    effects, storage = Effects(), InMemoryCheckpointStorage()
    await cut_short(effects, storage)
    leave = asyncio.Event()
    leave.set()
    for _ in range(2):
        workflow = charging(effects, leave, storage=storage)
        with pytest.raises(
            InterruptedCallError,
            match=r"'charge' in superstep 2 of run 'r'.*unknown whether it took",
        ):
            await workflow.run_from_checkpoint("r-000001")
    assert effects.done == 1


async def test_a_call_that_was_cut_short_takes_the_error_edge() -> None:
    effects, storage, handles = Effects(), InMemoryCheckpointStorage(), Handles()
    run = charging(effects, asyncio.Event(), handles, storage=storage).run_stream("x", run_id="r")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: effects.done)
    await run.aclose()
    await consumer

    result = await charging(effects, asyncio.Event(), handles, storage=storage).run_from_checkpoint(
        "r-000001"
    )

    assert result.get_outputs() == ["InterruptedCallError after 1"]
    (failure,) = handles.failures
    assert (failure.interrupted, failure.message) == (True, "x")
    assert effects.done == 1


class Halt(BaseException):
    pass


async def test_a_call_that_failed_is_not_begun_again_by_a_resume() -> None:
    storage, begun = InMemoryCheckpointStorage(), []

    def build() -> Workflow:
        @executor
        def work(text: str, ctx: WorkflowContext[Never, str]) -> None:
            begun.append(text)
            raise Halt

        return built(
            WorkflowBuilder().with_failure_policy(work, FailurePolicy(at_most_once=True)),
            work,
            storage=storage,
        )

    run = build().run_stream("x", run_id="r")
    with pytest.raises(HandlerError):
        await collect(run)
    with pytest.raises(InterruptedCallError):
        await build().run_from_checkpoint("r-000000")
    assert begun == ["x"]


@OnOff
async def test_undisturbed_it_runs_as_usual(make_storage: MakeStorage) -> None:
    effects, leave = Effects(), asyncio.Event()
    leave.set()
    assert (await charging(effects, leave, storage=make_storage()).run("x")).get_outputs() == [
        "charged x"
    ]


async def test_a_finished_call_is_not_taken_for_one_cut_short() -> None:
    storage, effects, leave = InMemoryCheckpointStorage(), Effects(), asyncio.Event()
    leave.set()
    fails = [True]

    def build() -> Workflow:
        @executor
        async def sibling(text: str, ctx: WorkflowContext[Never, str]) -> None:
            if fails:
                raise OSError("down")
            await ctx.yield_output("sibling")

        charge, start = Charge(effects, leave), Start("start")
        builder = WorkflowBuilder(name="charge").add_fan_out_edges(start, [charge, sibling])
        return built(
            builder.with_failure_policy(charge, FailurePolicy(at_most_once=True)),
            start,
            storage=storage,
        )

    with pytest.raises(OSError, match="down"):
        await build().run("x", run_id="r")
    fails.clear()
    result = await build().run_from_checkpoint("r-000001")

    assert result.get_outputs() == ["charged x", "sibling"]
    assert effects.done == 1


async def test_without_storage_the_handle_remembers_that_a_call_has_begun() -> None:
    effects = Effects()
    run = charging(effects, asyncio.Event()).run_stream("x")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: effects.done)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(InterruptedCallError):
        await run.wait_for_completion()
    assert effects.done == 1


async def test_what_a_superstep_that_cannot_be_merged_has_begun_is_remembered() -> None:
    storage, begun = InMemoryCheckpointStorage(), []

    def build(works: bool) -> Workflow:
        @executor
        async def charge(text: str, ctx: WorkflowContext[str]) -> None:
            begun.append(text)
            await ctx.send_message(text)

        def choose(message: Any) -> bool:
            if not works:
                raise OSError("bad condition")
            return True

        builder = WorkflowBuilder(name="charge").add_edge(charge, Reverse("back"), condition=choose)
        return built(
            builder.with_failure_policy(charge, FailurePolicy(at_most_once=True)),
            charge,
            storage=storage,
        )

    with pytest.raises(RoutingError):
        await build(False).run("x", run_id="r")
    with pytest.raises(InterruptedCallError):
        await build(True).run_from_checkpoint("r-000000")
    assert begun == ["x"]
