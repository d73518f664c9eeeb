"""Classes that change under a program: a frozen clock, a notebook's cell that is run again."""

import asyncio
import datetime as clock
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointEncodeError,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    UndeliveredMessageWarning,
    UnhandledMessageError,
    WorkflowBuilder,
    WorkflowContext,
    executor,
)
from supersteps.checkpoint.codec.codec import Codec

freezegun: Any = pytest.importorskip("freezegun")


@dataclass
class Visit:
    at: clock.datetime
    day: clock.date


STORAGES: dict[str, Callable[[Path], Any]] = {
    "none": lambda _: None,
    "memory": lambda _: InMemoryCheckpointStorage(),
    "sqlite": lambda folder: SqliteCheckpointStorage(folder / "runs.db"),
    "file": lambda folder: FileCheckpointStorage(folder / "runs"),
}


@pytest.mark.parametrize("kind", STORAGES)
def test_a_run_under_a_frozen_clock(kind: str, tmp_path: Path) -> None:
    @executor
    async def visit(n: int, ctx: WorkflowContext[Visit]) -> None:
        await ctx.set_shared_state("now", clock.datetime.now())
        await ctx.send_message(Visit(clock.datetime.now(clock.UTC), clock.date.today()))

    @executor
    async def report(visit: Visit, ctx: WorkflowContext[Never, Any]) -> None:
        await ctx.yield_output([visit, await ctx.get_shared_state("now")])

    storage = STORAGES[kind](tmp_path)
    builder = WorkflowBuilder(name="w").set_start_executor(visit).add_edge(visit, report)
    if storage is not None:
        builder.with_checkpointing(storage)
    with freezegun.freeze_time("2030-05-01 12:00:00"):
        (found,) = asyncio.run(builder.build().run(1, run_id="r")).get_outputs()
        expected = [
            Visit(clock.datetime(2030, 5, 1, 12, tzinfo=clock.UTC), clock.date(2030, 5, 1)),
            clock.datetime(2030, 5, 1, 12),
        ]
        assert found == expected
        assert type(found[0].at) is type(found[1]) is clock.datetime
        assert type(found[0].day) is clock.date
    if storage is not None:
        (saved,) = asyncio.run(storage.list_checkpoints())[-1].outputs
        assert saved == expected


def test_a_frozen_time_is_read_as_a_real_one_where_nothing_is_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with freezegun.freeze_time("2030-05-01 12:00:00"):
        data = Codec().encode([clock.datetime.now(), clock.date.today()])
        frozen = Codec().decode(data)
    assert [type(one).__name__ for one in frozen] == ["FakeDatetime", "FakeDate"]
    assert Codec().encode(frozen) == data
    monkeypatch.delitem(sys.modules, "freezegun.api")
    real = Codec().decode(data)
    assert [type(one) for one in real] == [clock.datetime, clock.date]


CLASS = """
@dataclass
class Item:
    n: int
"""
WORKFLOW = """
@executor
async def send(n: int, ctx: WorkflowContext[Item]) -> None:
    if keep:
        await ctx.set_shared_state("item", Item(n))
    await ctx.send_message(Item(n))

@executor
async def take(item: Item, ctx: WorkflowContext[Never, Item]) -> None:
    await ctx.yield_output(item)

workflow = WorkflowBuilder(name="w").set_start_executor(send).add_edge(send, take).build()
second = WorkflowBuilder(name="w2").set_start_executor(take).build()
"""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module in which cells are run."""
    module = types.ModuleType("notebook_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = (dataclass, executor, WorkflowBuilder, WorkflowContext)
    module.__dict__.update({name.__name__: name for name in names}, Never=Never, keep=True)
    exec(CLASS, module.__dict__)
    exec(WORKFLOW, module.__dict__)
    return module


async def test_a_cell_with_a_class_that_is_run_again(notebook: Any) -> None:
    storage = InMemoryCheckpointStorage()
    first = await notebook.workflow.run(1, run_id="r", checkpoint_storage=storage)
    assert [item.n for item in first.get_outputs()] == [1]
    exec(CLASS, notebook.__dict__)

    with pytest.raises(
        CheckpointEncodeError, match=r"'item' set by executor 'send'.*cell was run again"
    ):
        await notebook.workflow.run(1, checkpoint_storage=storage)
    notebook.keep = False
    with pytest.warns(UndeliveredMessageWarning, match=r"defined again since.*cell was run again"):
        await notebook.workflow.run(1)
    with pytest.raises(UnhandledMessageError, match=r"defined again since.*Nothing was started"):
        await notebook.second.run(notebook.Item(1))

    exec(WORKFLOW, notebook.__dict__)
    for _ in range(2):
        again = await notebook.workflow.run_from_checkpoint("r-000001", checkpoint_storage=storage)
        assert [type(item) for item in again.get_outputs()] == [notebook.Item]
