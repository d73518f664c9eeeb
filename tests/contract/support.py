"""Storages as the contract opens them, and what the tests of single storages take from the
contract.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.storage import _files
from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.plain.adapter import PlainStorageAdapter
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from supersteps.testing.writer import (
    ASK,
    ELSEWHERE,
    EVERYTHING,
    LEASE,
    REQUEST,
    Clock,
    Writer,
    by_hand,
    content_of,
    parts_of,
    plain,
    record_of,
    request,
    shared,
)

__all__ = [
    "ASK",
    "ELSEWHERE",
    "EVERYTHING",
    "LEASE",
    "REQUEST",
    "SUBJECTS",
    "Clock",
    "Crash",
    "Faults",
    "PlainStorage",
    "Writer",
    "by_hand",
    "content_of",
    "crash_files",
    "open_subject",
    "parts_of",
    "plain",
    "record_of",
    "request",
    "shared",
]

SUBJECTS = ("memory", "file", "sqlite", "adapter")


def open_subject(name: str, folder: Path) -> ManagedStorage:
    """A storage of a kind, for tests across kinds."""
    match name:
        case "file":
            return FileCheckpointStorage(folder / "checkpoints")
        case "memory":
            return InMemoryCheckpointStorage()
        case "sqlite":
            return SqliteCheckpointStorage(folder / "runs.db")
        case _:
            return PlainStorageAdapter(PlainStorage())


class PlainStorage:
    """The five methods and nothing else, as a user might write them."""

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


class Crash(BaseException):
    """The process ends here: no clean-up runs."""


class Faults:
    """Lets the file system call number `at` fail, and after a crash every later one.

    Args:
        patch: Puts itself between.
        error: What is raised.
        half: Whether a write that fails has written half of its data.
    """

    CALLS = ("_open", "_write", "_truncate", "_sync", "_replace", "_unlink", "_make_folder")

    def __init__(
        self, patch: pytest.MonkeyPatch, error: Callable[[], BaseException], half: bool = False
    ) -> None:
        self._error = error
        self._half = half
        self._lock = threading.Lock()
        self.at: int | None = None
        self.count = 0
        for name in self.CALLS:
            patch.setattr(_files, name, self._wrap(name, getattr(_files, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._lock:
                number = self.count
                self.count += 1
            if self.at is None or number < self.at:
                return real(*args)
            error = self._error()
            if number > self.at and not isinstance(error, Crash):
                return real(*args)
            if self._half and name == "_write":
                real(args[0], args[1][: len(args[1]) // 2])
            raise error

        return call

    def arm(self, at: int) -> None:
        self.at, self.count = at, 0

    def disarm(self) -> bool:
        """Let everything through again; return whether the fault came."""
        came = self.at is not None and self.count > self.at
        self.at = None
        return came


@contextlib.contextmanager
def crash_files(half: bool = False) -> Iterator[Faults]:
    """Have faults for the while of a `with`."""
    with pytest.MonkeyPatch.context() as patch:
        yield Faults(patch, Crash, half)
