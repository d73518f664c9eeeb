"""A run that can be killed at any moment: fan-out, fan-in, state, questions. Started again, it
goes on where it was.

    python -m tests.acceptance.killable FOLDER STORE

Every call of a handler appends where it stands to FOLDER/calls before it does anything else. The
answer to every question is the same. At the end the outputs go to stdout as JSON.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from supersteps import (
    Executor,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowOutputEvent,
    handler,
    open_storage,
)

RUN = "killed"
ROUNDS = 4


@dataclass(frozen=True)
class Round:
    number: int


@dataclass(frozen=True)
class Piece:
    round: int
    text: str


@dataclass
class Review(RequestInfoMessage):
    prompt: str = ""


class Noted(Executor):
    """Notes each call of a handler in a file that no checkpoint knows of."""

    def __init__(self, id: str, calls: Path) -> None:
        super().__init__(id)
        self.calls = calls

    def note(self, ctx: WorkflowContext[Any, Any]) -> None:
        call: Any = ctx._call
        place = call.site.work(call.effects.key)  # the same in two runs, unlike the key
        with self.calls.open("a") as file:
            file.write(place.key(ctx.run_id, "") + "\n")


class Splitter(Noted):
    @handler
    async def begin(self, message: Round, ctx: WorkflowContext[Piece]) -> None:
        self.note(ctx)
        await ctx.append_shared_state("rounds", message.number)
        for text in ("one", "two"):
            await ctx.send_message(Piece(message.number, text))


class Worker(Noted):
    """Takes longer the later its name is, so that siblings are recorded while it works."""

    @handler
    async def work(self, piece: Piece, ctx: WorkflowContext[str]) -> None:
        self.note(ctx)
        await asyncio.sleep((ord(self.id) - ord("a")) * 0.01)
        state = await ctx.get_state() or {"pieces": []}
        await ctx.set_state({"pieces": [*state["pieces"], piece]})
        await ctx.set_shared_state("total", len(piece.text))
        await ctx.send_message(f"{self.id}{piece.round}{piece.text}")


class Keeper(Noted):
    """Keeps its count in an attribute, over crashes by the checkpoint hooks."""

    def __init__(self, id: str, calls: Path) -> None:
        super().__init__(id, calls)
        self.count = 0

    @handler
    async def keep(self, piece: Piece, ctx: WorkflowContext[Never, int]) -> None:
        self.note(ctx)
        self.count += len(piece.text) * piece.round
        await ctx.yield_output(self.count)

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        await ctx.queue_state_update("count", self.count)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.count = await ctx.read_state("count", default=0)


class Joiner(Noted):
    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Review, list[str]]) -> None:
        self.note(ctx)
        seen = await ctx.read_state("seen", default=0) + 1
        await ctx.queue_state_update("seen", seen)
        await ctx.yield_output(texts)
        await ctx.send_message(Review(request_id=f"review-{seen}", prompt=" ".join(texts)))

    @handler
    async def reviewed(
        self, answer: RequestResponse[Review, str], ctx: WorkflowContext[Round, str]
    ) -> None:
        self.note(ctx)
        await ctx.yield_output(
            f"{answer.request_id}: {answer.original_request.prompt} is {answer.data}"
        )
        # Every round makes two lists, and so asks two questions; the later answer begins the next
        # round.
        number = int(answer.request_id.removeprefix("review-"))
        if number % 2 == 0 and number // 2 < ROUNDS:
            await ctx.send_message(Round(number // 2 + 1))


def build(folder: Path, store: str) -> Workflow:
    calls = folder / "calls"
    splitter, joiner, keeper = (
        Splitter("split", calls),
        Joiner("join", calls),
        Keeper("keep", calls),
    )
    workers, port = [Worker(name, calls) for name in "abc"], RequestInfoExecutor("port")
    return (
        WorkflowBuilder(name="killable")
        .add_fan_out_edges(splitter, [*workers, keeper])
        .add_fan_in_edges(workers, joiner)
        .add_edge(joiner, port)
        .add_edge(port, joiner)
        .add_edge(joiner, splitter)
        .with_reducer("total", lambda value, update: value + update, initial=0)
        .set_start_executor(splitter)
        .with_checkpointing(open_storage(folder / store))
        .build()
    )


async def drive(workflow: Workflow, message: object, run_id: str) -> None:
    """Begin the run or go on with it, answer its questions, and say its outputs."""
    run = workflow.run_stream(message, run_id=run_id, if_exists="attach")
    async for event in run:
        if isinstance(event, RequestInfoEvent):
            await run.send_response(event.request_id, "fine")
        assert not isinstance(event, WorkflowOutputEvent) or event.data
    print(json.dumps((await run.wait_for_completion()).get_outputs()))


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(drive(build(Path(sys.argv[1]), sys.argv[2]), Round(1), RUN))
