"""The ports of storage: the protocols that storages implement.

- `CheckpointStorage` has five methods for whole checkpoints. Any class that has them works, through
  an adapter that says which guarantees are missing. Implement it if in doubt.
- `DurableStorage` is what the engine needs: one atomic commit per superstep with only the changes,
  fenced by an epoch, with a journal of finished calls and an inbox of accepted answers.
- `ManagedStorage` adds the upkeep of runs: listing, pruning, verification.
- `Capabilities` say what else a storage can do.

Storages are safe to use from several event loops, threads and (if they write outside the process)
processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, TypeAlias, TypeGuard, runtime_checkable

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.storage.listings import RunFilter
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy


@runtime_checkable
class CheckpointStorage(Protocol):
    """A storage of whole checkpoints: the smallest interface for a storage of your own."""

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint and return its id; raise if it cannot be saved."""
        ...

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None if there is none with this id."""
        ...

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        """Return the ids of the checkpoints, oldest first."""
        ...

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        """Return the checkpoints, oldest first."""
        ...

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; return whether it existed."""
        ...


@runtime_checkable
class DurableStorage(CheckpointStorage, Protocol):
    """A storage that keeps all guarantees of the library.

    If a storage cannot do what a method asks, the method raises `StorageError` (or a more specific
    `CheckpointError`) and changes nothing. A method that needs a run raises `RunNotFoundError` if
    there is none with the given id.

    A run id may come to mean another run: if the run is deleted and a new one is started under its
    id. So a caller that has read a run passes the `incarnation` of its record. If the present run
    is another one, methods that write raise `RunFencedError`, and methods that read find nothing.
    None means the present run.
    """

    codec: Codec
    """Types registered here are rebuilt on load, for every workflow that uses the storage."""

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint directly; it does not become part of a run's lineage.

        Returns:
            Its id. An earlier one that was saved directly under this id is replaced.

        Raises:
            CheckpointEncodeError: It contains a value that cannot be saved.
            StorageError: A run has committed a different checkpoint under this id.
        """
        ...

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None if there is none with this id; it is decoded when needed.

        Raises:
            CorruptCheckpointError: It is damaged.
            CheckpointVersionError: A newer version of the library wrote it.
        """
        ...

    async def list_checkpoint_ids(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[str]:
        """Return the ids of the checkpoints, all or of one workflow or run, oldest first."""
        ...

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        """Return the checkpoints, all or of one workflow or run, oldest first.

        Each is decoded when its content is needed. A damaged one is skipped with a
        `CorruptCheckpointWarning`.
        """
        ...

    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run's record, None if there is no such run."""
        ...

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for this request (after a fork there may be several)."""
        ...

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a committed checkpoint, encoded, None if there is none with this id.

        Raises:
            CorruptCheckpointError: It is damaged; the message names the nearest intact checkpoint
                before it.
            CheckpointVersionError: A newer version of the library wrote it.
        """
        ...

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return a checkpoint and its ancestors, oldest first, at most the newest `limit`.

        It is empty if there is no such checkpoint. Deleted and pruned checkpoints are not in it;
        later ones follow earlier ones directly.
        """
        ...

    async def commit(self, commit: Commit) -> int | None:
        """Write a checkpoint and make it the run's head, in one durable transaction.

        A commit without parent creates the run and acquires its lease. A commit that is already the
        head (its reply was lost) succeeds. Entries of the journal belong to the old head and are
        void afterwards.

        Returns:
            The number of the newest entry in the run's inbox, 0 if there is none or no question
            waits. None if it is unknown: then the inbox is read before the next superstep of a run
            with waiting questions.

        Raises:
            RunExistsError: The commit creates a run that exists.
            RunFencedError: The epoch or the head differs from the commit's; nothing was written.
        """
        ...

    async def acquire(
        self,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        *,
        incarnation: str | None = None,
        seen: Seen | None = None,
    ) -> RunRecord:
        """Acquire a run, with the next epoch.

        Args:
            run_id: The run.
            owner: The new owner.
            lease_seconds: How long the lease lasts, unless it is renewed.
            incarnation: The expected incarnation; None for the present one.
            seen: How `owner` has last seen the run; None to acquire it in any case. Compare it in
                the transaction that acquires the run, as `rules.take_run` does, so that an owner
                that has advanced the run meanwhile does not lose it.

        Raises:
            RunNotFoundError: There is no such run.
            RunFencedError: The run has moved on since it was seen; nothing was changed.
            RunBusyError: Another owner has a valid lease.
        """
        ...

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        """Renew the lease from now on.

        Raises:
            RunFencedError: The run was taken over.
        """
        ...

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        """Release the lease, and store a new status and the failure that ended the work, if any.

        Raises:
            RunFencedError: The run was taken over.
        """
        ...

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        """Make a checkpoint of the run its head, on a new branch; void its journal and inbox.

        Restoring to the head itself keeps the branch.

        Raises:
            RunFencedError: The run was taken over.
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        ...

    async def append_journal(
        self,
        run_id: str,
        epoch: int,
        head: str,
        records: Sequence[bytes],
        *,
        incarnation: str | None = None,
    ) -> None:
        """Append records of finished calls that follow the checkpoint `head`, durably and in order.

        Args:
            run_id: The run.
            epoch: The writer's fencing epoch.
            head: The checkpoint at whose barrier the calls started.
            records: A JSON value each, without line breaks.
            incarnation: The incarnation of the run; None for the present one.

        Raises:
            RunFencedError: The run was taken over, or its head has moved.
        """
        ...

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        """Return the records that follow `head`, in order; without an incomplete last one."""
        ...

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        """Drop the records that follow the head.

        Raises:
            RunFencedError: The run was taken over.
        """
        ...

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        """Add answers (request id, encoded value) to the run's inbox durably, all or none.

        Raises:
            RunNotFoundError: There is no such run.
            RunFencedError: The run has another incarnation.
            UnknownRequestError: The head does not wait for one of the requests.
            AlreadyAnsweredError: The inbox already has an answer for one of them.
        """
        ...

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        """Return the answers that no commit has consumed and no restore has dropped, in order."""
        ...

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; return whether it existed.

        If it was the head of its run, the nearest remaining ancestor becomes the head, as by
        `move_head`; a run without checkpoints is deleted. The parent of its children becomes its
        own parent (see `rules.new_parents`), so that every lineage is complete.
        """
        ...

    async def delete_run(self, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it existed."""
        ...

    async def aclose(self) -> None:
        """Finish running operations and release files and threads.

        The storage may be used again afterwards.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class AsyncClosing:
    """`async with` for the built-in storages: the end of the block closes."""

    async def aclose(self) -> None:
        """Finish running operations and release files and threads.

        The storage may be used again afterwards.
        """
        self.note_closed()

    def note_closed(self) -> None:
        """Call the functions of `when_closed`; each `aclose` does this."""
        for forget in self.__dict__.pop("_when_closed", ()):
            forget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def when_closed(storage: object, forget: Callable[[], None]) -> None:
    """Call a function once a storage, or the storage that it wraps, is closed.

    The function is never called for storages that are not an `AsyncClosing`.
    """
    while isinstance(storage, AsyncClosing):
        storage.__dict__.setdefault("_when_closed", []).append(forget)
        storage = getattr(storage, "storage", None)


@runtime_checkable
class BackupStorage(Protocol):
    """A storage that can be copied as a whole while it is in use."""

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of everything, in its state at one moment.

        Args:
            target: A file for a database, a folder for files.

        Returns:
            The size of the copy in bytes.

        Raises:
            StorageError: It cannot be written there.
        """
        ...


@runtime_checkable
class ManagedStorage(DurableStorage, Protocol):
    """A durable storage with upkeep: its runs can be listed, pruned and verified."""

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        """Return the runs that match a filter, the newest (by creation) first.

        A damaged one is skipped with a `CorruptCheckpointWarning`.

        Raises:
            RunNotFoundError: There is no run `wanted.before`.
        """
        ...

    async def list_runs(
        self,
        workflow_id: str | None = None,
        status: str | None = None,
        tag: str | None = None,
        limit: int = 50,
        before: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[RunRecord]:
        """Return runs, the newest (by creation) first, that match all filters.

        A storage of your own inherits this method from its base class `ManagedStorage`.

        Args:
            workflow_id: Only runs of this workflow.
            status: Only runs with this `WorkflowRunState`.
            tag: Only runs with this label.
            limit: Maximum number of runs.
            before: Id of the last run of the previous page; only older runs.
            since: Only runs that were started at this time (with a time zone) or later.
            until: Only runs that were started before this time.

        Raises:
            RunNotFoundError: There is no run `before`.
            ValueError: `limit` is negative, or a time has no time zone.
        """
        return await self.find_runs(
            RunFilter(
                workflow_id=workflow_id,
                status=status,
                tag=tag,
                limit=limit,
                before=before,
                since=since,
                until=until,
            )
        )

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        """Return the headers of all checkpoints of a run, on every branch, in commit order.

        A damaged one is skipped with a `CorruptCheckpointWarning`.
        """
        ...

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        """Delete the checkpoints that a policy removes, and what only they need.

        Retained checkpoints whose parent is deleted follow its nearest retained ancestor. An owner
        that is advancing the run is not disturbed, and the head is always retained.

        Args:
            run_id: The run.
            policy: What to keep; see `retention.plan_pruning`.
            dry_run: Delete nothing, only return what would be deleted.

        Returns:
            Ids of the deleted checkpoints, oldest first.

        Raises:
            RunNotFoundError: There is no such run.
        """
        ...

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        """Read everything, of one run or of all, and check all hashes; return the damage."""
        ...

    async def vacuum(self) -> None:
        """Return unused space to the file system."""
        ...


# ------------------------------------------------------------------------------------ capabilities


LineageReader: TypeAlias = Callable[[str, int], list[CheckpointInfo]]
"""Returns what `list_lineage` returns, synchronously."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a storage: its address, and what it can do besides `DurableStorage`.

    A storage has them as the attribute `capabilities`. A wrapper has those of the storage inside,
    changed by `msgspec.structs.replace` if it differs. For storages without them, their methods
    count.

    Attributes:
        address: What opens it from any folder, with `open_storage` or `--store`; None if nothing
            does.
        is_permanent: Whether runs outlive the process.
        can_manage: Whether it has the methods of `ManagedStorage`, and they work.
        can_back_up: The same for `BackupStorage`.
        can_queue: Whether workers can take runs from it: it has the methods of `WorkQueue`
            (`storage/queue.py`), and they work.
        can_read_lineage: Whether it has a method `read_lineage`, a `LineageReader`. Then a run is
            opened without its lineage, which is read for `run.checkpoints`. Offer it in a storage
            that can be read without an event loop; without it, the lineage is read whenever a run
            is opened.
        missing: The missing guarantees of this storage, one sentence for each.
    """

    address: str | None = None
    is_permanent: bool = True
    can_manage: bool = False
    can_back_up: bool = False
    can_queue: bool = False
    can_read_lineage: bool = False
    missing: tuple[str, ...] = ()


def capabilities_of(storage: object) -> Capabilities:
    """Return a storage's capabilities, or derive them from its methods."""
    said = getattr(storage, "capabilities", None)
    if isinstance(said, Capabilities):
        return said
    return Capabilities(
        can_manage=all(hasattr(storage, name) for name in _MANAGED),
        can_back_up=hasattr(storage, "backup"),
        can_queue=hasattr(storage, "claim_runs") and hasattr(storage, "put_back"),
        can_read_lineage=hasattr(storage, "read_lineage"),
    )


def name_of(storage: object) -> str:
    """Return a storage's class and its address, if it has one, for messages."""
    name, address = type(storage).__name__, capabilities_of(storage).address
    return name if address is None else f"{name} ({address})"


def _members_of(*ports: type) -> frozenset[str]:
    members = {name for port in ports for name in {**vars(port), **port.__annotations__}}
    return frozenset(name for name in members if not name.startswith("_"))


_DURABLE = _members_of(CheckpointStorage, DurableStorage)
_MANAGED = _members_of(CheckpointStorage, DurableStorage, ManagedStorage)

# Since Python 3.12, `isinstance` does not see what a wrapper passes on by `__getattr__`.


def is_durable(storage: object) -> TypeGuard[DurableStorage]:
    """Return whether a storage has all methods of `DurableStorage`, its own or passed on."""
    return all(hasattr(storage, name) for name in _DURABLE)


def is_managed(storage: object) -> TypeGuard[ManagedStorage]:
    """Return whether the runs of a storage can be listed, pruned and verified."""
    return capabilities_of(storage).can_manage


def has_backup(storage: object) -> TypeGuard[BackupStorage]:
    """Return whether a storage can be backed up as a whole."""
    return capabilities_of(storage).can_back_up


def lineage_reader(storage: object) -> LineageReader | None:
    """Return a storage's method `read_lineage`, None if it has none."""
    if not capabilities_of(storage).can_read_lineage:
        return None
    reader: LineageReader | None = getattr(storage, "read_lineage", None)
    return reader
