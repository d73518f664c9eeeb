"""What the contract tests share: the storages under test, and a writer that drives one as the engine does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from supersteps._ids import checkpoint_id
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.owner import Owner, this_process
from supersteps.checkpoint.record import (
    MESSAGES,
    REQUESTS,
    SHARED,
    Changes,
    CheckpointHeader,
    CheckpointRecord,
    Commit,
    Part,
    PartKey,
)
from supersteps.storage.adapter import PlainStorageAdapter
from supersteps.storage.base import DurableStorage
from supersteps.storage.file import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.sqlite import SqliteCheckpointStorage

LEASE = 30.0
ELSEWHERE = Owner(host="elsewhere", boot_id="another boot", pid_namespace="", pid=1, started="1", handle="h")


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class PlainStorage:
    """The five methods and nothing else, as somebody might write them."""

    def __init__(self) -> None:
        self.checkpoints: dict[str, WorkflowCheckpoint] = {}

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self.checkpoints[checkpoint.checkpoint_id] = checkpoint
        return checkpoint.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self.checkpoints.get(checkpoint_id)

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        return [c.checkpoint_id for c in await self.list_checkpoints(workflow_id)]

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        return [c for c in self.checkpoints.values() if workflow_id in (None, c.workflow_id)]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return self.checkpoints.pop(checkpoint_id, None) is not None


class Subject:
    """A storage under test.

    Attributes:
        name: Which.
        storage: An open one.
        clock: Its clock.
        lacks: The promises that it does not make beyond its process, by name.
    """

    def __init__(self, name: str, open_storage: Callable[[Clock], DurableStorage], lacks: Iterable[str] = ()) -> None:
        self.name = name
        self.clock = Clock()
        self.lacks = frozenset(lacks)
        self._open = open_storage
        self._opened: list[DurableStorage] = []
        self.storage = self.reopened()

    def reopened(self) -> DurableStorage:
        """The same content as another process would see it."""
        storage = self._open(self.clock)
        self._opened.append(storage)
        return storage

    async def aclose(self) -> None:
        """Close every storage that was opened."""
        for storage in self._opened:
            await storage.aclose()

    def needs(self, promise: str) -> None:
        """Skip a test of a promise that this storage does not make."""
        if promise in self.lacks:
            pytest.skip(f"the {self.name} storage has no {promise} of its own")


def make_subject(name: str, folder: Path) -> Subject:
    if name == "file":
        return Subject(name, lambda clock: FileCheckpointStorage(folder / "checkpoints", clock=clock))
    if name == "memory":
        memory = InMemoryCheckpointStorage()

        def reopen_memory(clock: Clock) -> DurableStorage:
            memory._clock = clock
            return memory

        return Subject(name, reopen_memory)
    if name == "sqlite":
        return Subject(name, lambda clock: SqliteCheckpointStorage(folder / "runs.db", clock=clock))
    saved: dict[str, WorkflowCheckpoint] = {}

    def reopen_plain(clock: Clock) -> DurableStorage:
        plain = PlainStorage()
        plain.checkpoints = saved
        return PlainStorageAdapter(plain, clock=clock)

    return Subject(name, reopen_plain, lacks={"fence", "journal", "inbox", "head"})


SUBJECTS = ("memory", "file", "sqlite", "adapter")


def shared(name: str) -> PartKey:
    return (SHARED, name)


def request(request_id: str) -> PartKey:
    return (REQUESTS, request_id)


REQUEST = (
    b'{"request_id":"q","source_executor_id":"asker","request_executor_id":"r","iteration":1,'
    b'"timestamp":"2025-01-01T00:00:00.000000+00:00","response_type":"str","data":"Sure?"}'
)


class Writer:
    """One handle's commits to one run."""

    def __init__(self, storage: DurableStorage, run_id: str = "run", workflow_id: str = "flow") -> None:
        self.storage = storage
        self.run_id = run_id
        self.workflow_id = workflow_id
        self.owner = this_process(f"handle of {run_id} {id(self)}")
        self.epoch = 1
        self.head: str | None = None
        self.sequence = -1
        self.branch = 0
        self.started = datetime(2025, 1, 1, tzinfo=UTC)

    def next(self, changes: Changes | None = None, **fields: Any) -> Commit:
        """The commit that would come next."""
        commit_fields = {k: fields.pop(k) for k in tuple(fields) if k in Commit.__struct_fields__}
        sequence = self.sequence + 1
        header = CheckpointHeader(
            checkpoint_id=checkpoint_id(self.run_id, sequence),
            run_id=self.run_id,
            workflow_id=self.workflow_id,
            parent_id=self.head,
            sequence=sequence,
            branch=self.branch,
            iteration_count=sequence,
            timestamp=(self.started + timedelta(seconds=sequence)).isoformat(timespec="microseconds"),
        )
        commit = Commit(
            header=replace(header, **fields),
            changes=Changes() if changes is None else changes,
            epoch=self.epoch,
            lease_seconds=LEASE,
            owner=self.owner,
        )
        return replace(commit, **commit_fields)

    async def commit(self, changes: Changes | None = None, **fields: Any) -> str:
        """Commit and follow; return the checkpoint's id."""
        commit = self.next(changes, **fields)
        await self.storage.commit(commit)
        self.head = commit.header.checkpoint_id
        self.sequence = commit.header.sequence
        return self.head

    async def put(self, **values: bytes) -> str:
        """Commit shared keys."""
        return await self.commit(Changes(puts={shared(name): value for name, value in values.items()}))

    async def take(self, storage: DurableStorage | None = None) -> None:
        """Take the run over."""
        self.storage = storage or self.storage
        run = await self.storage.acquire(self.run_id, self.owner, LEASE)
        self.epoch, self.head, self.sequence, self.branch = run.epoch, run.head, run.sequence, run.branch

    async def move(self, target: str) -> None:
        """Restore the run to another checkpoint."""
        run = await self.storage.move_head(self.run_id, self.epoch, target)
        self.head, self.branch = run.head, run.branch


async def parts_of(storage: DurableStorage, wanted: str) -> dict[PartKey, Part]:
    """The parts of a checkpoint that must be there."""
    record = await storage.load_record(wanted)
    assert record is not None
    return record.parts


def plain(record: CheckpointRecord | None) -> dict[PartKey, list[bytes] | bytes]:
    """The parts of a record, list parts as lists."""
    assert record is not None
    return {key: part if isinstance(part, bytes) else list(part) for key, part in record.parts.items()}


def by_hand(checkpoint_id: str, **fields: Any) -> WorkflowCheckpoint:
    """A checkpoint as a user makes it."""
    return WorkflowCheckpoint(checkpoint_id=checkpoint_id, workflow_id=fields.pop("workflow_id", "flow"), **fields)


NO_MESSAGES = Changes(puts={MESSAGES: b"[]"})
