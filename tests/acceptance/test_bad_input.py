"""Bad input is answered with an error that teaches, and the run goes on from the last good
checkpoint.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    AlreadyAnsweredError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointSaveError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    Executor,
    FileCheckpointStorage,
    RequestInfoExecutor,
    RequestInfoMessage,
    RequestResponse,
    ResponseTypeError,
    StorageError,
    UndeliveredMessageWarning,
    UnhandledMessageError,
    UnknownRequestError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    WorkflowWarningEvent,
    handler,
)


class Strange:
    """Nothing knows how to save it."""


class Trouble:
    """What the counter does at 1; mended between runs."""

    kind = ""


class Counting(Executor):
    """Counts down, and at 1 does what `trouble` says."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__("counting")
        self.trouble = trouble

    @handler
    async def count(self, left: int, ctx: WorkflowContext[Any, int]) -> None:
        await ctx.yield_output(left)
        if left == 1:
            match self.trouble.kind:
                case "raises":
                    raise LookupError("no such customer")
                case "unserialisable":
                    await ctx.send_message({"order": [Strange()]})
                case "unhandled":
                    await ctx.send_message(2.5)
        if left:
            await ctx.send_message(left - 1)


def counting(folder: Path, trouble: Trouble | None = None) -> Workflow:
    counter = Counting(trouble or Trouble())
    builder = (
        WorkflowBuilder(name="counting").add_edge(counter, counter).set_start_executor(counter)
    )
    return builder.with_checkpointing(FileCheckpointStorage(folder)).build()


async def interrupted(folder: Path, kind: str, error: type[Exception], match: str) -> Workflow:
    """Run into trouble, then return the mended workflow."""
    trouble = Trouble()
    trouble.kind = kind
    with pytest.raises(error, match=match):
        await counting(folder, trouble).run(3, run_id="r")
    return counting(folder)


# --------------------------------------------------------------------------------- what to continue


async def test_an_unknown_checkpoint_id(tmp_path: Path) -> None:
    workflow = counting(tmp_path)
    await workflow.run(3, run_id="r")

    for wrong in ("nonsense", "../../etc/passwd", "r-999999", ""):
        with pytest.raises(CheckpointNotFoundError) as caught:
            await workflow.run_from_checkpoint(wrong)
        assert re.search(
            f"FileCheckpointStorage .*holds no checkpoint {wrong!r}", str(caught.value)
        )
        assert "its newest are 'r-000002', 'r-000003', 'r-000004'" in str(caught.value)
        assert "list_checkpoints()" in str(caught.value)

    assert (await workflow.run_from_checkpoint("r-000002")).get_outputs() == [3, 2, 1, 0]


async def test_an_empty_directory(tmp_path: Path) -> None:
    storage = FileCheckpointStorage(tmp_path / "never" / "made")
    assert await storage.list_checkpoints() == []
    assert await storage.list_checkpoint_ids() == []
    assert await storage.load_checkpoint("r-000000") is None

    workflow = counting(tmp_path / "never" / "made")
    with pytest.raises(
        CheckpointNotFoundError, match="no checkpoint 'r-000000'; it holds no checkpoints at all"
    ):
        await workflow.run_from_checkpoint("r-000000")
    assert (await workflow.run(1)).get_outputs() == [1, 0]


# -------------------------------------------------------------------------------- where to write to


async def test_a_directory_below_a_regular_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("I was here first")

    with pytest.raises((StorageError, CheckpointSaveError)) as caught:
        await counting(file / "checkpoints").run(1)

    assert str(file / "checkpoints") in str(caught.value)
    assert file.read_text() == "I was here first"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
async def test_a_directory_without_the_right_to_write(tmp_path: Path) -> None:
    workflow = counting(tmp_path / "checkpoints")
    await workflow.run(3, run_id="r")
    for folder in sorted((tmp_path / "checkpoints").rglob("*")):
        if folder.is_dir():
            folder.chmod(0o500)
    (tmp_path / "checkpoints").chmod(0o500)
    try:
        with pytest.raises((StorageError, CheckpointSaveError), match="checkpoints"):
            await workflow.run_from_checkpoint("r-000002")
    finally:
        (tmp_path / "checkpoints").chmod(0o700)
        for folder in sorted((tmp_path / "checkpoints").rglob("*")):
            if folder.is_dir():
                folder.chmod(0o700)
    assert (await workflow.run_from_checkpoint("r-000002")).get_outputs() == [3, 2, 1, 0]


def mount(*arguments: str) -> bool:
    try:
        return (
            subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB that is gone after the test."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        not hasattr(os, "geteuid")
        or os.geteuid() != 0
        or not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    ):
        pytest.skip("needs root and the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.root
async def test_a_read_only_file_system(small_disk: Path) -> None:
    workflow = counting(small_disk / "checkpoints")
    await workflow.run(3, run_id="r")
    assert mount("-o", "remount,ro", str(small_disk))

    with pytest.raises((StorageError, CheckpointSaveError)) as caught:
        await workflow.run(1, run_id="other")
    assert "checkpoints" in str(caught.value)
    assert "Read-only file system" in str(caught.value)
    with pytest.raises((StorageError, CheckpointSaveError), match="Read-only file system"):
        await workflow.run_from_checkpoint("r-000002")
    assert (await workflow.run_from_checkpoint("r-000004")).get_outputs() == [
        3,
        2,
        1,
        0,
    ]  # reading is enough for this

    assert mount("-o", "remount,rw", str(small_disk))
    assert (await workflow.run_from_checkpoint("r-000002")).get_outputs() == [3, 2, 1, 0]


@pytest.mark.root
async def test_a_full_disk(small_disk: Path) -> None:
    class Growing(Executor):
        @handler
        async def grow(self, left: int, ctx: WorkflowContext[int, int]) -> None:
            await ctx.set_shared_state(f"ballast {left}", "x" * 40_000)
            await (ctx.send_message(left - 1) if left else ctx.yield_output(ctx.step_number))

    growing = Growing("growing")
    builder = WorkflowBuilder(name="growing").add_edge(growing, growing).set_start_executor(growing)
    storage = FileCheckpointStorage(small_disk / "checkpoints")
    workflow = builder.with_checkpointing(storage).build()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 400_000)

    run = workflow.run_stream(5, run_id="r")
    with pytest.raises(CheckpointSaveError) as caught:
        await run.wait_for_completion()

    text = str(caught.value)
    assert "run 'r'" in text
    assert f"superstep {len(run.checkpoints)} could not be saved to FileCheckpointStorage" in text
    assert "No space left on device" in text
    assert f"last good checkpoint is '{run.checkpoints[-1].checkpoint_id}'" in text
    good = [cp.checkpoint_id for cp in await storage.list_checkpoints(run_id="r")]
    assert good == [info.checkpoint_id for info in run.checkpoints]

    ballast.unlink()
    result = await workflow.run_from_checkpoint(run.checkpoints[-1])
    assert result.get_outputs() == [6]
    assert result.get_final_state() is WorkflowRunState.IDLE


# ---------------------------------------------------------------------------- what is passed around


async def test_an_input_without_a_handler(tmp_path: Path) -> None:
    workflow = counting(tmp_path)
    with pytest.raises(UnhandledMessageError) as caught:
        await workflow.run("three", run_id="r")

    assert "workflow 'counting' cannot start with a str" in str(caught.value)
    assert "'counting' handles int" in str(caught.value)
    assert list(tmp_path.rglob("*.json")) == []
    assert (await workflow.run(1, run_id="r")).get_outputs() == [1, 0]


async def test_a_message_without_a_handler(tmp_path: Path) -> None:
    """It is lost: that is an event and a warning, and the run continues."""
    trouble = Trouble()
    trouble.kind = "unhandled"
    with pytest.warns(UndeliveredMessageWarning) as caught:
        result = await counting(tmp_path, trouble).run(3, run_id="r")

    (event,) = [event for event in result if isinstance(event, WorkflowWarningEvent)]
    for text in (event.data, str(caught[0].message)):
        assert "executor 'counting' sent a message of type float that goes nowhere" in text
        assert "edge:counting->counting" in text
    assert "run 'r', superstep 3" in str(caught[0].message)
    assert result.get_outputs() == [3, 2, 1, 0]


async def test_an_unserialisable_message(tmp_path: Path) -> None:
    workflow = await interrupted(tmp_path, "unserialisable", CheckpointEncodeError, "Strange")
    trouble = Trouble()
    trouble.kind = "unserialisable"
    with pytest.raises(CheckpointEncodeError) as caught:
        await counting(tmp_path, trouble).run_from_checkpoint("r-000002")

    text = str(caught.value)
    assert "message 0 from executor 'counting'" in text
    assert "['order'][0]" in text
    assert "Strange" in text
    assert "codec.register(Strange, encode=..., decode=...)" in text
    assert "(executor 'counting', superstep 3 of run 'r')" in caught.value.__notes__
    assert "count" in [entry.name for entry in caught.traceback]  # it points at the user's own line
    assert (await workflow.run_from_checkpoint("r-000002")).get_outputs() == [3, 2, 1, 0]


async def test_an_unserialisable_input(tmp_path: Path) -> None:
    class Anything(Executor):
        @handler
        async def take(self, message: Any, ctx: WorkflowContext[Never, str]) -> None:
            await ctx.yield_output("taken")

    builder = WorkflowBuilder(name="w").set_start_executor(Anything("any"))
    workflow = builder.with_checkpointing(FileCheckpointStorage(tmp_path)).build()
    with pytest.raises(CheckpointEncodeError, match=r"the input of workflow 'w'.*Strange"):
        await workflow.run([Strange()], run_id="r")
    assert (await workflow.run([1], run_id="r")).get_outputs() == ["taken"]


async def test_a_handler_that_raises(tmp_path: Path) -> None:
    workflow = await interrupted(tmp_path, "raises", LookupError, "no such customer")
    storage = FileCheckpointStorage(tmp_path)

    run = await storage.get_run("r")
    assert run is not None
    assert (run.status, run.head) == ("FAILED", "r-000002")
    assert (
        run.error == "LookupError: no such customer\n(executor 'counting', superstep 3 of run 'r')"
    )
    assert (await workflow.run_from_checkpoint("r-000002")).get_outputs() == [3, 2, 1, 0]
    assert await storage.list_checkpoint_ids(run_id="r") == [
        f"r-{number:06d}" for number in range(5)
    ]


# ------------------------------------------------------------------------------------------ answers


class Question(RequestInfoMessage):
    pass


class Asking(Executor):
    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Question]) -> None:
        await ctx.send_message(Question(request_id="the-question"))

    @handler
    async def answered(
        self, answer: RequestResponse[Question, int], ctx: WorkflowContext[Never, int]
    ) -> None:
        await ctx.yield_output(answer.data)


def asking(folder: Path) -> Workflow:
    asker, port = Asking("asker"), RequestInfoExecutor("port")
    builder = (
        WorkflowBuilder(name="asking")
        .add_edge(asker, port)
        .add_edge(port, asker)
        .set_start_executor(asker)
    )
    return builder.with_checkpointing(FileCheckpointStorage(folder)).build()


async def test_an_answer_to_an_unknown_request(tmp_path: Path) -> None:
    await asking(tmp_path).run("?", run_id="r")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(
        UnknownRequestError,
        match=r"no run of workflow 'asking' waits for request 'another'.*Nothing was",
    ):
        await asking(tmp_path).send_responses({"another": 1})
    with pytest.raises(
        UnknownRequestError,
        match=r"does not wait for request 'another'.*waiting requests: 'the-question'",
    ):
        await asking(tmp_path).run_from_checkpoint("r-000002", responses={"another": 1})
    with pytest.raises(
        ResponseTypeError,
        match=r"'the-question' of run 'r'.*needs an answer of type int, not str: 'one'",
    ):
        await asking(tmp_path).run_from_checkpoint("r-000002", responses={"the-question": "one"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files

    run = asking(tmp_path).run_stream_from_checkpoint("r-000002", responses={"the-question": 1})
    await run.watch_stream().__anext__()
    with pytest.raises(AlreadyAnsweredError, match="already answered"):
        await run.send_response("the-question", 2)
    assert (await run.wait_for_completion()).get_outputs() == [1]
    with pytest.raises(UnknownRequestError):
        await asking(tmp_path).send_responses({"the-question": 3})


# ------------------------------------------------------------------------------------ damaged files


async def test_a_file_cut_in_half(tmp_path: Path) -> None:
    workflow = counting(tmp_path)
    await workflow.run(3, run_id="r")
    (file,) = tmp_path.rglob("r-000003.json")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    for use in (FileCheckpointStorage(tmp_path).load_checkpoint, workflow.run_from_checkpoint):
        with pytest.raises(CorruptCheckpointError) as caught:
            await use("r-000003")
        assert str(file) in str(caught.value)
    with pytest.warns(CorruptCheckpointWarning, match=r"r-000003\.json"):
        cps = await FileCheckpointStorage(tmp_path).list_checkpoints()
    assert [cp.checkpoint_id for cp in cps] == ["r-000000", "r-000001", "r-000002", "r-000004"]

    assert (await counting(tmp_path).run_from_checkpoint(cps[2])).get_outputs() == [3, 2, 1, 0]


async def test_the_heads_file_cut_in_half(tmp_path: Path) -> None:
    workflow = await interrupted(tmp_path, "raises", LookupError, "no such customer")
    (file,) = tmp_path.rglob("r-000002.json")
    file.write_bytes(file.read_bytes()[:50])

    with pytest.raises(CorruptCheckpointError, match=r"r-000002\.json"):
        await workflow.run_from_checkpoint("r-000002")
    with pytest.raises(CorruptCheckpointError, match=r"r-000002\.json"):
        await workflow.run(3, run_id="r", if_exists="attach")
    assert (await workflow.run_from_checkpoint("r-000001")).get_outputs() == [3, 2, 1, 0]
