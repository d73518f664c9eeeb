"""`WorkQueue`: the port of storages from which workers take runs.

A run gets its place in the queue with the commit that creates it (`Commit.queue`), or by
`enqueue`. What is in it, and who gets what, is a `QueueEntry` and the rules of `claims`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import StorageError
from supersteps.storage.claims import Claim, Claimed
from supersteps.storage.ports import DurableStorage, capabilities_of, name_of
from supersteps.storage.records import RunRecord

_PAUSE_SECONDS = 0.004
"""Between two looks, at least: in a busy storage something changes all the time."""


@runtime_checkable
class WorkQueue(DurableStorage, Protocol):
    """A durable storage from which workers take runs; its `Capabilities` say `can_queue`.

    Besides the methods here, a commit that creates a run stores its `Commit.queue`, an accepted
    answer and a moved head make a run ready that is in the queue, and deleting a run deletes its
    entry.
    """

    async def claim_runs(self, claim: Claim) -> Claimed:
        """Take runs for a worker, in one transaction.

        What a live owner holds is never taken.
        """
        ...

    async def put_back(
        self,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        *,
        incarnation: str | None = None,
    ) -> None:
        """Give a claimed run back: its lease is released, and it is ready again at a time.

        Args:
            run_id: The run.
            epoch: The epoch under which it was claimed.
            ready_at: From when on a worker may take it, in Unix seconds; None if only something
                from outside makes it ready. A run with an answer that waits is ready at once, and
                one that is done, failed or cancelled never is.
            incarnation: Which run of this id is meant.

        Raises:
            RunNotFoundError: There is no such run.
            RunFencedError: The run was taken over.
        """
        ...

    async def enqueue(
        self, run_id: str, entry: QueueEntry, *, incarnation: str | None = None
    ) -> None:
        """Give a run its place in the queue, or another one.

        Raises:
            RunNotFoundError: There is no such run.
        """
        ...

    async def queue_entry(self, run_id: str) -> QueueEntry | None:
        """Return a run's place in the queue, None when there is no such run or it has none."""
        ...

    async def next_ready_at(
        self, workflow_ids: Sequence[str], queues: Sequence[str]
    ) -> float | None:
        """Return when the first run of these is ready, in Unix seconds; None when none will be."""
        ...

    async def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        """Return the workflows of runs that are ready in these queues, now or later."""
        ...

    async def held_runs(self) -> list[RunRecord]:
        """Return the runs that have a lease, whether or not it still holds."""
        ...

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        """Wait until something may have changed, at most for some seconds.

        Look again afterwards, also when the time is up: a change by another process is noticed
        only where a cheap check can show it.

        Args:
            seen: What an earlier call returned, so that a change since then is not missed; None to
                get a first mark at once.
            seconds: For how many seconds to wait at most.

        Returns:
            A mark, for the next call.
        """
        ...


def has_queue(storage: object) -> TypeGuard[WorkQueue]:
    """Return whether workers can take runs from a storage."""
    return capabilities_of(storage).can_queue


def queue_of(storage: DurableStorage) -> WorkQueue:
    """Return a storage as one from which workers take runs.

    Raises:
        StorageError: It cannot do that.
    """
    if has_queue(storage):
        return storage
    raise StorageError(
        f"{name_of(storage)} has no queue from which workers could take runs. Use "
        "SqliteCheckpointStorage, FileCheckpointStorage or InMemoryCheckpointStorage, also inside "
        "an EncryptedStorage; or drive the run in this process: workflow.run()."
    )


async def until_changed(storage: DurableStorage, mark: object, seconds: float) -> object:
    """Wait until something may have changed in any storage, at most for some seconds.

    Args:
        storage: The storage.
        mark: What the call before returned; None for the first one, which does not wait.
        seconds: For how many seconds to wait at most; where there is no queue, for how many.

    Returns:
        A mark, for the next call.
    """
    if has_queue(storage):
        if mark is not None:
            await asyncio.sleep(min(_PAUSE_SECONDS, seconds))
        return await storage.wait_for_change(mark, seconds)
    if mark is not None:
        await asyncio.sleep(seconds)
    return ()
