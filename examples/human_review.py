"""A draft is reviewed by a person and revised until it is approved.

    python -m examples.human_review "Write about tides"
    python -m examples.human_review "Write about tides" --answers answers.txt

Answer "approve", or say what to change. Leave it at any moment, by Ctrl-C or with `kill -9`:
started again, it continues the review that waits (`--new` begins another).
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    WorkflowContext,
    WorkflowRunResult,
    WorkflowRunState,
    handler,
)


@dataclass(frozen=True)
class Task:
    """What to write."""

    brief: str


@dataclass(frozen=True)
class Revision:
    """A draft with a remark of the reviewer."""

    draft: str
    remark: str


@dataclass(frozen=True)
class Draft:
    """A text to review."""

    text: str


@dataclass
class ReviewRequest(RequestInfoMessage):
    """The question: is this good? The answer is "approve" or a remark."""

    prompt: str = ""
    draft: str = ""


class Writer(Executor):
    """Writes and revises. A real one would ask a model."""

    @handler
    async def write(self, task: Task, ctx: WorkflowContext[Draft]) -> None:
        await ctx.set_state({"version": 1})
        await ctx.send_message(Draft(f"{task.brief}, version 1."))

    @handler
    async def revise(self, revision: Revision, ctx: WorkflowContext[Draft]) -> None:
        version = (await ctx.get_state() or {"version": 1})["version"] + 1
        await ctx.set_state({"version": version})
        text = revision.draft.replace(f"version {version - 1}", f"version {version}")
        await ctx.send_message(Draft(f"{text} Now with: {revision.remark}."))


class Reviewer(Executor):
    """Has each draft reviewed by a person."""

    @handler
    async def ask(self, draft: Draft, ctx: WorkflowContext[ReviewRequest]) -> None:
        await ctx.send_message(
            ReviewRequest(prompt="Approve, or what should change?", draft=draft.text)
        )

    @handler
    async def decide(
        self, response: RequestResponse[ReviewRequest, str], ctx: WorkflowContext[Revision, str]
    ) -> None:
        draft = response.original_request.draft
        if response.data.strip().lower() == "approve":
            await ctx.yield_output(draft)
        else:
            await ctx.send_message(Revision(draft, response.data))


def build_workflow(storage: CheckpointStorage) -> Workflow:
    writer, reviewer, request_info = (
        Writer("writer"),
        Reviewer("reviewer"),
        RequestInfoExecutor("request_info"),
    )
    return (
        WorkflowBuilder(name="human-review")
        .set_start_executor(writer)
        .add_edge(writer, reviewer)
        .add_edge(reviewer, writer)
        .add_edge(reviewer, request_info)
        .add_edge(request_info, reviewer)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def read_answer(prompt: str, answers: Iterator[str] | None) -> str:
    """Return what the person says, or the next line of the file; never an empty answer.

    Raises:
        EOFError: There are no more answers.
    """
    while True:
        if answers is None:
            answer = input(prompt)
        else:
            answer = next(answers, "")
            if not answer:
                raise EOFError
            print(prompt + answer)
        if answer.strip():
            return answer
        print('Please say "approve", or what should change.')


async def start(
    workflow: Workflow, storage: FileCheckpointStorage, brief: str, *, new: bool
) -> WorkflowRunResult:
    """Continue the unfinished review, or start a new one."""
    checkpoints = await storage.list_checkpoints(workflow_id=workflow.workflow_id)
    if checkpoints and checkpoints[-1].status != WorkflowRunState.IDLE and not new:
        summary = RequestInfoExecutor.checkpoint_summary(checkpoints[-1])
        print(f"(going on after superstep {summary.iteration_count}: {summary.status})")
        return await workflow.run_from_checkpoint(checkpoints[-1].checkpoint_id)
    return await workflow.run(Task(brief))


def review(
    storage: FileCheckpointStorage, brief: str, answers: Iterator[str] | None, *, new: bool
) -> None:
    """Review until the draft is approved."""
    workflow = build_workflow(storage)
    result = asyncio.run(start(workflow, storage, brief, new=new))
    while not result.get_outputs():
        question = result.get_request_info_events()[-1]
        print(f"Draft: {question.data.draft}")
        answer = read_answer(f"{question.data.prompt} ", answers)
        result = asyncio.run(workflow.send_responses({question.request_id: answer}))
    print(f"Approved: {result.get_outputs()[-1]}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("brief", nargs="?", default="A poem about tides", help="what to write")
    parser.add_argument(
        "--answers", type=Path, metavar="FILE", help="take the answers from this file, one a line"
    )
    parser.add_argument(
        "--new", action="store_true", help="start a new one although a review waits"
    )
    parser.add_argument(
        "--storage", type=Path, default=Path("checkpoints/human-review"), metavar="DIR"
    )
    options = parser.parse_args()
    answers = iter(options.answers.read_text().splitlines()) if options.answers else None
    try:
        review(FileCheckpointStorage(options.storage), options.brief, answers, new=options.new)
    except (EOFError, KeyboardInterrupt):
        print("\nThe review waits for you. Start me again to continue.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
