"""A run whose handle is cancelled, left, rewound, answered and closed at random turns still ends
as it should.
"""

import asyncio
import random
from contextlib import suppress
from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    RequestError,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestResponse,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from tests.unit.support import Question, SlowStorage, Tally, built, no_task_left


class Part(Executor):
    """Takes some turns; with the tally beside it there is always something to record."""

    @handler
    async def work(self, number: int, ctx: WorkflowContext[int, str]) -> None:
        for _ in range(number + len(self.id)):
            await asyncio.sleep(0)
        await ctx.append_shared_state("log", f"{self.id}{number}")
        await ctx.send_message(number)


class Asking(Executor):
    @handler
    async def begin(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)

    @handler
    async def join(self, numbers: list[int], ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(Question(request_id=f"q{numbers[0]}"), target_id="port")

    @handler
    async def answered(
        self, answer: RequestResponse[Question, str], ctx: WorkflowContext[int, str]
    ) -> None:
        await ctx.yield_output(answer.request_id + answer.data)
        number = int(answer.request_id[1:])
        if number < 3:
            await ctx.send_message(number + 1)


class Sums(Tally):
    @handler
    async def add(self, number: int, ctx: WorkflowContext[Never, int]) -> None:
        self.total += number
        await ctx.yield_output(self.total)


EXPECTED: list[Any] = [1, "q1!", 3, "q2!", 6, "q3!"]
LOG = ["a1", "bb1", "a2", "bb2", "a3", "bb3"]


def workflow(storage: SlowStorage) -> Workflow:
    asking, port, parts = Asking("asking"), RequestInfoExecutor("port"), [Part("a"), Part("bb")]
    builder = (
        WorkflowBuilder(name="fuzz")
        .add_fan_out_edges(asking, [*parts, Sums()])
        .add_fan_in_edges(parts, asking)
    )
    return built(builder.add_edge(asking, port).add_edge(port, asking), asking, storage=storage)


async def consume(run: StreamingRun, dice: random.Random) -> None:
    """Iterate and answer, sometimes leaving early."""
    async for event in run:
        if isinstance(event, RequestInfoEvent) and run.waits_for(event.request_id):
            with suppress(RequestError):  # a restore between the question and the answer
                await run.send_response(event.request_id, "!")
        if dice.random() < 0.05:
            break


async def turns(dice: random.Random) -> None:
    for _ in range(dice.randrange(60)):
        await asyncio.sleep(0)


async def disturb(run: StreamingRun, dice: random.Random) -> None:
    """Do one thing to a run while somebody consumes it."""
    consumer = asyncio.create_task(consume(run, dice))
    await turns(dice)
    what = dice.choice(["cancel", "restore", "nothing", "both"])
    if what in ("cancel", "both"):
        consumer.cancel()
    if what in ("restore", "both") and run.checkpoints:
        await run.restore_checkpoint(dice.choice(run.checkpoints))
    await asyncio.wait({consumer})
    if not consumer.cancelled():
        consumer.result()
    if dice.random() < 0.3:
        waiting = asyncio.create_task(run.wait_for_completion())
        await turns(dice)
        waiting.cancel()
        await asyncio.wait({waiting})
        if not waiting.cancelled():
            waiting.result()


@pytest.mark.parametrize("seed", range(80))
async def test_whatever_is_done_to_the_handle_the_lineage_is_the_same(seed: int) -> None:
    dice = random.Random(seed)
    storage = SlowStorage(turns=dice.randrange(1, 4))
    definition = workflow(storage)
    run = definition.run_stream(1, run_id="r")
    for _ in range(dice.randrange(1, 8)):
        await disturb(run, dice)
        assert await no_task_left()
        stored = await storage.get_run("r")
        assert stored is None or stored.lease is None
        if dice.random() < 0.3 and run.latest_checkpoint is not None:
            head = run.latest_checkpoint
            await run.aclose()
            definition = workflow(storage)  # as a new process would have it
            run = definition.run_stream_from_checkpoint(head)

    result = await run.wait_for_completion()
    while pending := [e.request_id for e in run_requests(run)]:
        for request_id in pending:
            await run.send_response(request_id, "!")
        result = await run.wait_for_completion()

    assert result.get_outputs() == EXPECTED
    last = await storage.load_checkpoint(run.checkpoints[-1].checkpoint_id)
    assert last is not None
    assert last.shared_state == {"log": LOG}
    assert last.executor_states == {"tally": {"total": 6}}
    assert (last.status, last.fan_in, last.messages) == ("IDLE", {}, {})
    assert [info.step_number for info in run.checkpoints] == list(range(len(run.checkpoints)))
    assert await no_task_left()


def run_requests(run: StreamingRun) -> list[RequestInfoEvent]:
    assert run._work.runner is not None
    return run._work.runner.waiting_requests()
