"""`FileCheckpointStorage`: one readable JSON file per checkpoint."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CorruptCheckpointWarning
from supersteps.storage import rules
from supersteps.storage._bell import Bell
from supersteps.storage._paths import settled_path
from supersteps.storage._workers import Workers
from supersteps.storage.answers import Answering
from supersteps.storage.claims import Claim, Claimed
from supersteps.storage.files import removal, verification
from supersteps.storage.files.backup import Backup
from supersteps.storage.files.folder import CheckpointFolder
from supersteps.storage.files.queue import FolderQueue
from supersteps.storage.listings import RunFilter
from supersteps.storage.ports import AsyncClosing, Capabilities, ManagedStorage
from supersteps.storage.queue import WorkQueue
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy

_THREADS = 16
"""Number of threads: commits of different runs wait for the disk concurrently."""


class FileCheckpointStorage(Answering, AsyncClosing, ManagedStorage, WorkQueue):
    """Keeps checkpoints as JSON files in a folder.

    Use it where people should be able to read the files, or other tools process them; for many or
    large checkpoints, `SqliteCheckpointStorage` is faster. It is safe across threads, event loops
    and processes of one machine.

    To copy the storage, copy the whole folder: the checkpoints' files need the folder `runs`. For
    each method, see the ports: `ManagedStorage` and `BackupStorage`.

    Args:
        storage_path: The folder. It is created, readable only by its owner, when something is
            saved. When the storage is created, `~` is expanded, symbolic links are followed, and
            the path is made absolute.
        codec: Encodes and decodes values; types registered with it are rebuilt on load.
        clock: Returns the present time for leases, in Unix seconds.

    Attributes:
        storage_path: The folder, as an absolute path.
        codec: The codec.
        capabilities: Where it is, and what it can do.
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str],
        codec: Codec | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.storage_path = settled_path(storage_path, "FileCheckpointStorage")
        self.codec = codec if codec is not None else Codec()
        self.capabilities = Capabilities(
            address=str(self.storage_path),
            can_manage=True,
            can_back_up=True,
            can_queue=True,
            can_read_lineage=True,
        )
        self._clock = clock
        self._folder = CheckpointFolder(self.storage_path, clock)
        self._queue = FolderQueue(self._folder)
        self._bell = Bell()
        self._workers = Workers("supersteps-files", _THREADS)

    def __copy__(self) -> Self:
        return (
            self  # a storage is a place: copies of objects that refer to it refer to the same one
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickle the path, so that another process opens the same folder."""
        return type(self), (self.storage_path, self.codec)

    async def aclose(self) -> None:
        await self._workers.aclose()
        self.note_closed()

    # ---------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        record = checkpoint.to_record(self.codec)
        rules.check_saved(record.header)
        await self._workers.run(self._folder.save, record)
        return record.header.checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        record = await self.load_record(checkpoint_id)
        return (
            WorkflowCheckpoint.from_record(record.header, lambda: record.parts, self.codec)
            if record
            else None
        )

    async def list_checkpoint_ids(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[str]:
        return [header.checkpoint_id for header in await self._list(workflow_id, run_id)]

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        return [
            WorkflowCheckpoint.from_record(
                header, partial(self._folder.read_parts, header), self.codec
            )
            for header in await self._list(workflow_id, run_id)
        ]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return await self._workers.run(removal.delete_checkpoint, self._folder, checkpoint_id)

    # ----------------------------------------------------------------------------- runs and commits

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._workers.run(self._folder.run(run_id).peek)

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return [run for run in await self._list_runs() if request_id in run.requests]

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        return await self._workers.run(self._folder.load, checkpoint_id)

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        lineage, problems = await self._workers.run(self._folder.list_lineage, checkpoint_id, limit)
        _warn(problems)
        return [header.info for header in lineage]

    def read_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return what `list_lineage` returns, synchronously, waiting for the disk."""
        lineage, problems = self._folder.list_lineage(checkpoint_id, limit)
        _warn(problems)
        return [header.info for header in lineage]

    async def commit(self, commit: Commit) -> int | None:
        """Write a checkpoint and make it the run's head durably.

        Returns the number of the run's newest answer.

        Raises:
            RunExistsError: The commit creates a run that exists.
            RunNotFoundError: The run was deleted in the meantime.
            RunFencedError: The epoch or the head differs from the commit's; nothing was written.
            StorageError: The files cannot be written. The head is unchanged, unless only the last
                sync failed.
        """
        newest = await self._workers.run(self._folder.commit, commit)
        if commit.queue is not None:
            await self._tell(is_first=True)
        return newest

    async def acquire(
        self,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        *,
        incarnation: str | None = None,
        seen: Seen | None = None,
    ) -> RunRecord:
        return await self._workers.run(
            self._folder.acquire,
            run_id,
            lambda run: rules.limit_lease(run, self._clock()),
            lambda run: rules.take_run(run, owner, self._clock(), lease_seconds, seen),
            incarnation,
        )

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        await self._workers.run(
            self._folder.update,
            run_id,
            epoch,
            lambda run: rules.renew_lease(run, self._clock(), lease_seconds),
            incarnation,
        )

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        await self._workers.run(
            self._folder.update,
            run_id,
            epoch,
            lambda run: rules.release_run(run, status, error),
            incarnation,
        )

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        return await self._workers.run(
            self._folder.move_head, run_id, epoch, checkpoint_id, incarnation
        )

    async def delete_run(self, run_id: str) -> bool:
        return await self._workers.run(removal.delete_run, self._folder, run_id)

    # -------------------------------------------------------------------------------- looking after

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        """See the port. Reads the record of every run."""
        last = None if wanted.before is None else await self.get_run(wanted.before)
        return rules.page_of_runs(await self._list_runs(), wanted, last)

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        headers, problems = await self._workers.run(self._folder.list_run, run_id)
        _warn(problems)
        return headers

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        """Delete the checkpoints that a policy removes; return their ids, oldest first.

        Raises:
            RunNotFoundError: There is no such run.
            StorageError: The files cannot be written or deleted; the folder is consistent, prune
                again.
        """
        gone, problems = await self._workers.run(
            removal.prune, self._folder, run_id, policy, dry_run
        )
        _warn(problems)
        return gone

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        return await self._workers.run(verification.verify, self._folder, run_id)

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of the folder, with each run in its state at one moment.

        Runs may continue meanwhile. The copy gets its name once it is complete.

        Args:
            target: The folder, which must not exist or be empty.

        Returns:
            The size of its files in bytes.

        Raises:
            StorageError: It cannot be written, or the target exists.
        """
        place = settled_path(target, "a backup")
        return await self._workers.run(Backup(self._folder, self.storage_path, place).make)

    async def vacuum(self) -> None:
        """Delete leftovers of interrupted writes and deletions."""
        _warn(await self._workers.run(removal.vacuum, self._folder))

    # ---------------------------------------------------------------------------- journal and inbox

    async def append_journal(
        self,
        run_id: str,
        epoch: int,
        head: str,
        records: Sequence[bytes],
        *,
        incarnation: str | None = None,
    ) -> None:
        await self._workers.run(
            self._folder.append_journal, run_id, epoch, head, records, incarnation
        )

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        return await self._workers.run(self._folder.run(run_id).read_journal, head, incarnation)

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        await self._workers.run(self._folder.discard_journal, run_id, epoch, incarnation)

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        entries = await self._workers.run(self._folder.add_answers, run_id, answers, incarnation)
        await self._tell()
        return entries

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        return await self._workers.run(self._folder.read_inbox, run_id, incarnation)

    # --------------------------------------------------------------------------------- for workers

    async def claim_runs(self, claim: Claim) -> Claimed:
        return await self._workers.run(self._queue.claim, claim)

    async def put_back(
        self,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        *,
        incarnation: str | None = None,
    ) -> None:
        await self._workers.run(self._queue.put_back, run_id, epoch, ready_at, incarnation)
        await self._tell()

    async def enqueue(
        self, run_id: str, entry: QueueEntry, *, incarnation: str | None = None
    ) -> None:
        await self._workers.run(self._queue.enqueue, run_id, entry, incarnation)
        await self._tell(is_first=True)

    async def queue_entry(self, run_id: str) -> QueueEntry | None:
        return await self._workers.run(self._queue.entry_of, run_id)

    async def next_ready_at(
        self, workflow_ids: Sequence[str], queues: Sequence[str]
    ) -> float | None:
        return await self._workers.run(self._queue.next_ready_at, workflow_ids, queues)

    async def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        return await self._workers.run(self._queue.queued_workflows, queues)

    async def held_runs(self) -> list[RunRecord]:
        return await self._workers.run(self._queue.held_runs)

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        return await self._bell.wait_looking(self._queue.look, seen, seconds)

    async def _tell(self, *, is_first: bool = False) -> None:
        """Have those who wait look again, in this process and in others."""
        await self._workers.run(partial(self._queue.tell, is_first=is_first))
        self._bell.ring()

    # -------------------------------------------------------------------------------------- reading

    async def _list(self, workflow_id: str | None, run_id: str | None) -> list[CheckpointHeader]:
        headers, problems = await self._workers.run(self._folder.list_headers, workflow_id, run_id)
        _warn(problems)
        return headers

    async def _list_runs(self) -> list[RunRecord]:
        found, problems = await self._workers.run(self._folder.list_runs)
        _warn(problems)
        return found


def _warn(problems: Iterable[str]) -> None:
    # Here and not on the thread that found them: warning filters and recorders belong to the
    # caller.
    for problem in problems:
        warnings.warn(problem, CorruptCheckpointWarning, stacklevel=4)
