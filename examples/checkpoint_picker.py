"""List the checkpoints of a run, choose one by its number or the beginning of its id, and resume
from it.

python -m examples.checkpoint_picker
python -m examples.checkpoint_picker --choose 3    for when you are not at a terminal
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Never

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowOutputEvent,
    executor,
    handler,
)

RECIPE = ("boil water", "add tea", "wait", "pour", "serve")


class Cook(Executor):
    """Takes one step of the recipe in each superstep."""

    @handler
    async def step(self, done: list[str], ctx: WorkflowContext[list[str]]) -> None:
        done = [*done, RECIPE[len(done)]]
        await ctx.set_state({"done": done})
        await ctx.send_message(done)


@executor
async def serve(done: list[str], ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(", then ".join(done))


def build_workflow(storage: CheckpointStorage) -> Workflow:
    cook = Cook("cook")
    return (
        WorkflowBuilder(name="tea")
        .set_start_executor(cook)
        .add_edge(cook, cook, condition=_has_more)
        .add_edge(cook, serve, condition=_is_done)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def _has_more(done: list[str]) -> bool:
    return len(done) < len(RECIPE)


def _is_done(done: list[str]) -> bool:
    return len(done) == len(RECIPE)


class WrongChoiceError(ValueError):
    """A choice that names no checkpoint, or several; the text says what to do."""


def choose(checkpoints: Sequence[WorkflowCheckpoint], choice: str) -> WorkflowCheckpoint:
    """Return the checkpoint that a person means.

    Args:
        checkpoints: Those on the list.
        choice: A number on the list, or the beginning of an id.

    Raises:
        WrongChoiceError: It names none, or more than one.
    """
    numbers = {str(number): checkpoint for number, checkpoint in enumerate(checkpoints)}
    if choice in numbers:
        return numbers[choice]
    fitting = [
        checkpoint
        for checkpoint in checkpoints
        if choice and checkpoint.checkpoint_id.startswith(choice)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise WrongChoiceError(
            f"{len(fitting)} ids begin with {choice!r}, among them {fitting[0].checkpoint_id} and "
            f"{fitting[-1].checkpoint_id}. Type more of the one you mean, or its number."
        )
    raise WrongChoiceError(
        f"There is no checkpoint {choice!r} here. Choose a number from 0 to "
        f"{len(checkpoints) - 1}, or type the beginning of an id."
    )


def show(checkpoints: Sequence[WorkflowCheckpoint]) -> None:
    """Print the list."""
    for number, checkpoint in enumerate(checkpoints):
        summary = RequestInfoExecutor.checkpoint_summary(checkpoint)
        then = f", next: {', '.join(summary.targets)}" if summary.targets else ""
        print(
            f"[{number}] {summary.checkpoint_id}  superstep {summary.iteration_count}, "
            f"{summary.status}{then}"
        )


def pick(checkpoints: Sequence[WorkflowCheckpoint]) -> WorkflowCheckpoint | None:
    """Ask until the choice is clear; None when the person wants none."""
    while True:
        choice = input(
            "Resume from which one? (number, beginning of an id, or q to leave) "
        ).strip()
        if choice.lower() in ("q", "quit"):
            return None
        try:
            return choose(checkpoints, choice)
        except WrongChoiceError as error:
            print(error)


async def list_checkpoints(
    storage: FileCheckpointStorage, workflow: Workflow
) -> list[WorkflowCheckpoint]:
    """Return the workflow's checkpoints, oldest first; of a first run if there are none."""
    checkpoints = await storage.list_checkpoints(workflow_id=workflow.workflow_id)
    if not checkpoints:
        print("No checkpoints yet: making tea once.")
        await workflow.run([])
        checkpoints = await storage.list_checkpoints(workflow_id=workflow.workflow_id)
    return checkpoints


async def resume(workflow: Workflow, checkpoint: WorkflowCheckpoint) -> None:
    """Resume from a checkpoint; what followed it stays readable, on a branch of its own."""
    print(f"Resuming from superstep {checkpoint.iteration_count}.")
    run = workflow.run_stream_from_checkpoint(checkpoint.checkpoint_id)
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent):
            print(f"  superstep {event.step_number} is committed")
        if isinstance(event, WorkflowOutputEvent):
            print(f"  output: {event.data}")
    print(f"The lineage now has {len(run.checkpoints)} checkpoints.")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--choose", metavar="CHOICE", help="a number on the list, or the beginning of an id"
    )
    parser.add_argument("--storage", type=Path, default=Path("checkpoints/tea"), metavar="DIR")
    options = parser.parse_args()
    storage = FileCheckpointStorage(options.storage)
    workflow = build_workflow(storage)
    try:
        checkpoints = asyncio.run(list_checkpoints(storage, workflow))
        show(checkpoints)
        chosen = (
            pick(checkpoints) if options.choose is None else choose(checkpoints, options.choose)
        )
        if chosen is not None:
            asyncio.run(resume(workflow, chosen))
    except WrongChoiceError as error:
        print(error, file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print("\nNothing chosen, nothing changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
