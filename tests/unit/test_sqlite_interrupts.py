"""A KeyboardInterrupt at any moment of a write leaves the SQLite storage usable."""

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.record import Commit
from supersteps.storage.sqlite import jobs, writer
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from supersteps.testing.writer import Writer, shared

WHERE = {module.__file__ for module in (writer, jobs)}

STRIDE = 11
"""How many bytecodes lie between the moments that are tried; with 1 the test takes a minute."""

Write = Coroutine[Any, Any, Any]
Scenario = Callable[[SqliteCheckpointStorage, list[Writer]], list[Write]]


class Interrupt:
    """Raises KeyboardInterrupt before one of the bytecodes of the writer in this thread.

    Attributes:
        after: How many of them are executed before.
        has_come: Whether it was raised.
        where: Where it was.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.has_come = False
        self.where = ""

    def __call__(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in WHERE:
            return None
        frame.f_trace = self  # before the next line: so it is needed from Python 3.13 on
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and not self.has_come:
            self.after -= 1
            if self.after < 0:
                self.has_come = True
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise KeyboardInterrupt
        return self

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the moment while the block runs."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for one when tracing begins
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteCheckpointStorage]:
    # Whatever this disk is like: commits to slow ones are left to a thread that is not interrupted.
    monkeypatch.setattr("supersteps.storage.sqlite.writer._SLOW_SECONDS", 10.0)
    storage = SqliteCheckpointStorage(tmp_path / "runs.db", busy_seconds=5)
    yield storage
    asyncio.run(storage.aclose())


def one(storage: SqliteCheckpointStorage, writers: list[Writer]) -> list[Write]:
    return [writers[2].put(n=b"1")]  # the last that wrote before


def several(storage: SqliteCheckpointStorage, writers: list[Writer]) -> list[Write]:
    return [writer.put(n=b"1") for writer in writers]


def opening(storage: SqliteCheckpointStorage, writers: list[Writer]) -> list[Write]:
    async def close_and_write() -> None:
        await storage.aclose()
        await writers[2].put(n=b"1")

    return [close_and_write()]


@pytest.mark.parametrize("scenario", [one, several, opening])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # interrupted just before
def test_the_storage_goes_on_after_an_interrupt_at_any_bytecode(
    storage: SqliteCheckpointStorage, scenario: Scenario
) -> None:
    loop = asyncio.new_event_loop()
    writers = [Writer(storage, f"run {n}") for n in range(3)]
    attempts: dict[str, Commit] = {}

    def keep_attempts(made: Writer) -> None:
        make = made.next

        def next_and_keep(changes: Changes | None = None, **fields: Any) -> Commit:
            attempts[made.run_id] = commit = make(changes, **fields)
            return commit

        made.next = next_and_keep  # type: ignore[method-assign]

    async def settle() -> None:
        """Try again what may not have been done, as the engine does."""
        async with asyncio.timeout(10):
            for made in writers:
                commit = attempts[made.run_id]
                if made.head != commit.header.checkpoint_id:
                    await storage.commit(commit)
                    made.head, made.sequence = commit.header.checkpoint_id, commit.header.sequence
                await made.put(n=b"3")

    for made in writers:
        keep_attempts(made)
        for _ in range(40):  # until the disk counts as fast
            loop.run_until_complete(made.put(n=b"0"))
    interrupt = Interrupt(0)
    moments = 0
    try:
        while True:
            interrupt = Interrupt(moments)
            tasks = [loop.create_task(write) for write in scenario(storage, writers)]
            try:
                with interrupt.awaited():
                    loop.run_until_complete(asyncio.wait(tasks))
            except KeyboardInterrupt:
                pass
            if not interrupt.has_come:
                break
            moments += STRIDE
            # What the others write comes out all the same.
            loop.run_until_complete(asyncio.wait(tasks, timeout=10))
            assert all(task.done() for task in tasks), interrupt.where
            for task in tasks:
                task.exception()
            loop.run_until_complete(settle())
    finally:
        loop.run_until_complete(storage.aclose())
        loop.close()
    assert moments > 200
    for made in writers:
        lineage = asyncio.run(storage.list_lineage(made.head or "", 100_000))
        assert len(lineage) == made.sequence + 1
    assert asyncio.run(storage.verify()) == []


async def test_a_write_that_nobody_waits_for_any_more_is_not_begun(
    storage: SqliteCheckpointStorage,
) -> None:
    first = Writer(storage)
    for _ in range(40):
        await first.put(n=b"0")
    other = Writer(storage, "other")
    await other.commit()
    await first.put(n=b"1")
    writing = other.put(n=b"1")
    writing.send(None)  # it waits for the loop's next turn
    writing.close()  # as when a loop is closed

    await first.put(n=b"2")

    run = await storage.get_run("other")
    assert run is not None
    assert run.head == "other-000000"
    record = await storage.load_record(first.head or "")
    assert record is not None
    assert record.parts[shared("n")] == b"2"
