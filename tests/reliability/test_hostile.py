"""The fast part of hostile data, and each attack by its name."""

import asyncio
import contextlib
import os
import random
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from supersteps import (
    CheckpointDecodeError,
    CheckpointVersionError,
    CorruptCheckpointError,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    SqliteCheckpointStorage,
    StorageError,
    WorkflowCheckpoint,
)
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.checkpoint.values import Sealer
from supersteps.engine.journal import Recorded
from tests.reliability import guarding, hostile, workload
from tests.reliability.hostile_files import begin
from tests.reliability.hostile_names import twins
from tests.reliability.mutating import RAW, TAGS
from tests.reliability.table import Row

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, pipes, limits of memory")
SEED = 20261123


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "trials"),
    [(hostile.records, 1_500), (hostile.files, 80), (hostile.database, 40), (hostile.names, 10)],
)
def test_there_is_a_named_error_or_an_intact_value(
    scenario: Callable[..., Row], trials: int
) -> None:
    row = scenario(trials, SEED)

    assert row.is_clean, row.details
    assert row.trials == trials


def test_the_lab_notices(tmp_path: Path) -> None:
    def reads_a_password(dice: random.Random) -> tuple[str, list[str]]:
        sys.audit("open", "/etc/passwd", "r", 0)
        sys.audit("os.system", "true")
        raise KeyError("nothing")

    guarding.watch_calls(tmp_path)
    _, problems = guarding.guarded(reads_a_password, random.Random(1))

    assert [problem.partition(" ")[0] for problem in problems] == ["KeyError:", "did", "did"]


def test_a_problem_names_the_line_of_the_library_whatever_the_checkout_is_called() -> None:
    with pytest.raises(CheckpointDecodeError) as raised:
        Codec().decode(b"{")

    assert re.match(
        r"CheckpointDecodeError at checkpoint/[\w/]+\.py:\d+: ", guarding.described(raised.value)
    )
    assert guarding.described(KeyError("of a test")).startswith("KeyError: ")


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("data", RAW, ids=range(len(RAW)))
@pytest.mark.parametrize("raw", [False, True])
def test_what_no_writer_writes_is_read_or_refused(data: bytes, raw: bool) -> None:
    with contextlib.suppress(CheckpointDecodeError):
        Codec().decode(data, raw=raw)


@pytest.mark.parametrize("tag", [tag for tag in TAGS if isinstance(tag, str) and ":" in tag])
def test_a_name_imports_nothing(tag: str) -> None:
    modules = set(sys.modules)
    with pytest.raises(CheckpointDecodeError):
        Codec().decode(b'{"$":%s,"v":["true"]}' % msgspec.json.encode(tag))

    new = set(sys.modules) - modules
    assert [name for name in new if not name.startswith("supersteps.")] == []


def test_a_zone_that_is_not_there_imports_nothing() -> None:
    modules = set(sys.modules)
    for key in (b"Nope/Nope", b"zoneinfo", b"Europe", b"antigravity"):
        with pytest.raises(CheckpointDecodeError, match="no '"):
            Codec().decode(b'{"$":"ZoneInfo","v":"%s"}' % key)

    assert {name.partition(".")[0] for name in set(sys.modules) - modules} <= {
        "zoneinfo",
        "_zoneinfo",
        "importlib",
    }


@pytest.mark.parametrize(
    "key",
    [("messages",), ("requests", "r"), ("timers", "t"), ("sub_workflows", "s"), ("answered",)],
)
@pytest.mark.parametrize("data", [b"1", b"[1]", b"{", b'"\xff"', b"[" * 100_000, b'[{"data":1}]'])
def test_a_part_of_another_shape_is_damage(key: tuple[str, ...], data: bytes) -> None:
    header = CheckpointHeader(checkpoint_id="c", workflow_id="w", timestamp="t")
    with pytest.raises(CorruptCheckpointError):
        _ = WorkflowCheckpoint.from_record(header, lambda: {key: data}, Codec()).shared_state


@pytest.mark.parametrize(
    "record", [b"{}", b'{"note":"sleep","number":"x"}', b'{"note":1}', b"[" * 100_000, b"\xff"]
)
def test_a_journal_record_of_another_shape_is_damage(record: bytes) -> None:
    with pytest.raises(CorruptCheckpointError):
        Recorded.read([record], Sealer(Codec(), encoding=True))


@pytest.mark.parametrize(
    "parts", [1.5, [1], [[1, 2]], [[[], 1]], [[["messages", "x"], 1]], [["messages"]]]
)
def test_a_document_with_odd_parts_is_refused(parts: object) -> None:
    described = WorkflowCheckpoint("c", "w").to_dict() | {"parts": parts}
    with pytest.raises(ValueError, match=r"part|array|object"):
        WorkflowCheckpoint.from_dict(described)


# -------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(begin(FileCheckpointStorage(tmp_path / "store")))
    (tmp_path / "theirs").write_bytes(b"theirs")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["lab-000004.json", "runs/lab/run.json", "runs/lab/journal.jsonl", "runs/lab/inbox.jsonl"],
)
@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
async def test_a_pipe_or_device_in_a_files_place_is_refused(
    folder: Path, name: str, target: str
) -> None:
    path = folder / "store" / name
    path.unlink()
    os.mkfifo(path) if target == "pipe" else path.symlink_to(target)

    storage = FileCheckpointStorage(folder / "store")
    with pytest.raises(StorageError, match="not a regular file"):
        await begin_reading(storage)


@pytest.mark.parametrize("name", ["journal.jsonl", ".run.json.tmp"])
@pytest.mark.parametrize("target", ["theirs", "new"])
async def test_nothing_is_written_through_a_link(folder: Path, name: str, target: str) -> None:
    path = folder / "store" / "runs" / "lab" / name
    path.unlink(missing_ok=True)
    path.symlink_to(folder / target)

    storage = FileCheckpointStorage(folder / "store")
    with pytest.raises(StorageError, match="symbolic link"):
        await begin_again(storage)
    assert (folder / "theirs").read_bytes() == b"theirs"
    assert not (folder / "new").exists()


async def begin_again(storage: ManagedStorage) -> None:
    """Do what writes each of a run's files."""
    run = await storage.get_run(workload.RUN)
    assert run is not None
    await storage.append_journal(workload.RUN, run.epoch, run.head, [b"1"])
    await storage.release(workload.RUN, run.epoch)
    await storage.delete_checkpoint(run.head)


async def test_a_link_is_not_a_folder_of_a_run(folder: Path) -> None:
    (folder / "store" / "runs" / "x").symlink_to(folder / "elsewhere")
    storage = FileCheckpointStorage(folder / "store")
    await storage.vacuum()

    assert [run.run_id for run in await storage.list_runs()] == [workload.RUN]
    assert not (folder / "elsewhere").exists()


# ------------------------------------------------------------------------------------------- SQLite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    async def fill() -> None:
        async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
            await begin(storage)

    asyncio.run(fill())
    return tmp_path / "runs.db"


def change(database: Path, script: str) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.executescript(script)


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE runs SET status = 'COMPLETED'",
        "UPDATE runs SET metadata = x'7b2261223a317d'",
        "UPDATE runs SET tags = '[[[['",
        "UPDATE heads SET epoch = 1, requests = '[]'",
        "UPDATE heads SET head = 2",
        "UPDATE heads SET lease_owner = x'ff'",
        "UPDATE journal SET record = x'31'",
        "UPDATE journal SET head = 3",
        "UPDATE inbox SET value = x'22626164220a'",
        "UPDATE inbox SET request_id = 'another'",
        "UPDATE checkpoints SET parent = 0 WHERE sequence = 4",
        "DELETE FROM heads",
        "DELETE FROM checkpoints WHERE sequence = 4",
        "UPDATE waiting SET request_id = 'another'",
        "UPDATE waiting SET number = number + 1",
        "DELETE FROM waiting",
    ],
)
async def test_a_changed_row_is_damage(database: Path, script: str) -> None:
    change(database, script)
    async with SqliteCheckpointStorage(database) as storage:
        assert await storage.verify()
        if "waiting" in script or not script.startswith("DELETE"):
            with pytest.raises(CorruptCheckpointError):
                await begin_reading(storage)


async def begin_reading(storage: ManagedStorage) -> None:
    run = await storage.get_run(workload.RUN)
    assert run is not None
    await storage.load_checkpoint(run.head)
    await storage.read_journal(workload.RUN, run.head)
    await storage.read_inbox(workload.RUN)
    await storage.list_lineage(run.head, 10)


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            "CREATE TRIGGER evil AFTER UPDATE ON heads BEGIN DELETE FROM runs; END",
            CorruptCheckpointError,
            "trigger 'evil'",
        ),
        (
            "DROP TABLE heads; CREATE VIEW heads AS SELECT load_extension('x')",
            CorruptCheckpointError,
            "heads is missing",
        ),
        ("DROP TABLE inbox", CorruptCheckpointError, "inbox is missing"),
        (
            "DROP TABLE inbox; CREATE TABLE inbox (entry, request_id)",
            CorruptCheckpointError,
            "inbox is missing or has changed",
        ),
        ("PRAGMA user_version = 99", CheckpointVersionError, "newer version"),
        ("PRAGMA application_id = 1", StorageError, "another program"),
    ],
)
async def test_an_altered_schema_is_refused(
    database: Path, script: str, error: type[Exception], words: str
) -> None:
    change(database, script)
    with pytest.raises(error, match=words):
        await SqliteCheckpointStorage(database).get_run(workload.RUN)


async def test_a_damaged_run_does_not_hide_the_others(database: Path) -> None:
    async with SqliteCheckpointStorage(database) as storage:
        await workload.build(storage).run_stream(1, run_id="other").aclose()
        await workload.build(storage).run(1, run_id="whole")
    change(database, "UPDATE runs SET metadata = x'7b7d20' WHERE run_id = 'lab'")
    change(
        database,
        "UPDATE heads SET epoch = epoch + 1 WHERE run = (SELECT run FROM runs WHERE run_id = "
        "'lab')",
    )

    async with SqliteCheckpointStorage(database) as storage:
        with pytest.warns(match="run 'lab' is damaged"):
            assert [run.run_id for run in await storage.list_runs()] == ["whole"]


@pytest.mark.parametrize("end", ["", "-wal"])
async def test_a_pipe_in_the_databases_place_is_refused(tmp_path: Path, end: str) -> None:
    os.mkfifo(tmp_path / f"runs.db{end}")
    with pytest.raises(StorageError, match="not a regular file"):
        await SqliteCheckpointStorage(tmp_path / "runs.db").get_run("x")


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
async def test_runs_whose_names_look_alike_stay_apart(kind: str, tmp_path: Path) -> None:
    names = [
        "é",
        "e\u0301",
        "RUN",
        "run",
        "a.",
        "a",
        "x",
        "x ",
        "CON",
        "con",
        "../x",
        "%2E%2E/x",
        "日本",
        "🎉",
    ]
    makers: dict[str, Callable[[], ManagedStorage]] = {
        "memory": InMemoryCheckpointStorage,
        "file": lambda: FileCheckpointStorage(tmp_path / "store"),
        "sqlite": lambda: SqliteCheckpointStorage(tmp_path / "store" / "runs.db"),
    }
    async with makers[kind]() as storage:
        for name in names:
            await workload.build(storage).run(1, run_id=name)
        assert {run.run_id for run in await storage.list_runs()} == set(names)
        for name in names:
            assert {found.run_id for found in await storage.list_checkpoints(run_id=name)} == {name}
        assert await storage.verify() == []
    assert {path.name for path in tmp_path.iterdir()} <= {"store"}
    assert twins(random.Random(1), "x")
