"""A backup is a store like any other, as it was at one moment, made while runs go on."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Never

import pytest

from supersteps import (
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    SqliteCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    executor,
)
from supersteps.encryption.storage import EncryptedStorage, Keyring
from supersteps.errors import StorageError
from supersteps.service.errors import ServiceError
from supersteps.service.service import Service
from supersteps.storage import _files
from supersteps.storage.files.run_folder import RunFolder
from supersteps.storage.plain.adapter import as_durable
from supersteps.storage.ports import has_backup, is_managed
from supersteps.testing.writer import Writer, by_hand, content_of, shared
from tests.unit.support import asking_workflow

KEYS = Keyring({"k": bytes(range(32))}, "k")
KINDS = ["sqlite", "file", "encrypted sqlite", "encrypted file"]


def open_kind(kind: str, folder: Path) -> Any:
    inner = (
        SqliteCheckpointStorage(folder / "runs.db")
        if "sqlite" in kind
        else FileCheckpointStorage(folder / "runs")
    )
    return EncryptedStorage(inner, KEYS) if "encrypted" in kind else inner


def name_of(kind: str) -> str:
    return "runs.db" if "sqlite" in kind else "runs"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(tmp_path: Path, kind: str) -> Path:
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy" / name_of(kind)


@pytest.fixture
def storage(tmp_path: Path, kind: str) -> Iterator[Any]:
    storage = open_kind(kind, tmp_path)
    yield storage
    asyncio.run(storage.aclose())


async def everything(storage: Any) -> dict[str, Any]:
    """Return what a store holds."""
    found: dict[str, Any] = {"saved": sorted(await storage.list_checkpoint_ids())}
    for run in await storage.list_runs():
        found[run.run_id] = (
            run,
            [
                await storage.load_record(h.checkpoint_id)
                for h in await storage.list_headers(run.run_id)
            ],
            await storage.read_journal(run.run_id, run.head),
            await storage.read_inbox(run.run_id),
        )
    return found


async def test_a_backup_holds_everything(storage: Any, kind: str, target: Path) -> None:
    writer = Writer(storage)
    for number in range(5):
        await writer.put(n=b"%d" % number, large=b'"%s"' % (b"x" * 20_000))
    await storage.append_journal("run", writer.epoch, writer.head, [b"[1]", b"[2]"])
    await storage.save_checkpoint(by_hand("mine"))
    await storage.save_checkpoint(by_hand("run-000077"))  # named like one of the run's own
    waiting = await asking_workflow(storage=storage).run("x", run_id="asks")
    (asked,) = waiting.get_request_info_events()
    await storage.answer("asks", asked.request_id, "yes")
    before = await everything(storage)

    size = await storage.backup(target)

    async with open_kind(kind, target.parent) as copy:
        assert await everything(copy) == before
        assert await copy.verify() == []
        assert len(await copy.read_journal("run", writer.head)) == 2
        resumed = await asking_workflow(storage=copy).run_from_checkpoint(before["asks"][0].head)
        assert resumed.get_outputs() == ["x=yes"]
    assert size > 20_000
    assert await everything(storage) == before


async def test_a_backup_is_made_while_runs_go_on(storage: Any, kind: str, target: Path) -> None:
    go_on = asyncio.Event()
    writers = [Writer(storage, f"run-{number}") for number in range(3)]

    async def write(writer: Writer) -> None:
        number = 0
        while not go_on.is_set() or number < 5:
            await writer.put(n=b"%d" % number, text=b'"%s"' % (b"x" * 5000))
            number += 1
            await asyncio.sleep(0)

    writing = [asyncio.create_task(write(writer)) for writer in writers]
    await asyncio.sleep(0.02)
    for number in range(3):
        await storage.backup(target.with_name(f"{number}-{target.name}"))
    go_on.set()
    await asyncio.gather(*writing)

    for number in range(3):
        target.with_name(f"{number}-{target.name}").rename(target)
        async with open_kind(kind, target.parent) as copy:
            assert await copy.verify() == []
            for run in await copy.list_runs():
                content = await content_of(copy, run.head)
                assert content[shared("n")] == b"%d" % run.sequence
                assert len(await copy.list_headers(run.run_id)) == run.sequence + 1
        target.rename(target.with_name(f"done-{number}"))


async def test_a_backup_is_for_its_owner_only_and_leaves_nothing_else(
    storage: Any, kind: str, target: Path
) -> None:
    await Writer(storage).put(n=b"1")
    await storage.backup(target)

    assert os.listdir(target.parent) == [target.name]
    for path in [target, *target.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_a_backup_that_fails_leaves_nothing(
    storage: Any, kind: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Writer(storage).put(n=b"1")

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "sync_folder", fail)
    monkeypatch.setattr(os, "replace", lambda *_: fail(target))
    with pytest.raises(StorageError, match=r"cannot \w+ .*copy.*: No space left"):
        await storage.backup(target)
    monkeypatch.undo()

    assert os.listdir(target.parent) == []
    with pytest.raises(StorageError, match="cannot write"):
        await storage.backup(target.parent / "missing" / "runs")


# ---------------------------------------------------------------------------------------- SQLite


async def test_a_backup_of_a_database_replaces_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        writer = Writer(storage)
        await writer.put(n=b"1")
        await storage.backup(target)
        await writer.put(n=b"2")
        await storage.backup(target)
    async with SqliteCheckpointStorage(target) as copy:
        assert await content_of(copy, "run-000001") == {shared("n"): b"2"}


async def test_a_database_in_use_is_not_replaced(tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        await Writer(storage).put(n=b"1")
        async with SqliteCheckpointStorage(tmp_path / "used.db") as used:
            await Writer(used, "other").put(n=b"2")
            with pytest.raises(StorageError, match="is a database in use"):
                await storage.backup(tmp_path / "used.db")
            assert [run.run_id for run in await used.list_runs()] == ["other"]
        with pytest.raises(StorageError, match="is the database itself"):
            await storage.backup(tmp_path / "runs.db")


async def test_a_copy_of_the_file_alone_lacks_what_is_in_the_log(tmp_path: Path) -> None:
    """Why there is a command for it."""
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        await Writer(storage).put(n=b"1")
        (tmp_path / "cp.db").write_bytes((tmp_path / "runs.db").read_bytes())
        await storage.backup(tmp_path / "backup.db")
    counts = []
    for name in ("cp.db", "backup.db"):
        with closing(sqlite3.connect(tmp_path / name)) as db:
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
            has_runs = "runs" in tables
            counts.append(db.execute("SELECT count(*) FROM runs").fetchone()[0] if has_runs else 0)
    assert counts == [0, 1]


# ----------------------------------------------------------------------------------------- files


async def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    async with FileCheckpointStorage(tmp_path / "runs") as storage:
        await Writer(storage).put(n=b"1")
        await storage.backup(tmp_path / "copy")
        for taken in ("copy", "runs"):
            with pytest.raises(StorageError, match="exists already"):
                await storage.backup(tmp_path / taken)
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="exists already"):
            await storage.backup(tmp_path / "file")
        (tmp_path / "empty").mkdir()
        await storage.backup(tmp_path / "empty")


@pytest.mark.parametrize("always", [False, True])
async def test_a_run_that_is_thinned_out_meanwhile_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    storage = FileCheckpointStorage(tmp_path / "runs")
    writer = Writer(storage)
    for number in range(30):
        await writer.put(n=b"%d" % number)
    read = _files.read
    pruned: list[Path] = []

    def read_and_prune(path: Path, most: int = -1) -> bytes | None:
        data = read(path, most)
        numbers = [int(p.stem[-6:]) for p in (tmp_path / "runs").glob("run-*.json")]
        if path.name.startswith("run-") and (always or not pruned) and len(numbers) > 2:
            pruned.append(path)
            second = tmp_path / "runs" / f"run-{sorted(numbers)[1]:06d}.json"
            second.unlink() if not always else second.touch()
        return data

    with monkeypatch.context() as patch:
        patch.setattr(_files, "read", read_and_prune)
        if always:
            with pytest.raises(StorageError, match="deleted several times"):
                await storage.backup(tmp_path / "copy")
        else:
            await storage.backup(tmp_path / "copy")
    if not always:
        there = {path.name for path in (tmp_path / "runs").glob("*.json")}
        assert {path.name for path in (tmp_path / "copy").glob("*.json")} == there


async def test_a_damaged_run_is_copied_as_it_is(tmp_path: Path) -> None:
    async with FileCheckpointStorage(tmp_path / "runs") as storage:
        for run_id in ("whole", "hurt"):
            await Writer(storage, run_id).put(n=b"1")
        record = RunFolder(tmp_path / "runs" / "runs" / "hurt").record_path
        record.write_bytes(record.read_bytes()[:-20])
        await storage.backup(tmp_path / "copy")
    names = {p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*.json")}
    assert Path("hurt-000000.json") in names
    assert Path("runs/hurt/run.json") in names


# ---------------------------------------------------------------------------------------- others


async def test_what_cannot_be_backed_up_is_named(tmp_path: Path) -> None:
    for storage in (InMemoryCheckpointStorage(), as_durable(InMemoryCheckpointStorage())):
        assert is_managed(storage)
        assert not has_backup(storage)
        with pytest.raises(ServiceError, match=r"InMemoryCheckpointStorage.* cannot be backed up"):
            await Service(storage).backup(tmp_path / "copy")
    with pytest.raises(StorageError, match="InMemoryCheckpointStorage cannot be backed up"):
        await EncryptedStorage(InMemoryCheckpointStorage(), KEYS).backup(tmp_path / "copy")


@executor(id="count")
async def count(number: int, ctx: WorkflowContext[Never, int]) -> None:
    ctx.yield_output(number)


async def test_a_run_at_work_can_be_resumed_from_a_backup(tmp_path: Path) -> None:
    storage = SqliteCheckpointStorage(tmp_path / "runs.db")

    @executor(id="count")
    async def copying(number: int, ctx: WorkflowContext[Never, int]) -> None:
        await storage.backup(tmp_path / "copy.db")
        ctx.yield_output(number)

    builder = WorkflowBuilder(name="w").set_start_executor(copying).with_checkpointing(storage)
    await builder.build().run(7, run_id="r")
    await storage.aclose()

    async with SqliteCheckpointStorage(tmp_path / "copy.db") as copy:
        workflow = WorkflowBuilder(name="w").set_start_executor(count).with_checkpointing(copy)
        run = await copy.get_run("r")
        assert run is not None
        result = await workflow.build().run_from_checkpoint(run.head)
        assert result.get_outputs() == [7]
