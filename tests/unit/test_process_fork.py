"""A forked child works with what its parent had open, or is told why not."""

import ast
import asyncio
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

import pytest

import supersteps
from supersteps import (
    Executor,
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    RunBusyError,
    SqliteCheckpointStorage,
    WorkflowBuilder,
    WorkflowContext,
    _process_fork,
    executor,
    handler,
)
from supersteps._process_fork import forkable_lock, forkable_rlock
from supersteps.checkpoint import owner
from supersteps.engine import heartbeat
from supersteps.engine.hold import RunHold
from supersteps.storage.plain.runs import PlainRuns
from supersteps.storage.sqlite.tables import SqliteTables
from supersteps.testing.writer import Writer, content_of, shared

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
SOURCE = Path(supersteps.__file__).parent


class Child:
    """A forked process that does some work and says what came of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(30)
            try:
                said = str(work())
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writer, said.encode())
            os._exit(0)
        os.close(writer)
        self._reader = reader

    def answer(self) -> str:
        with os.fdopen(self._reader, encoding="utf-8") as file:
            said = file.read()
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0
        return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[SqliteCheckpointStorage]:
    storage = SqliteCheckpointStorage(path)
    yield storage
    asyncio.run(storage.aclose())


async def warm_up(storage: SqliteCheckpointStorage) -> Writer:
    """Have the database open for writing and for reading."""
    writer = Writer(storage)
    for number in range(3):
        await writer.put(n=b"%d" % number)
    await storage.list_runs()
    return writer


def file_locks(path: Path) -> bool:
    """Whether this process, at the moment, holds a lock on a file that another one would meet."""
    inode = str(path.stat().st_ino)
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any(
        line.split()[4] == str(os.getpid()) and line.split()[5].split(":")[2] == inode
        for line in lines
    )


# ----------------------------------------------------------------------------------------- SQLite


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list its locks")
def test_the_connections_of_a_child_lock_the_file(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    writer = asyncio.run(warm_up(storage))

    def work() -> bool:
        asyncio.run(Writer(storage, "child").put(n=b"1"))
        return file_locks(path)

    assert Child(work).answer() == "True"
    asyncio.run(writer.put(n=b"9"))
    assert file_locks(path)
    assert asyncio.run(content_of(storage, "child-000000")) == {shared("n"): b"1"}
    assert asyncio.run(storage.verify()) == []


def test_nobody_takes_the_log_from_under_a_child_whose_parent_has_ended(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    asyncio.run(warm_up(storage))
    ready, go_on = os.pipe(), os.pipe()

    def work() -> str:
        asyncio.run(storage.aclose())  # as a parent that ends
        writer = Writer(storage, "child")
        asyncio.run(writer.put(n=b"1"))
        os.write(ready[1], b".")
        os.read(go_on[0], 1)
        asyncio.run(writer.put(n=b"2"))
        return "written"

    child = Child(work)
    os.read(ready[0], 1)
    asyncio.run(storage.aclose())
    other = sqlite3.connect(path)
    assert other.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    other.close()  # had it been the only one, this would remove the log
    os.write(go_on[1], b".")

    assert child.answer() == "written"
    assert asyncio.run(content_of(storage, "child-000001")) == {shared("n"): b"2"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is open")
def test_a_connection_of_the_program_that_was_open_at_the_fork_is_named(
    storage: SqliteCheckpointStorage, path: Path
) -> None:
    asyncio.run(warm_up(storage))
    own = sqlite3.connect(path)
    own.execute("SELECT count(*) FROM runs").fetchone()

    said = Child(lambda: asyncio.run(storage.list_runs())).answer()

    own.close()
    assert said.startswith(f"StorageError: {path} was open when this process (")
    assert "was forked" in said
    assert "aclose()" in said
    assert "spawn" in said
    assert Child(lambda: len(asyncio.run(storage.list_runs()))).answer() == "1"


@pytest.mark.parametrize("use", ["write", "read"])
def test_a_fork_does_not_wait_for_ever(
    storage: SqliteCheckpointStorage, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(warm_up(storage))
    monkeypatch.setattr(_process_fork, "PATIENCE_SECONDS", 0.05)
    begun, end = threading.Event(), threading.Event()

    def work(tables: SqliteTables) -> None:
        tables.db.execute("SELECT count(*) FROM runs").fetchone()
        begun.set()
        end.wait(30)

    job = storage._writer.run(work) if use == "write" else storage._readers.run(work)
    thread = threading.Thread(target=asyncio.run, args=(job,))
    thread.start()
    begun.wait(30)

    said = Child(lambda: asyncio.run(storage.list_runs())).answer()

    end.set()
    thread.join()
    assert "was open when this process (" in said
    assert len(asyncio.run(storage.list_runs())) == 1


def test_a_fork_waits_for_a_commit_that_is_under_way(storage: SqliteCheckpointStorage) -> None:
    asyncio.run(warm_up(storage))
    begun, end = threading.Event(), threading.Event()

    def work(tables: SqliteTables) -> None:
        begun.set()
        end.wait(30)
        tables.db.execute("CREATE TABLE written (n)")

    thread = threading.Thread(target=asyncio.run, args=(storage._writer.run(work),))
    thread.start()
    begun.wait(30)
    threading.Timer(0.05, end.set).start()

    said = Child(
        lambda: asyncio.run(storage._writer.run(lambda tables: tables.db.in_transaction))
    ).answer()

    thread.join()
    assert said == "True"
    assert asyncio.run(
        storage._readers.run(
            lambda tables: tables.db.execute("SELECT count(*) FROM written").fetchone()
        )
    ) == (0,)


# -------------------------------------------------------------------------------- the other parts


@executor(id="plain")
def plain(number: int, ctx: WorkflowContext[Never, int]) -> None:
    ctx.yield_output(number + 1)


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite", "none"])
def test_plain_handlers_run_in_a_child(tmp_path: Path, kind: str) -> None:
    storages: dict[str, Callable[[], Any]] = {
        "memory": InMemoryCheckpointStorage,
        "file": lambda: FileCheckpointStorage(tmp_path / "folder"),
        "sqlite": lambda: SqliteCheckpointStorage(tmp_path / "runs.db"),
        "none": lambda: None,
    }
    builder = WorkflowBuilder().set_start_executor(plain)
    storage = storages[kind]()
    if storage is not None:
        builder = builder.with_checkpointing(storage)
    workflow = builder.build()

    def run() -> list[object]:
        return asyncio.run(workflow.run(1)).get_outputs()

    assert run() == [2]
    assert Child(run).answer() == "[2]"
    assert run() == [2]


def test_a_child_has_no_runs_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = InMemoryCheckpointStorage()
    hold = RunHold(storage, "r")
    with hold.at_work():
        assert owner.is_alive(hold._owner())

        def work() -> tuple[object, ...]:
            parent = owner.this_process(before.handle)
            return (
                len(heartbeat._heartbeat.holders),
                owner._advancing,
                hold.handle == before.handle,
                hold._owner().pid == os.getpid(),
                owner.is_alive(parent),
            )

        before = hold._owner()
        assert Child(work).answer() == "(0, set(), False, True, False)"
        assert hold._owner() == before


async def test_a_child_does_not_go_on_with_a_run_of_its_parent(tmp_path: Path) -> None:
    storage = SqliteCheckpointStorage(tmp_path / "runs.db")
    forked: list[str] = []

    @executor(id="forking")
    async def forking(number: int, ctx: WorkflowContext[Never, int]) -> None:
        def work() -> None:
            again = WorkflowBuilder(name="w").set_start_executor(plain).build()
            asyncio.run(again.run_from_checkpoint("r-000000", checkpoint_storage=storage))

        forked.append(Child(work).answer())
        ctx.yield_output(number)

    workflow = (
        WorkflowBuilder(name="w").set_start_executor(forking).with_checkpointing(storage).build()
    )
    result = await workflow.run(1, run_id="r")
    await storage.aclose()

    assert result.get_outputs() == [1]
    assert forked[0].startswith(("GraphChangedError", RunBusyError.__name__))


def test_an_instance_with_hooks_is_free_in_a_child() -> None:
    class Counting(Executor):
        forks = True

        async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
            return

        @handler
        async def count(self, number: int, ctx: WorkflowContext[Never, int]) -> None:
            if self.forks:
                self.forks = False
                child = Child(lambda: in_a_thread(lambda: asyncio.run(workflow.run(7))))
                said.append(child.answer())
            ctx.yield_output(number)

    said: list[str] = []
    workflow = WorkflowBuilder().set_start_executor(Counting(id="counting")).build()
    asyncio.run(workflow.run(1))
    assert said == ["[7]"]


def in_a_thread(work: Callable[[], Any]) -> object:
    """Do something in a thread without a running event loop; return the outputs."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0].get_outputs()


def test_a_run_that_a_task_of_the_parent_was_changing_is_read_anew() -> None:
    runs = PlainRuns()

    async def enter(run_id: str) -> str:
        async with runs.held(run_id):
            return Child(look).answer() if run_id == "busy" else ""

    def look() -> str:
        return f"{sorted(runs._runs)} {asyncio.run(enter('again'))}"

    asyncio.run(enter("idle"))
    assert asyncio.run(enter("busy")) == "['idle'] "


# ------------------------------------------------------------------------------------------ locks


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_locks_are_free_in_a_child_in_whatever_order_others_take_them(order: Any) -> None:
    locks: list[Any] = [forkable_lock(), forkable_lock(), forkable_rlock()]
    is_done = threading.Event()

    def work() -> None:
        outer, middle, inner = (locks[place] for place in order)
        while not is_done.is_set():
            with outer:
                time.sleep(0.0005)
                with middle, inner:
                    pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = Child(lambda: [lock.acquire(blocking=False) for lock in locks])
            assert child.answer() == "[True, True, True]"
    finally:
        is_done.set()
        for thread in threads:
            thread.join()
    assert all(lock.acquire(blocking=False) for lock in locks)


def test_a_lock_that_is_not_given_up_is_free_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_fork, "PATIENCE_SECONDS", 0.05)
    stuck: list[Any] = [forkable_lock(), forkable_rlock()]
    taken, end = threading.Event(), threading.Event()

    def hold() -> None:
        with stuck[0], stuck[1]:
            taken.set()
            end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)

    assert Child(lambda: [lock.acquire(timeout=5) for lock in stuck]).answer() == "[True, True]"
    assert not stuck[0].acquire(blocking=False)
    end.set()
    thread.join()
    assert stuck[0].acquire(blocking=False)


def test_what_comes_to_be_during_a_fork_waits_for_its_end() -> None:
    made: list[object] = []
    _process_fork._before()
    thread = threading.Thread(target=lambda: made.append(forkable_lock()))
    thread.start()
    thread.join(0.05)
    assert made == []
    _process_fork._after_in_parent()
    thread.join()
    assert made


# ------------------------------------------------------------------------------ one place for all


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_what_concerns_a_fork_is_in_one_place() -> None:
    """No other module asks for its process, or makes a lock that a fork could leave locked."""
    found = {
        (path.relative_to(SOURCE).as_posix(), call)
        for path in SOURCE.rglob("*.py")
        for call in calls(ast.parse(path.read_text(encoding="utf-8")))
        if call
        in {
            "os.register_at_fork",
            "os.getpid",
            "threading.Lock",
            "threading.RLock",
            "threading.Condition",
        }
        and "testing" not in path.parts
    }

    assert found == {
        ("_process_fork.py", "os.register_at_fork"),
        ("_process_fork.py", "threading.Lock"),
        ("_process_fork.py", "threading.RLock"),
        ("checkpoint/owner.py", "os.getpid"),  # tells processes apart
        ("storage/sqlite/forked.py", "os.getpid"),  # names this one
        ("storage/sqlite/log.py", "os.getpid"),  # tells its own connections from others
        # These are made anew in a forked child, with all that they guard.
        ("engine/watcher.py", "threading.Lock"),
        ("storage/files/folder.py", "threading.Lock"),
        ("storage/files/locks.py", "threading.Lock"),
        ("storage/sqlite/changes.py", "threading.Lock"),
        ("storage/sqlite/database.py", "threading.Lock"),
        ("storage/sqlite/readers.py", "threading.Condition"),
        ("storage/sqlite/readers.py", "threading.Lock"),
        ("storage/sqlite/writer.py", "threading.Lock"),
        ("storage/sqlite/writer.py", "threading.RLock"),
        ("storage/_workers.py", "threading.Lock"),
    }
