"""The SQLite storage on the disk: its file, who writes when, what goes wrong, and what things
cost.
"""

import asyncio
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart
from supersteps.checkpoint.record import Commit
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.checkpoint.sections.state import SHARED
from supersteps.errors import (
    CheckpointNotFoundError,
    CheckpointVersionError,
    CorruptCheckpointError,
    RunFencedError,
    StorageError,
)
from supersteps.storage.delta.commits import Commits
from supersteps.storage.delta.parts import read_value
from supersteps.storage.delta.tables import Tables, WritableTables
from supersteps.storage.retention import RetentionPolicy
from supersteps.storage.sqlite import log
from supersteps.storage.sqlite import writer as sqlite_writer
from supersteps.storage.sqlite.database import APPLICATION_ID, Database
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from supersteps.storage.sqlite.tables import SqliteTables
from supersteps.storage.sqlite.writer import Writer as SqliteWriter
from supersteps.testing.writer import Writer, by_hand, content_of, shared

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "runs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteCheckpointStorage]:
    storage = SqliteCheckpointStorage(path, busy_seconds=0.3)
    yield storage
    asyncio.run(storage.aclose())


def query(path: Path, statement: str, *values: object) -> list[Any]:
    """Ask the database as another program would."""
    db = sqlite3.connect(path)
    try:
        return db.execute(statement, values).fetchall()
    finally:
        db.commit()
        db.close()


def large(seed: int, turns: int = 100) -> bytes:
    """A list of some 23 KB."""
    rnd = random.Random(seed)
    return msgspec.json.encode(
        [{"role": "user", "content": rnd.randbytes(95).hex(), "n": n} for n in range(turns)]
    )


async def warm_up(writer: Writer) -> None:
    """Commit until the storage knows that the disk is fast."""
    for n in range(40):
        await writer.put(n=b"%d" % n)


# ----------------------------------------------------------------------------------------- the file


async def test_the_file_is_its_owners_only(storage: SqliteCheckpointStorage, path: Path) -> None:
    before = os.umask(0)
    try:
        await Writer(storage).commit()
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_nothing_is_created_before_it_is_used(path: Path) -> None:
    await SqliteCheckpointStorage(path).aclose()
    assert not path.parent.exists()


async def test_commits_survive_a_power_cut(storage: SqliteCheckpointStorage) -> None:
    await Writer(storage).commit()
    db = storage._writer._db
    assert db is not None
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_closing_leaves_one_file_and_the_storage_usable(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    await warm_up(writer)
    record = await storage.load_record("run-000003")
    assert record is not None

    await storage.aclose()
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]
    await storage.aclose()
    await writer.put(n=b"1")
    assert (await content_of(storage, "run-000040"))[shared("n")] == b"1"


async def test_a_file_that_is_not_a_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("my diary")
    with pytest.raises(StorageError, match=r"runs\.db is not a SQLite database"):
        await SqliteCheckpointStorage(path).get_run("run")
    assert path.read_text() == "my diary"


async def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    query(path, "CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"runs\.db is a database of another program"):
        await Writer(SqliteCheckpointStorage(path)).commit()
    assert path.read_bytes() == before


async def test_a_newer_database_is_refused_politely(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    await Writer(storage).commit()
    await storage.aclose()
    query(path, "PRAGMA user_version = 99")
    newer = SqliteCheckpointStorage(path)
    with pytest.raises(
        CheckpointVersionError, match=r"runs\.db was created by a newer version .* number 99"
    ):
        await newer.get_run("run")
    with pytest.raises(CheckpointVersionError):
        await Writer(newer).commit()


async def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open"):
        await SqliteCheckpointStorage(tmp_path).get_run("run")


@pytest.mark.skipif(AS_ROOT, reason="root may write anywhere")
async def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot open"):
        await Writer(SqliteCheckpointStorage(tmp_path / "runs.db")).commit()


LOOK = """
import asyncio, sys
from supersteps.errors import StorageError
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from supersteps.testing.writer import Writer

async def look():
    storage = SqliteCheckpointStorage(sys.argv[1])
    try:
        for _ in range(2):
            print([run.head for run in await storage.list_runs()], await storage.verify())
        print((await storage.load_checkpoint("run-000001")).outputs)
        print(len(await storage.list_lineage("run-000001", 9)))
    except StorageError as error:
        print(error)
    try:
        await Writer(storage, "other").commit()
    except StorageError as error:
        print("no writing:", error)

asyncio.run(look())
"""


def look_without_rights(path: Path) -> str:
    """Read everything in a process that has no more rights than the files give."""
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if AS_ROOT else ()
    if prefix and (shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode):
        pytest.skip("root may write anywhere")
    command = [*prefix, sys.executable, "-c", LOOK, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def _writable_again(path: Path) -> Iterator[None]:
    yield
    path.parent.chmod(0o700)


@pytest.mark.usefixtures("_writable_again")
@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o755), (0o644, 0o555), (0o444, 0o555)])
async def test_a_read_only_database_can_be_inspected(path: Path, file: int, folder: int) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        writer = Writer(storage)
        await writer.commit()
        await writer.commit(Changes(appends={OUTPUTS: [b"1", b"2"]}))
    path.chmod(file)
    path.parent.chmod(folder)

    *seen, refused = look_without_rights(path).splitlines()

    assert seen == ["['run-000001'] []", "['run-000001'] []", "[1, 2]", "2"]
    assert re.match(
        r"no writing: cannot (open|write) .*runs\.db: attempt to write a readonly database", refused
    )


@pytest.mark.usefixtures("_writable_again")
async def test_a_read_only_database_that_is_being_written_can_be_inspected(path: Path) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        writer = Writer(storage)
        await writer.commit()
        await writer.commit(Changes(appends={OUTPUTS: [b"1", b"2"]}))
        path.parent.chmod(0o555)

        assert look_without_rights(path).splitlines()[:2] == ["['run-000001'] []"] * 2


@pytest.mark.usefixtures("_writable_again")
async def test_a_log_that_cannot_be_read_without_writing_is_not_passed_over(path: Path) -> None:
    async with SqliteCheckpointStorage(path) as storage:
        await Writer(storage).commit()
    path.with_name("runs.db-wal").write_bytes(b"somebody died, and this was left")
    path.parent.chmod(0o555)

    assert (
        "runs.db-wal beside it has data that is not in it yet"
        in look_without_rights(path).splitlines()[0]
    )


@pytest.fixture
def _only_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supersteps.storage.sqlite.database.may_only_look", lambda path: True)


@pytest.mark.usefixtures("_only_to_look_at")
async def test_what_was_read_during_a_write_is_not_trusted(
    path: Path, storage: SqliteCheckpointStorage
) -> None:
    async with SqliteCheckpointStorage(path) as other:
        await Writer(other).commit()

    def write(tables: SqliteTables) -> None:
        os.utime(path, ns=(1, 1))

    with pytest.raises(
        StorageError, match="was written by another process while it was being read"
    ):
        storage._readers.run_here(write)
    assert await storage.get_run("run") is not None


@pytest.mark.usefixtures("_only_to_look_at")
async def test_other_files_and_older_databases_cannot_be_read(
    path: Path, storage: SqliteCheckpointStorage
) -> None:
    path.parent.mkdir()
    path.write_text("a letter to somebody" * 100)
    with pytest.raises(StorageError, match="is not a SQLite database"):
        await storage.get_run("run")
    path.unlink()
    query(path, f"PRAGMA application_id = {APPLICATION_ID}")
    with pytest.raises(
        StorageError, match=r"can only be read, and was created by an earlier version"
    ):
        await storage.get_run("run")


def test_many_make_the_same_file_at_once(path: Path) -> None:
    start = threading.Barrier(6)
    failed: list[Exception] = []

    async def commit(number: int) -> None:
        async with SqliteCheckpointStorage(path) as storage:
            start.wait()
            await Writer(storage, f"run {number}").commit()

    def work(number: int) -> None:
        try:
            asyncio.run(commit(number))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert query(path, "SELECT count(*) FROM runs") == [(6,)]


# ---------------------------------------------------------------------------------- who writes when


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The thread of each commit."""
    seen: list[int] = []
    commit = Commits.commit

    def noting(self: Commits, tables: WritableTables, commit_: Commit) -> None:
        seen.append(threading.get_ident())
        commit(self, tables, commit_)

    monkeypatch.setattr(Commits, "commit", lambda self, db, commit: noting(self, db, commit))
    return seen


async def test_who_writes_alone_to_a_fast_disk_writes_at_once(
    storage: SqliteCheckpointStorage, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supersteps.storage.sqlite.writer._SLOW_SECONDS", 10.0)
    writer = Writer(storage)
    await warm_up(writer)
    threads.clear()
    for _ in range(10):
        await writer.put(n=b"1")
    assert set(threads) == {threading.get_ident()}


async def test_what_is_large_goes_to_the_worker(
    storage: SqliteCheckpointStorage, threads: list[int]
) -> None:
    writer = Writer(storage)
    await warm_up(writer)
    threads.clear()
    await writer.put(n=large(1, 2000))
    assert threads != [threading.get_ident()]


async def test_a_slow_disk_never_stops_the_loop(
    storage: SqliteCheckpointStorage, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(storage)
    await warm_up(writer)
    monkeypatch.setattr(
        "supersteps.storage.sqlite.writer._SLOW_SECONDS", -1.0
    )  # every commit counts as slow
    for _ in range(3):
        await writer.put(n=b"1")
    threads.clear()
    for _ in range(5):
        await writer.put(n=b"1")
    assert threading.get_ident() not in threads


async def test_runs_that_commit_at_once_share_transactions(
    storage: SqliteCheckpointStorage,
) -> None:
    writers = [Writer(storage, f"run {n}") for n in range(20)]
    await asyncio.gather(*(writer.commit() for writer in writers))
    db = storage._writer._db
    assert db is not None
    statements: list[str] = []
    db.set_trace_callback(statements.append)

    for step in range(5):
        await asyncio.gather(*(writer.put(n=b"%d" % step) for writer in writers))

    assert statements.count("COMMIT") < 25
    for writer in writers:
        assert await content_of(storage, f"{writer.run_id}-000005") == {shared("n"): b"4"}


async def test_the_refusal_of_one_leaves_the_others_untouched(
    storage: SqliteCheckpointStorage,
) -> None:
    writers = [Writer(storage, f"run {n}") for n in range(5)]
    for writer in writers:
        await writer.commit()
    await storage.save_checkpoint(
        by_hand("run 2-000001", shared_state={"mine": 1})
    )  # refused after the fence
    writers[3].epoch = 7  # refused before it

    results = await asyncio.gather(*(w.put(n=b"1") for w in writers), return_exceptions=True)

    assert [type(result) for result in results] == [str, str, StorageError, RunFencedError, str]
    for number, head in enumerate((1, 1, 0, 0, 1)):
        run = await storage.get_run(f"run {number}")
        assert run is not None
        assert run.head == f"run {number}-{head:06d}"
    await storage.delete_checkpoint("run 2-000001")
    await writers[2].put(n=b"2")
    assert await content_of(storage, "run 2-000001") == {shared("n"): b"2"}


async def test_a_commit_under_way_outlasts_its_cancellation(
    storage: SqliteCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(storage)
    await writer.commit()
    begun, go_on = threading.Event(), threading.Event()
    commit = SqliteWriter._commit

    def held(self: SqliteWriter, db: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)
        commit(self, db)

    monkeypatch.setattr(SqliteWriter, "_commit", held)
    first = asyncio.create_task(writer.put(n=b"1"))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(Writer(storage, "other").commit())
    await asyncio.sleep(0)
    second.cancel()  # it has not started
    first.cancel()
    await asyncio.sleep(0.01)
    first.cancel()
    assert not first.done()
    go_on.set()

    for task in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await task
    run = await storage.get_run("run")
    assert run is not None
    assert run.head == "run-000001"
    assert await storage.get_run("other") is None


def test_a_forked_child_uses_the_file_for_itself(storage: SqliteCheckpointStorage) -> None:
    writer = Writer(storage)
    asyncio.run(warm_up(writer))

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # forking is deprecated where there are threads
        child = os.fork()
    if child == 0:
        signal.alarm(30)
        outcome = 1
        try:
            asyncio.run(Writer(storage, "child").put(n=b"1"))
            asyncio.run(storage.aclose())
            outcome = 0
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0

    asyncio.run(writer.put(n=b"2"))
    assert asyncio.run(content_of(storage, "child-000000")) == {shared("n"): b"1"}
    assert asyncio.run(storage.verify()) == []


# ---------------------------------------------------------------------------------- what goes wrong


async def test_waiting_for_another_process_is_bounded(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    await warm_up(writer)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(
        StorageError, match=r"runs\.db was being written by another process for more than 0\.3 s"
    ):
        await writer.put(n=b"1")

    other.execute("ROLLBACK")
    other.close()
    await writer.put(n=b"2")
    assert await content_of(storage, "run-000040") == {shared("n"): b"2"}


async def test_waiting_for_another_process_does_not_stop_the_loop(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    await warm_up(writer)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    saving = asyncio.create_task(writer.put(n=b"1"))
    for _ in range(5):
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        assert time.perf_counter() - begun < 0.2
    other.execute("COMMIT")
    other.close()
    await saving


class Failing(sqlite3.Connection):
    """Fails at a statement, before or after it is done."""

    fail_at = ""
    is_late = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if Failing.fail_at and sql.startswith(Failing.fail_at):
            Failing.fail_at = ""
            if Failing.is_late:
                super().execute(sql, *args)
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Arms a failure."""
    connect = sqlite3.connect

    def connect_failing(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, factory=Failing, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_failing)

    def arm(statement: str, late: bool) -> None:
        Failing.fail_at, Failing.is_late = statement, late

    return arm


@pytest.mark.parametrize(
    "statement", ["BEGIN", "-- The fence", "INSERT INTO chunks", "-- What was saved", "COMMIT"]
)
async def test_a_failed_commit_changes_nothing_and_can_be_repeated(
    failing: Callable[[str, bool], None], storage: SqliteCheckpointStorage, statement: str
) -> None:
    writer = Writer(storage)
    for _ in range(3):
        await writer.put(n=b"1", much=large(1))
    failing(statement, False)

    commit = writer.next(Changes(puts={shared("n"): b"2", shared("much"): large(2)}))
    with pytest.raises(StorageError, match="disk I/O error"):
        await storage.commit(commit)
    assert await storage.load_record("run-000003") is None
    await storage.commit(commit)

    assert await content_of(storage, "run-000003") == {shared("n"): b"2", shared("much"): large(2)}
    assert await storage.verify() == []


async def test_a_commit_whose_reply_was_lost_is_recognised(
    failing: Callable[[str, bool], None], storage: SqliteCheckpointStorage
) -> None:
    writer = Writer(storage)
    await writer.put(n=b"1")
    failing("COMMIT", True)

    await writer.put(n=b"2")

    assert await content_of(storage, "run-000001") == {shared("n"): b"2"}
    await writer.put(n=b"3")


async def test_a_full_disk_stops_only_writers_that_need_space(
    storage: SqliteCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Database.connect
    room = 150

    def small(self: Database, *, read_only: bool = False) -> sqlite3.Connection:
        db = connect(self, read_only=read_only)
        if not read_only:
            db.execute(f"PRAGMA max_page_count = {room}")
        return db

    monkeypatch.setattr(Database, "connect", small)
    greedy, modest = Writer(storage, "greedy"), Writer(storage, "modest")
    await greedy.put(n=b"1")
    await modest.put(n=b"1")

    results = await asyncio.gather(
        greedy.put(n=large(1, 5000)), modest.put(n=b"2"), return_exceptions=True
    )

    assert isinstance(results[0], StorageError)
    assert "is full" in str(results[0])
    assert results[1] == "modest-000001"
    assert await content_of(storage, "greedy-000000") == {shared("n"): b"1"}
    room = 100_000
    await storage.aclose()
    await greedy.put(n=large(1, 5000))
    assert await content_of(storage, "greedy-000001") == {shared("n"): large(1, 5000)}


async def test_a_flipped_bit_is_named_and_the_way_out_with_it(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    await writer.put(n=b"0", much=large(1))
    await writer.put(n=b"1")
    before = {row[0] for row in query(path, "SELECT chunk FROM chunks")}
    await writer.put(much=large(2))
    await writer.put(n=b"3")
    await storage.aclose()
    (chunk, data), *_ = [
        row for row in query(path, "SELECT chunk, data FROM chunks") if row[0] not in before
    ]
    query(
        path, "UPDATE chunks SET data = ? WHERE chunk = ?", bytes([data[0] ^ 4]) + data[1:], chunk
    )

    with pytest.raises(CorruptCheckpointError) as caught:
        await storage.load_record("run-000003")
    for named in ("'run-000003'", "'run'", "'much'", "before it is 'run-000001'"):
        assert named in str(caught.value)
    assert (await content_of(storage, "run-000001"))[shared("much")] == large(1)

    damages = await storage.verify()
    assert [(d.run_id, d.checkpoint_id, d.intact_ancestor) for d in damages] == [
        ("run", "run-000002", "run-000001")
    ]


async def test_a_head_whose_row_is_missing_is_reported(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    for n in range(3):
        await writer.put(n=b"%d" % n)
    await storage.aclose()
    query(path, "DELETE FROM checkpoints WHERE sequence = (SELECT max(sequence) FROM checkpoints)")

    (damage,) = await storage.verify()
    assert (damage.run_id, damage.checkpoint_id) == ("run", "run-000002")
    assert "it is the head of run 'run'" in damage.problem


async def test_a_damaged_list_is_noticed_when_it_is_read(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    for n in range(5):
        await writer.commit(Changes(appends={OUTPUTS: [b"%d" % n]}))
    query(path, "UPDATE list_items SET data = X'39' WHERE position = 3")

    record = await storage.load_record("run-000004")
    assert record is not None
    assert len(record.parts[OUTPUTS]) == 5
    with pytest.raises(
        CorruptCheckpointError, match=r"'run-000004' of run 'run', part .* element 3"
    ):
        list(record.parts[OUTPUTS])
    assert await content_of(storage, "run-000002") == {OUTPUTS: [b"0", b"1", b"2"]}
    assert {d.checkpoint_id for d in await storage.verify()} == {"run-000003", "run-000004"}


# ------------------------------------------------------------------------------------ what it costs


async def test_a_step_costs_what_it_changes(storage: SqliteCheckpointStorage, path: Path) -> None:
    writer = Writer(storage)
    keys = {shared(f"key {n}"): b'"%d"' % n for n in range(2000)}
    await writer.commit(Changes(puts={**keys, shared("much"): large(1, 5000)}))
    await writer.put(n=b"x")
    await storage.aclose()
    before = path.stat().st_size
    for n in range(400):
        await writer.put(n=b'"%d"' % n)
    await storage.aclose()
    assert (path.stat().st_size - before) / 400 < 300
    assert (await content_of(storage, "run-000401"))[shared("much")] == large(1, 5000)


async def test_a_reader_walks_back_a_bounded_number_of_rows(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    for n in range(300):
        await writer.put(n=b"%d" % n)
    whole = [
        sequence
        for (sequence,) in query(path, "SELECT sequence FROM checkpoints WHERE whole ORDER BY 1")
    ]
    assert whole[0] == 0
    assert max(b - a for a, b in zip(whole, [*whole[1:], 300], strict=True)) <= 34


async def test_appending_writes_one_element_and_reads_none(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    for n in range(50):
        await writer.commit(Changes(appends={OUTPUTS: [b"%d" % n]}))
    assert query(path, "SELECT count(*) FROM list_items") == [(50,)]

    other = SqliteCheckpointStorage(path)
    successor = Writer(other)
    await successor.take()
    query(path, "ALTER TABLE list_items RENAME COLUMN checksum TO gone")  # reading would fail
    record = await other.load_record("run-000049")
    assert record is not None
    part = record.parts[OUTPUTS]
    assert isinstance(part, ListPart)
    assert len(part.extended([b"1"])) == 51
    query(path, "ALTER TABLE list_items RENAME COLUMN gone TO checksum")
    await successor.commit(Changes(appends={OUTPUTS: [b"50"]}))
    assert await content_of(other, "run-000050") == {OUTPUTS: [b"%d" % n for n in range(51)]}
    assert query(path, "SELECT count(*) FROM list_items") == [(51,)]
    await other.aclose()


async def test_branches_share_the_elements_before_they_part(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    ids = [await writer.commit(Changes(appends={OUTPUTS: [b"%d" % n]})) for n in range(10)]
    for target in (ids[7], ids[4]):
        await writer.move(target)
        for n in range(3):
            newest = await writer.commit(Changes(appends={OUTPUTS: [b"9%d" % n]}))

    assert query(path, "SELECT count(*) FROM list_items") == [(16,)]
    assert await content_of(storage, newest) == {
        OUTPUTS: [b"0", b"1", b"2", b"3", b"4", b"90", b"91", b"92"]
    }
    assert await content_of(storage, ids[9]) == {OUTPUTS: [b"%d" % n for n in range(10)]}
    await storage.prune("run", RetentionPolicy(keep_last=1))
    assert await content_of(storage, newest) == {
        OUTPUTS: [b"0", b"1", b"2", b"3", b"4", b"90", b"91", b"92"]
    }


async def test_a_list_may_begin_as_a_whole_value(storage: SqliteCheckpointStorage) -> None:
    writer = Writer(storage)
    for name, value in (("short", b"[1,2]"), ("long", large(1))):
        await writer.commit(Changes(puts={(SHARED, name): value}))
        newest = await writer.commit(Changes(appends={(SHARED, name): [b"3"]}))
        items = (await content_of(storage, newest))[SHARED, name]
        assert items == [*ListPart.from_json(value), b"3"]
    with pytest.raises(ValueError, match="array"):
        await writer.commit(
            Changes(puts={shared("text"): b'"x"'}, appends={shared("text"): [b"3"]})
        )
    await writer.put(n=b"1")


async def test_another_process_may_have_moved_on(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    mine = Writer(storage)
    await mine.put(much=large(1))
    other = SqliteCheckpointStorage(path)
    theirs = Writer(other)
    await theirs.take()
    await theirs.put(much=b"1")
    await theirs.put(n=b"1")
    await other.prune("run", RetentionPolicy(keep_last=1))
    await other.aclose()

    with pytest.raises(RunFencedError):
        await mine.put(much=large(1))
    await mine.take()
    await mine.put(much=large(1))

    assert await content_of(storage, "run-000003") == {shared("much"): large(1), shared("n"): b"1"}
    assert await storage.verify() == []


# ---------------------------------------------------------------------------------------- what goes


async def test_pruning_collects_what_nothing_needs(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    for n in range(30):
        await writer.commit(
            Changes(puts={shared("much"): large(n)}, appends={OUTPUTS: [b"%d" % n]})
        )
    before = query(path, "SELECT count(*) FROM chunks")[0][0]

    await storage.prune("run", RetentionPolicy(keep_last=3))

    after = query(path, "SELECT count(*) FROM chunks")[0][0]
    assert after * 9 < before
    assert await storage.verify() == []
    assert (await content_of(storage, "run-000027"))[shared("much")] == large(27)
    await storage.delete_run("run")
    for table in ("chunks", "lists", "list_items", "checkpoints", "runs", "heads", "borrowers"):
        assert query(path, f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_a_value_that_comes_back_after_it_was_pruned_is_stored_again(
    storage: SqliteCheckpointStorage,
) -> None:
    writer = Writer(storage)
    for value in (large(1), b"1", large(1), None, large(1)):
        if value is None:
            await writer.commit(Changes(deletes=[shared("much")]))
        else:
            await writer.put(much=value)
        await storage.prune("run", RetentionPolicy(keep_last=1))
    assert await content_of(storage, "run-000004") == {shared("much"): large(1)}
    assert await storage.verify() == []


async def test_what_several_share_stays_until_the_last_one_goes(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    for run_id in ("one", "two", "three"):
        await Writer(storage, run_id).put(much=large(1))
    await storage.save_checkpoint(
        by_hand("mine", shared_state={"much": msgspec.json.decode(large(1))})
    )
    stored = query(path, "SELECT count(*) FROM chunks")

    await storage.delete_run("one")
    await storage.delete_run("three")
    assert query(path, "SELECT count(*) FROM chunks") == stored
    assert await content_of(storage, "two-000000") == {shared("much"): large(1)}
    await storage.delete_run("two")
    assert await storage.verify() == []
    assert query(path, "SELECT count(*) FROM chunks") == stored
    await storage.delete_checkpoint("mine")
    assert query(
        path, "SELECT (SELECT count(*) FROM chunks), (SELECT count(*) FROM borrowers)"
    ) == [(0, 0)]


async def test_vacuum_gives_space_back(storage: SqliteCheckpointStorage, path: Path) -> None:
    writer = Writer(storage)
    for n in range(20):
        await writer.put(much=large(n))
    await storage.prune("run", RetentionPolicy(keep_last=1))
    await storage.aclose()
    before = path.stat().st_size
    await storage.vacuum()
    await storage.aclose()
    assert path.stat().st_size < before / 3
    assert await content_of(storage, "run-000019") == {shared("much"): large(19)}


async def test_checkpoints_of_a_run_that_is_gone_are_found(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    for run_id in ("run", "other"):
        writer = Writer(storage, run_id)
        await writer.commit()
        await writer.commit()
    await storage.aclose()
    query(path, "DELETE FROM runs WHERE run_id = 'run'")

    (damage,) = await storage.verify()

    assert damage.what == "row 1 of table `runs`"
    assert (
        "it is missing, but 2 of the rows in table `checkpoints` belong to its run"
        in damage.problem
    )
    assert await storage.verify("other") == []


async def test_a_run_that_was_resumed_under_another_name_is_listed_under_both(
    storage: SqliteCheckpointStorage,
) -> None:
    writer = Writer(storage, workflow_id="old")
    await writer.commit()
    writer.workflow_id = "new"
    await writer.commit()
    await writer.commit(metadata={"who": "me"})

    assert await storage.list_checkpoint_ids("old") == ["run-000000"]
    assert await storage.list_checkpoint_ids("new") == ["run-000001", "run-000002"]
    assert [c.metadata for c in await storage.list_checkpoints("new")] == [{}, {"who": "me"}]


# -------------------------------------------------------------------------------------- comparisons


async def test_a_comparison_reads_only_what_differs(
    storage: SqliteCheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(storage)
    await writer.commit(
        Changes(puts={shared("large"): large(1), shared("other"): large(2), shared("n"): b"1"})
    )
    await writer.commit(
        Changes(
            puts={
                shared("other"): large(3),
                shared("n"): b"2",
                ("executor_states", "a", "new"): b"1",
            },
            deletes=[],
        )
    )
    first, second = await storage.list_checkpoints()
    plain = first.diff(second)
    looked = [await storage.load_checkpoint(i) for i in await storage.list_checkpoint_ids()]
    for checkpoint in looked:
        assert checkpoint is not None
        assert len(checkpoint.shared_state) == 3  # read, so compared by content
    assert looked[0] is not None
    assert looked[1] is not None
    assert looked[0].diff(looked[1]).changes == plain.changes
    assert {change.path[:2] for change in plain} == {
        ("shared_state", "other"),
        ("shared_state", "n"),
        ("executor_states", "a"),
    }

    read: list[int] = []
    original = read_value

    def watched(tables: Tables, entry: Any) -> bytes:
        value = original(tables, entry)
        read.append(len(value))
        return value

    monkeypatch.setattr("supersteps.storage.delta.parts.read_value", watched)
    first.diff(second)
    assert sum(read) < len(large(2)) + len(large(3)) + 100


async def test_comparing_with_a_checkpoint_that_is_gone_says_so(
    storage: SqliteCheckpointStorage,
) -> None:
    writer = Writer(storage)
    await writer.put(n=b"1")
    await writer.put(n=b"2")
    await writer.put(n=b"3")
    first, second, third = await storage.list_checkpoints()
    await storage.delete_checkpoint(second.checkpoint_id)

    with pytest.raises(CheckpointNotFoundError, match="was deleted"):
        first.diff(second)
    assert [change.after for change in first.diff(third)] == [3]


async def test_a_lost_row_of_the_journal_is_noticed(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = Writer(storage)
    await writer.commit()
    await storage.append_journal("run", 1, str(writer.head), [b"1", b"2", b"3"])
    await storage.aclose()
    query(path, "DELETE FROM journal WHERE record = ?", b"1")

    with pytest.raises(CorruptCheckpointError, match="journal"):
        await storage.read_journal("run", str(writer.head))
    assert [damage.run_id for damage in await storage.verify()] == ["run"]


# ------------------------------------------------------------------------------------ a long log


READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("BEGIN")
db.execute("SELECT count(*) FROM runs").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


async def write_on(writer: Writer, kilobytes: int) -> None:
    for number in range(kilobytes // 8):
        await writer.put(n=b'"%s"' % (b"%d" % number * 8000)[:8000])


def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LIMIT_BYTES", 200_000)
    monkeypatch.setattr(log, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(sqlite_writer, "_PAGES_IN_LOG", 20)


def test_a_log_that_a_reader_keeps_is_reported_and_shrinks_when_the_reader_leaves(
    storage: SqliteCheckpointStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_log(monkeypatch)
    length = path.with_name("runs.db-wal").stat
    said: list[str] = []
    monkeypatch.setattr(log, "warn_from_thread", lambda text, kind: said.append(text))

    async def scenario() -> None:
        writer = Writer(storage)
        await write_on(writer, 800)
        assert said == []
        assert length().st_size < 400_000
        command = [sys.executable, "-c", READER, str(path)]
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            await write_on(writer, 1200)
            kept = length().st_size
            assert kept > 1_000_000
        told = len(said)
        assert 1 < told <= kept // 200_000  # not with every commit
        assert "runs.db-wal has grown to 0 MB and cannot be emptied, because " in said[0]
        if Path("/proc/locks").exists():
            assert f"process {reader.pid} ({sys.executable} -c" in said[0]
        await write_on(writer, 400)
        assert length().st_size < 400_000
        assert len(said) == told

    asyncio.run(scenario())
    assert asyncio.run(storage.verify()) == []


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_reader_of_this_process_is_reported_as_such(
    is_moved: bool,
    storage: SqliteCheckpointStorage,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that began when the log was in the database: it locks another byte."""
    short_log(monkeypatch)
    said: list[str] = []
    monkeypatch.setattr(log, "warn_from_thread", lambda text, kind: said.append(text))
    asyncio.run(warm_up(Writer(storage)))
    reader = sqlite3.connect(path, isolation_level=None)
    if is_moved:
        _, pages, moved = reader.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        assert pages == moved
    else:
        asyncio.run(write_on(Writer(storage, "other"), 1))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchone()
    asyncio.run(write_on(Writer(storage, "more"), 600))
    reader.close()

    of_this = " of this process" if Path("/proc/locks").exists() else ""
    assert f"because another connection{of_this} reads from" in said[0]


def test_the_log_of_one_large_commit_is_emptied(
    storage: SqliteCheckpointStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_log(monkeypatch)
    writer = Writer(storage)
    asyncio.run(warm_up(writer))
    asyncio.run(writer.put(large=b'"%s"' % random.Random(1).randbytes(1_000_000).hex().encode()))
    asyncio.run(write_on(writer, 100))

    assert path.with_name("runs.db-wal").stat().st_size < 400_000
    assert asyncio.run(storage.verify()) == []


# ------------------------------------------------------------------------------------ questions


async def written_by(
    storage: SqliteCheckpointStorage, work: Callable[[], Awaitable[object]]
) -> int:
    """How many characters of statements, their values included, some work gives to SQLite."""
    db = storage._writer._db
    assert db is not None
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    try:
        await work()
    finally:
        db.set_trace_callback(None)
    return sum(map(len, statements))


async def test_a_commit_writes_what_it_changes_however_many_questions_wait(
    storage: SqliteCheckpointStorage,
) -> None:
    async def sizes(waiting: int) -> tuple[int, int, int]:
        writer = Writer(storage, f"run-{waiting}")
        await writer.commit(Changes({(REQUESTS, f"q{n:04d}"): b"{}" for n in range(waiting)}))
        return (
            await written_by(storage, lambda: writer.put(n=b"1")),
            await written_by(storage, lambda: writer.commit(Changes({(REQUESTS, "new"): b"{}"}))),
            await written_by(
                storage, lambda: writer.commit(Changes({}, deletes=[(REQUESTS, "q0000")]))
            ),
        )

    few, many = await sizes(2), await sizes(1000)

    assert all(b < a + 100 for a, b in zip(few, many, strict=True)), (few, many)


async def executed_by(
    storage: SqliteCheckpointStorage, work: Callable[[], Awaitable[object]]
) -> int:
    """How many instructions of its virtual machine SQLite executes to write something."""
    db, count = storage._writer._db, 0
    assert db is not None

    def tick() -> None:
        nonlocal count
        count += 1

    db.set_progress_handler(tick, 1)
    try:
        await work()
    finally:
        db.set_progress_handler(None, 0)
    return count


async def test_a_superstep_executes_as_much_in_sqlite_however_many_questions_wait(
    storage: SqliteCheckpointStorage,
) -> None:
    async def efforts(waiting: int) -> tuple[int, int, int]:
        writer = Writer(storage, f"run-{waiting}")
        await writer.commit(Changes({(REQUESTS, f"q{n:04d}"): b"{}" for n in range(waiting)}))
        head = writer.head
        assert head is not None
        call = [b"{}"]
        return (
            await executed_by(
                storage, lambda: storage.append_journal(writer.run_id, writer.epoch, head, call)
            ),
            await executed_by(storage, lambda: storage.renew(writer.run_id, writer.epoch, 30.0)),
            await executed_by(storage, lambda: writer.put(n=b"1")),
        )

    few, many = await efforts(1), await efforts(1000)

    assert all(a > 10 for a in few)
    assert all(b < a * 1.5 for a, b in zip(few, many, strict=True)), (few, many)


async def test_questions_come_back_in_the_order_in_which_they_were_asked(
    storage: SqliteCheckpointStorage,
) -> None:
    writer = Writer(storage)

    async def waiting() -> tuple[str, ...]:
        run = await storage.get_run(writer.run_id)
        assert run is not None
        assert await storage.verify() == []
        return run.requests

    async def step(asked: str, ended: str = "") -> str:
        changes = Changes({(REQUESTS, name): b"{}" for name in asked})
        changes.deletes += [(REQUESTS, name) for name in ended]
        return await writer.commit(changes)

    first = await step("dca")
    assert await waiting() == ("d", "c", "a")
    await step("b", "c")
    assert await waiting() == ("d", "a", "b")
    await step("c", "d")
    assert await waiting() == ("a", "b", "c")
    await writer.move(first)
    assert await waiting() == ("d", "c", "a")
    await step("", "dca")
    assert await waiting() == ()
    await step("a")
    assert await waiting() == ("a",)
