"""What a release has written, every later one opens and resumes: one folder of golden files for
each stored format.

The files were made by `tests/data/golden/make.py` and are never made again. A test that fails here
says that the present code no longer reads what people have on their disks.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supersteps import (
    CheckpointVersionError,
    CorruptCheckpointError,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    RawValue,
    RequestInfoEvent,
    SqliteCheckpointStorage,
    import_run,
)
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import FORMAT_VERSION
from tests.data.golden import make

GOLDEN = Path(make.__file__).parent
FORMATS = sorted(path.name for path in GOLDEN.iterdir() if path.name[0].isdigit())
each_format = pytest.mark.parametrize("version", FORMATS)
STORES = ["files", "runs.db", "golden.jsonl"]
each_store = pytest.mark.parametrize(
    "store", [*STORES, "sealed", "sealed.db", "sealed-golden.jsonl"]
)

OUTPUTS = [
    "answer: yes",
    "begun",
    "flaky at attempt 2",
    "from the sub-workflow, inside: fine",
    "later at attempt 1",
    "left half + right other half",
]
"""What the run yields in the end, sorted."""


async def opened(version: str, store: str, folder: Path) -> ManagedStorage:
    """Open a copy, so that the golden files stay what they are."""
    source = GOLDEN / version
    storage: ManagedStorage
    if store.endswith(".jsonl"):
        storage = InMemoryCheckpointStorage()
        for run_id in (make.RUN, make.CRASHED):
            await import_run(storage, source / store.replace(make.RUN, run_id))
    elif store.endswith(".db"):
        shutil.copy(source / store, folder / store)
        storage = SqliteCheckpointStorage(folder / store)
    else:
        shutil.copytree(source / store, folder / store)
        storage = FileCheckpointStorage(folder / store)
    return make.sealed(storage) if store.startswith("sealed") else storage


def expected(version: str, store: str = "files") -> dict[str, Any]:
    name = "expected-sealed.json" if store.startswith("sealed") else "expected.json"
    found: dict[str, Any] = json.loads((GOLDEN / version / name).read_text(encoding="utf-8"))
    return found


def test_there_are_golden_files_of_the_present_format() -> None:
    assert FORMAT_VERSION in FORMATS


@each_format
@each_store
async def test_it_is_whole_and_holds_what_it_held(version: str, store: str, tmp_path: Path) -> None:
    async with await opened(version, store, tmp_path) as storage:
        assert await storage.verify() == []
        assert {run.run_id for run in await storage.list_runs()} == {make.RUN, make.CRASHED}
        assert [run.run_id for run in await storage.list_runs(tag="gold")] == [make.RUN]
        for run_id, described in expected(version, store).items():
            assert await make.described(storage, run_id) == described


@each_format
@each_store
async def test_its_values_are_what_they_were(version: str, store: str, tmp_path: Path) -> None:
    async with await opened(version, store, tmp_path) as storage:
        checkpoint = await storage.load_checkpoint(f"{make.RUN}-000002")
        assert checkpoint is not None
        for key, value in make.VALUES.items():
            assert checkpoint.shared_state[key] == value
            assert (
                str(checkpoint.shared_state[key]) == str(value) or key == "containers"
            )  # sets have no order
        assert checkpoint.executor_states["clerk"] == {"seen": 1}
        assert checkpoint.scopes == {"notes": {"note": "in a scope"}}
        assert checkpoint.fan_in == {"fan_in:left+right->join": {"left": ["left half"]}}
        assert set(checkpoint.pending_requests) == {"golden-question", "golden-inner"}
        assert checkpoint.pending_requests["golden-inner"].data == make.Letter("inside")
        assert sorted(timer["data"] for timer in checkpoint.timers.values()) == ["flaky", "later"]
        assert not isinstance(checkpoint.shared_state["classes"][0], RawValue)
        assert checkpoint.sub_workflows["inner#1"].shared_state == {"inside": "inside"}


@each_format
@each_store
@pytest.mark.parametrize("run_id", [make.RUN, make.CRASHED])
async def test_it_continues_to_its_end(
    version: str, store: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "WAIT", 0.01)  # for attempts that fail from now on
    make.calls.clear()
    async with await opened(version, store, tmp_path) as storage:
        run = make.build(storage).run_stream("text", run_id=run_id, if_exists="attach")
        answers = {"golden-inner": "fine"} | (
            {} if run_id == make.RUN else {"golden-question": "yes"}
        )
        async for event in run:
            if isinstance(event, RequestInfoEvent) and event.request_id in answers:
                await run.send_response(event.request_id, answers.pop(event.request_id))
        result = await run.wait_for_completion()

        assert sorted(result.get_outputs()) == OUTPUTS
        assert make.calls == []  # what the journal, or the checkpoint, holds is not done again
        assert await storage.verify() == []


@each_format
async def test_what_was_saved_by_hand_is_there(version: str, tmp_path: Path) -> None:
    for store in ("files", "runs.db", "sealed", "sealed.db"):
        async with await opened(version, store, tmp_path) as storage:
            checkpoint = await storage.load_checkpoint("by-hand")
            assert checkpoint is not None
            assert checkpoint.shared_state == {"k": (1, 2)}


@each_format
async def test_a_newer_format_is_refused_by_name(version: str, tmp_path: Path) -> None:
    await (await opened(version, "runs.db", tmp_path)).aclose()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(CheckpointVersionError, match=r"newer version of supersteps .*number 99"):
        await SqliteCheckpointStorage(tmp_path / "runs.db").get_run(make.RUN)

    lines = (
        (GOLDEN / version / "golden.jsonl")
        .read_bytes()
        .replace(b"supersteps-run/1", b"supersteps-run/2")
    )
    (tmp_path / "newer.jsonl").write_bytes(lines)
    with pytest.raises(CheckpointVersionError, match="supersteps-run/2"):
        await import_run(InMemoryCheckpointStorage(), tmp_path / "newer.jsonl")


async def test_a_database_of_before_the_checksums_is_brought_up_to_date(tmp_path: Path) -> None:
    await (await opened("1.0", "runs.db", tmp_path)).aclose()
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        for table in ("runs", "heads", "journal", "inbox"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        db.execute("PRAGMA user_version = 1")
        db.commit()

    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        assert await storage.verify() == []
        assert await make.described(storage, make.RUN) == expected("1.0")[make.RUN]
        assert await storage.queue_entry(make.RUN) is None
        await storage.enqueue(make.RUN, QueueEntry(priority=2))
        assert await storage.queue_entry(make.RUN) == QueueEntry(priority=2)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (5,)
        db.execute("UPDATE heads SET requests = '[\"another\"]'")
        db.commit()
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        assert len(await storage.verify()) == 2


async def test_questions_that_stood_in_the_row_of_a_run_become_rows(tmp_path: Path) -> None:
    storage = await opened("1.0", "runs.db", tmp_path)
    async with storage:
        run = await storage.get_run(make.RUN)
        assert run is not None
        assert run.requests == ("golden-question", "golden-inner")
        assert await storage.verify() == []
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        assert db.execute("SELECT requests FROM heads ORDER BY run").fetchall() == [("2",), ("1",)]


async def test_a_run_that_was_damaged_before_a_migration_is_damaged_after_it(
    tmp_path: Path,
) -> None:
    storage = await opened("1.0", "runs.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        db.execute("UPDATE heads SET epoch = epoch + 1 WHERE run = 1")
        db.execute("UPDATE heads SET requests = '[[' WHERE run = 2")
        db.commit()

    async with storage:
        for run_id in (make.RUN, make.CRASHED):
            with pytest.raises(CorruptCheckpointError, match=f"run '{run_id}' is damaged"):
                await storage.get_run(run_id)
