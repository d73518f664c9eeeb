"""Checkpoints that are carried from one storage to another, made by hand, or copied as files."""

import shutil
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    CheckpointSaveError,
    Executor,
    FileCheckpointStorage,
    GraphChangedError,
    InMemoryCheckpointStorage,
    ManagedStorage,
    UndeliveredMessageWarning,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    executor,
    handler,
    response_handler,
)
from tests.contract.support import SUBJECTS, PlainStorage
from tests.unit.test_incarnations import opened

pytestmark = pytest.mark.filterwarnings("ignore::supersteps.PartialStorageWarning")
each_storage = pytest.mark.parametrize("kind", [*SUBJECTS, "sealed"])


class Counter(Executor):
    """Counts down, keeps what it counted, and asks once in between."""

    @handler
    async def count(self, left: int, ctx: WorkflowContext[int, int]) -> None:
        await ctx.append_shared_state("seen", left)
        ctx.yield_output(left)
        if left == 2:
            ctx.request_info("go on?", str, request_id="q")
        elif left:
            ctx.send_message(left - 1)

    @response_handler
    async def go_on(self, asked: str, answer: str, ctx: WorkflowContext[int, Any]) -> None:
        ctx.set_shared_state("answer", answer)
        ctx.send_message(1)


def counting(storage: Any) -> Workflow:
    counter = Counter("counter")
    builder = WorkflowBuilder(name="count").set_start_executor(counter).add_edge(counter, counter)
    return builder.with_checkpointing(storage).build()


async def a_run(storage: ManagedStorage) -> list[WorkflowCheckpoint]:
    run = counting(storage).run_stream(4, run_id="r")
    async for _ in run:
        pass
    await run.send_response("q", "yes")
    result = await run.wait_for_completion()
    assert result.get_outputs() == [4, 3, 2, 1, 0]
    return await storage.list_checkpoints(run_id="r")


async def go_on_from(reference: Any, number: int, storage: ManagedStorage) -> str:
    """Resume from a checkpoint of `a_run` and see that everything is there; return the run's id."""
    run = counting(storage).run_stream_from_checkpoint(reference)
    async for _ in run:
        pass
    if number <= 3:
        await run.send_response("q", "carried")
    result = await run.wait_for_completion()
    assert result.get_outputs() == [4, 3, 2, 1, 0]
    head = run.latest_checkpoint
    assert head is not None
    end = await storage.load_checkpoint(head.checkpoint_id)
    assert end is not None
    assert end.shared_state["seen"] == [4, 3, 2, 1, 0]
    assert end.shared_state["answer"] == ("carried" if number <= 3 else "yes")
    assert [ended.request_id for ended in end.answered] == ["q"]
    return run.run_id


@each_storage
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("copied", ["this one", "all"])
async def test_a_checkpoint_of_another_storage_is_resumed_here(
    kind: str, number: int, copied: str, tmp_path: Path
) -> None:
    carried = await a_run(InMemoryCheckpointStorage())
    assert len(carried) == 7
    async with opened(kind, tmp_path) as there:
        for checkpoint in carried if copied == "all" else carried[number : number + 1]:
            assert await there.save_checkpoint(checkpoint) == checkpoint.checkpoint_id

        assert await go_on_from(f"r-{number:06d}", number, there) == "r"

        for checkpoint in carried if copied == "all" else carried[number : number + 1]:
            kept = await there.load_checkpoint(checkpoint.checkpoint_id)
            assert kept is not None
            assert kept.document() == checkpoint.document()


@each_storage
async def test_carried_checkpoints_are_resumed_one_after_the_other(
    kind: str, tmp_path: Path
) -> None:
    carried = await a_run(InMemoryCheckpointStorage())
    async with opened(kind, tmp_path) as there:
        for checkpoint in carried:
            await there.save_checkpoint(checkpoint)
        names = set()
        for number in (3, 0, 5, 3):
            names.add(await go_on_from(carried[number], number, there))
        if kind != "adapter":  # there, what was carried is the run itself
            assert len(names) == 4
            assert "r" in names
            assert await there.verify() == []


async def test_a_checkpoint_goes_back_into_the_storage_that_it_is_from() -> None:
    storage = InMemoryCheckpointStorage()
    carried = await a_run(storage)
    for checkpoint in carried:
        await storage.save_checkpoint(checkpoint)  # the same: nothing to do
    assert await go_on_from(carried[2], 2, storage) == "r"


# ----------------------------------------------------------------------------------------- by hand


@executor(id="up")
async def up(text: str, ctx: WorkflowContext[str]) -> None:
    ctx.send_message(text.upper())


@executor(id="down")
async def down(text: str, ctx: WorkflowContext[Never, str]) -> None:
    ctx.yield_output(f"down {text}")


@executor(id="side")
async def side(text: str, ctx: WorkflowContext[Never, str]) -> None:
    ctx.yield_output(f"side {text}")


def forked(storage: Any) -> Workflow:
    builder = WorkflowBuilder(name="w").set_start_executor(up)
    builder = builder.add_edge(up, down).add_edge(up, side, condition=lambda text: "x" in text)
    return builder.with_checkpointing(storage).build()


def sent(*texts: str, source: str = "up", target: str | None = None) -> dict[str, Any]:
    """Return messages as Agent Framework writes them into a checkpoint."""
    return {source: [{"data": t, "source_id": source, "target_id": target} for t in texts]}


@pytest.mark.parametrize("is_saved", [True, False])
@pytest.mark.parametrize(
    ("messages", "outputs"),
    [
        (sent("a"), ["down a"]),
        (sent("ax"), ["down ax", "side ax"]),
        (sent("ax", target="side"), ["side ax"]),
        (sent("a", "bx"), ["down a", "down bx", "side bx"]),
        (sent("ax", source="Workflow"), ["down AX"]),
    ],
)
async def test_a_message_without_a_receiver_goes_by_the_edges(
    messages: dict[str, Any], outputs: list[str], is_saved: bool
) -> None:
    storage = InMemoryCheckpointStorage()
    checkpoint = WorkflowCheckpoint("mine", "w", messages=messages, iteration_count=1)
    if is_saved:
        await storage.save_checkpoint(checkpoint)
    result = await forked(storage).run_from_checkpoint("mine" if is_saved else checkpoint)
    assert sorted(result.get_outputs()) == outputs
    fork = await forked(storage).fork(checkpoint).wait_for_completion()
    assert sorted(fork.get_outputs()) == outputs


async def test_a_message_without_a_receiver_waits_in_a_fan_in() -> None:
    @executor(id="join")
    async def join(texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
        ctx.yield_output("+".join(sorted(texts)))

    @executor(id="start")
    async def start(text: str, ctx: WorkflowContext[str]) -> None: ...

    @executor(id="one")
    async def one(text: str, ctx: WorkflowContext[str]) -> None: ...

    @executor(id="two")
    async def two(text: str, ctx: WorkflowContext[str]) -> None: ...

    storage = InMemoryCheckpointStorage()
    builder = WorkflowBuilder(name="w").set_start_executor(start)
    builder = builder.add_edge(start, one).add_edge(start, two)
    workflow = builder.add_fan_in_edges([one, two], join).with_checkpointing(storage).build()
    messages = sent("a", source="one") | sent("b", source="two")
    checkpoint = WorkflowCheckpoint("mine", "w", messages=messages)
    assert (await workflow.run_from_checkpoint(checkpoint)).get_outputs() == ["a+b"]


async def test_a_message_that_no_edge_takes_is_told_of() -> None:
    workflow = forked(InMemoryCheckpointStorage())
    messages = sent("a", source="down") | sent("b")
    checkpoint = WorkflowCheckpoint("mine", "w", messages=messages)
    with pytest.warns(UndeliveredMessageWarning, match="'down'"):
        result = await workflow.run_from_checkpoint(checkpoint)
    assert result.get_outputs() == ["down b"]


async def test_a_sender_that_is_not_there_is_named() -> None:
    checkpoint = WorkflowCheckpoint("mine", "w", messages=sent("a", source="gone"))
    with pytest.raises(GraphChangedError, match="without a receiver comes from executor 'gone'"):
        await forked(InMemoryCheckpointStorage()).run_from_checkpoint(checkpoint)


# ---------------------------------------------------------------------------------------- files


async def test_files_that_were_copied_without_their_run_are_listed_and_resumed(
    tmp_path: Path,
) -> None:
    async with FileCheckpointStorage(tmp_path / "here") as here:
        await a_run(here)
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "here").glob("*.json"):
        shutil.copy(path, tmp_path / "there")

    async with FileCheckpointStorage(tmp_path / "there") as there:
        names = [f"r-{number:06d}" for number in range(7)]
        assert await there.list_checkpoint_ids() == names
        assert await there.list_runs() == []
        with pytest.raises(CheckpointSaveError, match="another checkpoint 'r-000000'"):
            await counting(there).run(4, run_id="r")  # not over what is there
        assert await go_on_from("r-000002", 2, there) == "r"
        second = await go_on_from("r-000004", 4, there)
        await there.vacuum()
        assert set(names) < set(await there.list_checkpoint_ids())
        assert [run.run_id for run in await there.list_runs()] == [second, "r"]
        kept = await there.load_checkpoint("r-000000")
        assert kept is not None
        assert kept.outputs == []
        assert await there.verify() == []
        assert await there.delete_checkpoint("r-000000")
        assert await there.load_checkpoint("r-000000") is None


async def test_one_copied_file_is_listed(tmp_path: Path) -> None:
    async with FileCheckpointStorage(tmp_path / "here") as here:
        await a_run(here)
    (tmp_path / "there").mkdir()
    shutil.copy(tmp_path / "here" / "r-000003.json", tmp_path / "there")
    async with FileCheckpointStorage(tmp_path / "there") as there:
        assert await there.list_checkpoint_ids() == ["r-000003"]
        assert await go_on_from("r-000003", 3, there) == "r"


async def test_a_plain_storage_takes_what_is_carried() -> None:
    carried = await a_run(InMemoryCheckpointStorage())
    plain = PlainStorage()
    for checkpoint in carried:
        await plain.save_checkpoint(checkpoint)
    result = await counting(plain).run_from_checkpoint("r-000004", checkpoint_storage=plain)
    assert result.get_outputs() == [4, 3, 2, 1, 0]
