"""Work on 10,000 items, some at a time: retries, a progress bar, no item made twice after a crash.

Kill it at any moment and start it again: it continues with the items that were not finished.

python -m examples.many_items
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Never

from supersteps import (
    ExecutorFailure,
    FailurePolicy,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
)
from supersteps.events import ExecutorCompletedEvent, ExecutorFailedEvent, SuperStepStartedEvent

RUN_ID = "many-items"


class Bar:
    """A progress bar at a terminal, and a line for each tenth elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self.shown = 0

    def add(self, count: int) -> None:
        self.done += count
        tenths = 10 * self.done // max(1, self.total)
        if sys.stdout.isatty():
            print(f"\r{'#' * (4 * tenths):<40} {self.done}/{self.total}", end="", flush=True)
        elif tenths > self.shown:
            print(f"{10 * tenths} %", flush=True)
        self.shown = tenths


def build_workflow(
    storage: SqliteCheckpointStorage, made: Path, *, at_once: int = 8, seconds: float = 0.001
) -> Workflow:
    """Return the workflow.

    Args:
        storage: Keeps the run.
        made: Gets a line for each item that is made: the world outside.
        at_once: How many items are worked on at a time.
        seconds: How long one takes.
    """

    @executor
    async def split(count: int, ctx: WorkflowContext[int]) -> None:
        for item in range(count):
            await ctx.send_message(item)

    @executor
    async def work(item: int, ctx: WorkflowContext[Never, int]) -> None:
        await asyncio.sleep(seconds)  # a request to some service
        if item % 50 == 7 and ctx.attempt == 1:
            raise ConnectionError("the service has hung up")
        if item % 1000 == 999:
            raise ValueError("nothing can be made of this")
        note(made, item)
        await ctx.yield_output(item * item)

    @executor
    async def give_up(failure: ExecutorFailure, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{failure.message}: {failure.error_message}")

    policy = FailurePolicy(max_attempts=3, backoff=0.1, retry_on=(ConnectionError,))
    return (
        WorkflowBuilder(name="many-items")
        .set_start_executor(split)
        .add_edge(split, work)
        .with_concurrency(work, at_once)
        .with_failure_policy(work, policy)
        .add_error_edge(work, give_up)
        .with_checkpointing(storage)
        .build()
    )


def note(made: Path, item: int) -> None:
    """Write a line in one go: the process may be killed at any moment."""
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, f"{item}\n".encode())
    finally:
        os.close(file)


async def main() -> None:
    parser = argparse.ArgumentParser("python -m examples.many_items", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.001, help="how long an item takes")
    parser.add_argument("--storage", type=Path, default=Path("checkpoints", "many_items.db"))
    given = parser.parse_args()
    given.storage.parent.mkdir(parents=True, exist_ok=True)

    storage = SqliteCheckpointStorage(given.storage)
    made = given.storage.with_suffix(".made")
    workflow = build_workflow(storage, made, at_once=given.at_once, seconds=given.seconds)
    bar = Bar(given.items)
    failures = 0
    run = workflow.run_stream(given.items, run_id=RUN_ID, if_exists="attach")
    async for event in run:
        if isinstance(event, SuperStepStartedEvent):
            recorded = event.start_info.recorded.get("work", 0)
            if recorded:
                print(f"{recorded} items were finished before", flush=True)
            bar.add(recorded)
        elif isinstance(event, ExecutorCompletedEvent) and event.executor_id == "work":
            bar.add(1)
        elif isinstance(event, ExecutorFailedEvent):
            failures += 1
            if "retry_at" not in (event.details.extra or {}):
                bar.add(1)  # it goes along the error edge

    outputs = (await run.wait_for_completion()).get_outputs()
    failed = [output for output in outputs if isinstance(output, str)]
    print(f"\n{len(outputs) - len(failed)} made, {len(failed)} failed, {failures} failures")
    print("\n".join(failed))


if __name__ == "__main__":
    asyncio.run(main())
