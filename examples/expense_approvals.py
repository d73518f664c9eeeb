"""Three people approve an expense at the same time; the majority decides, and no answer in time
counts as consent.

    python -m examples.expense_approvals
    python -m examples.expense_approvals --list                       what is waiting for whom
    python -m examples.expense_approvals --answer anna '{"approve": true, "remark": "go ahead"}'

The last two may run in another process while the first one is dead: an answer is plain JSON,
checked against the schema that is stored with the question.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any, Never

from examples._play import HOUR, NO_ANSWER, Place, ask, play, read_options, say, show
from supersteps import (
    CheckpointStorage,
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)

SCRIPT = {"anna": "yes", "ben": "no"}  # Cleo does not answer
APPROVERS = ("anna", "ben", "cleo")


@dataclass(frozen=True)
class Expense:
    purpose: str
    amount: int


@dataclass(frozen=True)
class Question:
    approver: str
    expense: Expense


@dataclass(frozen=True)
class Verdict:
    approve: bool
    remark: str = ""


@dataclass(frozen=True)
class Vote:
    approver: str
    verdict: Verdict


@executor
async def submit(expense: Expense, ctx: WorkflowContext[Expense]) -> None:
    await ctx.send_message(expense)


class Approver(Executor):
    """Asks one person; the executor's id is the person's name, and the question's."""

    def __init__(self, id: str, patience: float = 5 * HOUR) -> None:
        super().__init__(id)
        self.patience = patience

    @handler
    async def ask(self, expense: Expense, ctx: WorkflowContext) -> None:
        silence = Verdict(approve=True, remark="no answer in time")
        question = Question(self.id, expense)
        await ctx.request_info(
            question, Verdict, request_id=self.id, deadline=self.patience, default=silence
        )

    @response_handler
    async def hear(self, question: Question, verdict: Verdict, ctx: WorkflowContext[Vote]) -> None:
        await ctx.send_message(Vote(question.approver, verdict))


@executor
async def tally(votes: list[Vote], ctx: WorkflowContext[Never, str]) -> None:
    """Runs when all three votes are in, in whichever superstep each of them came."""
    in_favour = sum(vote.verdict.approve for vote in votes)
    for vote in votes:
        await ctx.yield_output(
            f"{vote.approver}: {'yes' if vote.verdict.approve else 'no'} ({vote.verdict.remark})"
        )
    await ctx.yield_output("approved" if in_favour * 2 > len(votes) else "rejected")


def build_workflow(storage: CheckpointStorage) -> Workflow:
    approvers = [Approver(name) for name in APPROVERS]
    return (
        WorkflowBuilder(name="expense-approvals")
        .set_start_executor(submit)
        .add_fan_out_edges(submit, approvers)
        .add_fan_in_edges(approvers, tally)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def answer(question: Question) -> Any:
    if not sys.stdin.isatty() and question.approver not in SCRIPT:
        return NO_ANSWER
    prompt = f"{question.approver}: {question.expense.amount} for {question.expense.purpose}?"
    given = ask(prompt, SCRIPT.get(question.approver, "yes"), ("yes", "no"))
    return Verdict(given == "yes", "in person")


async def from_outside(place: Place, option: str, *arguments: str) -> None:
    """Do what a mail gateway or a web form would do: only the storage is needed, no workflow."""
    if option == "--answer":
        await place.storage.answer(place.run_id, arguments[0], json.loads(arguments[1]))
    for request in await place.storage.list_requests(place.run_id):
        say(f"{request.request_id} is asked until {request.deadline}")


async def main() -> None:
    at = next(
        (n for n, word in enumerate(sys.argv) if word in ("--list", "--answer")), len(sys.argv)
    )
    asked, sys.argv[at:] = sys.argv[at:], []
    place = read_options("expense_approvals", __doc__)
    if asked:
        return await from_outside(place, *asked)
    show(await play(build_workflow(place.storage), Expense("a new sail", 1200), place, answer))


if __name__ == "__main__":
    asyncio.run(main())
