"""The API as users write it, for the type checker: never run, only checked.

What must stay an error carries an ignore comment with its code; an ignore that is no longer needed
is an error itself.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Never, assert_type

import supersteps
from supersteps import (
    Case,
    CheckpointInfo,
    CheckpointStorage,
    Default,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    FileCheckpointStorage,
    FunctionExecutor,
    InMemoryCheckpointStorage,
    PendingRequestDetails,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowCheckpointSummary,
    WorkflowContext,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowRunResult,
    WorkflowRunState,
    WorkflowStatusEvent,
    executor,
    handler,
    response_handler,
)
from supersteps.checkpoints import Codec, PendingRequest
from supersteps.edges import SwitchCaseEdgeGroup
from supersteps.errors import RunDrainedError
from supersteps.executors import Ready
from supersteps.storages import DurableStorage

# ---------------------------------------------------------------- names of the root and of topics

codec_types: list[type[Codec]] = [supersteps.Codec, supersteps.checkpoints.Codec]
pending: type[PendingRequest] = supersteps.PendingRequest
drained: type[RunDrainedError] = supersteps.RunDrainedError
group: type[SwitchCaseEdgeGroup] = supersteps.SwitchCaseEdgeGroup
ready: type[Ready[int]] = supersteps.Ready[int]
_ = supersteps.Workflows  # type: ignore[attr-defined]
_ = supersteps.storages.SqlStorage  # type: ignore[attr-defined]


async def close(storage: DurableStorage) -> None:
    await storage.aclose()


# -------------------------------------------------------------- the API example of the design page


class UpperCase(Executor):
    @handler
    async def to_upper(self, text: str, ctx: WorkflowContext[str]) -> None:
        prev = await ctx.get_state() or {}
        await ctx.set_state({"count": int(prev.get("count", 0)) + 1, "last": text})
        await ctx.set_shared_state("original_input", text)
        await ctx.send_message(text.upper())


@executor
async def reverse(text: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(text[::-1])


upper = UpperCase(id="upper")
assert_type(reverse, FunctionExecutor)

workflow = (
    WorkflowBuilder(max_iterations=5, name="shout")
    .add_edge(upper, reverse)
    .set_start_executor(upper)
    .with_checkpointing(checkpoint_storage=FileCheckpointStorage(storage_path="./checkpoints"))
    .build()
)
assert_type(workflow, Workflow)


def use_it_in_a_script() -> None:
    assert_type(workflow.run_sync("x"), WorkflowRunResult)


async def use_the_api(fresh: Workflow, request_id: str) -> None:
    result = await workflow.run("hello")
    assert_type(result, WorkflowRunResult)
    assert_type(result.get_outputs(), list[Any])
    assert_type(result.get_request_info_events(), list[RequestInfoEvent])
    assert_type(result.get_final_state(), WorkflowRunState)
    assert_type(result.status_timeline(), list[WorkflowStatusEvent])
    async for event in workflow.run_stream("hello"):
        assert_type(event, WorkflowEvent)

    run = workflow.run_stream("hello")
    assert_type(run, StreamingRun)
    assert_type(run.run_id, str)
    assert_type(run.checkpoints, list[CheckpointInfo])
    assert_type(run.latest_checkpoint, CheckpointInfo | None)
    assert_type(run.checkpoints[0].step_number, int)
    assert_type(run.checkpoints[0].parent, str | None)
    await run.send_response(request_id, "approve")
    await run.restore_checkpoint(run.checkpoints[5])
    assert_type(await run.wait_for_completion(), WorkflowRunResult)

    storage = InMemoryCheckpointStorage()
    cps = await storage.list_checkpoints(workflow_id="shout")
    assert_type(cps, list[WorkflowCheckpoint])
    s = RequestInfoExecutor.checkpoint_summary(cps[-1])
    assert_type(s, WorkflowCheckpointSummary)
    assert_type(s.checkpoint_id, str)
    assert_type(s.iteration_count, int)
    assert_type(s.status, str)
    assert_type(s.targets, list[str])
    assert_type(s.executor_states, list[str])
    assert_type(s.draft_preview, str | None)
    assert_type(s.pending_requests, list[PendingRequestDetails])

    async for _ in fresh.run_stream_from_checkpoint(
        cps[3].checkpoint_id, checkpoint_storage=storage, responses={"request-id-1": "yes"}
    ):
        pass
    await fresh.run_from_checkpoint(cps[3].checkpoint_id, checkpoint_storage=storage)
    await fresh.run_from_checkpoint(cps[3], checkpoint_storage=storage)
    await fresh.run_from_checkpoint(run.checkpoints[3])
    await fresh.send_responses({request_id: "yes"})
    async for _ in fresh.send_responses_streaming({request_id: "yes"}):
        pass


async def use_the_handle(run: StreamingRun) -> None:
    async with run as same:
        assert_type(same, StreamingRun)
    assert_type(run.watch_stream(), AsyncIterator[WorkflowEvent])
    async for info in run.history():
        assert_type(info, CheckpointInfo)
    await run.cancel()
    await run.aclose()
    run.checkpoints = []  # type: ignore[misc]
    await run.send_response("id")  # type: ignore[call-arg]
    await run.restore_checkpoint(5)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ executors, contexts


@dataclass
class Approval(RequestInfoMessage):
    prompt: str = ""


class Everything(Executor):
    @handler
    async def text(self, message: str, ctx: WorkflowContext[int | Approval, bytes]) -> None:
        await ctx.send_message(1)
        await ctx.send_message(Approval(prompt="?"), target_id="port")
        await ctx.yield_output(b"")
        await ctx.send_message("no")  # type: ignore[arg-type]
        await ctx.yield_output("no")  # type: ignore[arg-type]

    @handler
    async def answer(self, message: RequestResponse[Approval, str], ctx: WorkflowContext) -> None:
        assert_type(message.data, str)
        assert_type(message.original_request, Approval)
        await ctx.send_message("nothing may be sent")  # type: ignore[arg-type]
        await ctx.yield_output("nothing may be yielded")  # type: ignore[arg-type]

    @handler
    def plain(self, message: bytes, ctx: WorkflowContext[Never, int]) -> None:
        assert_type(ctx.get_state().result(), dict[str, Any] | None)
        ctx.set_state({"k": 1})
        ctx.yield_output(len(message))
        ctx.send_message("no")  # type: ignore[arg-type]

    @handler
    async def state(self, message: float, ctx: WorkflowContext[Any, Any]) -> None:
        assert_type(await ctx.get_shared_state("k", default=None), Any)
        await ctx.queue_state_update("k", 1, scope="team")
        await ctx.append_shared_state("log", 1)
        await ctx.add_event(WorkflowEvent("custom"))
        assert_type(ctx.idempotency_key, str)
        await ctx.set_state([])  # type: ignore[arg-type]
        await ctx.set_shared_state(1, 1)  # type: ignore[arg-type]
        await ctx.add_event("no event")  # type: ignore[arg-type]

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        await ctx.queue_state_update("k", 1)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        await ctx.read_state("k")


@executor(id="named")
def named(message: str) -> None: ...


@dataclass
class Spend:
    amount: int


class Careful(Executor):
    @handler
    async def begin(self, message: int, ctx: WorkflowContext[int | bytes, str]) -> None:
        assert_type(await ctx.request_info(Spend(message), bool), str)
        await ctx.request_info(
            Spend(message), bool, request_id="q", deadline=timedelta(hours=1), default=False
        )
        await ctx.request_info(
            Spend(message), bool | None, deadline=datetime.now(UTC), default=None
        )
        await ctx.schedule(message, delay=60)
        await ctx.schedule(b"", at=datetime.now(UTC), target_id="careful")
        await ctx.sleep(0.5)
        await ctx.sleep_until(datetime.now(UTC))
        assert_type(ctx.attempt, int)
        assert_type(ctx.is_replaying, bool)
        await ctx.request_info(Spend(message))  # type: ignore[call-arg]
        text, ask = "tomorrow", ctx.request_info
        await ask(Spend(message), bool, deadline=text, default=False)  # type: ignore[arg-type]
        await ctx.schedule("no", delay=60)  # type: ignore[arg-type]
        await ctx.schedule(message, delay="60")  # type: ignore[arg-type]
        await ctx.sleep_until(60)  # type: ignore[arg-type]
        ctx.attempt = 2  # type: ignore[misc]

    @response_handler
    async def decided(
        self, original_request: Spend, response: bool, ctx: WorkflowContext[Never, str]
    ) -> None:
        await ctx.yield_output(f"{original_request.amount}: {response}")
        await ctx.yield_output(7)  # type: ignore[arg-type]

    @response_handler
    def put_off(
        self, original_request: Spend, response: timedelta, ctx: WorkflowContext[int]
    ) -> None:
        ctx.schedule(original_request.amount, delay=response)

    @handler
    async def failed(self, failure: ExecutorFailure, ctx: WorkflowContext) -> None:
        assert_type(failure.message, Any)
        assert_type(failure.traceback, str | None)


Everything()  # type: ignore[call-arg]
executor(named, 7)  # type: ignore[call-overload]


def build(a: Executor, b: Executor, storage: CheckpointStorage) -> Workflow:
    def choose(message: Any, targets: list[str]) -> list[str]:
        return targets[:1]

    builder = WorkflowBuilder()
    builder.register_executor(lambda: UpperCase("c"), "c").add_edge(a, "c")
    builder.add_edge(a, b, condition=lambda message: bool(message)).add_edge(
        a, lambda: UpperCase("d")
    )
    builder.add_chain([a, b]).add_fan_out_edges(a, [b, "c"]).add_fan_in_edges([a, b], "c")
    builder.add_multi_selection_edge_group(a, [b, "c"], selection_func=choose)
    builder.add_switch_case_edge_group(
        a, [Case(condition=lambda m: m == 1, target=b), Default(target="c")]
    )
    builder.with_reducer("total", lambda value, update: value + update, initial=0)
    builder.with_failure_policy(
        a, FailurePolicy(max_attempts=3, retry_on=(OSError, KeyError), timeout=5)
    )
    builder.add_error_edge(a, Careful("careful")).add_error_edge("c", b)
    builder.with_checkpointing(storage, types=[Approval])
    builder.with_failure_policy(a, 3)  # type: ignore[arg-type]
    FailurePolicy(retry_on=OSError)  # type: ignore[arg-type]
    FailurePolicy().max_attempts = 3  # type: ignore[misc]
    builder.add_error_edge(a)  # type: ignore[call-arg]
    builder.add_edge(a)  # type: ignore[call-arg]
    builder.add_edge(a, 7)  # type: ignore[arg-type]
    builder.set_start_executor(None)  # type: ignore[arg-type]
    builder.with_checkpointing("./checkpoints")  # type: ignore[arg-type]
    builder.add_switch_case_edge_group(a, [b])  # type: ignore[list-item]
    WorkflowBuilder(max_iterations="5")  # type: ignore[arg-type]
    return builder.set_start_executor(a).build()


async def run_with_settings(
    workflow: Workflow, storage: CheckpointStorage, tags: Sequence[str]
) -> None:
    await workflow.run(
        "x",
        run_id="r",
        if_exists="attach",
        checkpoint_storage=storage,
        metadata={"a": 1},
        tags=tags,
    )
    await workflow.run("x", include_status_events=True)
    await workflow.run("x", if_exists="maybe")  # type: ignore[arg-type]
    await workflow.run()  # type: ignore[call-arg]


# --------------------------------------------------------------------------- events, plain storages


def look(event: WorkflowEvent) -> None:
    match event:
        case WorkflowOutputEvent():
            assert_type(event.source_executor_id, str)
        case RequestInfoEvent():
            assert_type(event.request_id, str)
        case SuperStepCompletedEvent():
            assert_type(event.completion_info.checkpoint, CheckpointInfo | None)
            event.step_number = 3  # type: ignore[misc]
        case _:
            pass


class MyStorage:
    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        return checkpoint.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return None

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return []

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        return []

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return False


storages: list[CheckpointStorage] = [
    MyStorage(),
    InMemoryCheckpointStorage(),
    FileCheckpointStorage("./checkpoints"),
]
