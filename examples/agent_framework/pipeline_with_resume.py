"""Four executors in a row; the second half runs again from a checkpoint in the middle.

    python examples/agent_framework/pipeline_with_resume.py

`--ask` lets you choose the checkpoint, `--storage FOLDER` stores the files in a folder of yours.

With `from agent_framework import ...` instead of `from supersteps import ...` it runs under
agent-framework-core 1.0.0b251001 as well. Its list of checkpoints is one shorter there: the start
executor has run before the first one.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowOutputEvent,
    handler,
)

LOGBOOK = "harbour: 412 431 398 455"
GAUGE_ERROR = 12


@dataclass
class Levels:
    """Water levels in centimetres."""

    values: list[int]


@dataclass
class Span:
    """The lowest and the highest level."""

    low: int
    high: int


class Reader(Executor):
    """Takes a line of the logbook apart."""

    @handler
    async def read(self, line: str, ctx: WorkflowContext[Levels]) -> None:
        print("  reader")
        place, _, numbers = line.partition(":")
        values = [int(number) for number in numbers.split()]
        await ctx.set_shared_state("place", place)
        await ctx.set_state({"values": len(values)})
        await ctx.send_message(Levels(values))


class Corrector(Executor):
    """Takes the error of the gauge out of each level."""

    @handler
    async def correct(self, levels: Levels, ctx: WorkflowContext[Levels]) -> None:
        print("  corrector")
        await ctx.set_shared_state("gauge error", GAUGE_ERROR)
        await ctx.set_state({"corrected": len(levels.values)})
        await ctx.send_message(Levels([value - GAUGE_ERROR for value in levels.values]))


class Surveyor(Executor):
    """Finds the extremes."""

    @handler
    async def survey(self, levels: Levels, ctx: WorkflowContext[Span]) -> None:
        print("  surveyor")
        await ctx.set_shared_state("range", max(levels.values) - min(levels.values))
        await ctx.send_message(Span(min(levels.values), max(levels.values)))


class Herald(Executor):
    """Says it in a sentence, with what the others left in the shared state."""

    @handler
    async def announce(self, span: Span, ctx: WorkflowContext[Never, str]) -> None:
        print("  herald")
        place, tide = await ctx.get_shared_state("place"), await ctx.get_shared_state("range")
        await ctx.yield_output(f"{place}: {span.low} to {span.high} cm, a range of {tide} cm")


def build_workflow(storage: CheckpointStorage) -> Workflow:
    reader, corrector = Reader("reader"), Corrector("corrector")
    surveyor, herald = Surveyor("surveyor"), Herald("herald")
    return (
        WorkflowBuilder(max_iterations=10)
        .set_start_executor(reader)
        .add_edge(reader, corrector)
        .add_edge(corrector, surveyor)
        .add_edge(surveyor, herald)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def show(checkpoints: Sequence[WorkflowCheckpoint]) -> None:
    for number, checkpoint in enumerate(checkpoints):
        summary = RequestInfoExecutor.checkpoint_summary(checkpoint)
        state = ", ".join(
            f"{key}={value}" for key, value in sorted(checkpoint.shared_state.items())
        )
        print(f"[{number}] iteration {summary.iteration_count}, {summary.status}")
        print(f"    shared state: {state or 'none'}")
        print(f"    executors with state: {', '.join(summary.executor_states) or 'none'}")


def choose(checkpoints: Sequence[WorkflowCheckpoint], *, ask: bool) -> WorkflowCheckpoint:
    """Return the checkpoint to resume from: the user's choice, or the one after the correction."""
    if ask:
        return checkpoints[int(input(f"Resume from which one (0 to {len(checkpoints) - 1})? "))]
    return next(c for c in checkpoints if "gauge error" in c.shared_state)


async def main(folder: str, *, ask: bool) -> None:
    storage = FileCheckpointStorage(folder)
    print("first run:")
    result = await build_workflow(storage).run(LOGBOOK)
    print("output:", *result.get_outputs())

    checkpoints = sorted(
        await storage.list_checkpoints(), key=lambda checkpoint: checkpoint.timestamp
    )
    show(checkpoints)

    chosen = choose(checkpoints, ask=ask)
    print("resumed by a workflow that was built a moment ago:")
    async for event in build_workflow(storage).run_stream_from_checkpoint(chosen.checkpoint_id):
        if isinstance(event, WorkflowOutputEvent):
            print("output:", event.data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ask", action="store_true", help="ask at the terminal which checkpoint to resume from"
    )
    parser.add_argument(
        "--storage",
        type=Path,
        metavar="DIR",
        help="keep the checkpoints in a new folder in this one",
    )
    options = parser.parse_args()
    if options.storage is None:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(temporary, ask=options.ask))
    else:
        options.storage.mkdir(parents=True, exist_ok=True)
        asyncio.run(
            main(tempfile.mkdtemp(prefix="pipeline-", dir=options.storage), ask=options.ask)
        )
