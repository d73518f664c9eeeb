"""Like `killable`, with sub-workflows: two nested levels, several runs of them at once, questions
at the bottom.

python -m tests.acceptance.killable_nested FOLDER STORE
"""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from supersteps import (
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    open_storage,
)
from tests.acceptance.killable import Noted, drive

RUN = "nested"
ORDERS = 3
LINES = 2


@dataclass(frozen=True)
class Order:
    number: int


@dataclass(frozen=True)
class Line:
    order: int
    number: int
    left: int = 2


@dataclass
class Approval(RequestInfoMessage):
    prompt: str = ""


class Clerk(Noted):
    @handler
    async def begin(self, count: int, ctx: WorkflowContext[Order]) -> None:
        self.note(ctx)
        for number in range(count):
            await ctx.send_message(Order(number))

    @handler
    async def done(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.note(ctx)
        await ctx.append_shared_state("done", text)
        await ctx.yield_output(text)


class Packer(Noted):
    """One for each order: hands its lines on, and joins what comes back."""

    @handler
    async def begin(self, order: Order, ctx: WorkflowContext[Line]) -> None:
        self.note(ctx)
        await ctx.set_shared_state("order", order)
        await asyncio.sleep(0.002 * order.number)
        for number in range(LINES):
            await ctx.send_message(Line(order.number, number))

    @handler
    async def packed(self, weight: int, ctx: WorkflowContext[Approval]) -> None:
        self.note(ctx)
        weights = [*await ctx.get_shared_state("weights", default=[]), weight]
        await ctx.set_shared_state("weights", weights)
        if len(weights) == LINES:
            order: Order = await ctx.get_shared_state("order")
            await ctx.send_message(
                Approval(request_id=f"order-{order.number}", prompt=str(sum(weights))), "port"
            )

    @handler
    async def approved(
        self, answer: RequestResponse[Approval, str], ctx: WorkflowContext[Never, str]
    ) -> None:
        self.note(ctx)
        order: Order = await ctx.get_shared_state("order")
        await ctx.yield_output(f"{order.number}: {answer.original_request.prompt} is {answer.data}")


class Scale(Noted):
    """One for each line: weighs it some times, keeping the sum in an attribute."""

    def __init__(self, id: str, calls: Path) -> None:
        super().__init__(id, calls)
        self.sum = 0

    @handler
    async def weigh(self, line: Line, ctx: WorkflowContext[Line, int]) -> None:
        self.note(ctx)
        await asyncio.sleep(
            0.004 * (line.order + line.number)
        )  # so that siblings are recorded while it works
        self.sum += 10 * line.order + line.number + line.left
        await ctx.append_shared_state("seen", line.left)
        if line.left:
            await ctx.send_message(Line(line.order, line.number, line.left - 1))
        else:
            await ctx.yield_output(self.sum + len(await ctx.get_shared_state("seen")))

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        await ctx.queue_state_update("sum", self.sum)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.sum = await ctx.read_state("sum", default=0)


def build(folder: Path, store: str) -> Workflow:
    calls = folder / "calls"
    weighing = (
        WorkflowBuilder(name="weighing")
        .register_executor(lambda: Scale("scale", calls), "scale")
        .add_edge("scale", "scale")
        .set_start_executor("scale")
        .build()
    )
    packer, port, lines = (
        Packer("packer", calls),
        RequestInfoExecutor("port"),
        WorkflowExecutor(weighing, "lines"),
    )
    packing = (
        WorkflowBuilder(name="packing")
        .add_edge(packer, lines)
        .add_edge(lines, packer)
        .add_edge(packer, port)
        .add_edge(port, packer)
        .set_start_executor(packer)
        .build()
    )
    clerk, orders = Clerk("clerk", calls), WorkflowExecutor(packing, "orders")
    return (
        WorkflowBuilder(name="nested")
        .add_edge(clerk, orders)
        .add_edge(orders, clerk)
        .set_start_executor(clerk)
        .with_checkpointing(open_storage(folder / store))
        .build()
    )


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(drive(build(Path(sys.argv[1]), sys.argv[2]), ORDERS, RUN))
