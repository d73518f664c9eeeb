"""`PlainStorageAdapter`: any storage of whole checkpoints, driven as if it kept the promises of a durable one.

What the five methods cannot do is done in this process, by the same rules: runs, leases and heads, the journal, the
inbox. A new process reads the runs from the checkpoints that it finds. `missing` says what is lost that way.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import (
    REQUESTS,
    CheckpointInfo,
    CheckpointRecord,
    Commit,
    Part,
    PartKey,
)
from supersteps.errors import CheckpointError, CheckpointSaveError, StorageError
from supersteps.storage import runs
from supersteps.storage._plain_runs import PlainRun, runs_of
from supersteps.storage.base import AsyncClosing, CheckpointStorage, DurableStorage
from supersteps.storage.runs import InboxEntry, RunRecord

_METHODS = ("save_checkpoint", "load_checkpoint", "list_checkpoint_ids", "list_checkpoints", "delete_checkpoint")


def as_durable(storage: CheckpointStorage) -> DurableStorage:
    """Return a storage that the engine can drive.

    Args:
        storage: Any object with the five methods of `CheckpointStorage`.

    Returns:
        The storage itself if it is durable, else an adapter around it: also when a subclass of a durable one, or the
        instance, has a `save_checkpoint` of its own, so that this sees each checkpoint.

    Raises:
        TypeError: It lacks one of the five methods.
    """
    lacking = [name for name in _METHODS if not callable(getattr(storage, name, None))]
    if lacking:
        raise TypeError(
            f"{type(storage).__name__} is no checkpoint storage: it has no {' and no '.join(lacking)}. "
            "See supersteps.storage.base.CheckpointStorage for the five methods that are needed."
        )
    if isinstance(storage, DurableStorage) and not _overrides_save(storage):
        return storage
    return PlainStorageAdapter(storage)


def _overrides_save(storage: object) -> bool:
    """Return whether `save_checkpoint` was replaced below the class that knows how to `commit`."""
    if "save_checkpoint" in getattr(storage, "__dict__", {}):
        return True
    for cls in type(storage).__mro__:
        if "commit" in vars(cls):
            return False
        if "save_checkpoint" in vars(cls):
            return True
    return False


class PlainStorageAdapter(AsyncClosing):
    """Drives a plain `CheckpointStorage` as a `DurableStorage`.

    All adapters of one storage object share what they know of its runs.

    Args:
        storage: The storage.
        clock: The time by which leases expire, Unix seconds.

    Attributes:
        storage: The storage.
        codec: The storage's own codec if it has one.
    """

    def __init__(self, storage: CheckpointStorage, *, clock: Callable[[], float] = time.time) -> None:
        self.storage = storage
        codec = getattr(storage, "codec", None)
        self.codec: Codec = codec if isinstance(codec, Codec) else Codec()
        self._clock = clock
        self._runs = runs_of(storage)

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not guaranteed with this storage, a sentence for each."""
        name = type(self.storage).__name__
        return (
            f"{name} has no fence: two processes can advance one run, and one of them is lost.",
            f"{name} has no journal: after a crash, calls that had finished in the unfinished superstep run again.",
            f"{name} has no inbox: answers that no superstep has consumed are lost with the process.",
            f"{name} has no head: a restore that no superstep followed is forgotten with the process.",
            f"{name} saves whole checkpoints: a superstep costs what the state weighs.",
            f"Whether a saved checkpoint survives a power cut is up to {name}.save_checkpoint.",
        )

    async def aclose(self) -> None:
        """Close the storage, if it can be closed."""
        close = getattr(self.storage, "aclose", None)
        if close is not None:
            await close()

    # -------------------------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint by hand and return its id."""
        return await self.storage.save_checkpoint(checkpoint)

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None when there is none with this id."""
        return await self.storage.load_checkpoint(checkpoint_id)

    async def list_checkpoint_ids(self, workflow_id: str | None = None, run_id: str | None = None) -> list[str]:
        """Return the ids of the checkpoints, all or of one workflow or run, oldest first."""
        return [checkpoint.checkpoint_id for checkpoint in await self.list_checkpoints(workflow_id, run_id)]

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        """Return the checkpoints, all or of one workflow or run, oldest first."""
        found = await self.storage.list_checkpoints(workflow_id)
        selected = (c for c in found if run_id in (None, c.run_id))
        return sorted(selected, key=lambda c: (c.timestamp, c.sequence, c.checkpoint_id))

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint and move its run's head away from it; return whether it was there."""
        checkpoint = await self.storage.load_checkpoint(checkpoint_id)
        if checkpoint is None:
            return False
        async with self._runs.held(checkpoint.run_id) as run:
            if run.record is not None and run.record.head == checkpoint_id:
                await self._leave_head(run, run.record, checkpoint)
            return await self.storage.delete_checkpoint(checkpoint_id)

    # ---------------------------------------------------------------------------------------------- runs and commits

    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run's record, None when there is no such run."""
        async with self._runs.held(run_id) as run:
            record = run.record or await self._adopt(run, run_id)
        return None if record is None else _private(record)

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for this request."""
        heads: dict[str, WorkflowCheckpoint] = {}
        for checkpoint in await self.storage.list_checkpoints():
            if checkpoint.run_id and checkpoint.sequence >= getattr(heads.get(checkpoint.run_id), "sequence", -1):
                heads[checkpoint.run_id] = checkpoint
        records = [await self.get_run(run_id) for run_id in heads]
        return [record for record in records if record is not None and request_id in record.requests]

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a checkpoint, encoded, None when there is none with this id."""
        checkpoint = await self.storage.load_checkpoint(checkpoint_id)
        return None if checkpoint is None else checkpoint.to_record(self.codec)

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return a checkpoint and its ancestors, oldest first, at most the newest `limit`."""
        checkpoints = {c.checkpoint_id: c for c in await self.storage.list_checkpoints()}
        lineage: list[CheckpointInfo] = []
        next_id: str | None = checkpoint_id
        while next_id is not None and len(lineage) < limit and next_id in checkpoints:
            lineage.append(checkpoints[next_id].info)
            next_id = checkpoints[next_id].parent
        return lineage[::-1]

    async def commit(self, commit: Commit) -> None:
        """Save the checkpoint that a commit makes, then count it as the run's head.

        Raises:
            RunExistsError: The commit creates a run that exists.
            RunNotFoundError: The run was deleted meanwhile.
            RunFencedError: The epoch or the head is not what the commit says; nothing was written.
            CheckpointSaveError: The storage failed.
        """
        header = commit.header
        async with self._runs.held(header.run_id) as run:
            before = run.record
            if before is None and (header.parent_id or await self.storage.load_checkpoint(header.checkpoint_id)):
                before = await self._adopt(run, header.run_id)
            after = runs.apply_commit(before, commit, self._clock())
            if after is None:
                return
            parts = dict(await self._head_parts(run, before)) if before is not None else {}
            commit.changes.apply(parts)
            await self._save(WorkflowCheckpoint.from_record(header, lambda: parts, self.codec))
            run.settle(_private(after), parts if after.lease else None)

    async def acquire(self, run_id: str, owner: Owner, lease_seconds: float) -> RunRecord:
        """Take a run under the next epoch.

        Raises:
            RunNotFoundError: There is no such run.
            RunBusyError: Another handle of this process advances it.
        """
        async with self._runs.held(run_id) as run:
            record = await self._refresh(run, run_id)
            if record is None:
                raise runs.no_such_run(run_id)
            run.record = runs.take_run(record, owner, self._clock(), lease_seconds)
            return _private(run.record)

    async def renew(self, run_id: str, epoch: int, lease_seconds: float) -> None:
        """Extend the lease from now.

        Raises:
            RunFencedError: Another handle of this process took the run.
        """
        async with self._runs.held(run_id) as run:
            run.record = runs.renew_lease(run.fence(run_id, epoch), self._clock(), lease_seconds)

    async def release(self, run_id: str, epoch: int, *, status: str | None = None, error: str | None = None) -> None:
        """Give the lease up and note a new status and the failure that ended the work, in this process.

        Raises:
            RunFencedError: Another handle of this process took the run.
        """
        async with self._runs.held(run_id) as run:
            run.record = runs.release_run(run.fence(run_id, epoch), status, error)

    async def move_head(self, run_id: str, epoch: int, checkpoint_id: str) -> RunRecord:
        """Make a checkpoint of the run its head again, on a new branch; void its journal and inbox.

        Raises:
            RunFencedError: Another handle of this process took the run.
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        async with self._runs.held(run_id) as run:
            record = run.fence(run_id, epoch)
            target = await self.load_record(checkpoint_id)
            if target is None or target.header.run_id != run_id:
                raise runs.no_such_checkpoint(checkpoint_id, run_id)
            return _private(self._move_head(run, record, target))

    async def delete_run(self, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it was there."""
        async with self._runs.held(run_id) as run:
            checkpoints = await self.list_checkpoints(run_id=run_id) if run_id else []
            run.settle(None, None)
            for checkpoint in reversed(checkpoints):  # the newest first: what a crash leaves is still a run
                await self.storage.delete_checkpoint(checkpoint.checkpoint_id)
            return bool(checkpoints)

    # --------------------------------------------------------------------------------------------- journal and inbox

    async def append_journal(self, run_id: str, epoch: int, head: str, records: Sequence[bytes]) -> None:
        """Keep records of finished calls that follow the checkpoint `head`, in this process.

        Raises:
            RunFencedError: Another handle of this process took the run, or its head has moved.
        """
        async with self._runs.held(run_id) as run:
            runs.check_head(run.fence(run_id, epoch), head)
            run.journal = [*run.journal, *records]

    async def read_journal(self, run_id: str, head: str) -> list[bytes]:
        """Return the records that follow `head`, in order."""
        async with self._runs.held(run_id) as run:
            return list(run.journal) if run.record is not None and run.record.head == head else []

    async def discard_journal(self, run_id: str, epoch: int) -> None:
        """Drop the records that follow the head.

        Raises:
            RunFencedError: Another handle of this process took the run.
        """
        async with self._runs.held(run_id) as run:
            run.fence(run_id, epoch)
            run.journal = []

    async def add_answers(self, run_id: str, answers: Sequence[tuple[str, bytes]]) -> list[InboxEntry]:
        """Put answers (request id, encoded value) into the run's inbox, all or none, in this process.

        Raises:
            RunNotFoundError: There is no such run.
            UnknownRequestError: The head does not wait for one of the requests.
            AlreadyAnsweredError: The inbox has an answer for one of them.
        """
        async with self._runs.held(run_id) as run:
            record = run.record or await self._adopt(run, run_id)
            if record is None:
                raise runs.no_such_run(run_id)
            entries = runs.accept_answers(record, run.inbox, answers)
            run.inbox = [*run.inbox, *entries]
            return entries

    async def read_inbox(self, run_id: str) -> list[InboxEntry]:
        """Return the answers that no commit has consumed and no restore has dropped, in order."""
        async with self._runs.held(run_id) as run:
            return runs.unread_entries(run.record, run.inbox) if run.record is not None else []

    # --------------------------------------------------------------------------------------------- with a run in hand

    async def _save(self, checkpoint: WorkflowCheckpoint) -> None:
        try:
            await self.storage.save_checkpoint(checkpoint)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointSaveError(
                f"{type(self.storage).__name__}.save_checkpoint failed for checkpoint {checkpoint.checkpoint_id!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    async def _adopt(self, run: PlainRun, run_id: str) -> RunRecord | None:
        """Take note of a run as its checkpoints describe it, None when there are none."""
        checkpoints = await self.list_checkpoints(run_id=run_id) if run_id else []
        if not checkpoints:
            run.settle(None, None)
            return None
        head = max(checkpoints, key=lambda c: c.sequence)
        parts = head.to_record(self.codec).parts
        record = RunRecord(
            run_id=run_id,
            workflow_id=head.workflow_id,
            status=head.status,
            head=head.checkpoint_id,
            sequence=head.sequence,
            branch=head.branch,
            epoch=run.record.epoch if run.record else 1,
            created_at=checkpoints[0].timestamp,
            updated_at=checkpoints[-1].timestamp,
            requests=_requests(parts),
            inbox_read=run.record.inbox_read if run.record else 0,
            metadata=copy.deepcopy(head.metadata),
        )
        run.settle(record, dict(parts))
        run.inbox = [entry for entry in run.inbox if entry.request_id in record.requests]
        return record

    async def _refresh(self, run: PlainRun, run_id: str) -> RunRecord | None:
        """Return a run's record, read anew if another process has gone on with it or its head is gone."""
        record = run.record
        if record is not None:
            sequences = {c.checkpoint_id: c.sequence for c in await self.list_checkpoints(run_id=run_id)}
            if record.head in sequences and max(sequences.values()) <= record.sequence:
                return record
        return await self._adopt(run, run_id)

    async def _head_parts(self, run: PlainRun, record: RunRecord) -> dict[PartKey, Part]:
        if run.parts is None:
            head = await self.load_record(record.head)
            if head is None:
                raise StorageError(
                    f"{type(self.storage).__name__} has lost checkpoint {record.head!r}, the head of run "
                    f"{record.run_id!r}; nothing was written. Resume the run: it goes on from its newest checkpoint."
                )
            run.parts = head.parts
        return run.parts

    def _move_head(self, run: PlainRun, record: RunRecord, target: CheckpointRecord) -> RunRecord:
        moved = runs.move_head(record, target, run.last_entry)
        run.settle(moved, target.parts)
        return moved

    async def _leave_head(self, run: PlainRun, record: RunRecord, lost: WorkflowCheckpoint) -> None:
        """Move the head of a run away from a checkpoint that is about to be deleted."""
        headers = [c.to_header() for c in await self.list_checkpoints(run_id=record.run_id)]
        head = runs.choose_head(lost.to_header(), headers)
        target = None if head is None else await self.load_record(head.checkpoint_id)
        if target is None:
            run.settle(None, None)
        else:
            self._move_head(run, record, target)


def _requests(parts: Iterable[PartKey]) -> tuple[str, ...]:
    return tuple(key[1] for key in parts if key[0] == REQUESTS)


def _private(run: RunRecord) -> RunRecord:
    """Return a record that shares nothing mutable with another."""
    return replace(run, metadata=copy.deepcopy(run.metadata)) if run.metadata else run
