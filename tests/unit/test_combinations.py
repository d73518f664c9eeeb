"""Abilities that meet: cancelling while a timer runs, deadlines of intercepted questions, retries
and limits.
"""

import asyncio
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointSaveError,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    FunctionExecutor,
    GraphChangedError,
    InMemoryCheckpointStorage,
    RunFencedError,
    SqliteCheckpointStorage,
    SubWorkflowRequestMessage,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    executor,
    handler,
    response_handler,
)


class Later(Executor):
    @handler
    async def go(self, text: str, ctx: WorkflowContext[int, str]) -> None:
        await ctx.schedule(7, delay=0.2)

    @handler
    async def late(self, number: int, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("late")


async def test_a_run_that_was_cancelled_elsewhere_does_not_go_on_when_its_timer_is_due(
    tmp_path: Path,
) -> None:
    here, there = (
        SqliteCheckpointStorage(tmp_path / "r.db"),
        SqliteCheckpointStorage(tmp_path / "r.db"),
    )
    later = Later("later")
    builder = (
        WorkflowBuilder(name="w")
        .set_start_executor(later)
        .add_edge(later, later)
        .with_checkpointing(here)
    )
    running = asyncio.create_task(builder.build().run("x", run_id="r"))
    while (run := await there.get_run("r")) is None or run.lease is not None or run.sequence < 1:  # noqa: ASYNC110  (another storage object tells nobody)
        await asyncio.sleep(0.005)
    await there.cancel_run("r")

    with pytest.raises(RunFencedError, match="was cancelled"):
        await running
    run = await there.get_run("r")
    assert run is not None
    assert run.status == "CANCELLED"
    assert (await builder.build().run_from_checkpoint(run.head)).get_outputs() == ["late"]
    await here.aclose()
    await there.aclose()


class Asks(Executor):
    @handler
    async def go(self, number: int, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.request_info(number, bool, deadline=0.05, default=False)

    @response_handler
    async def act(self, asked: int, yes: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{asked} {yes}")


class Around(Executor):
    @handler
    async def start(self, number: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(number)

    @handler
    async def leave_unanswered(
        self, request: SubWorkflowRequestMessage[int], ctx: WorkflowContext
    ) -> None:
        pass

    @handler
    async def out(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)


@pytest.mark.parametrize("storage", [None, InMemoryCheckpointStorage()])
async def test_the_default_answers_a_question_that_the_executor_around_leaves(storage: Any) -> None:
    around = Around("around")
    sub = WorkflowExecutor(
        WorkflowBuilder(name="in").set_start_executor(Asks("asks")).build(), "sub"
    )
    workflow = (
        WorkflowBuilder()
        .set_start_executor(around)
        .add_edge(around, sub)
        .add_edge(sub, around)
        .build()
    )

    result = await workflow.run(1, checkpoint_storage=storage)

    assert result.get_outputs() == ["1 False"]


async def test_repeated_calls_do_not_use_up_max_iterations() -> None:
    @executor
    async def flaky(number: int, ctx: WorkflowContext[int, str]) -> None:
        if ctx.attempt < 6:
            raise ValueError("not yet")
        await ctx.yield_output("done")

    policy = FailurePolicy(max_attempts=6, backoff=0.001)
    workflow = (
        WorkflowBuilder(2).set_start_executor(flaky).with_failure_policy(flaky, policy).build()
    )
    assert (await workflow.run(1)).get_outputs() == ["done"]


async def test_a_node_that_becomes_a_sub_workflow_while_it_has_a_message_is_refused() -> None:
    def node(id: str, sends: Any) -> FunctionExecutor:
        async def handle(number: int, ctx: Any) -> None:
            await (ctx.send_message(number) if sends is int else ctx.yield_output(str(number)))

        handle.__annotations__["ctx"] = WorkflowContext[sends, str]
        return FunctionExecutor(handle, id)

    storage = InMemoryCheckpointStorage()

    def build(target: Executor) -> Any:
        first = node("a", int)
        builder = WorkflowBuilder(name="w").set_start_executor(first).add_edge(first, target)
        return builder.with_checkpointing(storage).with_migration().build()

    await build(node("b", Never)).run(1, run_id="r")
    middle = (await storage.list_checkpoints(run_id="r"))[1]
    inner = WorkflowBuilder(name="in").set_start_executor(node("x", Never)).build()
    with pytest.raises(GraphChangedError, match="on its way to executor 'b'"):
        await build(WorkflowExecutor(inner, "b", allow_direct_output=True)).run_from_checkpoint(
            middle
        )


async def test_a_note_that_cannot_be_saved_stops_the_run_and_goes_along_no_error_edge() -> None:
    class Full(InMemoryCheckpointStorage):
        async def append_journal(self, *_arguments: Any, **_which: Any) -> None:
            raise OSError("disk full")

    @executor
    async def charge(number: int, ctx: WorkflowContext[int, str]) -> None:
        await ctx.yield_output("charged")

    @executor
    async def recover(failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output("recovered")

    builder = WorkflowBuilder().set_start_executor(charge).add_error_edge(charge, recover)
    builder.with_failure_policy(charge, FailurePolicy(at_most_once=True)).with_checkpointing(Full())
    with pytest.raises(CheckpointSaveError, match="disk full"):
        await builder.build().run(1)
