"""Replaying: a lineage again, in memory, with the answers it had; nothing is written, nothing
waits.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    Executor,
    FailurePolicy,
    GraphChangedError,
    InMemoryCheckpointStorage,
    RequestError,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowRunState,
    handler,
    response_handler,
)
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.requests import RequestInfoMessage, RequestResponse
from tests.contract.support import PlainStorage
from tests.unit.support import (
    CountingStorage,
    Tally,
    built,
    collect,
    outputs,
    questions,
    shout_workflow,
)
from tests.unit.travelling import KINDS, Order, Worker, everything, nested, trip


@dataclass
class Ask:
    text: str


@pytest.fixture(params=list(KINDS))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return KINDS[request.param](tmp_path)


async def answered_trip(storage: Any, *answers: bool) -> list[Any]:
    """Make a run "old" whose questions get these answers, and return what its worker saw."""
    worker = Worker()
    workflow = trip(storage, worker)
    run = workflow.run_stream(Order("tea", 3), run_id="old")
    await run.wait_for_completion()
    for answer in answers:
        record = await storage.get_run("old")
        await run.send_response(record.requests[0], answer)
        await run.wait_for_completion()
    return worker.seen


async def test_a_whole_run_is_repeated_with_its_answers(storage: Any) -> None:
    seen = await answered_trip(storage, False, True)
    before = await everything(storage, "old")
    worker = Worker()

    replay = trip(storage, worker).replay("old")
    result = await replay.wait_for_completion()

    assert worker.seen == seen
    assert set(worker.replaying) == {True}
    assert result.get_outputs() == ["did 3", "did 2", "did 1", "again", "did 1", "fine"]
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert replay.run_id == "old"
    assert await everything(storage, "old") == before
    head = await storage.load_checkpoint((await storage.get_run("old")).head)
    reached = replay.snapshot()
    assert str(reached.diff(head)).endswith("have the same content")
    assert reached.iteration_count == head.iteration_count


async def test_nothing_is_written() -> None:
    storage = CountingStorage()
    await answered_trip(storage, True)
    storage.writes.names.clear()

    await trip(storage).replay("old").wait_for_completion()

    assert storage.writes.names == []


async def test_from_a_checkpoint_and_to_a_superstep(storage: Any) -> None:
    await answered_trip(storage, True)

    replay = trip(storage).replay("old-000001", to_step=3)
    events = await collect(replay)

    assert outputs(events) == ["did 3", "did 2"]
    assert not replay.snapshot().diff(await storage.load_checkpoint("old-000003"))
    again = trip(storage).replay("old-000004")
    assert (await again.wait_for_completion()).get_outputs() == ["did 3", "did 2", "did 1", "fine"]


async def test_what_was_left_unanswered_ends_the_replay(storage: Any) -> None:
    await answered_trip(storage)
    (request_id,) = (await storage.get_run("old")).requests

    replay = trip(storage).replay("old")
    events = await collect(replay)

    assert questions(events) == [request_id]
    assert outputs(events) == ["did 3", "did 2", "did 1"]
    with pytest.raises(RequestError, match="fork the checkpoint"):
        await replay.send_response(request_id, True)
    with pytest.raises(RequestError, match="fork the checkpoint"):
        await replay.cancel_request(request_id)
    assert (await storage.get_run("old")).requests == (request_id,)


async def test_a_replay_is_not_what_send_responses_finds() -> None:
    storage = InMemoryCheckpointStorage()
    await answered_trip(storage)
    record = await storage.get_run("old")
    assert record is not None
    workflow = trip(storage)
    await workflow.replay("old").wait_for_completion()

    result = await workflow.send_responses({record.requests[0]: True})

    assert result.get_outputs() == ["did 3", "did 2", "did 1", "fine"]


async def test_an_abandoned_branch_is_repeated_as_it_went(storage: Any) -> None:
    run = trip(storage).run_stream(Order("tea", 2), run_id="old")
    await run.wait_for_completion()
    (request_id,) = (await storage.get_run("old")).requests
    await run.send_response(request_id, False)
    await run.wait_for_completion()
    abandoned = (await storage.get_run("old")).head
    await run.restore_checkpoint("old-000002")
    await run.wait_for_completion()
    (request_id,) = (await storage.get_run("old")).requests
    await run.send_response(request_id, True)
    await run.wait_for_completion()

    there = trip(storage).replay("old-000003")
    here = trip(storage).replay("old")

    assert (await there.wait_for_completion()).get_outputs() == ["did 2", "did 1", "again", "did 1"]
    assert not there.snapshot().diff(await storage.load_checkpoint(abandoned))
    assert (await here.wait_for_completion()).get_outputs() == ["did 2", "did 1", "fine"]
    assert not here.snapshot().diff(
        await storage.load_checkpoint((await storage.get_run("old")).head)
    )


async def test_a_fork_is_repeated_from_where_it_began(storage: Any) -> None:
    await answered_trip(storage, True)
    await trip(storage).fork("old-000002", {"messages.0": 1}, run_id="new").wait_for_completion()

    replay = trip(storage).replay("new")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["did 3", "did 1"]
    assert not replay.snapshot().diff(await storage.load_checkpoint("new-000001"))


async def test_a_sub_workflow_is_repeated(storage: Any) -> None:
    run = nested(storage).run_stream("news", run_id="old")
    await run.wait_for_completion()
    await run.send_response((await storage.get_run("old")).requests[0], True)
    await run.wait_for_completion()

    replay = nested(storage).replay("old")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["printed News ['News']: True"]
    assert not replay.snapshot().diff(
        await storage.load_checkpoint((await storage.get_run("old")).head)
    )


class Napper(Executor):
    """Sleeps, is late, fails once: everything that takes time."""

    def __init__(self, fail: bool = True) -> None:
        super().__init__("napper")
        self.fail = fail

    @handler
    async def nap(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        await ctx.sleep(0.3)
        if left == 1 and ctx.attempt == 1 and self.fail:
            raise OSError("once")
        await ctx.yield_output(f"{left} in {ctx.step_number}")
        if left:
            await ctx.schedule(left - 1, delay=0.3)
        else:
            await ctx.request_info("ok?", bool, deadline=0.2, default=False)

    @response_handler
    async def told(self, question: str, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"told {answer}")


async def test_nothing_waits_for_timers_sleeps_retries_and_deadlines(storage: Any) -> None:
    def workflow() -> Any:
        napper = Napper()
        builder = WorkflowBuilder(name="naps").add_edge(napper, napper)
        return built(
            builder.with_failure_policy(napper, FailurePolicy(max_attempts=2, backoff=0.3)),
            napper,
            storage=storage,
        )

    run = workflow().run_stream(2, run_id="old")
    first = await run.wait_for_completion()
    await asyncio.sleep(0.25)
    last = await workflow().run_from_checkpoint((await storage.get_run("old")).head)
    assert last.get_outputs()[:-1] == first.get_outputs()
    assert last.get_outputs()[-1] == "told False"

    began = time.monotonic()
    replay = workflow().replay("old")
    result = await replay.wait_for_completion()

    assert time.monotonic() - began < 1  # the run itself took more than two seconds
    assert result.get_outputs() == last.get_outputs()
    assert not replay.snapshot().diff(
        await storage.load_checkpoint((await storage.get_run("old")).head)
    )


class Answerer(Executor):
    """Answers the questions of a sub-workflow without asking anybody."""

    def __init__(self) -> None:
        super().__init__("answerer")
        self.asked: list[str] = []

    @handler
    async def answer(
        self,
        request: SubWorkflowRequestMessage[Ask],
        ctx: WorkflowContext[SubWorkflowResponseMessage[str]],
    ) -> None:
        self.asked.append(request.request_id)
        await ctx.send_message(
            request.create_response(request.data.text.upper()), target_id=request.executor_id
        )


class Inner(Executor):
    @handler
    async def begin(self, text: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(Ask(text), str)

    @response_handler
    async def told(self, question: Ask, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(answer)


async def test_questions_that_executors_answer_are_answered_by_them_again(storage: Any) -> None:
    def workflow() -> tuple[Answerer, Any]:
        inner = WorkflowBuilder(name="inner").set_start_executor(Inner("inner")).build()
        sub, answerer = WorkflowExecutor(inner, "sub", allow_direct_output=True), Answerer()
        builder = WorkflowBuilder(name="outer").add_edge(sub, answerer).add_edge(answerer, sub)
        return answerer, built(builder, sub, storage=storage)

    first, original = workflow()
    await original.run("abc", run_id="old")
    second, again = workflow()

    replay = again.replay("old")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["ABC"]
    assert second.asked == first.asked
    assert not replay.snapshot().diff(
        await storage.load_checkpoint((await storage.get_run("old")).head)
    )
    changed = await workflow()[1].fork("old-000000", {"input": "xyz"}).wait_for_completion()
    assert changed.get_outputs() == ["XYZ"]


class Chance(RequestInfoMessage):
    """Its id is made by chance."""


class Gambler(Executor):
    @handler
    async def begin(self, count: int, ctx: WorkflowContext[Chance]) -> None:
        for _ in range(count):
            await ctx.send_message(Chance())

    @handler
    async def told(
        self, answer: RequestResponse[Chance, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(answer.data)


async def test_answers_find_questions_whose_ids_are_made_by_chance(storage: Any) -> None:
    def workflow() -> Any:
        gambler, port = Gambler("gambler"), RequestInfoExecutor("port")
        builder = WorkflowBuilder(name="chance").add_edge(gambler, port).add_edge(port, gambler)
        return built(builder, gambler, storage=storage)

    run = workflow().run_stream(3, run_id="old")
    ids = questions(await collect(run))
    await run.send_response(ids[1], "second")
    await run.wait_for_completion()
    await run.send_response(ids[0], "first")
    await run.wait_for_completion()

    replay = workflow().replay("old")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["second", "first"]
    assert len(replay.snapshot().pending_requests) == 1


async def test_a_question_that_was_taken_back_is_taken_back_again(storage: Any) -> None:
    run = trip(storage).run_stream(Order("tea", 1), run_id="old")
    await run.wait_for_completion()
    await run.cancel_request((await storage.get_run("old")).requests[0])
    await run.wait_for_completion()

    replay = trip(storage).replay("old")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["did 1"]
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert not replay.snapshot().diff(
        await storage.load_checkpoint((await storage.get_run("old")).head)
    )


class Fragile(Executor):
    def __init__(self) -> None:
        super().__init__("fragile")
        self.broken = True

    @handler
    async def work(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        if left == 1 and self.broken:
            raise RuntimeError("broken")
        await ctx.yield_output(left)
        if left:
            await ctx.send_message(left - 1)


async def test_one_superstep_more_repeats_the_failure(storage: Any) -> None:
    def workflow() -> Any:
        fragile = Fragile()
        return built(
            WorkflowBuilder(name="fragile").add_edge(fragile, fragile), fragile, storage=storage
        )

    with pytest.raises(RuntimeError, match="broken"):
        await workflow().run(3, run_id="old")

    result = await workflow().replay("old").wait_for_completion()
    assert result.get_outputs() == [3, 2]
    assert result.get_final_state() is WorkflowRunState.IN_PROGRESS
    with pytest.raises(RuntimeError, match="broken"):
        await workflow().replay("old", to_step=3).wait_for_completion()
    assert (await storage.get_run("old")).head == "old-000002"


async def test_attributes_come_back_through_the_hooks(storage: Any) -> None:
    def workflow() -> tuple[Tally, Any]:
        tally = Tally()
        return tally, built(
            WorkflowBuilder(name="tally").add_edge(tally, tally), tally, storage=storage
        )

    await workflow()[1].run(4, run_id="old")
    tally, again = workflow()

    replay = again.replay("old-000002")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == [10]
    assert tally.total == 10
    assert not replay.snapshot().diff(await storage.load_checkpoint("old-000004"))


async def test_what_replaying_refuses(storage: Any) -> None:
    await answered_trip(storage, True)

    with pytest.raises(CheckpointNotFoundError):
        await trip(storage).replay("gone").wait_for_completion()
    with pytest.raises(GraphChangedError):
        await shout_workflow(storage=storage).replay("old").wait_for_completion()
    with pytest.raises(ValueError, match="to_step=1 comes before superstep 2"):
        await trip(storage).replay("old-000002", to_step=1).wait_for_completion()
    with pytest.raises(CheckpointingDisabledError, match="no storage to replay from"):
        await trip().replay("old").wait_for_completion()
    with pytest.raises(CheckpointingDisabledError, match="nothing was replayed yet"):
        trip(storage).replay("old").snapshot()
    run = trip(storage).run_stream(Order("x"))
    await run.wait_for_completion()
    with pytest.raises(CheckpointingDisabledError, match="is not a replay"):
        run.snapshot()


async def test_a_lineage_with_gaps_is_repeated(storage: Any) -> None:
    await answered_trip(storage, False, True)
    for number in (0, 2, 3, 5):
        assert await storage.delete_checkpoint(f"old-{number:06}")

    replay = trip(storage).replay("old")
    result = await replay.wait_for_completion()

    assert result.get_outputs() == ["did 3", "did 2", "did 1", "again", "did 1", "fine"]
    assert replay.snapshot().shared_state["log"][-1] == "judged True"


@pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")
async def test_a_plain_storage_can_be_replayed_from_too() -> None:
    storage = PlainStorage()
    run = trip(storage).run_stream(Order("tea", 2), run_id="old")
    await run.send_response(questions(await collect(run))[0], True)
    await run.wait_for_completion()

    result = await trip(storage).replay("old").wait_for_completion()

    assert result.get_outputs() == ["did 2", "did 1", "fine"]
