"""A person reviews a text; every answer goes to a new workflow that resumes from the last
checkpoint.

    python examples/agent_framework/human_review.py
    python examples/agent_framework/human_review.py --ask                    be the reviewer
    python examples/agent_framework/human_review.py --storage checkpoints    keep the files there

With `from agent_framework import ...` instead of `from supersteps import ...` it runs under
agent-framework-core 1.0.0b251001 as well, and prints the same.
"""

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from supersteps import (
    CheckpointStorage,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RequestInfoEvent,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowOutputEvent,
    handler,
)

SCRIPT = {
    1: "say where it was made",
    2: "say what it was for",
    3: "approve",
}
PHRASES = {
    "say where it was made": "made in Delft",
    "say what it was for": "for use at sea",
}


@dataclass
class Exhibit:
    """What the label is about."""

    name: str
    year: int


@dataclass
class Label:
    """A label to be reviewed."""

    text: str
    version: int


@dataclass
class Remark:
    """What the reviewer misses on a label."""

    label: Label
    wish: str


@dataclass
class LabelQuestion(RequestInfoMessage):
    """Is this label good? The answer is "approve" or a wish. Summaries of checkpoints know these
    names of fields.
    """

    prompt: str = ""
    draft: str = ""
    iteration: int = 0


class Writer(Executor):
    """Writes labels; how many of them is its state."""

    @handler
    async def begin(self, exhibit: Exhibit, ctx: WorkflowContext[Label]) -> None:
        await ctx.set_state({"written": 1})
        await ctx.send_message(Label(f"{exhibit.name}, {exhibit.year}", 1))

    @handler
    async def improve(self, remark: Remark, ctx: WorkflowContext[Label]) -> None:
        written = int((await ctx.get_state() or {})["written"]) + 1
        await ctx.set_state({"written": written})
        phrase = PHRASES.get(remark.wish, remark.wish)
        await ctx.send_message(Label(f"{remark.label.text}, {phrase}", written))


class Desk(Executor):
    """Puts each label before a person and does what the person says."""

    @handler
    async def present(self, label: Label, ctx: WorkflowContext[LabelQuestion]) -> None:
        await ctx.set_shared_state("wishes", label.version - 1)
        await ctx.send_message(
            LabelQuestion(prompt="Approve?", draft=label.text, iteration=label.version)
        )

    @handler
    async def act(
        self, answer: RequestResponse[LabelQuestion, str], ctx: WorkflowContext[Remark, str]
    ) -> None:
        question = answer.original_request
        if answer.data == "approve":
            await ctx.yield_output(
                f"{question.draft} (wishes: {await ctx.get_shared_state('wishes')})"
            )
        else:
            await ctx.send_message(Remark(Label(question.draft, question.iteration), answer.data))


def build_workflow(storage: CheckpointStorage) -> Workflow:
    writer, desk, person = Writer("writer"), Desk("desk"), RequestInfoExecutor("person")
    return (
        WorkflowBuilder(max_iterations=20)
        .set_start_executor(writer)
        .add_edge(writer, desk)
        .add_edge(desk, writer)
        .add_edge(desk, person)
        .add_edge(person, desk)
        .with_checkpointing(checkpoint_storage=storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


async def newest(storage: FileCheckpointStorage) -> WorkflowCheckpoint:
    return max(await storage.list_checkpoints(), key=lambda checkpoint: checkpoint.timestamp)


def answer_to(prompt: str, version: int, *, ask: bool) -> str:
    if ask:
        return input(f"{prompt} (approve, or what is missing?) ").strip()
    print(f"{prompt} {SCRIPT[version]}")
    return SCRIPT[version]


async def main(folder: str, *, ask: bool) -> None:
    storage = FileCheckpointStorage(folder)
    result = await build_workflow(storage).run(Exhibit("Barometer", 1790))
    print(
        f"stopped: {result.get_final_state().value}, questions: "
        f"{len(result.get_request_info_events())}"
    )

    outputs: list[str] = []
    while not outputs:
        # All that is known here stands in the storage, as in a process that was started a moment
        # ago.
        checkpoint = await newest(storage)
        summary = RequestInfoExecutor.checkpoint_summary(checkpoint)
        waiting = summary.pending_requests[0]
        print(f"{summary.status}: draft {waiting.iteration}, {summary.draft_preview!r}")
        answers = {
            waiting.request_id: answer_to(waiting.prompt or "", waiting.iteration or 0, ask=ask)
        }
        run = build_workflow(storage).run_stream_from_checkpoint(
            checkpoint.checkpoint_id, responses=answers
        )
        async for event in run:
            if isinstance(event, RequestInfoEvent) and event.request_id not in answers:
                print(f"  asked again, now with draft {event.data.iteration}")
            elif isinstance(event, WorkflowOutputEvent):
                outputs.append(event.data)
    print("approved:", *outputs)
    last = await newest(storage)
    status = RequestInfoExecutor.checkpoint_summary(last).status
    print(f"the last checkpoint is {status}; state of the writer: {last.executor_states['writer']}")


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
        asyncio.run(main(tempfile.mkdtemp(prefix="review-", dir=options.storage), ask=options.ask))
