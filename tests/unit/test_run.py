"""`StreamingRun`: one consumer, live and committed events, answers, rewinding, and every way to
stop.
"""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any, Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    Executor,
    ExecutorFailedEvent,
    ExecutorInvokedEvent,
    HandlerError,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    ResponseTypeError,
    RunBusyError,
    RunClosedError,
    RunFencedError,
    StorageError,
    StreamBusyError,
    StreamingRun,
    SuperStepCompletedEvent,
    SuperStepStartedEvent,
    UnknownRequestError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowRuntimeError,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
    executor,
    handler,
)
from tests.unit.support import (
    CountingStorage,
    Question,
    SlowStorage,
    Tally,
    asking_workflow,
    built,
    collect,
    collect_into,
    counter_workflow,
    kinds,
    no_task_left,
    outputs,
    questions,
    shout_workflow,
    states,
    take,
    until,
)

Storages = pytest.mark.parametrize(
    "make_storage", [lambda: None, InMemoryCheckpointStorage, SlowStorage]
)
MakeStorage = Callable[[], Any]


class Note(WorkflowEvent):
    pass


class Gate(Executor):
    """Emits an event, waits for leave, then yields what it got."""

    def __init__(self, id: str = "gate") -> None:
        super().__init__(id)
        self.leave = asyncio.Event()
        self.started = 0
        self.cancelled = 0
        self.is_waiting = False

    @handler
    async def wait(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        self.started += 1
        await ctx.add_event(Note(text))
        try:
            self.is_waiting = True
            await self.leave.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await ctx.yield_output(text)
        if len(text) < 3:
            await ctx.send_message(text + ".")


def gate_workflow(**settings: Any) -> tuple[Gate, Workflow]:
    gate = Gate()
    return gate, built(WorkflowBuilder(name="gate").add_edge(gate, gate), gate, **settings)


# ----------------------------------------------------------------------------------------- starting


async def test_run_stream_only_allocates_the_run_id() -> None:
    storage = CountingStorage()
    run = shout_workflow(storage=storage).run_stream("hello")

    assert len(run.run_id) == 24
    assert run.checkpoints == []
    assert run.latest_checkpoint is None
    await asyncio.sleep(0)
    assert storage.writes.names == []


@Storages
async def test_the_run_starts_once(make_storage: MakeStorage) -> None:
    run = shout_workflow(storage=make_storage()).run_stream("hello")

    first = await take(run, SuperStepStartedEvent)
    rest = await run.wait_for_completion()
    again = await run.wait_for_completion()

    assert kinds(first) == ["WorkflowStarted", "WorkflowStatus", "SuperStepStarted"]
    assert "WorkflowStartedEvent" not in [type(event).__name__ for event in rest]
    assert rest.get_outputs() == again.get_outputs() == ["OLLEH"]
    assert list(again) == []


@Storages
async def test_the_order_of_a_whole_stream(make_storage: MakeStorage) -> None:
    events = await collect(shout_workflow(storage=make_storage()).run_stream("hello"))

    step = ["SuperStepStarted", "ExecutorInvoked", "ExecutorCompleted"]
    assert kinds(events) == [
        "WorkflowStarted",
        "WorkflowStatus",
        *step,
        "SuperStepCompleted",
        *step,
        "WorkflowOutput",
        "SuperStepCompleted",
        "WorkflowStatus",
    ]
    assert states(events) == [WorkflowRunState.IN_PROGRESS, WorkflowRunState.IDLE]


async def test_a_resumed_run_starts_with_its_id() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = shout_workflow(storage=storage)
    run_id = (await workflow.run("hello")).run_id

    events = await collect(workflow.run_stream_from_checkpoint(f"{run_id}-000001"))

    assert events[0] == WorkflowStartedEvent(run_id=run_id)
    assert kinds(events).count("WorkflowStarted") == 1


# ----------------------------------------------------------------------------------------- consumer


async def test_a_second_consumer_is_an_error() -> None:
    run = shout_workflow().run_stream("hello")
    async for _ in run:
        with pytest.raises(StreamBusyError, match="already has a consumer"):
            run.watch_stream()
        with pytest.raises(StreamBusyError):
            await run.wait_for_completion()


async def test_iterating_while_a_task_waits_for_the_end_is_refused() -> None:
    gate, workflow = gate_workflow()
    run = workflow.run_stream("go")
    waiting = asyncio.create_task(run.wait_for_completion())
    await asyncio.sleep(0.01)

    with pytest.raises(StreamBusyError):
        run.watch_stream()

    gate.leave.set()
    assert (await waiting).get_outputs() == ["go", "go."]


async def test_two_tasks_cannot_share_an_iterator() -> None:
    gate, workflow = gate_workflow()
    stream = workflow.run_stream("go").watch_stream()
    while not isinstance(await anext(stream), Note):
        pass
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)

    with pytest.raises(StreamBusyError, match="two tasks"):
        await anext(stream)

    gate.leave.set()
    assert kinds([await waiting]) == ["ExecutorCompleted"]
    assert outputs(await collect(stream)) == ["go", "go."]


async def test_a_consumer_that_is_gone_makes_room_for_the_next() -> None:
    run = shout_workflow().run_stream("hello")
    stream = run.watch_stream()
    await anext(stream)
    with pytest.raises(StreamBusyError):
        run.watch_stream()
    del stream
    gc.collect()

    assert outputs(await collect(run)) == ["OLLEH"]


@pytest.mark.parametrize("storage", [None, InMemoryCheckpointStorage()], ids=["none", "memory"])
async def test_an_abandoned_run_whose_handlers_know_its_handle_is_freed(
    storage: InMemoryCheckpointStorage | None,
) -> None:
    """Its messages in flight must not lead to handlers, for those lead back to the run."""

    async def abandoned() -> weakref.ref[StreamingRun]:
        run: StreamingRun | None = None

        @executor
        async def ping(text: str, ctx: WorkflowContext[str]) -> None:
            assert run is not None
            await ctx.send_message(text)

        @executor
        async def pong(text: str, ctx: WorkflowContext[str]) -> None:
            assert run is not None
            await ctx.send_message(text)

        builder = WorkflowBuilder().add_edge(ping, pong).add_edge(pong, ping)
        run = built(builder, ping, storage=storage).run_stream("x")
        async for event in run:
            if isinstance(event, SuperStepCompletedEvent):
                break
        return weakref.ref(run)

    run = await abandoned()
    assert await no_task_left()  # its lease is given up
    await asyncio.sleep(0)  # the loop still has the callbacks of its tasks
    gc.collect()
    assert run() is None


async def test_an_exception_in_the_loop_makes_room_for_the_next_consumer() -> None:
    run = shout_workflow().run_stream("hello")

    async def fails() -> None:
        async for _ in run:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()

    assert outputs(await collect(run)) == ["OLLEH"]


async def test_a_timeout_makes_room_for_the_next_consumer_also_while_it_is_handled() -> None:
    gate, workflow = gate_workflow()
    run = workflow.run_stream("go")
    seen: list[WorkflowEvent] = []
    try:
        async with asyncio.timeout(0.01):
            await collect_into(seen, run)
    except TimeoutError:
        gate.leave.set()
        await collect_into(seen, run)

    assert outputs(seen) == ["go", "go."]


async def test_a_cancelled_task_that_is_still_referenced_is_not_a_consumer() -> None:
    gate, workflow = gate_workflow()
    run = workflow.run_stream("go")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.started)
    consumer.cancel()
    await asyncio.wait({consumer})
    gate.leave.set()

    assert consumer.cancelled()
    assert (await run.wait_for_completion()).get_outputs() == ["go", "go."]


# --------------------------------------------------------------------------- live, committed, break


@Storages
async def test_live_events_arrive_while_the_handler_still_runs(make_storage: MakeStorage) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    seen = []
    async for event in workflow.run_stream("go"):
        seen.append(event)
        if isinstance(event, Note):
            assert not outputs(seen) or event.data == "go."
            gate.leave.set()

    assert outputs(seen) == ["go", "go."]


async def test_committed_events_come_after_their_commit_and_in_order() -> None:
    storage = SlowStorage()
    run = asking_workflow(storage=storage).run_stream("why")
    async for event in run:
        if isinstance(event, WorkflowOutputEvent | RequestInfoEvent | SuperStepCompletedEvent):
            assert run.latest_checkpoint is not None
            stored = await storage.get_run(run.run_id)
            assert stored is not None
            assert stored.head == run.latest_checkpoint.checkpoint_id
            assert not isinstance(event, RequestInfoEvent) or event.request_id in stored.requests
        if isinstance(event, SuperStepCompletedEvent):
            assert event.completion_info.checkpoint in run.checkpoints


@Storages
async def test_break_finishes_the_superstep_parks_and_continues_with_undelivered_events(
    make_storage: MakeStorage,
) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream("g")
    before = await take(run, Note)
    gate.leave.set()

    assert await no_task_left()
    assert gate.started == 1
    if run.storage is not None:
        assert [info.step_number for info in run.checkpoints] == [0, 1]

    after = await collect(run)
    assert kinds(after)[:3] == ["ExecutorCompleted", "WorkflowOutput", "SuperStepCompleted"]
    assert outputs([*before, *after]) == ["g", "g.", "g.."]
    assert kinds([*before, *after]).count("SuperStepStarted") == 3


@pytest.mark.parametrize(
    "kind", [SuperStepStartedEvent, SuperStepCompletedEvent, WorkflowOutputEvent]
)
async def test_a_parked_run_holds_no_lease(kind: type[WorkflowEvent]) -> None:
    storage = SlowStorage()
    run = counter_workflow(storage=storage).run_stream(2)
    await take(run, kind)

    assert await no_task_left()
    stored = await storage.get_run(run.run_id)
    assert stored is not None
    assert stored.lease is None
    assert (await run.wait_for_completion()).get_outputs() == [2, 1, 0]


async def test_a_parked_run_can_be_resumed_by_another_handle_which_fences_the_first() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    first = workflow.run_stream(3)
    await take(first, SuperStepCompletedEvent)
    assert await no_task_left()
    head = first.latest_checkpoint
    assert head is not None

    second = await workflow.run_from_checkpoint(head)
    with pytest.raises(RuntimeError, match="moved on"):
        await first.wait_for_completion()

    assert second.get_outputs() == [3, 2, 1, 0]


async def test_a_stale_handle_does_not_push_out_the_one_that_has_the_run() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    stale = workflow.run_stream(3, run_id="r")
    await take(stale, SuperStepCompletedEvent)
    assert await no_task_left()
    seen = []
    async for event in workflow.run_stream_from_checkpoint("r-000001"):
        seen.append(event)
        if isinstance(event, SuperStepCompletedEvent):
            with pytest.raises(RunFencedError, match="moved on"):
                await stale.wait_for_completion()

    assert outputs(seen) == [2, 1, 0]


async def test_cancelling_the_consuming_task_lets_the_superstep_finish() -> None:
    storage = SlowStorage()
    gate, workflow = gate_workflow(storage=storage)
    run = workflow.run_stream("g")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.started)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    gate.leave.set()

    assert await no_task_left()
    assert (gate.started, gate.cancelled) == (1, 0)
    assert (await run.wait_for_completion()).get_outputs() == ["g", "g.", "g.."]


async def test_wait_for_one_event_with_a_timeout_and_continue() -> None:
    gate, workflow = gate_workflow()
    stream = workflow.run_stream("go").watch_stream()
    seen: list[WorkflowEvent] = []
    while not seen or not isinstance(seen[-1], Note):
        seen.append(await anext(stream))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.01)
    gate.leave.set()

    assert outputs([*seen, *await collect(stream)]) == ["go", "go."]


@Storages
async def test_a_timeout_around_the_run_cancels_the_handlers_and_loses_nothing(
    make_storage: MakeStorage,
) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream("go")

    async def expire(limit: asyncio.Timeout) -> None:
        await until(lambda: gate.is_waiting)
        limit.reschedule(asyncio.get_running_loop().time())

    async def hurry() -> None:
        async with (
            asyncio.timeout(30),
            asyncio.timeout(None) as limit,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(expire(limit))
            await run.wait_for_completion()

    with pytest.raises(TimeoutError):
        await hurry()

    assert gate.cancelled == 1
    assert await no_task_left()
    gate.leave.set()
    assert (await run.wait_for_completion()).get_outputs() == ["go", "go."]


@pytest.mark.parametrize("turn", range(0, 90, 3))
async def test_cancelled_at_any_turn_of_the_loop_the_run_continues(turn: int) -> None:
    storage = SlowStorage(turns=2)
    workflow = counter_workflow(storage=storage)
    run = workflow.run_stream(3)
    waiting = asyncio.create_task(run.wait_for_completion())
    for _ in range(turn):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert await no_task_left()
    if not waiting.cancelled():
        return
    stored = await storage.get_run(run.run_id)
    assert stored is None or stored.lease is None
    result = await run.wait_for_completion()
    assert result.get_outputs() == [3, 2, 1, 0]
    assert len(await storage.list_checkpoint_ids()) == 5


# ------------------------------------------------------------------------------------------ answers


@Storages
async def test_an_answer_inside_the_loop_continues_the_stream(make_storage: MakeStorage) -> None:
    run = asking_workflow(storage=make_storage()).run_stream("why")
    seen = []
    async for event in run:
        seen.append(event)
        if isinstance(event, RequestInfoEvent):
            assert isinstance(event.data, Question)
            await run.send_response(event.request_id, "because")

    assert outputs(seen) == ["why=because"]
    assert states(seen)[-1] is WorkflowRunState.IDLE


@Storages
async def test_an_answer_after_the_end_then_iterate_again(make_storage: MakeStorage) -> None:
    run = asking_workflow(storage=make_storage()).run_stream("why")
    first = await collect(run)
    assert states(first)[-1] is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
    assert await collect(run) == []

    await run.send_response("ask-why", "because")
    second = await collect(run.watch_stream())

    assert outputs(second) == ["why=because"]
    assert kinds(first + second).count("RequestInfo") == 1


@Storages
async def test_an_answer_from_another_task_while_a_superstep_is_in_flight(
    make_storage: MakeStorage,
) -> None:
    asked, leave = asyncio.Event(), asyncio.Event()

    class Both(Executor):
        @handler
        async def begin(self, text: str, ctx: WorkflowContext[Question | int]) -> None:
            await ctx.send_message(Question(request_id="q", prompt=text))
            await ctx.send_message(1)

        @handler
        async def slow(self, number: int, ctx: WorkflowContext[int, str]) -> None:
            if number < 4:
                await ctx.send_message(number + 1)
            if number == 3:
                asked.set()
                await leave.wait()
            await ctx.yield_output(str(number))

        @handler
        async def answered(
            self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Never, str]
        ) -> None:
            await ctx.yield_output(answer.data)

    both, port = Both("both"), RequestInfoExecutor("port")
    workflow = built(
        WorkflowBuilder().add_edge(both, port).add_edge(port, both).add_edge(both, both),
        both,
        storage=make_storage(),
    )
    run = workflow.run_stream("?")

    async def answer() -> None:
        await asked.wait()
        await run.send_response("q", "yes")
        leave.set()

    answering = asyncio.create_task(answer())
    seen = await collect(run)
    await answering

    assert outputs(seen) == ["1", "2", "3", "4", "yes"]
    assert states(seen)[-1] is WorkflowRunState.IDLE


@Storages
async def test_answers_that_cannot_be_taken_change_nothing(make_storage: MakeStorage) -> None:
    run = asking_workflow(storage=make_storage()).run_stream("why")
    await collect(run)
    heads = list(run.checkpoints)

    with pytest.raises(UnknownRequestError, match=r"'nonsense'.*'ask-why'"):
        await run.send_response("nonsense", "yes")
    with pytest.raises(ResponseTypeError, match="needs an answer of type str, not int"):
        await run.send_response("ask-why", 7)
    with pytest.raises(UnknownRequestError):
        await run.send_responses({"ask-why": "because", "nonsense": "yes"})
    assert await collect(run) == []
    assert run.checkpoints == heads

    await run.send_response("ask-why", "because")
    with pytest.raises(AlreadyAnsweredError):
        await run.send_response("ask-why", "no, because")
    assert outputs(await collect(run)) == ["why=because"]
    with pytest.raises(AlreadyAnsweredError):
        await run.send_response("ask-why", "too late")


async def test_of_two_answers_at_once_one_is_taken() -> None:
    run = asking_workflow(storage=SlowStorage()).run_stream("why")
    await collect(run)

    results = await asyncio.gather(
        run.send_response("ask-why", "a"), run.send_response("ask-why", "b"), return_exceptions=True
    )

    assert results[0] is None
    assert isinstance(results[1], AlreadyAnsweredError)
    assert outputs(await collect(run)) == ["why=a"]


@pytest.mark.parametrize("turn", range(1, 16))
async def test_an_answer_whose_sender_is_cancelled_is_taken_or_not_but_never_half(
    turn: int,
) -> None:
    storage = SlowStorage()
    run = asking_workflow(storage=storage).run_stream("why")
    await collect(run)
    sending = asyncio.create_task(run.send_response("ask-why", "because"))
    for _ in range(turn):
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait({sending})

    result = await run.wait_for_completion()

    durable = not await storage.find_waiting_runs("ask-why")
    assert result.get_outputs() == (["why=because"] if durable else [])
    assert await no_task_left()


async def test_an_answer_while_the_run_is_being_opened_opens_it_once() -> None:
    storage = SlowStorage()
    workflow = asking_workflow(storage=storage)
    first = await workflow.run("why")
    run = workflow.run_stream_from_checkpoint(f"{first.run_id}-000002")
    seen: list[WorkflowEvent] = []

    async def consume() -> None:
        async for event in run:
            seen.append(event)

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0)
    await run.send_response("ask-why", "because")
    await consumer
    seen += await collect(run)

    assert outputs(seen) == ["why=because"]
    assert kinds(seen).count("WorkflowStarted") == 1


async def test_an_answer_through_another_handle_is_not_passed_over() -> None:
    storage = InMemoryCheckpointStorage()

    class Two(Executor):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
            await ctx.send_message(Question(request_id="a"))
            await ctx.send_message(Question(request_id="b"))

        @handler
        async def got(
            self, answer: RequestResponse[Question, str], ctx: WorkflowContext[Never, str]
        ) -> None:
            await ctx.yield_output(answer.request_id + answer.data)

    def build() -> Workflow:
        two, port = Two("two"), RequestInfoExecutor("port")
        return built(
            WorkflowBuilder(name="w").add_edge(two, port).add_edge(port, two), two, storage=storage
        )

    run = build().run_stream("?")
    await collect(run)
    assert run.latest_checkpoint is not None
    other = build().run_stream_from_checkpoint(run.latest_checkpoint)
    await other.send_response("a", "1")  # durable in the inbox; this handle goes no further

    await run.send_response("b", "2")
    assert outputs(await collect(run)) == ["a1", "b2"]


# ------------------------------------------------------------------------------------------ restore


async def test_restore_rewinds_this_very_run_and_keeps_the_old_branch() -> None:
    storage = SlowStorage()
    run = counter_workflow(storage=storage).run_stream(3)
    assert outputs(await collect(run)) == [3, 2, 1, 0]
    old = list(run.checkpoints)
    assert [info.step_number for info in old] == [0, 1, 2, 3, 4]
    assert [info.parent for info in old[1:]] == [info.checkpoint_id for info in old[:-1]]

    await run.restore_checkpoint(old[2])
    assert run.latest_checkpoint == old[2]
    events = await collect(run)

    assert outputs(events) == [1, 0]
    assert run.checkpoints[:3] == old[:3]
    assert not {info.checkpoint_id for info in run.checkpoints[3:]} & {
        info.checkpoint_id for info in old
    }
    assert (await run.wait_for_completion()).get_outputs() == [3, 2, 1, 0]
    left = await storage.load_checkpoint(old[4].checkpoint_id)
    assert left is not None
    assert left.outputs == [3, 2, 1, 0]
    assert len(await storage.list_checkpoint_ids()) == 7
    assert [info.step_number async for info in run.history(page_size=2)] == [4, 3, 2, 1, 0]


async def test_restore_cancels_work_in_flight_and_drops_undelivered_events() -> None:
    gate, workflow = gate_workflow(storage=SlowStorage())
    run = workflow.run_stream("g")
    await take(run, Note)
    assert gate.started == 1

    await run.restore_checkpoint(run.checkpoints[0])
    assert gate.cancelled == 1
    gate.leave.set()
    events = await collect(run)

    assert kinds(events)[:3] == ["WorkflowStatus", "SuperStepStarted", "ExecutorInvoked"]
    assert outputs(events) == ["g", "g.", "g.."]


async def test_restore_inside_the_loop_continues_from_there() -> None:
    run = counter_workflow(storage=InMemoryCheckpointStorage()).run_stream(2)
    seen, rewound = [], False
    async for event in run:
        seen.append(event)
        if outputs([event]) == [0] and not rewound:
            rewound = True
            await run.restore_checkpoint(run.checkpoints[1])

    assert outputs(seen) == [2, 1, 0, 1, 0]


@pytest.mark.parametrize("turn", range(0, 40, 2))
async def test_restore_from_another_task_at_any_turn_never_mixes_branches(turn: int) -> None:
    storage = SlowStorage(turns=2)
    run = counter_workflow(storage=storage).run_stream(3)
    await take(run, SuperStepCompletedEvent)
    consumer = asyncio.create_task(collect(run))
    for _ in range(turn):
        await asyncio.sleep(0)
    await run.restore_checkpoint(run.checkpoints[0])
    seen = outputs(
        [*await consumer, *await collect(run)]
    )  # the consumer may have reached the end before

    assert seen[-4:] == [3, 2, 1, 0]
    assert (await run.wait_for_completion()).get_outputs() == [3, 2, 1, 0]
    assert [info.step_number for info in run.checkpoints] == [0, 1, 2, 3, 4]
    assert await no_task_left()


async def test_restore_while_a_task_waits_for_the_end() -> None:
    gate, workflow = gate_workflow(storage=SlowStorage())
    run = workflow.run_stream("g")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.started)

    await run.restore_checkpoint(run.checkpoints[0])
    gate.leave.set()
    result = await waiting

    assert gate.cancelled == 1
    assert result.get_outputs() == ["g", "g.", "g.."]
    assert [info.step_number for info in run.checkpoints] == [0, 1, 2, 3]


async def test_restoring_to_before_an_answer_asks_again() -> None:
    run = asking_workflow(storage=InMemoryCheckpointStorage()).run_stream("why")
    await collect(run)
    waiting = run.latest_checkpoint
    assert waiting is not None
    await run.send_response("ask-why", "because")
    assert outputs(await collect(run)) == ["why=because"]

    await run.restore_checkpoint(waiting)
    events = await collect(run)
    assert questions(events) == ["ask-why"]
    await run.send_response("ask-why", "for another reason")
    assert outputs(await collect(run)) == ["why=for another reason"]


async def test_an_answer_that_was_not_consumed_yet_is_dropped_by_a_restore() -> None:
    run = asking_workflow(storage=InMemoryCheckpointStorage()).run_stream("why")
    await collect(run)
    await run.send_response("ask-why", "because")
    await run.restore_checkpoint(run.checkpoints[-1])

    assert questions(await collect(run)) == ["ask-why"]
    await run.send_response("ask-why", "anew")
    assert outputs(await collect(run)) == ["why=anew"]


async def test_a_checkpoint_of_another_run_is_refused_and_the_run_continues() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    other = await workflow.run(1)
    run = workflow.run_stream(3)
    await take(run, SuperStepCompletedEvent)

    for wrong in (f"{other.run_id}-000001", "nonsense"):
        with pytest.raises(CheckpointNotFoundError, match="has no checkpoint"):
            await run.restore_checkpoint(wrong)

    assert (await run.wait_for_completion()).get_outputs() == [3, 2, 1, 0]


async def test_a_run_without_storage_has_nothing_to_restore() -> None:
    run = counter_workflow().run_stream(3)
    await collect(run)

    assert run.checkpoints == []
    assert [info async for info in run.history()] == []
    with pytest.raises(CheckpointingDisabledError, match="with_checkpointing"):
        await run.restore_checkpoint("x")


async def test_restore_after_a_failure_heals_the_handle() -> None:
    attempts: list[int] = []

    @executor
    async def flaky(number: int, ctx: WorkflowContext[Never, int]) -> None:
        attempts.append(number)
        if len(attempts) == 1:
            raise ValueError("not yet")
        await ctx.yield_output(number)

    run = built(WorkflowBuilder(), flaky, storage=InMemoryCheckpointStorage()).run_stream(5)
    with pytest.raises(ValueError, match="not yet"):
        await collect(run)
    with pytest.raises(ValueError, match="not yet"):
        await collect(run)
    await run.restore_checkpoint(run.checkpoints[-1])

    assert outputs(await collect(run)) == [5]


# --------------------------------------------------------------------------------------- the end


@Storages
async def test_async_with_ends_the_handle_and_the_run_can_be_resumed(
    make_storage: MakeStorage,
) -> None:
    storage = make_storage()
    gate, workflow = gate_workflow(storage=storage)
    async with workflow.run_stream("g") as run:
        await take(run, Note)

    assert gate.cancelled == 1
    assert await no_task_left()
    with pytest.raises(RunClosedError, match="was closed"):
        run.watch_stream()
    with pytest.raises(RunClosedError):
        await run.send_response("x", 1)
    await run.aclose()
    await run.cancel()
    if storage is not None:
        gate.leave.set()
        assert run.latest_checkpoint is not None
        result = await workflow.run_from_checkpoint(run.latest_checkpoint)
        assert result.get_outputs() == ["g", "g.", "g.."]


@Storages
async def test_cancel_ends_the_stream_with_the_status_cancelled(make_storage: MakeStorage) -> None:
    storage = make_storage()
    gate, workflow = gate_workflow(storage=storage)
    run = workflow.run_stream("g")
    await take(run, Note)

    await run.cancel()

    assert states(await collect(run)) == [WorkflowRunState.CANCELLED]
    assert gate.cancelled == 1
    with pytest.raises(RunClosedError, match="cancelled"):
        await run.wait_for_completion()
    if storage is not None:
        stored = await storage.get_run(run.run_id)
        assert (stored.status, stored.lease) == ("CANCELLED", None)


@Storages
@pytest.mark.parametrize("end", ["cancel", "aclose"])
async def test_ending_the_run_under_a_waiting_consumer(make_storage: MakeStorage, end: str) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream("g")
    consumer = asyncio.create_task(collect(run))
    await until(lambda: gate.started)

    await getattr(run, end)()
    seen = await consumer

    assert gate.started == 1
    assert (states(seen)[-1] is WorkflowRunState.CANCELLED) is (end == "cancel")
    assert await no_task_left()


@Storages
@pytest.mark.parametrize("end", ["cancel", "aclose"])
async def test_ending_the_run_while_a_task_waits_for_the_end(
    make_storage: MakeStorage, end: str
) -> None:
    gate, workflow = gate_workflow(storage=make_storage())
    run = workflow.run_stream("g")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.started)

    await getattr(run, end)()
    if end == "cancel":
        assert (await waiting).get_final_state() is WorkflowRunState.CANCELLED
    else:
        with pytest.raises(RunClosedError):
            await waiting
    assert (gate.started, gate.cancelled) == (1, 1)
    assert await no_task_left()


async def test_cancelling_a_finished_run_leaves_it_finished() -> None:
    storage = InMemoryCheckpointStorage()
    run = shout_workflow(storage=storage).run_stream("hello")
    await collect(run)
    await run.cancel()

    stored = await storage.get_run(run.run_id)
    assert stored is not None
    assert stored.status == "IDLE"


async def test_a_run_can_be_cancelled_through_a_checkpoint_that_was_pruned_meanwhile() -> None:
    storage = InMemoryCheckpointStorage()
    first = asking_workflow(storage=storage).run_stream("a")
    await collect(first)
    older = first.checkpoints[1]
    run = asking_workflow(storage=storage).run_stream_from_checkpoint(older)
    await take(run, WorkflowStatusEvent)
    assert await storage.delete_checkpoint(older.checkpoint_id)

    await run.cancel()

    assert states(await collect(run)) == [WorkflowRunState.CANCELLED]
    stored = await storage.get_run(run.run_id)
    assert stored is not None
    assert (stored.status, stored.lease) == ("CANCELLED", None)


async def test_taking_a_run_that_fails_half_way_gives_the_lease_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*args: Any, **which: Any) -> Never:
        raise StorageError("the disk is on fire")

    storage = InMemoryCheckpointStorage()
    first = asking_workflow(storage=storage).run_stream("a")
    await collect(first)
    run = asking_workflow(storage=storage).run_stream_from_checkpoint(first.checkpoints[1])
    await take(run, WorkflowStatusEvent)
    monkeypatch.setattr(storage, "move_head", fail)

    with pytest.raises(StorageError, match="on fire"):
        await run.cancel()

    stored = await storage.get_run(run.run_id)
    assert stored is not None
    assert (stored.head, stored.lease) == (first.checkpoints[-1].checkpoint_id, None)


async def test_cancelling_a_task_that_acquires_a_run_releases_the_lease() -> None:
    storage = SlowStorage()
    first = asking_workflow(storage=storage).run_stream("a")
    await collect(first)
    run = asking_workflow(storage=storage).run_stream_from_checkpoint(first.checkpoints[-1])
    await collect(run)

    task = asyncio.create_task(run.cancel())
    await until(lambda: storage.at == "after acquire")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    stored = await storage.get_run(run.run_id)
    assert stored is not None
    assert stored.lease is None


async def test_closing_a_handle_that_lost_its_run_is_not_an_error() -> None:
    storage = InMemoryCheckpointStorage()
    workflow = counter_workflow(storage=storage)
    async with workflow.run_stream(3) as run:
        async for event in run:
            if isinstance(event, SuperStepCompletedEvent):
                assert run.latest_checkpoint is not None
                other = await workflow.run_from_checkpoint(run.latest_checkpoint)
                assert other.get_outputs() == [3, 2, 1, 0]
                break


async def test_a_working_handle_is_not_superseded() -> None:
    storage = InMemoryCheckpointStorage()
    gate, workflow = gate_workflow(storage=storage)
    run = workflow.run_stream("g")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: gate.started)
    assert run.latest_checkpoint is not None

    with pytest.raises(RunBusyError, match="is being advanced by"):
        await workflow.run_from_checkpoint(run.latest_checkpoint)

    gate.leave.set()
    assert (await waiting).get_outputs() == ["g", "g.", "g.."]


# ---------------------------------------------------------------------- what handlers can get up to


@Storages
async def test_a_handler_that_raises_cancelled_error_fails_and_is_not_run_for_ever(
    make_storage: MakeStorage,
) -> None:
    calls: list[str] = []

    @executor
    async def careless(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        task = asyncio.create_task(asyncio.sleep(10))
        task.cancel()
        await task

    workflow = built(WorkflowBuilder(), careless, storage=make_storage())
    with pytest.raises(WorkflowRuntimeError, match="raised CancelledError"):
        await workflow.run("x")
    seen: list[WorkflowEvent] = []
    with pytest.raises(WorkflowRuntimeError):
        await collect_into(seen, workflow.run_stream("y"))

    assert calls == ["x", "y"]
    assert any(isinstance(event, ExecutorFailedEvent) for event in seen)
    assert states(seen)[-1] is WorkflowRunState.FAILED


class Outrage(BaseException):
    pass


@pytest.mark.parametrize("siblings", [False, True])
async def test_a_base_exception_of_a_handler_reaches_the_consumer_as_an_exception(
    siblings: bool,
) -> None:
    calls: list[str] = []

    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def furious(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        raise Outrage

    @executor
    async def patient(text: str) -> None:
        await asyncio.sleep(0)
        calls.append(f"patient {text}")

    builder = WorkflowBuilder().add_edge(start, furious)
    if siblings:
        builder.add_edge(start, patient)
    workflow = built(builder, start)
    for text in "xy":
        with pytest.raises(HandlerError) as caught:
            await collect(workflow.run_stream(text))
        assert isinstance(caught.value.__cause__, Outrage)

    expected = ["x", "patient x", "y", "patient y"] if siblings else ["x", "y"]
    assert calls == expected  # the siblings of a failed call finish
    assert await no_task_left()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_keyboard_interrupt_in_a_handler_ends_the_program(streaming: bool) -> None:
    storage = InMemoryCheckpointStorage()
    unseen: list[dict[str, Any]] = []
    calls: list[str] = []

    @executor
    async def leaving(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append(text)
        if len(calls) == 1:
            raise KeyboardInterrupt
        await ctx.yield_output(text)

    workflow = built(WorkflowBuilder(), leaving, storage=storage)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        run = workflow.run_stream("x", run_id="r")
        await (collect(run) if streaming else run.wait_for_completion())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    record = asyncio.run(storage.get_run("r"))
    assert record is not None
    assert (record.status, record.lease) == ("IN_PROGRESS", None)
    gc.collect()
    assert calls == ["x"]
    assert unseen == []
    assert asyncio.run(workflow.run_from_checkpoint("r-000000")).get_outputs() == ["x"]


async def test_an_interrupted_superstep_does_not_leave_its_traces_in_hooked_executors() -> None:
    class Slow(Tally):
        leave = asyncio.Event()

        @handler
        async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
            self.total += number
            await self.leave.wait()
            await ctx.yield_output(self.total)

    slow = Slow()
    Slow.leave = asyncio.Event()
    for storage in (None, InMemoryCheckpointStorage()):
        Slow.leave.clear()
        run = built(WorkflowBuilder().add_edge(slow, slow), slow, storage=storage).run_stream(5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run.wait_for_completion()
        Slow.leave.set()
        assert (await run.wait_for_completion()).get_outputs() == [5]


async def test_calls_recorded_before_an_interruption_are_not_run_again_by_the_same_handle() -> None:
    leave = asyncio.Event()
    calls: list[str] = []

    @executor
    async def start(text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)

    @executor
    async def quick(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append("quick")
        await ctx.yield_output("quick")

    @executor
    async def slow(text: str, ctx: WorkflowContext[Never, str]) -> None:
        calls.append("slow")
        await leave.wait()
        await ctx.yield_output("slow")

    workflow = built(
        WorkflowBuilder().add_fan_out_edges(start, [quick, slow]), start, storage=SlowStorage()
    )
    run = workflow.run_stream("x")
    waiting = asyncio.create_task(run.wait_for_completion())
    await until(lambda: "slow" in calls)
    for _ in range(20):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await no_task_left()

    leave.set()
    assert (await run.wait_for_completion()).get_outputs() == ["quick", "slow"]
    assert calls == ["quick", "slow", "slow"]


async def test_repr_says_which_run_and_how_it_stands() -> None:
    run: StreamingRun = shout_workflow().run_stream("x", run_id="r")
    assert repr(run) == "StreamingRun(run_id='r', state=STARTED)"
    await collect(run)
    assert repr(run) == "StreamingRun(run_id='r', state=IDLE)"


async def test_invoked_comes_before_completed_of_each_executor() -> None:
    events = await collect(counter_workflow().run_stream(3))
    assert [e.executor_id for e in events if isinstance(e, ExecutorInvokedEvent)] == ["counter"] * 4
