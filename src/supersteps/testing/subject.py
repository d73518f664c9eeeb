"""`Subject`: the storage under test, shared by all topics."""

from __future__ import annotations

import asyncio
import functools
import inspect
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from supersteps.storage.plain.adapter import PlainStorageAdapter, as_durable
from supersteps.storage.ports import (
    CheckpointStorage,
    DurableStorage,
    ManagedStorage,
    capabilities_of,
    is_managed,
)
from supersteps.storage.queue import has_queue
from supersteps.testing.writer import Clock

TEST_SECONDS = 60
"""Time limit of a test, in seconds."""

CAPABILITIES: Mapping[str, str] = {
    "durability": "saved data is there when the storage is reopened",
    "head": "a run's record (head, status, metadata, tags) is stored, and a restored head with it",
    "fence": "a writer that lost its run to another one with its own storage object is refused",
    "journal": "records of finished calls are there when the storage is reopened",
    "inbox": "accepted answers are there when the storage is reopened",
    "clock": "leases expire by the clock that is passed to open_storage",
    "isolation": "values passed in or returned are never the stored objects themselves",
    "protection": "save_checkpoint cannot overwrite committed checkpoints; bad values are refused",
    "management": "runs can be listed, pruned and verified (ManagedStorage)",
    "queue": "workers can take runs from it (WorkQueue)",
    "corruption": "damage is detected and named (needs the hook `damage`)",
    "crash points": "a crash leaves the state before or after (needs the hook `crash`)",
}
"""What a storage may lack, by name, with its meaning."""

PLAIN_LACKS = frozenset({"head", "fence", "journal", "inbox", "isolation", "protection"})
"""Capabilities that the five methods of `CheckpointStorage` cannot provide."""


def run_to_completion(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Wrap a coroutine test: its own event loop, a time limit, no unnoticed errors."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        unseen: list[str] = []

        async def limited() -> None:
            # Otherwise an exception that is never awaited would only be logged.
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(
                lambda _, c: unseen.append(f"{c['message']} ({c.get('exception')!r})")
            )
            async with asyncio.timeout(TEST_SECONDS):
                await test(*args, **kwargs)

        asyncio.run(limited())
        if unseen:
            pytest.fail("the event loop reported: " + "; ".join(unseen))

    return run


class Subject:
    """A storage under test. Tests may be coroutine functions, without a plug-in of pytest.

    Attributes:
        lacks: Capabilities (names of `CAPABILITIES`) that the storage does not have. Their tests
            are skipped.
        clock: The clock that is passed to the storage.
        folder: Its folder; a new one for each test.
        storage: The open storage.
    """

    lacks: ClassVar[Iterable[str]] = ()

    clock: Clock
    folder: Path
    storage: DurableStorage

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(member):
                setattr(cls, name, run_to_completion(member))

    # ------------------------------------------------------------------------- for subclasses

    def open_storage(self, folder: Path, clock: Clock) -> CheckpointStorage:
        """Open the storage in `folder`; called repeatedly, like by several processes.

        Args:
            folder: Empty at first; each test has its own.
            clock: The time for leases; a storage that does not accept a clock lacks "clock".
        """
        raise NotImplementedError(
            "define how to open the storage: def open_storage(self, folder, clock): return ..."
        )

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        """Optional: change a stored byte that only this checkpoint uses; the storage is closed.

        The checkpoint is the newest of its run and replaced the shared key "n".
        """
        raise NotImplementedError

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        """Optional: run `work` and crash, like a process, at its `point`-th write to the disk.

        Returns:
            Whether it crashed; False if it finished before that step.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------- for tests

    def setup_method(self) -> None:
        """Open a storage in a new folder."""
        self._temporary = tempfile.TemporaryDirectory(prefix="supersteps-contract-")
        self._root = Path(self._temporary.name)
        self._opened: list[DurableStorage] = []
        self.clock = Clock()
        try:
            self.elsewhere("main")
        except BaseException:
            self._temporary.cleanup()
            raise

    def teardown_method(self) -> None:
        """Close every storage that was opened and delete the folder."""
        try:
            asyncio.run(self._close())
        finally:
            self._temporary.cleanup()

    def elsewhere(self, name: str) -> None:
        """Switch to an empty storage in another folder."""
        self.folder = self._root / name
        self.folder.mkdir()
        self.storage = self._open()

    def reopen(self) -> DurableStorage:
        """Open the same storage again, like another process; the first one stays open."""
        return self.storage if "durability" in self.missing() else self._open()

    def missing(self) -> frozenset[str]:
        """Return the capabilities that the storage lacks, declared or detected."""
        unknown = set(self.lacks) - CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"lacks = {sorted(unknown)}: there are only {', '.join(CAPABILITIES)}")
        found = set(self.lacks)
        if capabilities_of(self.storage).missing:
            found |= PLAIN_LACKS
        if not is_managed(self.storage):
            found.add("management")
        if not has_queue(self.storage):
            found.add("queue")
        if type(self).damage is Subject.damage:
            found.add("corruption")
        if type(self).crash is Subject.crash:
            found.add("crash points")
        return frozenset(found)

    def needs(self, *capabilities: str) -> None:
        """Skip a test of capabilities that this storage does not promise."""
        for capability in capabilities:
            if capability in self.missing():
                name = getattr(self.storage, "storage", self.storage)
                pytest.skip(
                    f"{type(name).__name__} lacks {capability!r}: {CAPABILITIES[capability]}"
                )

    def managed(self, storage: DurableStorage | None = None) -> ManagedStorage:
        """Return the storage as a `ManagedStorage`, or skip the test."""
        self.needs("management")
        storage = storage or self.storage
        assert is_managed(storage)
        return storage

    async def close(self) -> None:
        """Close every storage that was opened; they may be used again."""
        await self._close()

    async def _close(self) -> None:
        for storage in self._opened:
            await storage.aclose()

    def _open(self) -> DurableStorage:
        storage = self.open_storage(self.folder, self.clock)
        durable = as_durable(storage)
        if durable is not storage:
            durable = PlainStorageAdapter(storage, clock=self.clock)
        self._opened.append(durable)
        return durable
