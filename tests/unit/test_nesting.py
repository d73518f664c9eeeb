"""Sub-workflows in sub-workflows: what a level costs, and that many of them run."""

from typing import Any, Never

import pytest

from supersteps import (
    Executor,
    InMemoryCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
)
from tests.unit.support import Reverse, Upper, built


class Counted(Executor):
    """Counts how often somebody asks what it yields."""

    asked = 0

    @handler
    async def take(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(text)

    @property
    def workflow_output_types(self) -> list[Any]:
        Counted.asked += 1
        return super().workflow_output_types


def nested_twice(levels: int, *, direct: bool) -> Workflow:
    """A workflow with two nodes for the one below, and so on."""
    workflow = built(WorkflowBuilder(name="w0"), Counted("leaf"))
    for level in range(1, levels + 1):
        start, end = Upper("start"), Reverse("end")
        builder = WorkflowBuilder(name=f"w{level}")
        for name in ("left", "right"):
            node = WorkflowExecutor(workflow, name, allow_direct_output=direct)
            builder.add_edge(start, node)
            if not direct:
                builder.add_edge(node, end)
        workflow = built(builder, start)
    return workflow


@pytest.mark.parametrize("direct", [True, False])
def test_building_costs_the_same_at_each_level(direct: bool) -> None:
    types, asked = [], []
    for levels in (3, 6, 9):
        Counted.asked = 0
        types.append(len(nested_twice(levels, direct=direct).types))
        asked.append(Counted.asked)
    assert types[1] - types[0] == types[2] - types[1] > 0
    assert asked[0] == asked[1] == asked[2]


def test_types_that_were_given_reach_the_outermost_workflow() -> None:
    inner = WorkflowBuilder(name="inner").set_start_executor(Counted("leaf"))
    inner.with_checkpointing(InMemoryCheckpointStorage(), types=[Counted])
    node = WorkflowExecutor(inner.build(), "node")
    middle = built(WorkflowBuilder(name="middle").add_edge(node, Reverse("end")), node)
    outer = WorkflowExecutor(middle, "outer")
    workflow = built(WorkflowBuilder().add_edge(outer, Reverse("end")), outer)

    assert workflow.types.count(Counted) == 1
    assert workflow.given_types == []


async def test_many_levels_run_and_are_resumed() -> None:
    workflow = built(WorkflowBuilder(name="w0"), Counted("leaf"))
    for level in range(1, 41):
        node = WorkflowExecutor(workflow, "node")
        workflow = built(WorkflowBuilder(name=f"w{level}").add_edge(node, Reverse("end")), node)
    storage = InMemoryCheckpointStorage()
    result = await workflow.run("ab", checkpoint_storage=storage)
    steps = await storage.list_checkpoints()
    again = await workflow.run_from_checkpoint(steps[20], checkpoint_storage=storage)

    assert len(steps) == 42
    assert again.get_outputs() == result.get_outputs() == ["ab"]
