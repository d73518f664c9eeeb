"""The ports of storage: what the engine and people want of one.

`CheckpointStorage` has five methods over whole checkpoints; any class that has them works, through
an adapter that says what is missing. `DurableStorage` is what the engine drives: one atomic commit
per superstep of just what changed, fenced by an epoch, with a journal of finished calls and an
inbox of accepted answers. `ManagedStorage` adds what looks after runs. What else a storage says of
itself is its `Capabilities`. Storages are safe to use from several event loops, threads and, where
they write outside the process, processes.
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
from supersteps.storage.records import Damage, InboxEntry, RunRecord
from supersteps.storage.retention import RetentionPolicy


@runtime_checkable
class CheckpointStorage(Protocol):
    """A place for whole checkpoints."""

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint and return its id; raise rather than lose it."""
        ...

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None when there is none with this id."""
        ...

    async def list_checkpoint_ids(self, workflow_id: str | None = None) -> list[str]:
        """Return the ids of the checkpoints, oldest first."""
        ...

    async def list_checkpoints(self, workflow_id: str | None = None) -> list[WorkflowCheckpoint]:
        """Return the checkpoints, oldest first."""
        ...

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; return whether it was there."""
        ...


@runtime_checkable
class DurableStorage(CheckpointStorage, Protocol):
    """A storage that keeps every promise of the library.

    All methods raise `StorageError` (or a subclass of `CheckpointError` that says more) when the
    storage cannot do what is asked; none changes anything in that case. A method that needs a run
    raises `RunNotFoundError` where there is none with the given id.

    A run id may come to mean another run: somebody deletes the run and starts one anew under its
    id. Whoever has looked at a run before passes the `incarnation` of its record. When the run that
    is there is another one, methods that write raise `RunFencedError`, and methods that read find
    nothing. None stands for whichever run is there.
    """

    codec: Codec
    """Types registered here are rebuilt on load, for every workflow that uses this storage."""

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint by hand; it does not become part of any run's lineage.

        Returns:
            Its id. An earlier one that was saved by hand under this id is replaced.

        Raises:
            CheckpointEncodeError: It holds a value that cannot be saved.
            StorageError: A run has committed a different checkpoint under this id.
        """
        ...

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None when there is none with this id; it is decoded when needed.

        Raises:
            CorruptCheckpointError: It is damaged.
            CheckpointVersionError: A newer library wrote it.
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

        Each is decoded when its content is needed. A damaged one is passed over with a
        `CorruptCheckpointWarning`.
        """
        ...

    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run's record, None when there is no such run."""
        ...

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for this request (after a fork there may be several)."""
        ...

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a committed checkpoint, encoded, None when there is none with this id.

        Raises:
            CorruptCheckpointError: It is damaged; the message names the nearest intact checkpoint
                before it.
            CheckpointVersionError: A newer library wrote it.
        """
        ...

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return a checkpoint and its ancestors, oldest first, at most the newest `limit`.

        It is empty when there is no such checkpoint. Checkpoints that were deleted or pruned are
        not in it; those after them follow those before them.
        """
        ...

    async def commit(self, commit: Commit) -> int | None:
        """Write a checkpoint and make it the run's head, in one transaction, durably.

        A commit without parent creates the run and takes its lease. A commit that is already the
        head (its reply was lost) is a success. Entries of the journal belong to the old head and
        are void afterwards.

        Returns:
            The number of the newest entry that is left in the run's inbox, 0 where none is or no
            question waits. None if in doubt: then the inbox is read before the next superstep of a
            run whose questions wait.

        Raises:
            RunExistsError: The commit creates a run that exists.
            RunFencedError: The epoch or the head is not what the commit says; nothing was written.
        """
        ...

    async def acquire(
        self, run_id: str, owner: Owner, lease_seconds: float, *, incarnation: str | None = None
    ) -> RunRecord:
        """Take a run under the next epoch.

        Raises:
            RunNotFoundError: There is no such run.
            RunBusyError: Another owner's lease holds.
        """
        ...

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        """Extend the lease from now.

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
        """Give the lease up, and note a new status and the failure that ended the work, if any.

        Raises:
            RunFencedError: The run was taken over.
        """
        ...

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        """Make a checkpoint of the run its head again, on a new branch; void its journal and inbox.

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
        """Add records of finished calls that follow the checkpoint `head`, durably and in order.

        Args:
            run_id: The run.
            epoch: The writer's fencing epoch.
            head: The checkpoint at whose barrier the calls began.
            records: One JSON value each, without line breaks.
            incarnation: Which run of this id is meant.

        Raises:
            RunFencedError: The run was taken over, or its head has moved.
        """
        ...

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        """Return the records that follow `head`, in order; a torn last one is left out."""
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
        """Put answers (request id, encoded value) into the run's inbox, all or none, durably.

        Raises:
            RunNotFoundError: There is no such run.
            RunFencedError: It is another incarnation of it.
            UnknownRequestError: The head does not wait for one of the requests.
            AlreadyAnsweredError: The inbox has an answer for one of them.
        """
        ...

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        """Return the answers that no commit has consumed and no restore has dropped, in order."""
        ...

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; return whether it was there.

        When it was the head of its run, the nearest remaining ancestor becomes the head, as by
        `move_head`; a run without checkpoints is deleted. Checkpoints that followed it follow its
        own parent from then on (see `rules.new_parents`), so that every lineage leads somewhere.
        """
        ...

    async def delete_run(self, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it was there."""
        ...

    async def aclose(self) -> None:
        """Finish what is under way and let files and threads go.

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
    """`async with` for the built-in storages: leaving the block closes."""

    async def aclose(self) -> None:
        """Finish what is under way and let files and threads go.

        The storage may be used again afterwards.
        """
        self.note_closed()

    def note_closed(self) -> None:
        """Tell whoever asked by `when_closed`; each `aclose` does so."""
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
    """Have a function called once a storage is closed, or the one that it wraps.

    Storages that are not an `AsyncClosing` do not tell.
    """
    while isinstance(storage, AsyncClosing):
        storage.__dict__.setdefault("_when_closed", []).append(forget)
        storage = getattr(storage, "storage", None)


@runtime_checkable
class BackupStorage(Protocol):
    """A storage that can be copied as a whole while it is in use."""

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of everything, as it is at one moment.

        Args:
            target: Where: a file for a database, a folder for files.

        Returns:
            How many bytes the copy has.

        Raises:
            StorageError: It cannot be written there.
        """
        ...


@runtime_checkable
class ManagedStorage(DurableStorage, Protocol):
    """A durable storage that can also be looked after: its runs listed, thinned out and checked."""

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        """Return the runs that a filter admits, the newest (by creation) first.

        A damaged one is passed over with a `CorruptCheckpointWarning`.

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
        """Return runs, the newest (by creation) first; all filters have to admit a run.

        A storage of your own has this method if its class names `ManagedStorage` as a base.

        Args:
            workflow_id: Only runs of this workflow.
            status: Only runs with this `WorkflowRunState`.
            tag: Only runs with this label.
            limit: Maximum number of runs.
            before: Id of the last run of the page before; only older ones.
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

        A damaged one is passed over with a `CorruptCheckpointWarning`.
        """
        ...

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        """Remove the checkpoints that a policy lets go, and what only they needed.

        Those that stay and followed one that goes follow its nearest ancestor that stays. Whoever
        advances the run is not disturbed, and its head stays.

        Args:
            run_id: The run.
            policy: What to keep; see `retention.plan_pruning`.
            dry_run: Remove nothing, just say what would go.

        Returns:
            Ids of the checkpoints that went (or would), oldest first.

        Raises:
            RunNotFoundError: There is no such run.
        """
        ...

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        """Read everything (of one run, or of all) and check every hash; return what is damaged."""
        ...

    async def vacuum(self) -> None:
        """Give space that is no longer used back to the file system."""
        ...


# ------------------------------------------------------------------------------------ capabilities


LineageReader: TypeAlias = Callable[[str, int], list[CheckpointInfo]]
"""Returns what `list_lineage` returns, read on the calling thread, which waits for it."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a storage says of itself: where it is, and what it can do besides `DurableStorage`.

    A storage gives it as the attribute `capabilities`, a wrapper that of the storage inside,
    changed by `msgspec.structs.replace` where it differs. Of other storages their methods tell.

    Attributes:
        address: What opens it from any folder, by `open_storage` or `--store`; None where nothing
            does.
        is_permanent: Whether runs outlive the process.
        can_manage: Whether it has the methods of `ManagedStorage`, and they work.
        can_back_up: The same of `BackupStorage`.
        can_read_lineage: Whether it has a method `read_lineage`, which is a `LineageReader`. A run
            is then opened without its lineage, which is read for `run.checkpoints`. Offer it in a
            storage that can be read without an event loop; without it the lineage is read whenever
            a run is opened.
        missing: What is not guaranteed with this storage, a sentence for each.
    """

    address: str | None = None
    is_permanent: bool = True
    can_manage: bool = False
    can_back_up: bool = False
    can_read_lineage: bool = False
    missing: tuple[str, ...] = ()


def capabilities_of(storage: object) -> Capabilities:
    """Return what a storage says of itself, else what its methods tell."""
    said = getattr(storage, "capabilities", None)
    if isinstance(said, Capabilities):
        return said
    return Capabilities(
        can_manage=all(hasattr(storage, name) for name in _MANAGED),
        can_back_up=hasattr(storage, "backup"),
        can_read_lineage=hasattr(storage, "read_lineage"),
    )


def name_of(storage: object) -> str:
    """Return a storage's class and, where it has one, its address, as messages name it."""
    name, address = type(storage).__name__, capabilities_of(storage).address
    return name if address is None else f"{name} ({address})"


def _members_of(*ports: type) -> frozenset[str]:
    members = {name for port in ports for name in {**vars(port), **port.__annotations__}}
    return frozenset(name for name in members if not name.startswith("_"))


_DURABLE = _members_of(CheckpointStorage, DurableStorage)
_MANAGED = _members_of(CheckpointStorage, DurableStorage, ManagedStorage)

# From Python 3.12 on `isinstance` does not see what a wrapper passes on by `__getattr__`.


def is_durable(storage: object) -> TypeGuard[DurableStorage]:
    """Return whether a storage has all methods of `DurableStorage`, its own or passed on."""
    return all(hasattr(storage, name) for name in _DURABLE)


def is_managed(storage: object) -> TypeGuard[ManagedStorage]:
    """Return whether the runs of a storage can be listed and looked after."""
    return capabilities_of(storage).can_manage


def has_backup(storage: object) -> TypeGuard[BackupStorage]:
    """Return whether a storage can be backed up as a whole."""
    return capabilities_of(storage).can_back_up


def lineage_reader(storage: object) -> LineageReader | None:
    """Return a storage's method `read_lineage`, None where it has none."""
    if not capabilities_of(storage).can_read_lineage:
        return None
    reader: LineageReader | None = getattr(storage, "read_lineage", None)
    return reader
