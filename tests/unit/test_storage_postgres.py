"""What only PostgresCheckpointStorage has: a server, which fails, restarts and is shared."""

import asyncio
import copy
import itertools
import os
import pickle  # noqa: TID251 -- what is pickled is the storage itself
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psycopg")

import psycopg
from psycopg.types.numeric import Int8BinaryDumper

from supersteps import open_storage
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import (
    CheckpointVersionError,
    RunBusyError,
    RunFencedError,
    StorageError,
)
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.postgres import migrations
from supersteps.storage.postgres.connections import Link
from supersteps.storage.postgres.storage import PostgresCheckpointStorage
from supersteps.storage.retention import RetentionPolicy
from supersteps.storage.transfer import export_run, import_run
from supersteps.testing.writer import (
    ELSEWHERE,
    LEASE,
    REQUEST,
    Writer,
    content_of,
    record_of,
    request,
    shared,
)
from tests.postgres_server import Server, fresh_schema, kill, own_server, server_dsn

LARGE = b'"%s"' % b"".join(b"%06d" % n for n in range(5000))


@pytest.fixture(scope="module")
def dsn() -> str:
    return server_dsn()


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    name = fresh_schema()
    yield name
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def opened(dsn: str, schema: str) -> Iterator[Callable[..., PostgresCheckpointStorage]]:
    """Opens storages in one schema, as so many processes, and closes them."""
    storages: list[PostgresCheckpointStorage] = []

    def open_one(**options: Any) -> PostgresCheckpointStorage:
        named = psycopg.conninfo.make_conninfo(dsn, application_name=schema)
        storages.append(PostgresCheckpointStorage(named, schema=schema, **options))
        return storages[-1]

    yield open_one
    for each in storages:
        asyncio.run(each.aclose())


Opened = Callable[..., PostgresCheckpointStorage]


def query(dsn: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as db:
        cursor = db.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def cut_connections(dsn: str, schema: str) -> None:
    """Cut every connection of a test's storages, as a restart of the server does."""
    query(
        dsn,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
        schema,
    )


# ----------------------------------------------------------------------------------------- opening


async def test_nothing_is_done_before_the_first_use(dsn: str, opened: Opened, schema: str) -> None:
    storage = opened()
    assert query(dsn, "SELECT to_regnamespace(%s)", schema) == [(None,)]

    assert await storage.get_run("run") is None

    assert query(dsn, "SELECT to_regnamespace(%s) IS NULL", schema) == [(False,)]


def test_several_who_make_the_schema_at_once_make_one(opened: Opened) -> None:
    storages = [opened() for _ in range(6)]
    failed: list[BaseException] = []

    def use(storage: PostgresCheckpointStorage, number: int) -> None:
        try:
            asyncio.run(Writer(storage, f"run-{number}").put(n=b"1"))
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=use, args=(each, number)) for number, each in enumerate(storages)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(asyncio.run(storages[0].list_runs())) == 6


async def test_it_is_opened_by_its_address(dsn: str, opened: Opened, schema: str) -> None:
    await Writer(opened()).put(n=b"1")
    known = psycopg.conninfo.conninfo_to_dict(dsn)

    storage = open_storage(
        f"postgresql://{known['user']}@/{known['dbname']}?host={known['host']}&schema={schema}"
    )

    assert isinstance(storage, PostgresCheckpointStorage)
    assert await storage.get_run("run") is not None
    address = storage.capabilities.address
    await storage.aclose()
    assert address is not None
    again = open_storage(address)
    assert isinstance(again, PostgresCheckpointStorage)
    assert await again.get_run("run") is not None
    await again.aclose()


def test_the_command_line_uses_it(opened: Opened) -> None:
    storage = opened()
    asyncio.run(Writer(storage).put(n=b"1"))

    done = subprocess.run(
        [sys.executable, "-m", "supersteps", "runs", "--store", str(storage.capabilities.address)],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


async def test_copies_and_pickles_are_the_same_place(opened: Opened) -> None:
    storage = opened()
    await Writer(storage).put(n=b"1")

    assert copy.deepcopy(storage) is storage
    other = pickle.loads(pickle.dumps(storage))
    assert repr(other) == repr(storage)
    assert await other.get_run("run") is not None
    await other.aclose()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://user:secret@host:port/x?nonsense=1", "cannot be read: write postgresql://"),
        ("host", "cannot be read"),
    ],
)
def test_a_wrong_address_is_refused_without_telling_the_password(wrong: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as raised:
        PostgresCheckpointStorage(wrong)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ["Mixed", "a b", "", "x" * 64, "pg_mine", "é", 'a"b'])
def test_a_schema_needs_a_simple_name(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the schema"):
        PostgresCheckpointStorage("postgresql://", schema=name)


async def test_no_server(tmp_path: Path) -> None:
    storage = PostgresCheckpointStorage(f"host={tmp_path} user=nobody password=secret dbname=x")

    with pytest.raises(StorageError, match=r"cannot connect to .*See whether the server") as raised:
        await storage.get_run("run")
    assert "secret" not in str(raised.value)


async def test_no_database(dsn: str) -> None:
    storage = PostgresCheckpointStorage(psycopg.conninfo.make_conninfo(dsn, dbname="nowhere"))

    with pytest.raises(StorageError, match=r'"nowhere" does not exist.* check the address'):
        await storage.get_run("run")


def test_without_psycopg_an_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from supersteps import *\n"
        "from supersteps.errors import StorageError\n"
        "try: PostgresCheckpointStorage('postgresql://x')\n"
        "except StorageError as error: print(error)\n"
        "try: open_storage('postgresql://x')\n"
        "except StorageError as error: print(error)\n"
    )

    said = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert said.count("pip install 'supersteps[postgres]'") == 2


async def test_a_schema_of_another_program_is_left_alone(
    dsn: str, opened: Opened, schema: str
) -> None:
    query(dsn, f"CREATE SCHEMA {schema} CREATE TABLE runs (theirs text)")

    with pytest.raises(StorageError, match="tables of another program"):
        await opened().get_run("run")

    assert query(dsn, f"SELECT * FROM {schema}.runs") == []


async def test_a_newer_schema_is_left_alone(dsn: str, opened: Opened, schema: str) -> None:
    await Writer(opened()).put(n=b"1")
    query(dsn, f"INSERT INTO {schema}.migrations VALUES (99)")

    with pytest.raises(CheckpointVersionError, match=r"number 99.*Upgrade supersteps"):
        await opened().get_run("run")


@contextmanager
def role(dsn: str, name: str, options: str = "") -> Iterator[str]:
    """Give the address of a new user, who is nobody's member."""
    query(dsn, f"CREATE ROLE {name} LOGIN {options}")
    try:
        yield psycopg.conninfo.make_conninfo(dsn, user=name)
    finally:
        query(dsn, f"DROP OWNED BY {name}")
        query(dsn, f"DROP ROLE {name}")


async def test_a_worker_needs_no_right_to_create(dsn: str, opened: Opened, schema: str) -> None:
    """As docs/SECURITY.md grants it."""
    await opened().get_run("run")
    with role(dsn, f"worker_{schema}") as theirs:
        storage = PostgresCheckpointStorage(theirs, schema=schema)
        with pytest.raises(StorageError, match="does not have the right"):
            await storage.get_run("run")
        query(dsn, f"GRANT USAGE ON SCHEMA {schema} TO worker_{schema}")
        query(
            dsn,
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "
            f"{schema} TO worker_{schema}",
        )
        query(dsn, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO worker_{schema}")

        writer = Writer(storage)
        await writer.commit(Changes(puts={shared("n"): LARGE}, appends={OUTPUTS: [b"1"]}))
        await writer.put(n=b"1")
        await storage.delete_run("run")
        await storage.aclose()


async def test_who_may_not_create_the_schema_is_told(dsn: str, schema: str) -> None:
    with role(dsn, f"nobody_{schema}") as theirs:
        storage = PostgresCheckpointStorage(theirs, schema=schema)

        with pytest.raises(StorageError, match=r"does not have the right.*docs/SECURITY.md"):
            await storage.get_run("run")


async def test_too_many_connections(dsn: str, opened: Opened, schema: str) -> None:
    with role(dsn, f"few_{schema}", "CONNECTION LIMIT 0") as theirs:
        storage = PostgresCheckpointStorage(theirs, schema=schema)

        with pytest.raises(StorageError, match="Choose a smaller pool_size"):
            await storage.get_run("run")


async def test_a_server_that_does_not_wait_for_its_disk_is_refused(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = PostgresCheckpointStorage(
        psycopg.conninfo.make_conninfo(dsn, options="-c synchronous_commit=off"), schema=schema
    )

    with pytest.raises(StorageError, match="could be lost after it was announced"):
        await storage.get_run("run")


# ------------------------------------------------------------------------------ broken connections


async def test_broken_connections_are_replaced(dsn: str, opened: Opened, schema: str) -> None:
    storage = opened()
    writer = Writer(storage)
    await writer.put(n=b"1")
    cut_connections(dsn, schema)

    head = await writer.put(n=b"2")
    cut_connections(dsn, schema)
    await storage.append_journal("run", 1, head, [b"1"])
    cut_connections(dsn, schema)
    assert await storage.read_journal("run", head) == [b"1"]
    cut_connections(dsn, schema)
    assert await storage.get_run("run") is not None
    cut_connections(dsn, schema)
    await storage.renew("run", 1, LEASE)
    assert await content_of(storage, head) == {shared("n"): b"2"}


class Cut(psycopg.OperationalError):
    """The connection is gone before the reply."""


def cut_after(monkeypatch: pytest.MonkeyPatch, text: str, *, is_done: bool) -> list[str]:
    """Break the connection once, when a statement with this text is sent: done, or not."""
    real = psycopg.Connection.execute
    left = [text]

    def execute(db: Any, statement: bytes, *args: Any, **options: Any) -> Any:
        if left and text.encode() in statement:
            left.clear()
            if is_done:
                real(db, statement, *args, **options)
                if db.pgconn.pipeline_status:
                    db.pgconn.pipeline_sync()
                    db.pgconn.flush()
                    while db.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                        break
                time.sleep(0.3)
            db.pgconn.finish()
            raise Cut("server closed the connection unexpectedly")
        return real(db, statement, *args, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    return left


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_commit_whose_reply_was_lost_is_made_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    storage = opened()
    writer = Writer(storage)
    await writer.put(n=b"1")
    left = cut_after(monkeypatch, "WITH fence", is_done=is_done)

    head = await writer.put(n=b"2")

    assert left == []
    assert (await record_of(storage)).head == head
    assert len(await storage.list_checkpoint_ids()) == 2
    assert await content_of(storage, head) == {shared("n"): b"2"}
    await writer.put(n=b"3")


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_transaction_whose_reply_was_lost_is_made_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    storage = opened()
    writer = Writer(storage)
    head = await writer.put(n=b"1")
    await storage.append_journal("run", 1, head, [b"0"])
    left = cut_after(monkeypatch, "COMMIT", is_done=is_done)

    await storage.append_journal("run", 1, head, [b"1", b"2"])

    assert left == []
    assert await storage.read_journal("run", head) == [b"0", b"1", b"2"]


async def test_many_commits_whose_reply_was_lost_are_made_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened()
    writers = [Writer(storage, f"run-{n}") for n in range(8)]
    await asyncio.gather(*(writer.put(n=b"1") for writer in writers))
    left = cut_after(monkeypatch, "COMMIT", is_done=True)

    heads = await asyncio.gather(*(writer.put(n=b"2") for writer in writers))

    assert left == []
    for writer, head in zip(writers, heads, strict=True):
        assert (await record_of(storage, writer.run_id)).head == head
        assert len(await storage.list_checkpoint_ids(run_id=writer.run_id)) == 2


@pytest.mark.slow
async def test_runs_go_on_while_the_server_restarts() -> None:
    with own_server() as server:
        storage = PostgresCheckpointStorage(server.dsn)
        is_over = False

        async def advance(number: int) -> int:
            writer = Writer(storage, f"run-{number}")
            count = 0
            while not is_over or count < 3:
                await writer.put(n=b"%d" % count)
                count += 1
            return count

        tasks = [asyncio.create_task(advance(number)) for number in range(5)]
        await asyncio.sleep(0.3)
        for how in ("fast", "immediate", "kill"):
            await asyncio.to_thread(restart, server, how)
            await asyncio.sleep(0.2)
        is_over = True
        counts = await asyncio.gather(*tasks)

        for number, count in enumerate(counts):
            assert len(await storage.list_checkpoint_ids(run_id=f"run-{number}")) == count
        assert await storage.verify() == []
        await storage.aclose()


def restart(server: Server, how: str) -> None:
    if how == "kill":
        kill(server)
        while server.is_running():
            time.sleep(0.02)
    else:
        server.stop(how)
    server.start()


async def test_a_server_that_stays_away_is_an_error(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(patience_seconds=0.2)
    writer = Writer(storage)
    await writer.put(n=b"1")

    def refuse(*args: Any, **options: Any) -> None:
        raise psycopg.OperationalError("connection failed: Connection refused")

    cut_connections(dsn, schema)
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", refuse)
        with pytest.raises(StorageError, match=r"Connection refused\. See whether the server"):
            await writer.put(n=b"2")

    assert (await record_of(storage)).sequence == 0


# ----------------------------------------------------------------------------------------- fencing


async def test_a_stale_writer_changes_nothing_and_hinders_nobody(opened: Opened) -> None:
    here, there = opened(), opened()
    writers = [Writer(here, f"run-{n}") for n in range(6)]
    await asyncio.gather(*(writer.put(n=b"1") for writer in writers))
    await here.release("run-3", 1)
    await Writer(there, "run-3").take()

    outcomes = await asyncio.gather(
        *(writer.put(n=b"2") for writer in writers), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes].count(RunFencedError) == 1
    assert isinstance(outcomes[3], RunFencedError)
    assert (await record_of(there, "run-3")).sequence == 0
    for number in (0, 1, 2, 4, 5):
        assert (await record_of(there, f"run-{number}")).sequence == 1


async def test_leases_go_by_the_servers_clock(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened()
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 7200)  # this machine's clock is ahead
    writer = Writer(storage)
    await writer.commit(owner=ELSEWHERE)
    await writer.commit(owner=ELSEWHERE)

    lease = (await record_of(storage)).lease
    assert lease is not None
    assert abs(lease.expires - (real + LEASE)) < 60
    with pytest.raises(RunBusyError):
        await Writer(opened()).take()


async def test_runs_that_commit_together_share_transactions(dsn: str, opened: Opened) -> None:
    storage = opened(pool_size=2)
    writers = [Writer(storage, f"run-{n}") for n in range(40)]
    await asyncio.gather(*(writer.put(n=b"0") for writer in writers))
    before = transactions(dsn)

    for n in range(1, 4):
        await asyncio.gather(*(writer.put(n=b"%d" % n) for writer in writers))

    assert transactions(dsn) - before < 3 * 40
    for writer in writers:
        assert (await record_of(storage, writer.run_id)).sequence == 3
    assert await storage.verify() == []


def transactions(dsn: str) -> int:
    """Return how many transactions have written so far."""
    (number,) = query(dsn, "SELECT pg_current_xact_id()::text::bigint")[0]
    return int(number)


def test_one_storage_serves_several_loops_at_once(opened: Opened) -> None:
    storage = opened(pool_size=3)
    failed: list[BaseException] = []

    def use(number: int) -> None:
        async def advance(run_id: str) -> None:
            writer = Writer(storage, run_id)
            for n in range(5):
                await writer.put(n=b"%d" % n)

        async def several() -> None:
            await asyncio.gather(*(advance(f"run-{number}-{n}") for n in range(5)))

        try:
            asyncio.run(several())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(asyncio.run(storage.list_checkpoint_ids())) == 4 * 5 * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_has_connections_of_its_own(opened: Opened) -> None:
    storage = opened()
    asyncio.run(Writer(storage, "before").put(n=b"1"))

    child = os.fork()
    if child == 0:
        try:
            asyncio.run(Writer(storage, "child").put(n=b"1"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)

    assert status == 0
    asyncio.run(Writer(storage, "after").put(n=b"1"))
    runs = asyncio.run(storage.list_runs())
    assert {run.run_id for run in runs} == {"before", "child", "after"}


async def test_behind_a_pooler_each_transaction_brings_its_settings(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer in transaction mode refuses options, and each transaction has another session."""
    real = psycopg.connect
    prepared: list[Any] = []

    def connect(dsn: str, **wanted: Any) -> Any:
        if wanted.get("options"):
            raise psycopg.OperationalError("FATAL: unsupported startup parameter in options: x")
        return real(dsn, **wanted)

    monkeypatch.setattr(psycopg, "connect", connect)
    storage = opened()
    writers = [Writer(storage, f"run-{n}") for n in range(4)]
    for n in range(3):
        await asyncio.gather(*(writer.put(n=b"%d" % n) for writer in writers))
    with storage._access._connections.link() as link:
        assert not link.is_direct
        link.begin("BEGIN")
        assert link.execute("SHOW statement_timeout").fetchone() == ("30s",)
        link.db.execute("COMMIT")
        prepared += link.db.execute("SELECT * FROM pg_prepared_statements").fetchall()
        link.db.execute("DISCARD ALL")  # as another session
    await writers[0].put(n=b"9")
    assert prepared == []
    assert await storage.verify() == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, for sockets, that another user may write to."""
    with tempfile.TemporaryDirectory(prefix="supersteps-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("ignored", ["", "options"], ids=["refuses options", "ignores options"])
async def test_behind_pgbouncer(dsn: str, schema: str, folder: Path, ignored: str) -> None:
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = {dsn}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
        f"ignore_startup_parameters = extra_float_digits{', ' if ignored else ''}{ignored}\n"
    )
    user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    bouncer = subprocess.Popen(
        ["pgbouncer", "-q", settings],
        stderr=subprocess.DEVNULL,
        **user,  # type: ignore[call-overload]
    )
    try:
        while not list(folder.glob(".s.PGSQL.*")):
            assert bouncer.poll() is None
            await asyncio.sleep(0.05)
        theirs = psycopg.conninfo.make_conninfo(dsn, host=str(folder), port=6432)
        async with PostgresCheckpointStorage(theirs, schema=schema) as storage:
            writers = [Writer(storage, f"run-{n}") for n in range(10)]
            for n in range(3):
                await asyncio.gather(*(writer.put(n=b"%d" % n) for writer in writers))
            await storage.append_journal("run-0", 1, writers[0].head or "", [b"1"])
            assert len(await storage.list_checkpoint_ids()) == 30
            assert await storage.verify() == []
            await storage.vacuum()
    finally:
        bouncer.terminate()
        bouncer.wait()


async def test_a_lock_that_is_held_too_long_is_an_error(
    dsn: str, opened: Opened, schema: str
) -> None:
    storage = opened(patience_seconds=0.4)
    writer = Writer(storage)
    await writer.put(n=b"1")
    with psycopg.connect(dsn) as db:
        db.execute(f"SELECT * FROM {schema}.heads FOR UPDATE".encode())
        with pytest.raises(StorageError, match="held the lock of the run for too long"):
            await writer.put(n=b"2")

    await writer.put(n=b"2")


async def test_a_text_with_nul_is_refused(opened: Opened) -> None:
    storage = opened()

    with pytest.raises(StorageError, match="NUL"):
        await Writer(storage, "r\x00n").put(n=b"1")

    await Writer(storage, "run").put(n=b'"\\u0000"')
    assert len(await storage.list_runs()) == 1


async def test_an_error_of_the_server_says_what_to_do(opened: Opened) -> None:
    """A full disk cannot be had here: the server is made to say it."""
    storage = opened()
    await storage.get_run("run")

    def fill(tables: Any) -> None:
        tables._link.execute("DO $$ BEGIN RAISE disk_full; END $$")

    with pytest.raises(StorageError, match=r"its disk is full; nothing was changed"):
        await storage._write(fill)


# ------------------------------------------------------------------------------------------ upkeep


async def test_what_a_deleted_run_has_left_is_deleted_bit_by_bit(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supersteps.storage.postgres.tables._BATCH", 3)
    storage = opened()
    writer = Writer(storage)
    for n in range(8):
        await writer.commit(
            Changes(puts={shared("n"): LARGE + b" " * n}, appends={OUTPUTS: [b"1"]})
        )
    monkeypatch.setattr(storage._access, "clear_up", lambda: None)  # as if killed before

    assert await storage.delete_run("run")
    assert await storage.list_checkpoint_ids() == []
    assert await storage.verify() == []
    assert query(dsn, f"SELECT count(*) FROM {schema}.checkpoints") == [(8,)]
    await opened().vacuum()

    for table in migrations.table_names():
        assert query(dsn, f"SELECT count(*) FROM {schema}.{table}") == [(0,)], table


@pytest.mark.parametrize("together", [2, 2000])
async def test_pruning_deletes_chunks_too(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr("supersteps.storage.postgres.storage._PRUNED_TOGETHER", together)
    storage = opened()
    writer = Writer(storage)
    for n in range(6):
        value = b'"%s"' % b"".join(b"%06d" % (n * 10_000 + i) for i in range(3000))
        head = await writer.commit(Changes(puts={shared("n"): value}))
    (before,) = query(dsn, f"SELECT count(*) FROM {schema}.chunks")[0]

    policy = RetentionPolicy(keep_last=1)
    expected = [f"run-00000{n}" for n in range(5)]
    assert await storage.prune("run", policy, dry_run=True) == expected
    assert await storage.prune("run", policy) == expected
    assert await storage.list_lineage(head, 10) == [CheckpointInfo("run", head, 5, None)]

    (after,) = query(dsn, f"SELECT count(*) FROM {schema}.chunks")[0]
    assert after < before / 4
    assert await content_of(storage, head) == {shared("n"): value}
    assert await storage.verify() == []


async def test_a_large_value_is_read_in_few_questions(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(opened())
    head = await writer.commit(Changes(puts={shared(str(n)): LARGE for n in range(5)}))
    storage = opened()
    await storage.get_run("run")
    asked: list[str] = []
    real = Link.execute

    def execute(link: Link, statement: str, values: Any = None) -> Any:
        asked.append(statement)
        return real(link, statement, values)

    monkeypatch.setattr(Link, "execute", execute)

    content = await content_of(storage, head)

    assert content == {shared(str(n)): LARGE for n in range(5)}
    assert len(asked) < 8


async def test_runs_move_to_other_storages_and_back(opened: Opened, tmp_path: Path) -> None:
    storage, files = opened(), FileCheckpointStorage(tmp_path / "files")
    writer = Writer(storage)
    await writer.commit(
        Changes(puts={shared("n"): LARGE, request("q"): REQUEST}, appends={OUTPUTS: [b"1"]})
    )
    head = await writer.put(m=b"2")

    await export_run(storage, "run", tmp_path / "run.jsonl")
    await import_run(files, tmp_path / "run.jsonl")
    await export_run(files, "run", tmp_path / "back.jsonl")
    await import_run(storage, tmp_path / "back.jsonl", run_id="again")

    moved = await record_of(storage, "again")
    assert await content_of(storage, moved.head) == await content_of(storage, head)
    assert await storage.verify() == []


# ------------------------------------------------------------------------------ cost of statements


async def test_statements_use_indexes(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every statement that the library sends is explained; no plan reads a table as a whole."""
    storage = opened()
    await storage.get_run("run")
    seen: dict[str, tuple[str, Any]] = {}
    real = Link.execute

    def execute(link: Link, statement: str, values: Any = None) -> Any:
        if f'"{schema}".' in statement:
            seen.setdefault(statement, (statement, values))
        return real(link, statement, values)

    monkeypatch.setattr(Link, "execute", execute)
    await everything(storage)
    monkeypatch.undo()

    plans = explained(dsn, schema, [*seen.values()])
    whole = {
        statement: plan
        for statement, plan in plans.items()
        if "Seq Scan" in plan and not any(name in statement for name in READ_AS_A_WHOLE)
    }
    assert len(plans) > 40
    assert not whole, "\n\n".join(itertools.chain(*whole.items()))


READ_AS_A_WHOLE = (
    ".removed ORDER BY run",  # mostly empty
    "NOT EXISTS",  # looks for lost runs, for verify() only
    "WHERE TRUE ORDER BY run",  # all runs, for listings of all checkpoints
    "WHERE saved >",  # all that were saved by hand
)


async def everything(storage: PostgresCheckpointStorage) -> None:
    """Have a storage do all that it can do."""
    writer = Writer(storage)
    await writer.commit(
        Changes(puts={shared("n"): LARGE, request("q"): REQUEST}, appends={OUTPUTS: [b"1"]}),
        tags=("a", "b"),
    )
    for n in range(3):
        head = await writer.commit(
            Changes(
                puts={shared("n"): LARGE + b" " * n, request(f"q{n}"): REQUEST},
                deletes=[request("q")],
                appends={OUTPUTS: [b"1"]},
            )
        )
        await storage.append_journal("run", 1, head, [b"1", b"2"])
        await storage.read_journal("run", head)
    await storage.add_answers("run", [("q2", b"1")])
    await storage.read_inbox("run")
    await writer.commit(Changes(deletes=[request("q2")]), inbox_read=1)
    await storage.renew("run", 1, LEASE)
    for options in ({}, {"tag": "a"}, {"workflow_id": "shout"}, {"status": "IDLE"}):
        await storage.list_runs(**options)  # type: ignore[arg-type]
        await storage.list_runs(before="run", **options)  # type: ignore[arg-type]
    await storage.find_waiting_runs("q1")
    await storage.list_checkpoints()
    await storage.list_checkpoints(workflow_id="shout")
    await storage.list_lineage(head, 10)
    await content_of(storage, head)
    await storage.list_headers("run")
    await storage.verify()
    await storage.move_head("run", 1, "run-000001")
    await storage.release("run", 1)
    await storage.prune("run", RetentionPolicy(keep_last=2, waiting_too=True))
    await storage.delete_checkpoint("run-000001")
    await storage.delete_run("run")


def explained(dsn: str, schema: str, sent: list[tuple[str, Any]]) -> dict[str, str]:
    """Return the plans of statements, in tables that are large enough for an index."""
    plans = {}
    with psycopg.connect(dsn) as db:
        db.adapters.register_dumper(int, Int8BinaryDumper)
        db.execute(f"SET search_path = {schema}".encode())
        db.execute(FILL.encode())
        db.execute(b"ANALYZE")
        for statement, values in sent:
            if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")):
                rows = db.execute(f"EXPLAIN {statement}".encode(), values).fetchall()
                plans[statement] = "\n".join(line for (line,) in rows)
        db.rollback()
    return plans


FILL = """
INSERT INTO runs SELECT n, 'run' || n, 'w' || n % 50, 's' || n % 50, '2026' || n, '', '[]', NULL,
    NULL, '', 0 FROM generate_series(1000, 6000) AS n;
INSERT INTO run_tags SELECT 't' || n % 50, '2026' || n, 'run' || n, n
    FROM generate_series(1000, 6000) AS n;
INSERT INTO heads SELECT n, 1, 1, 1, 1, 1, NULL, NULL, '', '', NULL, '1', 0, '', 0
    FROM generate_series(1000, 6000) AS n;
INSERT INTO waiting SELECT 'q' || n, n, 1, 0 FROM generate_series(1000, 6000) AS n;
INSERT INTO checkpoints SELECT n, m, NULL, 1, 1, CASE WHEN m = 1 THEN 'w' || n % 50 END, '', '', 0
    FROM generate_series(1000, 6000) AS n, generate_series(1, 3) AS m;
INSERT INTO chunks SELECT n, decode(lpad(to_hex(n), 32, '0'), 'hex'), ''
    FROM generate_series(1000, 6000) AS n;
INSERT INTO lists (owner, base, base_length)
    SELECT n, NULL, 0 FROM generate_series(1000, 6000) AS n;
INSERT INTO list_items SELECT n, 0, '', 0 FROM generate_series(1000, 9000) AS n;
INSERT INTO journal SELECT n, 1, 1, '', 0 FROM generate_series(1000, 6000) AS n;
INSERT INTO inbox SELECT n, 1, '', '', '', 0 FROM generate_series(1000, 6000) AS n;
INSERT INTO removed SELECT n FROM generate_series(1000, 6000) AS n;
INSERT INTO saved (checkpoint_id, header, entries, checksum)
    SELECT 'c' || n, '', '', 0 FROM generate_series(1000, 6000) AS n;
"""


async def test_a_superstep_is_one_statement_and_updates_in_place(
    dsn: str, opened: Opened, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened()
    writer = Writer(storage)
    for n in range(3):
        await writer.put(n=b"%d" % n)
    sent: list[bytes] = []
    real = psycopg.Connection.execute

    def execute(db: Any, statement: bytes, *args: Any, **options: Any) -> Any:
        sent.append(statement)
        return real(db, statement, *args, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    for n in range(60):
        await writer.put(n=b"%d" % n)
    monkeypatch.undo()
    await storage.aclose()  # a session reports its figures when it ends

    assert len(sent) == 60
    updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'heads'"
    for _ in range(100):
        (found,) = query(dsn, f"{updates} AND schemaname = %s", schema)
        if found[0] >= 62:
            break
        await asyncio.sleep(0.05)
    total, in_place = found
    assert total >= 62
    assert in_place >= 0.9 * total
