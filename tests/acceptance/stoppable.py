"""A script whose run can be stopped by a signal or killed; started again, it continues there.

    python -m tests.acceptance.stoppable FOLDER STORE COMMAND

Every call of a handler appends a line to FOLDER/calls before it does anything else. COMMAND is
"count" for a run of many short supersteps with a sleep in each, or "charge" (with the suffix
"-handled" for an error edge) for a call that must not run twice. The outputs go to stdout as JSON;
a run that was drained says so on stderr and exits with 3.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Never

from supersteps import (
    Executor,
    ExecutorFailure,
    FailurePolicy,
    InterruptedCallError,
    RunDrainedError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    open_storage,
)

RUN = "stopped"
STEPS = 12


class Noted(Executor):
    def __init__(self, id: str, folder: Path) -> None:
        super().__init__(id)
        self.folder = folder

    def note(self, text: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{self.id} {text}\n")


class Counter(Noted):
    @handler
    async def count(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        self.note(str(number))
        await ctx.sleep(0.02)
        await ctx.yield_output(number)
        if number < STEPS:
            await ctx.send_message(number + 1)


class Doubler(Noted):
    @handler
    def double(self, number: int, ctx: WorkflowContext[Never, int]) -> None:
        self.note(str(number))
        time.sleep(0.01)
        ctx.yield_output(number * 2)


class Start(Noted):
    @handler
    async def start(self, text: str, ctx: WorkflowContext[str]) -> None:
        self.note(text)
        await ctx.send_message(text)


class Charge(Noted):
    """Has its effect, then dawdles as long as it runs for the first time."""

    @handler
    def charge(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.note(text)
        time.sleep(60)
        ctx.yield_output(f"charged {text}")


class Handles(Noted):
    @handler
    async def failed(
        self, failure: ExecutorFailure, ctx: WorkflowContext[Never, list[object]]
    ) -> None:
        self.note(failure.error_type)
        await ctx.yield_output([failure.error_type, failure.interrupted, failure.message])


def build(folder: Path, store: str, command: str) -> Workflow:
    if command == "count":
        counter = Counter("count", folder)
        builder = WorkflowBuilder(name="count").add_fan_out_edges(
            counter, [counter, Doubler("double", folder)]
        )
        builder.set_start_executor(counter)
    else:
        start, charge = Start("start", folder), Charge("charge", folder)
        builder = WorkflowBuilder(name="charge").set_start_executor(start).add_edge(start, charge)
        builder.with_failure_policy(charge, FailurePolicy(at_most_once=True))
        if command == "charge-handled":
            builder.add_error_edge(charge, Handles("handles", folder))
    return builder.with_checkpointing(open_storage(folder / store)).build()


def main(folder: Path, store: str, command: str) -> int:
    message = 1 if command == "count" else "card"
    try:
        result = build(folder, store, command).run_sync(message, run_id=RUN, if_exists="attach")
    except RunDrainedError as error:
        print(error, file=sys.stderr)
        return 3
    except InterruptedCallError as error:
        print(error, file=sys.stderr)
        return 4
    print(json.dumps(result.get_outputs()))
    return 0


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell ignores it for what runs in the background
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
