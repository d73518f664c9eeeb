"""A workflow inside another one asks: the outer one answers what it can, and a person the rest,
after a restart.

    python examples/agent_framework/sub_workflow.py
    python examples/agent_framework/sub_workflow.py --ask                    be the person
    python examples/agent_framework/sub_workflow.py --storage checkpoints    keep the files there

With `from agent_framework import ...` instead of `from supersteps import ...` it runs under
agent-framework-core 1.0.0b251001 as well, and prints the same. Two things are written as they are
for that version's sake:

- What the inner workflow needs after an answer travels in its question. In a checkpoint there one
  finds which of its questions wait, but neither its shared state nor the state of its executors:
  both are gone after the restart, and runs of it side by side share them. Here each run of it keeps
  its own, and both come back.
- The purser asks the captain by a question of its own instead of passing the inner one on. There
  the answer to one that is passed on goes straight to the sub-workflow, here to the executor that
  passed it on.
"""

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    handler,
)

CARGO = ["tent:9", "stove:14", "canoe:38"]
FREE, ALLOWED = 10, 20  # kilograms


@dataclass
class Item:
    """A piece of luggage."""

    name: str
    weight: int


@dataclass
class Ruling:
    """Whether a piece may come along."""

    name: str
    verdict: str


@dataclass
class WeightQuestion(RequestInfoMessage):
    """Asked inside the sub-workflow: may a heavy piece come along?"""

    name: str = ""
    weight: int = 0


@dataclass
class CaptainQuestion(RequestInfoMessage):
    """The same, asked of the captain by the outer workflow, with what is needed to answer the
    inner question.
    """

    prompt: str = ""
    name: str = ""
    weight: int = 0
    inner_request_id: str = ""


class Scales(Executor):
    """Weighs one piece; lies inside the sub-workflow."""

    @handler
    async def weigh(self, item: Item, ctx: WorkflowContext[WeightQuestion, Ruling]) -> None:
        if item.weight <= FREE:
            await ctx.yield_output(Ruling(item.name, "free"))
        else:
            await ctx.send_message(WeightQuestion(name=item.name, weight=item.weight))

    @handler
    async def rule(
        self, answer: RequestResponse[WeightQuestion, str], ctx: WorkflowContext[Never, Ruling]
    ) -> None:
        await ctx.yield_output(Ruling(answer.original_request.name, answer.data))


class Porter(Executor):
    """Puts the pieces on the scales, one by one."""

    @handler
    async def unload(self, cargo: list[str], ctx: WorkflowContext[Item]) -> None:
        await ctx.set_shared_state("pieces", len(cargo))
        for piece in cargo:
            name, _, weight = piece.partition(":")
            await ctx.send_message(Item(name, int(weight)))


class Purser(Executor):
    """Stands around the sub-workflow and answers its questions; about very heavy pieces the
    captain is asked.
    """

    @handler
    async def decide(
        self,
        question: WeightQuestion,
        ctx: WorkflowContext[RequestResponse[WeightQuestion, str] | CaptainQuestion],
    ) -> None:
        if question.weight <= ALLOWED:
            print(f"  the purser decides about the {question.name}")
            verdict = RequestResponse(
                data="for a fee", original_request=question, request_id=question.request_id
            )
            await ctx.send_message(verdict, target_id="scale room")
        else:
            print(f"  the purser asks about the {question.name}")
            prompt = f"A {question.name} of {question.weight} kg: may it come along?"
            await ctx.send_message(
                CaptainQuestion(
                    prompt=prompt,
                    name=question.name,
                    weight=question.weight,
                    inner_request_id=question.request_id,
                )
            )

    @handler
    async def relay(
        self,
        answer: RequestResponse[CaptainQuestion, str],
        ctx: WorkflowContext[RequestResponse[WeightQuestion, str]],
    ) -> None:
        asked = answer.original_request
        print(f"  the purser relays the answer about the {asked.name}")
        inner = WeightQuestion(
            request_id=asked.inner_request_id, name=asked.name, weight=asked.weight
        )
        verdict = RequestResponse(
            data=answer.data, original_request=inner, request_id=inner.request_id
        )
        await ctx.send_message(verdict, target_id="scale room")


class Manifest(Executor):
    """Gathers the rulings in its state until all are there."""

    @handler
    async def note(self, ruling: Ruling, ctx: WorkflowContext[Never, str]) -> None:
        rulings = {**(await ctx.get_state() or {}), ruling.name: ruling.verdict}
        await ctx.set_state(rulings)
        if len(rulings) == await ctx.get_shared_state("pieces"):
            await ctx.yield_output(
                ", ".join(f"{name} {verdict}" for name, verdict in sorted(rulings.items()))
            )


def build_scale_room() -> Workflow:
    scales, question = Scales("scales"), RequestInfoExecutor("question")
    return (
        WorkflowBuilder(max_iterations=10)
        .set_start_executor(scales)
        .add_edge(scales, question)
        .add_edge(question, scales)
        .build()
    )


def build_workflow(storage: CheckpointStorage) -> Workflow:
    porter, scale_room = Porter("porter"), WorkflowExecutor(build_scale_room(), id="scale room")
    purser, captain, manifest = (
        Purser("purser"),
        RequestInfoExecutor("captain"),
        Manifest("manifest"),
    )
    return (
        WorkflowBuilder(max_iterations=20)
        .set_start_executor(porter)
        .add_edge(porter, scale_room)
        .add_edge(scale_room, purser)
        .add_edge(purser, scale_room)
        .add_edge(purser, captain)
        .add_edge(captain, purser)
        .add_edge(scale_room, manifest)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


async def newest(storage: FileCheckpointStorage) -> WorkflowCheckpoint:
    return max(await storage.list_checkpoints(), key=lambda checkpoint: checkpoint.timestamp)


def answer_to(prompt: str, *, ask: bool) -> str:
    if ask:
        return input(f"{prompt} ").strip()
    print(f"{prompt} on deck")
    return "on deck"


async def main(folder: str, *, ask: bool) -> None:
    storage = FileCheckpointStorage(folder)
    print("first run:")
    result = await build_workflow(storage).run(CARGO)
    print(f"stopped: {result.get_final_state().value}")

    checkpoint = await newest(storage)
    print("ruled so far:", ", ".join(sorted(checkpoint.executor_states["manifest"])))
    pending = RequestInfoExecutor.pending_requests_from_checkpoint(checkpoint)
    (waiting,) = [details for details in pending if details.source_executor_id == "purser"]
    answers = {waiting.request_id: answer_to(waiting.prompt or "", ask=ask)}

    print("resumed by a workflow that was built a moment ago, inner one included:")
    resumed = await build_workflow(storage).run_from_checkpoint(
        checkpoint.checkpoint_id, responses=answers
    )
    print("output:", *resumed.get_outputs())
    print(f"ended: {resumed.get_final_state().value}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ask", action="store_true", help="ask at the terminal")
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
        asyncio.run(main(tempfile.mkdtemp(prefix="cargo-", dir=options.storage), ask=options.ask))
