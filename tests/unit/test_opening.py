"""Opening a run costs the same whatever came before; its lineage is read when looked at."""

import inspect
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supersteps import (
    CheckpointInfo,
    EncryptedStorage,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    Keyring,
    RetentionPolicy,
    SqliteCheckpointStorage,
    StreamingRun,
    SuperStepCompletedEvent,
)
from supersteps.engine import lineage as lineages
from supersteps.errors import StorageError
from supersteps.storage import _files
from supersteps.storage.ports import DurableStorage
from tests.unit.support import asking_workflow, collect, counter_workflow

STEPS = 70

MakeStorage = Callable[[Path], Any]


def sqlite(folder: Path) -> SqliteCheckpointStorage:
    return SqliteCheckpointStorage(folder / "runs.db")


def encrypted(folder: Path) -> EncryptedStorage:
    pytest.importorskip("cryptography")
    return EncryptedStorage(sqlite(folder), Keyring({"k": bytes(32)}, "k"))


Storages = pytest.mark.parametrize(
    "make_storage",
    [lambda _folder: InMemoryCheckpointStorage(), sqlite, FileCheckpointStorage, encrypted],
    ids=["memory", "sqlite", "files", "encrypted"],
)


async def resumed(storage: DurableStorage) -> StreamingRun:
    """Return the handle of the run `r`, opened at its head."""
    run = await storage.get_run("r")
    assert run is not None
    handle = counter_workflow(10_000, storage=storage).run_stream_from_checkpoint(run.head)
    await collect(handle)
    return handle


@pytest.fixture
def no_lineage(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes what reads a lineage, of any storage."""
    read: list[str] = []

    async def listed(self: object, *_: object) -> list[CheckpointInfo]:
        read.append(type(self).__name__)
        return []

    def read_here(self: object, *_: object) -> list[CheckpointInfo]:
        read.append(type(self).__name__)
        return []

    for kind in (InMemoryCheckpointStorage, SqliteCheckpointStorage, FileCheckpointStorage):
        monkeypatch.setattr(kind, "list_lineage", listed)
        monkeypatch.setattr(kind, "read_lineage", read_here)
    return read


@Storages
async def test_opening_reads_no_lineage(
    make_storage: MakeStorage, tmp_path: Path, no_lineage: list[str]
) -> None:
    async with make_storage(tmp_path) as storage:
        await counter_workflow(STEPS + 2, storage=storage).run(STEPS, run_id="r")
        handle = await resumed(storage)

        assert handle.latest_checkpoint is not None
        assert handle.latest_checkpoint.step_number == STEPS + 1
        assert no_lineage == []


@Storages
async def test_the_lineage_is_there_when_somebody_looks(
    make_storage: MakeStorage, tmp_path: Path
) -> None:
    async with make_storage(tmp_path) as storage:
        first = counter_workflow(STEPS + 2, storage=storage).run_stream(STEPS, run_id="r")
        await collect(first)
        handle = await resumed(storage)

        assert handle.checkpoints == first.checkpoints
        assert [info async for info in handle.history(page_size=7)] == first.checkpoints[::-1]

        await handle.restore_checkpoint(handle.checkpoints[STEPS - 1])
        assert handle.checkpoints == first.checkpoints[:STEPS]
        await collect(handle)
        assert [info.step_number for info in handle.checkpoints] == [*range(STEPS + 2)]
        assert handle.checkpoints[-1] == handle.latest_checkpoint


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each call that is made of a storage in memory."""
    made: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        method = getattr(InMemoryCheckpointStorage, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return method(*args, **kwargs)

        return call

    for name, member in vars(InMemoryCheckpointStorage).items():
        if inspect.iscoroutinefunction(member):
            monkeypatch.setattr(InMemoryCheckpointStorage, name, noted(name))
    return made


async def test_a_resume_that_goes_on_calls_the_storage_four_times_before_its_commit(
    calls: list[str],
) -> None:
    storage = InMemoryCheckpointStorage()
    first = counter_workflow(storage=storage).run_stream(5, run_id="r")
    async for _event in first:
        if len(first.checkpoints) == 3:
            break
    await first.aclose()
    handle = counter_workflow(storage=storage).run_stream_from_checkpoint(first.checkpoints[2])
    calls.clear()

    async for event in handle:
        if isinstance(event, SuperStepCompletedEvent):
            break

    assert calls == ["load_record", "get_run", "acquire", "read_journal", "commit"]


async def test_a_run_whose_journal_cannot_be_read_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = InMemoryCheckpointStorage()
    first = counter_workflow(storage=storage).run_stream(5, run_id="r")
    async for _event in first:
        if len(first.checkpoints) == 3:
            break
    await first.aclose()

    async def damaged(*_args: Any, **_kwargs: Any) -> list[bytes]:
        raise StorageError("the disk cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "read_journal", damaged)
        with pytest.raises(StorageError, match="the disk cannot be read"):
            await counter_workflow(storage=storage).run_from_checkpoint(first.checkpoints[2])

    run = await storage.get_run("r")
    assert run is not None
    assert (run.status, run.error, run.lease) == ("IN_PROGRESS", None, None)


async def test_a_resume_with_nothing_to_do_only_reads_the_checkpoint_and_the_run(
    calls: list[str],
) -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow(storage=storage).run(3, run_id="r")
    calls.clear()

    await counter_workflow(storage=storage).run_from_checkpoint("r-000004")

    assert calls == ["load_record", "get_run"]


async def test_a_resume_that_waits_reads_the_inbox_once(calls: list[str]) -> None:
    storage = InMemoryCheckpointStorage()
    result = await asking_workflow(storage=storage).run("x", run_id="r")
    calls.clear()

    again = await asking_workflow(storage=storage).run_from_checkpoint("r-000002")

    (asked,) = result.get_request_info_events()
    assert [event.request_id for event in again.get_request_info_events()] == [asked.request_id]
    assert calls == ["load_record", "get_run", "read_inbox"]


async def test_checkpoints_that_follow_are_added_to_what_was_read() -> None:
    storage = InMemoryCheckpointStorage()
    first = counter_workflow(storage=storage).run_stream(3, run_id="r")
    async for _event in first:
        if len(first.checkpoints) == 2:
            break
    whole = counter_workflow(storage=storage).run_stream_from_checkpoint(first.checkpoints[1])
    seen = []
    async for _event in whole:
        seen.append([info.step_number for info in whole.checkpoints])

    assert seen[-1] == [0, 1, 2, 3, 4]
    assert all(steps in ([], *([*range(n)] for n in range(2, 6))) for steps in seen)


async def test_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineages, "LINEAGE_LIMIT", 4)
    storage = InMemoryCheckpointStorage()
    first = counter_workflow(storage=storage).run_stream(9, run_id="r")
    await collect(first)
    handle = await resumed(storage)

    for run in (first, handle):
        assert [info.step_number for info in run.checkpoints] == [7, 8, 9, 10]
    assert [info.step_number async for info in handle.history(3)] == [*range(10, -1, -1)]


async def test_a_lineage_is_read_anew_after_pruning() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow(storage=storage).run(9, run_id="r")
    handle = await resumed(storage)
    await storage.prune("r", RetentionPolicy(keep_last=3))

    assert [info.step_number for info in handle.checkpoints] == [8, 9, 10]


async def test_the_head_is_in_the_lineage_also_when_it_has_been_deleted() -> None:
    storage = InMemoryCheckpointStorage()
    await counter_workflow(storage=storage).run(3, run_id="r")
    handle = await resumed(storage)
    await storage.delete_run("r")

    assert handle.checkpoints == [handle.latest_checkpoint]


async def test_without_read_lineage_it_is_read_when_the_run_is_opened() -> None:
    class Remote(InMemoryCheckpointStorage):
        read_lineage = None  # type: ignore[assignment]  # as in a storage behind a network

        async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
            return await inner.list_lineage(checkpoint_id, limit)

    storage, inner = Remote(), InMemoryCheckpointStorage()
    inner._checkpoints, inner._runs = storage._checkpoints, storage._runs
    await counter_workflow(storage=storage).run(3, run_id="r")
    handle = await resumed(storage)
    await storage.delete_run("r")

    assert [info.step_number for info in handle.checkpoints] == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------ what it costs


async def test_opening_executes_as_much_in_sqlite_whatever_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def effort(steps: int) -> int:
        """How many instructions of its virtual machine SQLite executes to open a run."""
        folder = tmp_path / str(steps)
        folder.mkdir()
        async with sqlite(folder) as storage:
            await counter_workflow(10_000, storage=storage).run(steps, run_id="r")
        count = 0
        real = sqlite3.connect

        def connect(*args: Any, **options: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = real(*args, **options)

            def tick() -> None:
                nonlocal count
                count += 1

            db.set_progress_handler(tick, 1)
            return db

        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", connect)
            async with sqlite(folder) as storage:
                await resumed(storage)
        return count

    # Between two whole rows lie up to 32 others, so compare where both runs have as many of them.
    few, many = await effort(33), await effort(33 * 12)

    assert few > 100
    assert many < few * 1.5


async def test_opening_reads_as_many_files_whatever_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def files_read(steps: int) -> list[str]:
        read: list[str] = []
        real = _files.read
        async with FileCheckpointStorage(tmp_path / str(steps)) as storage:
            await counter_workflow(10_000, storage=storage).run(steps, run_id="r")

            def note(path: Path, *args: Any) -> bytes | None:
                read.append(path.suffix)
                return real(path, *args)

            with monkeypatch.context() as patch:
                patch.setattr(_files, "read", note)
                await resumed(storage)
        return read

    assert sorted(await files_read(3)) == sorted(await files_read(60))


async def test_what_waits_is_opened_without_what_came_before(no_lineage: list[str]) -> None:
    storage = InMemoryCheckpointStorage()
    waiting = await asking_workflow(storage=storage).run("a", run_id="r")
    assert waiting.get_request_info_events()

    result = await asking_workflow(storage=storage).send_responses({"ask-a": "b"})

    assert result.get_outputs() == ["a=b"]
    assert no_lineage == []
