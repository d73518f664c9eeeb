"""`InMemoryCheckpointStorage`: a complete storage in the process."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from supersteps._process_fork import forkable_lock
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.storage import claims, rules
from supersteps.storage._bell import Bell
from supersteps.storage._layers import Layer
from supersteps.storage.answers import Answering
from supersteps.storage.claims import Candidate, Claim, Claimed, Judge, Outcome
from supersteps.storage.listings import RunFilter
from supersteps.storage.ports import AsyncClosing, Capabilities, ManagedStorage
from supersteps.storage.queue import WorkQueue
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy, plan_pruning


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """A stored checkpoint: its parts as differences from those of its parent."""

    header: CheckpointHeader
    parts: Layer

    def record(self) -> CheckpointRecord:
        """Return the whole checkpoint; the caller may change mutable values."""
        return CheckpointRecord(_private_header(self.header), self.parts.to_dict())


class _Run(msgspec.Struct):
    """Everything of a run except the content of its checkpoints."""

    record: RunRecord
    checkpoint_ids: dict[str, None]  # an ordered set
    journal: list[bytes]
    inbox: list[InboxEntry]
    entry: QueueEntry | None = None


class InMemoryCheckpointStorage(Answering, AsyncClosing, ManagedStorage, WorkQueue):
    """Keeps checkpoints in this process: use it for tests and experiments.

    It has every feature of a durable storage, but its content ends with the process. Values are
    encoded, as on disk: changing a value later does not change what is stored, and a value that
    could not be saved to disk is refused. Checkpoints share unchanged parts. For each method, see
    the port: `ManagedStorage`.

    Args:
        codec: Encodes and decodes values; types registered with it are rebuilt on load.
        clock: Returns the present time for leases, in Unix seconds.
    """

    capabilities = Capabilities(
        is_permanent=False, can_manage=True, can_queue=True, can_read_lineage=True
    )

    def __init__(
        self, codec: Codec | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.codec = codec if codec is not None else Codec()
        self._clock = clock
        self._lock = forkable_lock()  # every method holds it for its whole work
        self._bell = Bell()
        self._checkpoints: dict[str, _Kept] = {}
        self._runs: dict[str, _Run] = {}

    def __copy__(self) -> Self:
        return (
            self  # a storage is a place: copies of objects that refer to it refer to the same one
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Pickle it with its present content."""
        with self._lock:
            state = dict(self.__dict__)
        del state["_lock"], state["_bell"]
        return state | {"_checkpoints": dict(self._checkpoints), "_runs": dict(self._runs)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=forkable_lock(), _bell=Bell())

    # ---------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        record = checkpoint.to_record(self.codec)
        checkpoint_id = rules.check_saved(record.header)
        with self._lock:
            if self._committed_by(checkpoint_id) is None:
                self._checkpoints[checkpoint_id] = _Kept(record.header, Layer(record.parts))
            elif self._checkpoints[checkpoint_id].record() != record:
                raise rules.id_taken(checkpoint_id)
        return checkpoint_id

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        with self._lock:
            record = self._checkpoints.get(checkpoint_id)
        return None if record is None else self._open(record)

    async def list_checkpoint_ids(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[str]:
        return [record.header.checkpoint_id for record in self._select(workflow_id, run_id)]

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        return [self._open(record) for record in self._select(workflow_id, run_id)]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        with self._lock:
            run = self._committed_by(checkpoint_id)
            if run is None:
                return self._checkpoints.pop(checkpoint_id, None) is not None
            if run.record.head == checkpoint_id:
                lost = self._checkpoints[checkpoint_id].header
                head = rules.choose_head(lost, self._headers(run))
                if head is None:
                    del self._runs[run.record.run_id]
                else:
                    self._move_head(run, self._checkpoints[head.checkpoint_id])
            self._remove(
                run, [checkpoint_id], rules.new_parents(self._headers(run), {checkpoint_id})
            )
            return True

    # ----------------------------------------------------------------------------- runs and commits

    async def get_run(self, run_id: str) -> RunRecord | None:
        with self._lock:
            run = self._runs.get(run_id)
        return None if run is None else _private_run(run.record)

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        with self._lock:
            found = [run.record for run in self._runs.values() if request_id in run.record.requests]
        return [_private_run(record) for record in found]

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        with self._lock:
            record = self._checkpoints.get(checkpoint_id)
        return None if record is None else record.record()

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        return self.read_lineage(checkpoint_id, limit)

    def read_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return what `list_lineage` returns, synchronously."""
        lineage: list[CheckpointInfo] = []
        next_id: str | None = checkpoint_id
        with self._lock:
            while (
                next_id is not None
                and len(lineage) < limit
                and (record := self._checkpoints.get(next_id))
            ):
                lineage.append(record.header.info)
                next_id = record.header.parent_id
        return lineage[::-1]

    async def commit(self, commit: Commit) -> int | None:
        header = commit.header
        with self._lock:
            run = self._runs.get(header.run_id)
            record = rules.apply_commit(run.record if run else None, commit, self._clock())
            if record is None:
                return None
            if header.checkpoint_id in self._checkpoints:
                raise rules.id_taken(header.checkpoint_id)
            before = (
                Layer({}) if header.parent_id is None else self._checkpoints[header.parent_id].parts
            )
            self._checkpoints[header.checkpoint_id] = _Kept(
                _private_header(header), before.after(commit.changes)
            )
            if run is None:
                self._runs[header.run_id] = _Run(
                    _private_run(record), {header.checkpoint_id: None}, [], [], commit.queue
                )
            else:
                run.record = record
                run.checkpoint_ids[header.checkpoint_id] = None
                run.journal.clear()
                if run.inbox:
                    run.inbox = rules.unread_entries(record, run.inbox)
            newest = run.inbox[-1].number if run is not None and run.inbox else 0
        if commit.lease_seconds is None:  # it rests, or was submitted
            self._bell.ring()
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
        with self._lock:
            run = self._find(run_id, incarnation)
            now = self._clock()
            run.record = rules.limit_lease(run.record, now)
            run.record = rules.take_run(run.record, owner, now, lease_seconds, seen)
            return _private_run(run.record)

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        with self._lock:
            run = self._fence(run_id, epoch, incarnation)
            run.record = rules.renew_lease(run.record, self._clock(), lease_seconds)

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        with self._lock:
            run = self._fence(run_id, epoch, incarnation)
            run.record = rules.release_run(run.record, status, error)
        self._bell.ring()

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        with self._lock:
            run = self._fence(run_id, epoch, incarnation)
            if checkpoint_id not in run.checkpoint_ids:
                raise rules.no_such_checkpoint(checkpoint_id, run_id)
            self._move_head(run, self._checkpoints[checkpoint_id])
            moved = _private_run(run.record)
        self._bell.ring()
        return moved

    async def delete_run(self, run_id: str) -> bool:
        with self._lock:
            run = self._runs.pop(run_id, None)
            for checkpoint_id in run.checkpoint_ids if run else ():
                del self._checkpoints[checkpoint_id]
            return run is not None

    # -------------------------------------------------------------------------------- looking after

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        with self._lock:
            last = None if wanted.before is None else self._find(wanted.before).record
            found = [run.record for run in self._runs.values()]
        return [_private_run(record) for record in rules.page_of_runs(found, wanted, last)]

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        with self._lock:
            run = self._runs.get(run_id)
            return [_private_header(header) for header in self._headers(run)] if run else []

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        with self._lock:
            run = self._find(run_id)
            pruning = plan_pruning(run.record, self._headers(run), policy)
            if not dry_run:
                self._remove(run, pruning.gone, pruning.parents)
        return pruning.gone

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        """Return nothing: memory of the process is not damaged."""
        return []

    async def vacuum(self) -> None:
        """Do nothing: unused data is already deleted."""

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
        with self._lock:
            run = self._fence(run_id, epoch, incarnation)
            rules.check_head(run.record, head)
            run.journal.extend(records)

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        with self._lock:
            run = self._look(run_id, incarnation)
            return list(run.journal) if run is not None and run.record.head == head else []

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        with self._lock:
            self._fence(run_id, epoch, incarnation).journal.clear()

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        with self._lock:
            run = self._find(run_id, incarnation)
            entries = rules.accept_answers(run.record, run.inbox, answers)
            run.inbox = [*run.inbox, *entries]
            self._make_ready(run)
        self._bell.ring()
        return entries

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        with self._lock:
            run = self._look(run_id, incarnation)
            return rules.unread_entries(run.record, run.inbox) if run is not None else []

    # ------------------------------------------------------------------------------- for workers

    async def claim_runs(self, claim: Claim) -> Claimed:
        with self._lock:
            return claims.claim_runs(_Shelf(self._runs), claim, self._clock())

    async def put_back(
        self,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        *,
        incarnation: str | None = None,
    ) -> None:
        with self._lock:
            run = self._fence(run_id, epoch, incarnation)
            run.record = rules.release_run(run.record, None, None)
            if run.entry is not None:
                is_answered = bool(rules.unread_entries(run.record, run.inbox))
                run.entry = claims.put_back(
                    run.record, run.entry, ready_at, is_answered=is_answered, now=self._clock()
                )
        self._bell.ring()

    async def enqueue(
        self, run_id: str, entry: QueueEntry, *, incarnation: str | None = None
    ) -> None:
        with self._lock:
            self._find(run_id, incarnation).entry = replace(entry, is_claimed=False)
        self._bell.ring()

    async def queue_entry(self, run_id: str) -> QueueEntry | None:
        with self._lock:
            run = self._runs.get(run_id)
            return None if run is None else run.entry

    async def next_ready_at(
        self, workflow_ids: Sequence[str], queues: Sequence[str]
    ) -> float | None:
        with self._lock:
            moments = [
                run.entry.ready_at
                for run in self._runs.values()
                if run.entry is not None
                and run.entry.ready_at is not None
                and run.entry.queue in queues
                and run.record.workflow_id in workflow_ids
            ]
        return min(moments, default=None)

    async def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        with self._lock:
            found = {
                run.record.workflow_id
                for run in self._runs.values()
                if run.entry is not None
                and run.entry.ready_at is not None
                and run.entry.queue in queues
            }
        return sorted(found)

    async def held_runs(self) -> list[RunRecord]:
        with self._lock:
            found = [run.record for run in self._runs.values() if run.record.lease is not None]
        return [_private_run(record) for record in found]

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        if seen is not None and seen == self._bell.number:
            await self._bell.wait(self._bell.number, seconds)
        return self._bell.number

    # -------------------------------------------------------------- under the lock, or without need

    def _look(self, run_id: str, incarnation: str | None) -> _Run | None:
        run = self._runs.get(run_id)
        return run if run and incarnation in (None, run.record.incarnation) else None

    def _find(self, run_id: str, incarnation: str | None = None) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise rules.no_such_run(run_id)
        rules.check_incarnation(run.record, incarnation)
        return run

    def _fence(self, run_id: str, epoch: int, incarnation: str | None) -> _Run:
        run = self._find(run_id)
        rules.check_epoch(run.record, run_id, epoch, incarnation)
        return run

    def _committed_by(self, checkpoint_id: str) -> _Run | None:
        """Return the run that committed a checkpoint, None if no run did."""
        record = self._checkpoints.get(checkpoint_id)
        run = self._runs.get(record.header.run_id) if record is not None else None
        return run if run is not None and checkpoint_id in run.checkpoint_ids else None

    def _move_head(self, run: _Run, kept: _Kept) -> None:
        target = kept.record()
        last = run.inbox[-1].number if run.inbox else run.record.inbox_read
        run.record = rules.move_head(run.record, target, last, is_journalled=bool(run.journal))
        run.journal.clear()
        run.inbox = []
        self._make_ready(run)

    def _make_ready(self, run: _Run) -> None:
        if run.entry is not None:
            run.entry = claims.made_ready(run.entry, self._clock())

    def _headers(self, run: _Run) -> list[CheckpointHeader]:
        return [self._checkpoints[checkpoint_id].header for checkpoint_id in run.checkpoint_ids]

    def _remove(self, run: _Run, gone: Iterable[str], parents: Mapping[str, str | None]) -> None:
        for checkpoint_id, parent in parents.items():
            kept = self._checkpoints[checkpoint_id]
            self._checkpoints[checkpoint_id] = replace(
                kept, header=replace(kept.header, parent_id=parent)
            )
        for checkpoint_id in gone:
            del self._checkpoints[checkpoint_id], run.checkpoint_ids[checkpoint_id]

    def _select(self, workflow_id: str | None, run_id: str | None) -> list[_Kept]:
        with self._lock:
            records = [
                r
                for r in self._checkpoints.values()
                if rules.is_selected(r.header, workflow_id, run_id)
            ]
        return sorted(records, key=lambda record: rules.listing_order(record.header))

    def _open(self, kept: _Kept) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_record(kept.header, kept.parts.to_dict, self.codec)


# The user's metadata is the only mutable value in a header and in a run's record.


class _Shelf:
    """The runs of the process, as a claim looks at them under the storage's lock."""

    def __init__(self, runs: dict[str, _Run]) -> None:
        self._runs = runs

    def held(self) -> list[Candidate]:
        return [
            _candidate(run)
            for run in self._runs.values()
            if run.record.lease is not None or (run.entry is not None and run.entry.is_claimed)
        ]

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        return iter(
            sorted(
                _candidate(run)
                for run in self._runs.values()
                if run.entry is not None
                and run.entry.queue == queue
                and run.record.workflow_id == workflow_id
                and run.entry.ready_at is not None
                and run.entry.ready_at <= now
            )
        )

    def claimed(self) -> list[tuple[str, str | None]]:
        return [
            (run.record.workflow_id, run.entry.concurrency_key)
            for run in self._runs.values()
            if run.entry is not None and run.entry.is_claimed
        ]

    def change(self, run_id: str, judge: Judge) -> Outcome | None:
        run = self._runs[run_id]
        outcome = judge(run.record, run.entry)
        if outcome is not None:
            run.record, run.entry = outcome.run, outcome.entry
            outcome = outcome._replace(run=_private_run(outcome.run))
        return outcome


def _candidate(run: _Run) -> Candidate:
    return claims.candidate(run.record, run.entry)


def _private_header(header: CheckpointHeader) -> CheckpointHeader:
    return replace(header, metadata=copy.deepcopy(header.metadata)) if header.metadata else header


def _private_run(run: RunRecord) -> RunRecord:
    return replace(run, metadata=copy.deepcopy(run.metadata)) if run.metadata else run
