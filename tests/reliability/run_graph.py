"""The workflows of the run machine: the graphs of `run_model`, made with the library."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from supersteps import (
    Case,
    Default,
    Executor,
    ManagedStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
)
from tests.reliability.run_model import (
    BEGUN,
    DEFAULT,
    YIELD,
    Entry,
    Shape,
    State,
    Unit,
    moment,
    order_of,
)


class Worker(Executor):
    """An executor that does what its unit says.

    Args:
        unit: What that is.
        inside: Whether it is in a sub-workflow.
        laps: Of the graph.
    """

    def __init__(self, unit: Unit, *, inside: bool = False, laps: int = 1) -> None:
        super().__init__(unit.name)
        self.unit = unit
        self.is_inside = inside
        self.laps = laps

    async def note(self, value: Any, ctx: WorkflowContext[Any, Any]) -> int:
        """Write down that there was a call, after some turns of the event loop; return how many
        there were.
        """
        state = await ctx.get_state() or {"count": 0}
        for _ in range(len(self.id)):
            await asyncio.sleep(0)
        await ctx.set_state({"count": state["count"] + 1})
        if not self.is_inside:
            await ctx.append_shared_state("log", f"{self.id}:{value}")
        return int(state["count"]) + 1


class Plain(Worker):
    @handler
    async def work(self, number: int, ctx: WorkflowContext[int]) -> None:
        await self.note(number, ctx)
        if not self.is_inside:
            await ctx.set_shared_state("sum", number)
        await ctx.send_message(number + 1)


class Asking(Worker):
    @handler
    async def work(self, number: int, ctx: WorkflowContext[int]) -> None:
        await self.note(number, ctx)
        name, wait = f"{self.id}:{number}", self.unit.wait
        if wait is None:
            await ctx.request_info({"number": number}, int, request_id=name)
        else:
            deadline = BEGUN + timedelta(seconds=wait)
            await ctx.request_info(
                {"number": number}, int, request_id=name, deadline=deadline, default=DEFAULT
            )

    @response_handler
    async def answered(self, asked: dict[str, int], answer: int, ctx: WorkflowContext[int]) -> None:
        await self.note(answer, ctx)
        await ctx.send_message(asked["number"] + answer)


class Timing(Worker):
    @handler
    async def work(self, number: int, ctx: WorkflowContext[int]) -> None:
        await self.note(number, ctx)
        await ctx.schedule(number + 1, at=BEGUN + timedelta(seconds=self.unit.wait or 0.0))


class Join(Worker):
    @handler
    async def work(self, numbers: list[int], ctx: WorkflowContext[int]) -> None:
        await self.note(numbers, ctx)
        await ctx.send_message(sum(numbers))


class Yielding(Worker):
    @handler
    async def work(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        count = await self.note(number, ctx)
        await ctx.yield_output(number)
        if count % self.laps:
            await ctx.send_message(number + 1)


KINDS: dict[str, type[Worker]] = {
    "plain": Plain,
    "ask": Asking,
    "timer": Timing,
    "join": Join,
    "yield": Yielding,
    "end": Yielding,
}


def is_even(number: int) -> bool:
    return number % 2 == 0


def build(shape: Shape, storage: ManagedStorage) -> Workflow:
    """Return the workflow of a graph."""
    units = {unit.name: unit for stage in shape.stages for unit in stage} | {
        "end": Unit("end", "end")
    }
    builder = WorkflowBuilder(name="machine").with_reducer(
        "sum", lambda value, update: value + update, initial=0
    )
    for name in order_of(shape):
        builder.register_executor(partial(_make, units[name], shape.laps), name)
    builder.set_start_executor(shape.stages[0].head.name)
    heads = [stage.head.name for stage in shape.stages] + ["end"]
    for stage, after in zip(shape.stages, heads[1:], strict=True):
        names = [unit.name for unit in stage.units]
        if stage.join is not None:
            builder.add_fan_out_edges(stage.head.name, names)
            builder.add_fan_in_edges(names, stage.join.name)
        elif names:
            builder.add_switch_case_edge_group(
                stage.head.name, [Case(is_even, names[0]), Default(names[1])]
            )
        for tail in stage.tails:
            builder.add_edge(tail.name, after)
    builder.add_edge("end", heads[0])
    return builder.with_checkpointing(storage).build()


def _make(unit: Unit, laps: int) -> Executor:
    if unit.kind != "sub":
        return KINDS[unit.kind](unit, laps=laps)
    inner = [KINDS[part.kind](part, inside=True) for part in (*unit.inner, YIELD)]
    builder = (
        WorkflowBuilder(name=f"inside {unit.name}").set_start_executor(inner[0]).add_chain(inner)
    )
    return WorkflowExecutor(builder.build(), unit.name)


# ---------------------------------------------------------------------------------- looking at both


def content_of(checkpoint: WorkflowCheckpoint) -> dict[str, Any]:
    """Return what a checkpoint holds, in the words of the model."""
    messages = [m for sent in checkpoint.messages.values() for m in sent]
    return {
        "step": checkpoint.iteration_count,
        "status": checkpoint.status,
        "messages": sorted((repr(m["target_ids"]), m["data"]) for m in messages),
        "waiting": {s: v for buffers in checkpoint.fan_in.values() for s, v in buffers.items()},
        "shared": checkpoint.shared_state,
        "counts": {
            address: state["count"] for address, state in checkpoint.executor_states.items()
        },
        "outputs": checkpoint.outputs,
        "asks": {
            key: (request.source_executor_id, request.data["number"], request.deadline)
            for key, request in checkpoint.pending_requests.items()
        },
        "ended": ended_in(checkpoint),
        "timers": sorted(
            (t["due"], repr(t["target_ids"]), t["data"]) for t in checkpoint.timers.values()
        ),
        "subs": {path: sub.node for path, sub in checkpoint.sub_workflows.items()},
    }


def ended_in(checkpoint: WorkflowCheckpoint) -> list[Entry]:
    return [Entry(ended.request_id, ended.outcome, ended.data) for ended in checkpoint.answered]


def content_expected(state: State) -> dict[str, Any]:
    """Return what the model says, in the same form."""
    return {
        "step": state.step,
        "status": state.status,
        "messages": sorted((repr(list(targets)), value) for targets, value in state.messages),
        "waiting": {s: v for buffers in state.waiting.values() for s, v in buffers.items()},
        "shared": state.shared,
        "counts": state.counts,
        "outputs": state.outputs,
        "asks": {key: tuple(ask) for key, ask in state.asks.items()},
        "ended": state.ended,
        "timers": sorted((t.due, repr(list(t.targets)), t.value) for t in state.timers),
        "subs": state.subs,
    }


class LabClock:
    """The time of the lab, in seconds after `BEGUN`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> str:
        return moment(self.seconds)


@contextmanager
def time_of(clock: Callable[[], str]) -> Iterator[None]:
    """Let the library read this clock instead of the system's."""
    modules = [
        m
        for name, m in [*sys.modules.items()]
        if name.startswith("supersteps") and "utc_now" in vars(m)
    ]
    before = [vars(module)["utc_now"] for module in modules]
    for module in modules:
        vars(module)["utc_now"] = clock
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            vars(module)["utc_now"] = function
