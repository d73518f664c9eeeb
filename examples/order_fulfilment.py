"""An order is paid and its goods are reserved at the same time; then it is shipped, refunded, or
cancelled.

    python -m examples.order_fulfilment

A card must not be charged twice. So the charge is made at most once. If a crash interrupts it, the
failure goes along the error edge instead, to an executor that checks in the ledger whether the
money has moved.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from examples._play import Place, nowhere, play, read_options, say, show
from supersteps import (
    Case,
    Default,
    Executor,
    ExecutorFailure,
    FailurePolicy,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    executor,
    handler,
)


@dataclass(frozen=True)
class Order:
    number: int
    goods: str
    amount: int


@dataclass(frozen=True)
class Done:
    """One of the two things that an order needs."""

    order: Order
    is_done: bool


@dataclass(frozen=True)
class Outcome:
    order: Order
    is_paid: bool
    is_reserved: bool


class Ledger:
    """The bank's book, which no checkpoint knows of."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, number: int, amount: int) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"order {number}: {amount}\n")

    def entries(self, number: int) -> list[str]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [line for line in lines if line.startswith(f"order {number}:")]


@executor
async def accept(order: Order, ctx: WorkflowContext[Order]) -> None:
    await ctx.send_message(order)


class Bank(Executor):
    def __init__(self, id: str, ledger: Ledger) -> None:
        super().__init__(id)
        self.ledger = ledger


class Charge(Bank):
    @handler
    def charge(self, order: Order, ctx: WorkflowContext[Done]) -> None:
        time.sleep(0.05)  # the bank is slow, before ...
        self.ledger.add(order.number, order.amount)
        time.sleep(0.05)  # ... and after
        ctx.send_message(Done(order, is_done=True))


class Clear(Bank):
    """Finds out what has become of a charge that was cut short."""

    @handler
    def clear(self, failure: ExecutorFailure, ctx: WorkflowContext[Done | Order]) -> None:
        order: Order = failure.message
        say(
            f"the charge of order {order.number} was cut short: "
            f"{self.ledger.entries(order.number) or 'not booked'}"
        )
        if self.ledger.entries(order.number):
            ctx.send_message(Done(order, is_done=True))
        elif failure.interrupted:
            # Nothing has happened, so it may be tried again, as another call.
            ctx.send_message(order)
        else:
            ctx.send_message(Done(order, is_done=False))


@executor
async def paid(done: Done, ctx: WorkflowContext[Done]) -> None:
    """Where both ways of paying meet, since the fan-in waits for one message of each source."""
    await ctx.send_message(done)


@executor
async def reserve(order: Order, ctx: WorkflowContext[Done]) -> None:
    await ctx.send_message(Done(order, is_done=order.goods != "unicorn"))


@executor
async def join(both: list[Done], ctx: WorkflowContext[Outcome]) -> None:
    payment, stock = both
    await ctx.send_message(Outcome(payment.order, payment.is_done, stock.is_done))


@executor
async def ship(outcome: Outcome, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(f"order {outcome.order.number}: {outcome.order.goods} is on its way")


@executor
async def cancel(outcome: Outcome, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(f"order {outcome.order.number} is cancelled")


class PayBack(Bank):
    @handler
    def pay_back(self, outcome: Outcome, ctx: WorkflowContext[Never, str]) -> None:
        order = outcome.order
        if len(self.ledger.entries(order.number)) == 1:  # so that a repeated call pays back once
            self.ledger.add(order.number, -order.amount)
        ctx.yield_output(
            f"order {order.number}: no {order.goods} in stock, {order.amount} paid back"
        )


def build_workflow(place: Place) -> Workflow:
    ledger = Ledger(place.world / "ledger.txt")
    charge, clear, pay_back = (
        Charge("charge", ledger),
        Clear("clear", ledger),
        PayBack("pay_back", ledger),
    )
    return (
        WorkflowBuilder(name="order-fulfilment")
        .set_start_executor(accept)
        .add_fan_out_edges(accept, [charge, reserve])
        .with_failure_policy(charge, FailurePolicy(at_most_once=True))
        .add_edge(charge, paid)
        .add_error_edge(charge, clear)
        .add_edge(clear, charge)
        .add_edge(clear, paid)
        .add_fan_in_edges([paid, reserve], join)
        .add_switch_case_edge_group(
            join,
            [
                Case(lambda outcome: outcome.is_paid and outcome.is_reserved, ship),
                Case(lambda outcome: outcome.is_paid, pay_back),
                Default(cancel),
            ],
        )
        .with_checkpointing(place.storage)
        .build()
    )


def definition() -> Workflow:
    """Return the workflow as `supersteps graph` draws it: nothing is saved."""
    return build_workflow(nowhere())


async def main() -> None:
    place = read_options("order_fulfilment", __doc__)
    show(await play(build_workflow(place), Order(4, "barometer", 80), place))
    show(Ledger(place.world / "ledger.txt").entries(4))


if __name__ == "__main__":
    asyncio.run(main())
