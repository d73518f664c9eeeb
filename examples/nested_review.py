"""A review is a workflow of its own, with a loop; another workflow sends several documents
through it at once.

    python -m examples.nested_review

The review asks two sorts of questions. Those about spelling never reach a person: an executor of
the outer workflow answers them by the house rules. Those about approval go to the outside world.
"""

import asyncio
from dataclasses import dataclass
from typing import Never

from examples._play import ask, play, read_options, show
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    executor,
    handler,
    response_handler,
)

TEXTS = ("the colour of the sea", "the grey gull", "the tide table")
HOUSE_RULES = {"colour": "color", "grey": "gray"}
SCRIPT = {"the color of the sea": "shorter", "the tide table": "longer"}


@dataclass(frozen=True)
class Document:
    text: str


@dataclass(frozen=True)
class Spelling:
    word: str


@dataclass(frozen=True)
class Approval:
    text: str


@dataclass(frozen=True)
class Approved:
    text: str


class Speller(Executor):
    """Asks about words with two spellings, one by one."""

    @handler
    async def read(self, document: Document, ctx: WorkflowContext[Document]) -> None:
        await ctx.set_state({"document": document})
        doubtful = [word for word in document.text.split() if word in HOUSE_RULES]
        await (
            ctx.request_info(Spelling(doubtful[0]), str) if doubtful else ctx.send_message(document)
        )

    @response_handler
    async def correct(
        self, question: Spelling, spelling: str, ctx: WorkflowContext[Document]
    ) -> None:
        document: Document = (await ctx.get_state() or {})["document"]
        await ctx.send_message(Document(document.text.replace(question.word, spelling)))


class Reviewer(Executor):
    """Has a person approve the document; a remark sends it through the loop once more."""

    @handler
    async def ask(self, document: Document, ctx: WorkflowContext) -> None:
        await ctx.request_info(Approval(document.text), str)

    @response_handler
    async def decide(
        self, question: Approval, answer: str, ctx: WorkflowContext[Document, Approved]
    ) -> None:
        if answer == "approve":
            await ctx.yield_output(Approved(question.text))
        else:
            await ctx.send_message(Document(f"{question.text}, {answer}"))


@executor
async def hand_out(texts: list[str], ctx: WorkflowContext[Document]) -> None:
    for text in texts:
        await ctx.send_message(Document(text))  # each begins a run of the review inside this run


class HouseRules(Executor):
    """Stands behind an edge of the review, so its questions of this type come here instead of
    going outside.
    """

    @handler
    async def rule(
        self,
        request: SubWorkflowRequestMessage[Spelling],
        ctx: WorkflowContext[SubWorkflowResponseMessage[str]],
    ) -> None:
        spelling = HOUSE_RULES[request.data.word]
        await ctx.send_message(request.create_response(spelling), target_id=request.executor_id)


class Gatherer(Executor):
    @handler
    async def gather(self, approved: Approved, ctx: WorkflowContext[Never, str]) -> None:
        texts = [*(await ctx.get_state() or {"texts": []})["texts"], approved.text]
        await ctx.set_state({"texts": texts})
        if len(texts) == len(TEXTS):
            for text in sorted(texts):
                await ctx.yield_output(text)


def build_review() -> Workflow:
    speller, reviewer = Speller("speller"), Reviewer("reviewer")
    builder = WorkflowBuilder(name="review").set_start_executor(speller)
    return builder.add_edge(speller, reviewer).add_edge(reviewer, speller).build()


def build_workflow(storage: CheckpointStorage) -> Workflow:
    review, rules, gatherer = (
        WorkflowExecutor(build_review(), "review"),
        HouseRules("rules"),
        Gatherer("gatherer"),
    )
    return (
        WorkflowBuilder(name="nested-review")
        .set_start_executor(hand_out)
        .add_edge(hand_out, review)
        .add_edge(review, rules)
        .add_edge(rules, review)
        .add_edge(review, gatherer)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def answer(question: Approval) -> str:
    return ask(
        f"{question.text!r}: approve, or what is missing?", SCRIPT.get(question.text, "approve")
    )


async def main() -> None:
    place = read_options("nested_review", __doc__)
    show(await play(build_workflow(place.storage), list(TEXTS), place, answer))


if __name__ == "__main__":
    asyncio.run(main())
