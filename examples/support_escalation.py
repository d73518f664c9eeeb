"""A support ticket is passed from desk to desk until one of them answers in time.

    python -m examples.support_escalation

Each question has a deadline and a default. Without an answer by then, the default counts as the
answer and the ticket moves on, even if no process was running at the deadline.
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any, Never

from examples._play import HOUR, NO_ANSWER, ask, play, read_options, show
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

DESKS = ("first level", "second level", "head of support")
SCRIPT = {
    "head of support": "Have you tried turning it off and on again?"
}  # the others are at lunch


@dataclass(frozen=True)
class Ticket:
    text: str
    level: int = 0


@dataclass(frozen=True)
class Question:
    desk: str
    ticket: Ticket


@dataclass(frozen=True)
class Reply:
    """What a desk says; None when it says nothing."""

    text: str | None


class Desk(Executor):
    """Asks the desk of the ticket's level, and waits longer the higher it is."""

    @handler
    async def ask(self, ticket: Ticket, ctx: WorkflowContext) -> None:
        desk = DESKS[ticket.level]
        patience = (ticket.level + 1) * HOUR
        await ctx.append_shared_state("asked", desk)
        await ctx.request_info(
            Question(desk, ticket), Reply, request_id=desk, deadline=patience, default=Reply(None)
        )

    @response_handler
    async def hear(
        self, question: Question, reply: Reply, ctx: WorkflowContext[Ticket | str]
    ) -> None:
        ticket = question.ticket
        if reply.text is not None:
            await ctx.send_message(f"{question.desk}: {reply.text}")
        elif ticket.level + 1 < len(DESKS):
            await ctx.send_message(Ticket(ticket.text, ticket.level + 1))
        else:
            await ctx.send_message("no desk answers: the customer gets the money back")


@executor
async def close(text: str, ctx: WorkflowContext[Never, str]) -> None:
    asked = await ctx.get_shared_state("asked")
    await ctx.yield_output(f"asked: {', then '.join(asked)}")
    await ctx.yield_output(text)


def build_workflow(storage: CheckpointStorage) -> Workflow:
    desk = Desk("desk")
    return (
        WorkflowBuilder(name="support-escalation")
        .set_start_executor(desk)
        .add_edge(desk, desk)
        .add_edge(desk, close)
        .with_checkpointing(storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(InMemoryCheckpointStorage())


def answer(question: Question) -> Any:
    if question.desk not in SCRIPT and not sys.stdin.isatty():
        return NO_ANSWER
    return Reply(
        ask(
            f"{question.desk}, {question.ticket.text!r}:",
            SCRIPT.get(question.desk, "We are on it."),
        )
    )


async def main() -> None:
    place = read_options("support_escalation", __doc__)
    show(
        await play(
            build_workflow(place.storage), Ticket("The tide does not come in"), place, answer
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
