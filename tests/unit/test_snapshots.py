"""Executors that save their attributes as one dict, by the methods of Agent Framework's."""

from typing import Any

import pytest

from supersteps import (
    Executor,
    HandlerDefinitionError,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRuntimeError,
    handler,
)
from tests.unit.support import built


class Adder(Executor):
    """Adds what it gets, down to one."""

    def __init__(self, id: str = "adder") -> None:
        super().__init__(id)
        self.total = 0
        self.seen: list[int] = []

    @handler
    async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        self.total += number
        self.seen.append(number)
        if number > 1:
            await ctx.send_message(number - 1)
        else:
            await ctx.yield_output(self.total)


class Plain(Adder):
    def snapshot_state(self) -> dict[str, Any]:
        return {"total": self.total, **{f"seen {n}": True for n in self.seen[-1:]}}

    def restore_state(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


class Async(Adder):
    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"total": self.total}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


def looping(adder: Executor) -> Workflow:
    return built(WorkflowBuilder(name="w").add_edge(adder, adder), adder)


@pytest.mark.parametrize("kind", [Plain, Async])
async def test_attributes_are_saved_and_come_back(kind: type[Adder]) -> None:
    storage, first, again = InMemoryCheckpointStorage(), kind(), kind()
    assert (await looping(first).run(4, checkpoint_storage=storage)).get_outputs() == [10]
    steps = await storage.list_checkpoints()
    assert [s.executor_states["adder"]["total"] for s in steps] == [0, 4, 7, 9, 10]

    resumed = await looping(again).run_from_checkpoint(steps[2], checkpoint_storage=storage)
    assert (resumed.get_outputs(), again.seen) == ([10], [2, 1])


@pytest.mark.parametrize("kind", [Plain, Async])
async def test_an_instance_starts_afresh_and_goes_back_in_place(kind: type[Adder]) -> None:
    storage = InMemoryCheckpointStorage()
    workflow = looping(kind())
    run = workflow.run_stream(3, checkpoint_storage=storage)
    assert (await run.wait_for_completion()).get_outputs() == [6]
    await run.restore_checkpoint(run.checkpoints[1])
    assert (await run.wait_for_completion()).get_outputs() == [6]
    assert (await workflow.run(3)).get_outputs() == [6]


async def test_keys_that_are_no_more_go_away() -> None:
    storage = InMemoryCheckpointStorage()
    await looping(Plain()).run(2, checkpoint_storage=storage)
    states = [s.executor_states["adder"] for s in await storage.list_checkpoints()]
    assert states == [{"total": 0}, {"total": 2, "seen 2": True}, {"total": 3, "seen 1": True}]


async def test_state_that_was_set_otherwise_is_not_lost_unseen() -> None:
    class Both(Plain):
        @handler
        async def add(self, number: int, ctx: WorkflowContext[int, int]) -> None:
            await ctx.queue_state_update("mine", number)

    with pytest.raises(WorkflowRuntimeError, match=r"'adder' has state in two ways: .*'mine' was"):
        await looping(Both()).run(2)


async def test_what_is_saved_is_a_dict() -> None:
    class Lists(Plain):
        def snapshot_state(self) -> Any:
            return [self.total]

    with pytest.raises(TypeError, match="snapshot_state of executor 'adder' returned a list"):
        await looping(Lists()).run(2)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ("snapshot_state", "restore_state"),
        ("restore_state", "snapshot_state"),
        ("on_checkpoint_save", "on_checkpoint_restore"),
        ("on_checkpoint_restore", "on_checkpoint_save"),
    ],
)
def test_half_of_a_pair_is_refused(there: str, missing: str) -> None:
    with pytest.raises(
        HandlerDefinitionError, match=rf"class Half defines {there} but not {missing}, so its"
    ):
        type("Half", (Adder,), {there: lambda self, *_: {}})


def test_several_ways_are_refused() -> None:
    async def hook(self: Any, ctx: Any) -> None:
        pass

    with pytest.raises(HandlerDefinitionError, match="Two saves its attributes in several ways"):
        type("Two", (Plain, Async), {})
    with pytest.raises(HandlerDefinitionError, match="on_checkpointing and on_checkpoint_restored"):
        type("Two", (Plain,), {"on_checkpointing": hook})
