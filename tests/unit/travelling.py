"""What the tests of time travel share: a workflow with all kinds of state, one with a
sub-workflow, every storage.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

from supersteps import (
    CheckpointInfo,
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    response_handler,
)
from tests.contract.support import PlainStorage
from tests.unit.support import built

KINDS: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _folder: InMemoryCheckpointStorage(),
    "sqlite": lambda folder: SqliteCheckpointStorage(folder / "runs.db"),
    "file": lambda folder: FileCheckpointStorage(folder / "runs"),
}
WITH_PLAIN = KINDS | {"plain": lambda _folder: PlainStorage()}


@dataclass(frozen=True)
class Order:
    item: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


class Planner(Executor):
    """Takes an order and sends its count on."""

    @handler
    async def take(self, order: Order, ctx: WorkflowContext[int]) -> None:
        await ctx.set_shared_state("order", order)
        await ctx.set_shared_state(
            "limits", {"left": [3, 2, 1], "v1.2": "dotted", "depth": {"here": True}}
        )
        await ctx.append_shared_state("log", f"planned {order.item}")
        await ctx.set_state({"seen": 1})
        await ctx.send_message(order.count)


class Worker(Executor):
    """Counts down, one superstep each, then asks; keeps what it counted in its own state."""

    def __init__(self, id: str = "worker") -> None:
        super().__init__(id)
        self.replaying: list[bool] = []
        self.seen: list[Any] = []

    @handler
    async def work(self, left: int, ctx: WorkflowContext[int, str]) -> None:
        self.replaying.append(ctx.is_replaying)
        self.seen.append(left)
        state = await ctx.get_state() or {"total": 0}
        await ctx.set_state({"total": state["total"] + left})
        await ctx.append_shared_state("log", f"worked {left}")
        await ctx.yield_output(f"did {left}")
        if left > 1:
            await ctx.send_message(left - 1)
        else:
            await ctx.request_info("good?", bool)

    @response_handler
    async def judged(self, question: str, answer: bool, ctx: WorkflowContext[int, str]) -> None:
        self.replaying.append(ctx.is_replaying)
        self.seen.append(answer)
        await ctx.append_shared_state("log", f"judged {answer}")
        await ctx.yield_output("fine" if answer else "again")
        if not answer:
            await ctx.send_message(1)


def trip(storage: Any = None, worker: Worker | None = None, name: str = "trip") -> Workflow:
    planner, worker = Planner("planner"), worker or Worker()
    builder = WorkflowBuilder(name=name).add_edge(planner, worker).add_edge(worker, worker)
    return built(builder, planner, storage=storage)


class Reviewer(Executor):
    """Inside a sub-workflow: keeps shared state, asks the outside world, yields a verdict."""

    @handler
    async def review(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.set_shared_state("text", text)
        await ctx.set_state({"asked": [text]})
        await ctx.request_info(f"publish {text}?", bool)

    @response_handler
    async def told(self, question: str, answer: bool, ctx: WorkflowContext[Never, str]) -> None:
        text = await ctx.get_shared_state("text")
        state = await ctx.get_state() or {}
        await ctx.yield_output(f"{text} {state['asked']}: {answer}")


class Writer(Executor):
    @handler
    async def write(self, topic: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(topic.title())


class Printer(Executor):
    @handler
    async def print(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"printed {text}")


def nested(storage: Any = None) -> Workflow:
    inner = WorkflowBuilder(name="inner").set_start_executor(Reviewer("reviewer")).build()
    writer, review = Writer("writer"), WorkflowExecutor(inner, "review")
    builder = (
        WorkflowBuilder(name="outer").add_edge(writer, review).add_edge(review, Printer("printer"))
    )
    return built(builder, writer, storage=storage)


def step(infos: list[CheckpointInfo], number: int) -> CheckpointInfo:
    """Return the checkpoint of a superstep."""
    (found,) = [info for info in infos if info.step_number == number]
    return found


async def everything(storage: Any, run_id: str) -> list[dict[str, Any]]:
    """Return all that a storage holds of a run's checkpoints, for comparing."""
    return [
        checkpoint.to_dict()
        for checkpoint in await storage.list_checkpoints()
        if checkpoint.run_id == run_id
    ]


def apply_patch(document: Any, patch: list[dict[str, Any]]) -> Any:
    """Apply a JSON Patch (RFC 6902): add, remove, replace, and test of the place being there."""
    document = {"root": copy.deepcopy(document)}
    for operation in patch:
        steps = [
            "root",
            *(s.replace("~1", "/").replace("~0", "~") for s in operation["path"].split("/")[1:]),
        ]
        place: Any = document
        for name in steps[:-1]:
            place = place[int(name)] if isinstance(place, list) else place[name]
        last: Any = steps[-1]
        if isinstance(place, list):
            last = len(place) if last == "-" else int(last)
            assert 0 <= last <= len(place) - (operation["op"] != "add"), operation
        elif operation["op"] != "add":
            assert last in place, operation
        match operation["op"]:
            case "remove":
                del place[last]
            case "add" if isinstance(place, list):
                place.insert(last, operation["value"])
            case "add" | "replace":
                place[last] = operation["value"]
            case other:
                raise AssertionError(other)
    return document["root"]
