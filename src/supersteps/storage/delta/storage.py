"""`DeltaStorage`: what every storage that uses SQL does in the same way."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CorruptCheckpointWarning, RunBusyError
from supersteps.storage import rules
from supersteps.storage.answers import Answering
from supersteps.storage.delta import reads, upkeep, verification
from supersteps.storage.delta.commits import Commits
from supersteps.storage.delta.entries import Listed
from supersteps.storage.delta.parts import DamagedPartError, damaged_part, read_list
from supersteps.storage.delta.rows import StoredRun
from supersteps.storage.delta.tables import StoredTables, WritableTables
from supersteps.storage.listings import RunFilter, check_before
from supersteps.storage.ports import AsyncClosing, ManagedStorage
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy

P = ParamSpec("P")
T = TypeVar("T")


class DeltaStorage(Answering, AsyncClosing, ManagedStorage):
    """Keeps checkpoints as differences in tables; for what each method does, see the ports.

    A storage of this kind says how a job gets at the tables, to read or to write in a transaction,
    and how a commit is made.

    Attributes:
        codec: The codec.

    Args:
        codec: Encodes and decodes values; types registered with it are rebuilt on load.
        commits: Changes runs.
    """

    def __init__(self, codec: Codec | None, commits: Commits) -> None:
        self.codec = codec if codec is not None else Codec()
        self._commits = commits
        self._upkeep = upkeep.Upkeep(commits)

    def __copy__(self) -> Self:
        return self  # a storage is a place: a copy of what refers to it refers to the same one

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    # --------------------------------------------------------------------------- transactions

    @abstractmethod
    async def _read(
        self,
        job: Callable[Concatenate[StoredTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do a job that sees one state of the tables."""

    @abstractmethod
    def _read_here(
        self,
        job: Callable[Concatenate[StoredTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do a job that sees one state of the tables, on the calling thread."""

    @abstractmethod
    async def _write(
        self,
        job: Callable[Concatenate[WritableTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do a job in a transaction, durably."""

    async def _write_small(
        self,
        job: Callable[Concatenate[WritableTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Do a job in a transaction that takes little time."""
        return await self._write(job, *args, **kwargs)

    # ---------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        record = checkpoint.to_record(self.codec)
        wanted = rules.check_saved(record.header)
        await self._write(self._upkeep.save, record, self._open_list)
        return wanted

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        record = await self.load_record(checkpoint_id)
        if record is None:
            return None
        return WorkflowCheckpoint.from_record(
            record.header, lambda: record.parts, self.codec, self._compare
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
                header, partial(self._load_parts, header), self.codec, self._compare
            )
            for header in await self._list(workflow_id, run_id)
        ]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return await self._write(self._upkeep.delete_checkpoint, checkpoint_id)

    # ----------------------------------------------------------------------------- runs and commits

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._read(_get_run, run_id)

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return await self._read(_find_waiting_runs, request_id)

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        return await self._read(reads.load_record, checkpoint_id, self._open_list)

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        lineage, problems = await self._read(reads.read_lineage, checkpoint_id, limit)
        _warn(problems)
        return lineage

    def read_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return what `list_lineage` returns, synchronously, waiting for the disk."""
        lineage, problems = self._read_here(reads.read_lineage, checkpoint_id, limit)
        _warn(problems)
        return lineage

    async def acquire(
        self,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        *,
        incarnation: str | None = None,
        seen: Seen | None = None,
    ) -> RunRecord:
        taken = await self._write_small(
            self._commits.acquire, run_id, owner, lease_seconds, incarnation, seen
        )
        if isinstance(taken, RunBusyError):
            raise taken
        return taken

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        await self._write_small(self._commits.renew, run_id, epoch, lease_seconds, incarnation)

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        await self._write_small(self._commits.release, run_id, epoch, status, error, incarnation)

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        return await self._write(self._commits.move_head, run_id, epoch, checkpoint_id, incarnation)

    async def delete_run(self, run_id: str) -> bool:
        return await self._write(self._upkeep.delete_run, run_id)

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
        await self._write_small(
            self._commits.append_journal, run_id, epoch, head, records, incarnation
        )

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        return await self._read(_read_journal, run_id, head, incarnation)

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        await self._write_small(self._commits.discard_journal, run_id, epoch, incarnation)

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        return await self._write_small(self._commits.add_answers, run_id, answers, incarnation)

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        return await self._read(_read_inbox, run_id, incarnation)

    # -------------------------------------------------------------------------------- looking after

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        found, problems = await self._read(_find_runs, wanted)
        _warn(problems)
        return found

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        headers, problems = await self._read(reads.headers_of_run, run_id)
        _warn(problems)
        return headers

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        if dry_run:
            return (await self._read(upkeep.plan, run_id, policy))[2].gone
        return await self._write(self._upkeep.prune, run_id, policy)

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        return await self._read(verification.verify, run_id)

    # -------------------------------------------------------------------------------------- reading

    def _load_parts(self, header: CheckpointHeader) -> Mapping[PartKey, Part]:
        return self._read_here(reads.load_parts, header, self._open_list)

    def _compare(
        self, first: CheckpointHeader, second: CheckpointHeader
    ) -> tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]:
        return self._read_here(reads.compare, first, second, self._open_list)

    def _open_list(self, entry: Listed, where: str) -> ListPart:
        return ListPart.stored(entry.length, partial(self._read_here, _read_list, entry, where))

    async def _list(self, workflow_id: str | None, run_id: str | None) -> list[CheckpointHeader]:
        headers, problems = await self._read(reads.list_headers, workflow_id, run_id)
        _warn(problems)
        return headers


def _read_list(tables: StoredTables, entry: Listed, where: str) -> list[bytes]:
    try:
        return read_list(tables, entry)
    except DamagedPartError as error:
        raise damaged_part(where, error) from error


def _get_run(tables: StoredTables, run_id: str) -> RunRecord | None:
    stored = tables.find_run(run_id)
    return None if stored is None else stored.record


def _find_waiting_runs(tables: StoredTables, request_id: str) -> list[RunRecord]:
    return tables.find_waiting_runs(request_id)


def _look(tables: StoredTables, run_id: str, incarnation: str | None) -> StoredRun | None:
    stored = tables.find_run(run_id)
    return stored if stored and incarnation in (None, stored.record.incarnation) else None


def _read_journal(
    tables: StoredTables, run_id: str, head: str, incarnation: str | None
) -> list[bytes]:
    stored = _look(tables, run_id, incarnation)
    return tables.read_journal(stored) if stored and stored.record.head == head else []


def _read_inbox(tables: StoredTables, run_id: str, incarnation: str | None) -> list[InboxEntry]:
    stored = _look(tables, run_id, incarnation)
    return rules.unread_entries(stored.record, tables.read_inbox(stored.key)) if stored else []


def _find_runs(tables: StoredTables, wanted: RunFilter) -> tuple[list[RunRecord], list[str]]:
    last = tables.find_run(wanted.before) if wanted.before is not None else None
    check_before(wanted, last.record if last else None)
    return tables.find_runs(wanted, last.record if last else None)


def _warn(problems: Iterable[str]) -> None:
    # Here and not on the thread that found them: warning filters and recorders belong to the
    # caller.
    for problem in problems:
        warnings.warn(problem, CorruptCheckpointWarning, stacklevel=4)
