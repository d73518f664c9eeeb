"""What all topics of the contract share: the storage under test, opened and reopened, and what it does not promise."""

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
from supersteps.testing.writer import Clock

TEST_SECONDS = 60
"""No test can hang."""

CAPABILITIES: Mapping[str, str] = {
    "durability": "what was saved is there when the storage is opened again",
    "head": "a run's record (head, status, metadata, tags) is stored, and a restored head with it",
    "fence": "a writer is refused that lost its run to one who opened the storage separately",
    "journal": "records of finished calls are there when the storage is opened again",
    "inbox": "accepted answers are there when the storage is opened again",
    "clock": "leases expire by the clock that is passed to open_storage",
    "isolation": "nothing that is handed in or out is the stored object itself",
    "protection": "what a run has committed cannot be overwritten by hand, and what cannot be kept is refused",
    "management": "runs can be listed, thinned out and checked (ManagedStorage)",
    "corruption": "damage is noticed and named (needs the hook `damage`)",
    "crash points": "a death at any moment leaves the state before or after (needs the hook `crash`)",
}
"""What a storage may lack, by name, and what it means to have it."""

PLAIN_LACKS = frozenset({"head", "fence", "journal", "inbox", "isolation", "protection"})
"""What no storage with only the five methods of `CheckpointStorage` can have."""


def run_to_completion(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a plain test of a coroutine function: an event loop of its own, a time limit, no error unseen."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        unseen: list[str] = []

        async def limited() -> None:
            # Else an exception that no one awaits would only be a line in a log.
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
    """A storage under test. Tests of a subclass may be coroutine functions; no plug-in of pytest is needed.

    Attributes:
        lacks: Capabilities (names of `CAPABILITIES`) that the storage does not have. Their tests
            are skipped, by name.
        clock: The time that the storage is given.
        folder: Where it may write; a fresh one for each test.
        storage: The storage, open.
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

    # ------------------------------------------------------------------------- what a subclass says

    def open_storage(self, folder: Path, clock: Clock) -> CheckpointStorage:
        """Open the storage that lives in `folder`; called several times for one folder, as by several processes.

        Args:
            folder: Empty at first; each test has its own.
            clock: The time by which leases are to expire; a storage that cannot be given one lacks
                "clock".
        """
        raise NotImplementedError(
            "say how the storage is opened: def open_storage(self, folder, clock): return ..."
        )

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        """Change a byte of what is stored of a checkpoint alone; the storage is closed. Optional.

        The checkpoint is the newest of its run and replaced the shared key "n".
        """
        raise NotImplementedError

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        """Run `work` and let it die, as a process dies, at its `point`-th step towards the disk. Optional.

        Returns:
            Whether it died; False when it came to its end before that step.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------- what tests use

    def setup_method(self) -> None:
        """Open a storage in a folder of its own."""
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
        """Go on with an empty storage in another folder."""
        self.folder = self._root / name
        self.folder.mkdir()
        self.storage = self._open()

    def reopen(self) -> DurableStorage:
        """Return the same storage as another process would see it; the first one stays open."""
        return self.storage if "durability" in self.missing() else self._open()

    def missing(self) -> frozenset[str]:
        """Return the capabilities that the storage does not have, as declared and as found."""
        unknown = set(self.lacks) - CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"lacks = {sorted(unknown)}: there are only {', '.join(CAPABILITIES)}")
        found = set(self.lacks)
        if capabilities_of(self.storage).missing:
            found |= PLAIN_LACKS
        if not is_managed(self.storage):
            found.add("management")
        if type(self).damage is Subject.damage:
            found.add("corruption")
        if type(self).crash is Subject.crash:
            found.add("crash points")
        return frozenset(found)

    def needs(self, *capabilities: str) -> None:
        """Skip a test of something that this storage does not promise."""
        for capability in capabilities:
            if capability in self.missing():
                name = getattr(self.storage, "storage", self.storage)
                pytest.skip(
                    f"{type(name).__name__} lacks {capability!r}: {CAPABILITIES[capability]}"
                )

    def managed(self, storage: DurableStorage | None = None) -> ManagedStorage:
        """Return the storage as one that can be looked after, or skip the test."""
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
