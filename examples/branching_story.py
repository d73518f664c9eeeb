"""A story with choices. At its end, it is forked at its first choice and told with the other one;
both stay.

    python -m examples.branching_story

A fork is a run of its own that starts from a checkpoint of another one, with your changes to it.
"""

import asyncio
from dataclasses import dataclass

from examples._play import Place, ask, drive, play, read_options, say, show
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    StreamingRun,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    handler,
    response_handler,
)

DOORS = {"left": "You find a boat.", "right": "You find a lighthouse."}
DEEDS = {"stay": "You wait for the morning.", "leave": "You go home, and nobody believes you."}


@dataclass(frozen=True)
class Begin:
    hero: str


@dataclass(frozen=True)
class Door:
    """The first choice."""

    prompt: str


@dataclass(frozen=True)
class Deed:
    """The second choice."""

    prompt: str


@dataclass(frozen=True)
class Walk:
    """Go through the door that the shared state names."""


class Teller(Executor):
    @handler
    async def begin(self, begin: Begin, ctx: WorkflowContext) -> None:
        await ctx.append_shared_state("story", f"{begin.hero} stands before two doors.")
        await ctx.request_info(Door("Through which door?"), str, request_id="door")

    @response_handler
    async def choose_door(self, question: Door, answer: str, ctx: WorkflowContext[Walk]) -> None:
        await ctx.set_shared_state("door", answer)
        await ctx.send_message(Walk())

    @handler
    async def walk(self, walk: Walk, ctx: WorkflowContext) -> None:
        await ctx.append_shared_state("story", DOORS[await ctx.get_shared_state("door")])
        await ctx.request_info(Deed("What now?"), str, request_id="deed")

    @response_handler
    async def choose_deed(
        self, question: Deed, answer: str, ctx: WorkflowContext[Walk, str]
    ) -> None:
        story = [*await ctx.get_shared_state("story"), DEEDS[answer]]
        await ctx.append_shared_state("story", story[-1])
        await ctx.yield_output(" ".join(story))


def build_workflow(storage: CheckpointStorage) -> Workflow:
    teller = Teller("teller")
    return (
        WorkflowBuilder(name="branching-story")
        .set_start_executor(teller)
        .add_edge(teller, teller)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def answer(question: Door | Deed) -> str:
    if isinstance(question, Door):
        return ask(question.prompt, "left", list(DOORS))
    return ask(question.prompt, "stay", list(DEEDS))


async def other_story(
    workflow: Workflow, place: Place, told: list[WorkflowCheckpoint]
) -> StreamingRun:
    """Return the fork: the one that was started before a crash, or a new one."""
    run_id = f"{place.run_id}-other"
    started = await place.storage.get_run(run_id)
    if started is not None:
        return workflow.run_stream_from_checkpoint(started.head)
    chosen = next(checkpoint for checkpoint in told if "door" in checkpoint.shared_state)
    other = next(door for door in DOORS if door != chosen.shared_state["door"])
    say(f"forked after superstep {chosen.iteration_count}, with the {other} door")
    return workflow.fork(chosen, changes={"shared_state.door": other}, run_id=run_id)


async def main() -> None:
    place = read_options("branching_story", __doc__)
    workflow = build_workflow(place.storage)
    show(await play(workflow, Begin("Nina"), place, answer))

    told = await place.storage.list_checkpoints(run_id=place.run_id)
    fork = await other_story(workflow, place, told)
    show(await drive(fork, answer))

    retold = await place.storage.list_checkpoints(run_id=fork.run_id)
    show(
        change
        for change in told[-1].diff(retold[-1])
        if change.path[0] in ("shared_state", "outputs")
    )


if __name__ == "__main__":
    asyncio.run(main())
