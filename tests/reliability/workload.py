"""The program whose death the lab watches: runs a workflow with everything in it, and says what
was acknowledged.

    python -m tests.reliability.workload STORE [OPERATION ...]

Each line on stdout is one acknowledgement, written at once: `step 4 ID` after superstep 4 was
announced as committed, `answer ask-1` after an answer was accepted, `done OUTPUTS` at the end, and
the operation's name after each operation. What was acknowledged must be found again, whatever
happens to the process, the disk or the power.

Handlers do nothing but what the library does: there is nothing else that could go wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Never

from supersteps import (
    Executor,
    ManagedStorage,
    RequestInfoEvent,
    RetentionPolicy,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    export_run,
    handler,
    open_storage,
    response_handler,
)

RUN = "lab"
LAPS = 3


class Clerk(Executor):
    """Starts a lap; at the second one it asks before it continues."""

    @handler
    async def begin(self, lap: int, ctx: WorkflowContext[int, str]) -> None:
        state = await ctx.get_state() or {"laps": []}
        await ctx.set_state({"laps": [*state["laps"], lap]})
        await ctx.append_shared_state("history", {"lap": lap, "text": f"lap {lap} " * 20})
        if lap == 2:
            await ctx.request_info({"lap": lap}, str)
        else:
            await ctx.send_message(lap)

    @response_handler
    async def go_on(
        self, asked: dict[str, int], answer: str, ctx: WorkflowContext[int, str]
    ) -> None:
        await ctx.yield_output(f"lap {asked['lap']} was {answer}")
        await ctx.send_message(asked["lap"])


def worker(name: str) -> Any:
    """Adds to a shared sum and changes a piece of a large value of its own."""

    @executor(id=name)
    async def work(lap: int, ctx: WorkflowContext[str]) -> None:
        await ctx.set_shared_state("sum", lap)
        state = await ctx.get_state() or {
            "pages": {str(i): f"{name} page {i} " * 30 for i in range(40)}
        }
        state["pages"][str(lap)] = f"{name} was here in lap {lap}"
        await ctx.set_state(state)
        await ctx.send_message(f"{name}{lap}")

    return work


@executor(id="judge")
async def judge(words: list[str], ctx: WorkflowContext[int, str]) -> None:
    await ctx.yield_output(" ".join(words))
    lap = int(words[0][1:])
    if lap < LAPS:
        await ctx.send_message(lap + 1)


@executor(id="log")
async def log(lap: int, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.queue_state_update("last", f"lap {lap}", scope="notes")


def build(storage: ManagedStorage | None = None) -> Workflow:
    """Return the workflow: clerk -> (a, b, log) -> judge -> clerk."""
    clerk, a, b = Clerk("clerk"), worker("a"), worker("b")
    builder = (
        WorkflowBuilder(name="lab")
        .set_start_executor(clerk)
        .add_fan_out_edges(clerk, [a, b, log])
        .add_fan_in_edges([a, b], judge)
        .add_edge(judge, clerk)
        .with_reducer("sum", lambda value, update: value + update, initial=0)
    )
    return (builder if storage is None else builder.with_checkpointing(storage)).build()


def acknowledge(*words: object) -> None:
    # Another system call than storages write with, so that a tampered `write` is always one of
    # theirs.
    os.writev(1, [(" ".join(map(str, words)) + "\n").encode()])


async def drive(storage: ManagedStorage, run_id: str = RUN) -> list[Any]:
    """Begin the run or go on with it, to its end; return its outputs."""
    run = build(storage).run_stream(1, run_id=run_id, if_exists="attach")
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent):
            assert event.completion_info.checkpoint is not None
            acknowledge("step", event.step_number, event.completion_info.checkpoint.checkpoint_id)
        elif isinstance(event, RequestInfoEvent):
            await run.send_response(event.request_id, "fine")
            acknowledge("answer", event.request_id)
    outputs = (await run.wait_for_completion()).get_outputs()
    acknowledge("done", json.dumps(outputs))
    return outputs


async def operate(storage: ManagedStorage, operation: str) -> None:
    """Do one thing to the finished run, as people do; then it is still possible to end it in the
    same way.
    """
    acknowledge("begin", operation)
    if operation == "prune":
        await storage.prune(RUN, RetentionPolicy(keep_last=3))
    elif operation == "vacuum":
        await storage.vacuum()
    elif operation == "restore":
        headers = await storage.list_headers(RUN)
        await build(storage).run_from_checkpoint(headers[-3].checkpoint_id)
    elif operation == "fork":
        fork = await storage.get_run("fork")
        if fork is None:
            headers = await storage.list_headers(RUN)
            await (
                build(storage).fork(headers[-2].checkpoint_id, run_id="fork").wait_for_completion()
            )
        else:  # an earlier process has started it
            await build(storage).run_from_checkpoint(fork.head)
    elif operation == "delete":
        headers = await storage.list_headers(RUN)
        await storage.delete_checkpoint(headers[0].checkpoint_id)
    elif operation == "export":
        await export_run(storage, RUN, Path(os.environ["LAB_EXPORT"]))
    else:
        raise SystemExit(f"unknown operation {operation}")
    acknowledge(operation)


async def main(store: str, operations: list[str]) -> None:
    storage = open_storage(store)
    assert isinstance(storage, ManagedStorage)
    async with storage:
        await drive(storage)
        for operation in operations:
            await operate(storage, operation)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except Exception:
        os.writev(2, [traceback.format_exc().encode()])
        sys.exit(1)
