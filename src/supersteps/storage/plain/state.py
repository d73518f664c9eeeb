"""The state of a plain storage's runs, derived from their checkpoints."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.errors import CheckpointError, CheckpointSaveError, StorageError
from supersteps.storage import rules
from supersteps.storage.plain import upkeep as plain_upkeep
from supersteps.storage.plain.calls import PlainCalls
from supersteps.storage.plain.runs import PlainRun, runs_of
from supersteps.storage.ports import CheckpointStorage
from supersteps.storage.records import RunRecord


class PlainState:
    """Reads a plain storage, and keeps in the process what it cannot store.

    Args:
        storage: The storage.
        clock: Returns the present time for leases, in Unix seconds.
    """

    def __init__(
        self, storage: CheckpointStorage, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.storage = storage
        self._calls = PlainCalls(storage)
        codec = getattr(storage, "codec", None)
        self.codec: Codec = codec if isinstance(codec, Codec) else Codec()
        self._clock = clock
        self._runs = runs_of(storage)

    # -------------------------------------------------------------------------------------- reading

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        found = await self._calls.list_checkpoints(workflow_id)
        selected = (c for c in found if run_id in (None, c.run_id))
        return sorted(selected, key=lambda c: (c.timestamp, c.sequence, c.checkpoint_id))

    async def get_run(self, run_id: str) -> RunRecord | None:
        async with self._runs.held(run_id) as run:
            record = run.record or await self._adopt(run, run_id)
        return None if record is None else private(record)

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        checkpoint = await self._calls.load_checkpoint(checkpoint_id)
        if checkpoint is None:
            return None
        record = checkpoint.to_record(self.codec)
        if not record.header.incarnation and record.header.run_id:
            # The storage may not store all fields of a checkpoint. The process knows the run.
            known = self._runs.incarnation_of(record.header.run_id)
            return replace(record, header=replace(record.header, incarnation=known))
        return record

    # --------------------------------------------------------------------------- with a run in hand

    async def _save(self, checkpoint: WorkflowCheckpoint) -> None:
        try:
            await self._calls.save_checkpoint(checkpoint)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointSaveError(
                f"{type(self.storage).__name__}.save_checkpoint failed for checkpoint "
                f"{checkpoint.checkpoint_id!r}: {type(error).__name__}: {error}"
            ) from error

    async def _adopt(self, run: PlainRun, run_id: str) -> RunRecord | None:
        """Derive a run from its checkpoints; return None if there are none."""
        checkpoints = await self.list_checkpoints(run_id=run_id) if run_id else []
        if not checkpoints:
            run.settle(None, None)
            return None
        head = max(checkpoints, key=lambda c: c.sequence)
        before = run.record
        if before is not None and before.incarnation != head.incarnation:
            run.settle(None, None)  # the process knows an earlier run of this id
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
            incarnation=head.incarnation,
        )
        run.settle(record, dict(parts))
        waiting = frozenset(record.requests)
        run.inbox = [entry for entry in run.inbox if entry.request_id in waiting]
        return record

    async def _all_runs(self) -> list[RunRecord]:
        names = dict.fromkeys(
            checkpoint.run_id for checkpoint in await self._calls.list_checkpoints()
        )
        records = [await self.get_run(run_id) for run_id in names if run_id]
        return [record for record in records if record is not None]

    async def _refresh(self, run: PlainRun, run_id: str) -> RunRecord | None:
        """Return a run's record, read again if it was advanced elsewhere or its head is lost."""
        record = run.record
        if record is not None:
            found = {c.checkpoint_id: c for c in await self.list_checkpoints(run_id=run_id)}
            head = found.get(record.head)
            if (
                head is not None
                # a storage that does not store all fields does not return the incarnation
                and head.incarnation in ("", record.incarnation)
                and max(c.sequence for c in found.values()) <= record.sequence
            ):
                return record
        return await self._adopt(run, run_id)

    async def _head_parts(self, run: PlainRun, record: RunRecord) -> dict[PartKey, Part]:
        if run.parts is None:
            head = await self.load_record(record.head)
            if head is None:
                raise StorageError(
                    f"{type(self.storage).__name__} has lost checkpoint {record.head!r}, the head "
                    f"of run {record.run_id!r}; nothing was written. Resume the run: it continues "
                    "from its newest checkpoint."
                )
            run.parts = head.parts
        return run.parts

    def _move_head(self, run: PlainRun, record: RunRecord, target: CheckpointRecord) -> RunRecord:
        is_journalled = bool(run.journal)
        moved = rules.move_head(record, target, run.last_entry, is_journalled=is_journalled)
        run.settle(moved, target.parts)
        return moved

    async def _leave_head(
        self,
        run: PlainRun,
        record: RunRecord,
        lost: WorkflowCheckpoint,
        all_of_it: Sequence[WorkflowCheckpoint],
    ) -> None:
        """Move the head of a run away from a checkpoint that is about to be deleted."""
        head = rules.choose_head(lost.to_header(), plain_upkeep.headers_of(all_of_it))
        target = None if head is None else await self.load_record(head.checkpoint_id)
        if target is None:
            run.settle(None, None)
        else:
            self._move_head(run, record, target)


def _requests(parts: Iterable[PartKey]) -> tuple[str, ...]:
    return tuple(key[1] for key in parts if key[0] == REQUESTS)


def private(run: RunRecord) -> RunRecord:
    """Return a record that shares no mutable value with another."""
    return replace(run, metadata=copy.deepcopy(run.metadata)) if run.metadata else run
