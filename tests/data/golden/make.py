"""Makes the golden files of the present format: every later release must open and resume them.

    python -m tests.data.golden.make [FOLDER]

Run it once for each version of the stored format, never over files of an earlier one: they are the
promise.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import sqlite3
import sys
from collections import Counter, OrderedDict, deque
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, Never
from uuid import UUID
from zoneinfo import ZoneInfo

from supersteps import (
    CheckpointSaveError,
    EncryptedStorage,
    Executor,
    FailurePolicy,
    FileCheckpointStorage,
    Keyring,
    ManagedStorage,
    SqliteCheckpointStorage,
    StorageError,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    checkpointable,
    executor,
    export_run,
    handler,
    import_run,
    response_handler,
)
from supersteps.checkpoint.record import FORMAT_VERSION, Commit

HERE = Path(__file__).parent
RUN = "golden"
"""Waits for an answer, which lies in its inbox; its journal says that a call had finished."""

CRASHED = "golden-crashed"
"""Stopped in the middle: its journal says what had finished."""


WAIT = 20.0
"""Seconds until the timers are due: longer than making the files takes; over when they are read."""

KEY = bytes(range(32))
"""What the encrypted files are encrypted with."""

calls: list[str] = []
"""What the executor `left` was called with in this process."""


@checkpointable
class Colour(enum.Enum):
    RED = 1


@checkpointable
@dataclass
class Letter:
    text: str
    colour: Colour = Colour.RED


@checkpointable
class Point(NamedTuple):
    x: int
    y: float


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, None, True, "text ü 日本"], "nested": {"b": {}}},
    "numbers": [2**70, float("inf"), complex(1, -0.0), Fraction(2, 3), Decimal("1.50")],
    "containers": [(1, 2), {1, 2}, frozenset({"x"}), {(1, "a"): 2}, OrderedDict(a=1),
                   Counter("aab"), deque([1], 3)],
    "bytes": [b"bytes", bytearray(b"array"), UUID(int=5)],
    "dates": [date(2026, 1, 2), time(3, 4, tzinfo=UTC), timedelta(1, 2, 3),
              datetime(2026, 1, 2, 3, 4, 5, 6)],
    "zones": [datetime(2026, 10, 25, 2, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
              timezone(timedelta(hours=1), "X")],
    "paths": [PurePosixPath("/a/b"), PureWindowsPath("c:/x")],
    "classes": [Letter("hello"), Point(1, 2.0), Colour.RED],
    "odd": ["\ud800", {"$": "a dollar"}],
    "long": [f"a line of a long text, number {n}" for n in range(100)],
}  # fmt: skip


class Clerk(Executor):
    """Fills the state, sends half of what the fan-in waits for, begins a sub-workflow, and asks."""

    @handler
    async def begin(self, text: str, ctx: WorkflowContext[str | Letter, str]) -> None:
        for key, value in VALUES.items():
            await ctx.set_shared_state(key, value)
        await ctx.set_state({"seen": 1})
        await ctx.queue_state_update("note", "in a scope", scope="notes")
        await ctx.append_shared_state("history", text)
        await ctx.yield_output("begun")
        await ctx.send_message("half", target_id="left")
        await ctx.send_message("inside", target_id="inner")
        await ctx.send_message("flaky", target_id="flaky")
        await ctx.schedule("later", delay=WAIT, target_id="flaky")
        await ctx.request_info({"go on": text}, str, request_id="golden-question")

    @response_handler
    async def go_on(
        self, asked: dict[str, str], answer: str, ctx: WorkflowContext[str, str]
    ) -> None:
        await ctx.yield_output(f"answer: {answer}")
        await ctx.send_message("other half", target_id="right")


@executor(id="left")
async def left(text: str, ctx: WorkflowContext[str]) -> None:
    calls.append(text)
    await ctx.send_message(f"left {text}")


@executor(id="right")
async def right(text: str, ctx: WorkflowContext[str]) -> None:
    await ctx.send_message(f"right {text}")


@executor(id="join")
async def join(texts: list[str], ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(" + ".join(sorted(texts)))


class Inner(Executor):
    """Inside the sub-workflow: keeps state of its own, and asks."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.set_shared_state("inside", text)
        await ctx.request_info(Letter(text), str, request_id="golden-inner")

    @response_handler
    async def answered(self, asked: Letter, answer: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{asked.text}: {answer}")


@executor(id="sink")
async def sink(text: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(f"from the sub-workflow, {text}")


@executor(id="flaky")
async def flaky(text: str, ctx: WorkflowContext[Never, str]) -> None:
    if ctx.attempt == 1 and text == "flaky":
        raise ConnectionError("not yet")
    await ctx.yield_output(f"{text} at attempt {ctx.attempt}")


def build(storage: ManagedStorage | None = None) -> Workflow:
    """Return the workflow; it may not change either."""
    clerk = Clerk("clerk")
    inside = WorkflowBuilder(name="inside").set_start_executor(Inner("asker")).build()
    inner = WorkflowExecutor(inside, id="inner")
    builder = (
        WorkflowBuilder(name="golden")
        .set_start_executor(clerk)
        .add_edge(clerk, left)
        .add_edge(clerk, right)
        .add_edge(clerk, inner)
        .add_edge(clerk, flaky)
        .add_edge(inner, sink)
        .add_fan_in_edges([left, right], join)
        .with_failure_policy(flaky, FailurePolicy(max_attempts=3, backoff=WAIT, jitter=0.0))
    )
    return (builder if storage is None else builder.with_checkpointing(storage)).build()


class Crashing(FileCheckpointStorage):
    """Fails as a crash would: after a superstep's calls are in the journal, before its commit."""

    async def commit(self, commit: Commit) -> None:
        if commit.header.run_id == CRASHED and commit.header.sequence == 2:
            raise StorageError("the power is off")
        await super().commit(commit)


async def make(folder: Path) -> None:
    """Write runs as files, in a database and as exported files; then all of it sealed."""
    async with Crashing(folder / "files") as storage:
        await write(storage)
        async with SqliteCheckpointStorage(folder / "runs.db") as database:
            for run_id in (RUN, CRASHED):
                await export_run(storage, run_id, folder / f"{run_id}.jsonl")
                await import_run(database, folder / f"{run_id}.jsonl")
            await database.save_checkpoint(by_hand())
        expected = {run_id: await described(storage, run_id) for run_id in (RUN, CRASHED)}
    (folder / "expected.json").write_text(
        json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    await make_sealed(folder)
    tidy(folder)


async def make_sealed(folder: Path) -> None:
    """Write the same again through an `EncryptedStorage`."""
    async with Crashing(folder / "sealed") as inside:
        storage = sealed(inside)
        await write(storage)
        async with SqliteCheckpointStorage(folder / "sealed.db") as database:
            for run_id in (RUN, CRASHED):
                await export_run(inside, run_id, folder / f"sealed-{run_id}.jsonl")
                await import_run(database, folder / f"sealed-{run_id}.jsonl")
            await sealed(database).save_checkpoint(by_hand())
        expected = {run_id: await described(storage, run_id) for run_id in (RUN, CRASHED)}
    (folder / "expected-sealed.json").write_text(
        json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def sealed(storage: ManagedStorage) -> EncryptedStorage:
    """Return a storage that seals with the golden key."""
    return EncryptedStorage(storage, Keyring({"golden": KEY}, "golden"))


def by_hand() -> WorkflowCheckpoint:
    """Return a checkpoint that belongs to no run."""
    return WorkflowCheckpoint("by-hand", "golden", shared_state={"k": (1, 2)})


async def write(storage: ManagedStorage) -> None:
    """Run the workflow up to where somebody is to go on with it, twice."""
    run = build(storage).run_stream(
        "text", run_id=RUN, tags=["old", "gold"], metadata={"by": "make.py"}
    )
    async for event in run:
        if isinstance(event, SuperStepCompletedEvent) and event.step_number == 2:
            break
    await run.aclose()
    await storage.add_answers(RUN, [("golden-question", b'"yes"')])
    with contextlib.suppress(CheckpointSaveError):
        await build(storage).run("text", run_id=CRASHED)
    await storage.save_checkpoint(by_hand())


def tidy(folder: Path) -> None:
    """Leave out what is of no use in a file that lies still."""
    for path in (*folder.rglob("lock"), *folder.rglob(".lock"), *folder.glob("*.db-*")):
        path.unlink()
    for database in folder.glob("*.db"):
        with closing(sqlite3.connect(database, isolation_level=None)) as db:
            for statement in (
                "PRAGMA journal_mode = DELETE",
                "PRAGMA page_size = 1024",
                "VACUUM",
            ):
                db.execute(statement)


async def described(storage: ManagedStorage, run_id: str) -> dict[str, Any]:
    """Return what a stored run holds, as JSON: record, checkpoints, what follows its head."""
    run = await storage.get_run(run_id)
    assert run is not None
    checkpoints = [
        await storage.load_checkpoint(header.checkpoint_id)
        for header in await storage.list_headers(run_id)
    ]
    kept = {
        field: getattr(run, field)
        for field in ("run_id", "workflow_id", "status", "head", "sequence", "metadata")
    }
    found = {
        "record": kept
        | {"tags": run.tags, "requests": run.requests, "fingerprint": run.fingerprint},
        "checkpoints": {c.checkpoint_id: c.document() for c in checkpoints if c is not None},
        "journal": [json.loads(record) for record in await storage.read_journal(run_id, run.head)],
        "inbox": [
            [entry.request_id, entry.value.decode()] for entry in await storage.read_inbox(run_id)
        ],
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / FORMAT_VERSION
    place.mkdir(parents=True)
    # By its name: it is a part of the names of the types in the files.
    asyncio.run(import_module("tests.data.golden.make").make(place))
