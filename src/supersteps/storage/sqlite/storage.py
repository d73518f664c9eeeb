"""`SqliteCheckpointStorage`: all guarantees, in one database file."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CorruptCheckpointWarning, RunBusyError, StorageError
from supersteps.storage import rules
from supersteps.storage._bell import Bell
from supersteps.storage._paths import settled_path
from supersteps.storage.answers import Answering
from supersteps.storage.claims import Claim, Claimed
from supersteps.storage.delta import reads, upkeep, verification
from supersteps.storage.delta.entries import Listed
from supersteps.storage.delta.parts import DamagedPartError, damaged_part, read_list
from supersteps.storage.delta.queue import QueuedCommits
from supersteps.storage.delta.rows import StoredRun
from supersteps.storage.listings import RunFilter, check_before
from supersteps.storage.ports import AsyncClosing, Capabilities, ManagedStorage
from supersteps.storage.queue import WorkQueue
from supersteps.storage.records import Seen
from supersteps.storage.retention import RetentionPolicy
from supersteps.storage.rules import Damage, InboxEntry, RunRecord
from supersteps.storage.sqlite import backup, queue_rows, run_rows
from supersteps.storage.sqlite.changes import Changes
from supersteps.storage.sqlite.database import Database
from supersteps.storage.sqlite.readers import Readers
from supersteps.storage.sqlite.tables import SqliteTables
from supersteps.storage.sqlite.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_LARGE_BYTES = 1 << 18
"""Commits from this size on do not run on an event loop's thread, even with a fast disk."""


class SqliteCheckpointStorage(Answering, AsyncClosing, ManagedStorage, WorkQueue):
    """Keeps runs in a SQLite database: the storage to choose if in doubt.

    It is safe across threads, event loops and processes of one machine.

    A superstep is one transaction, durable (WAL, synchronous=FULL) before it is reported. It
    writes only what has changed, however large the state or long the run. Runs that commit at
    the same time share transactions.

    For each method, see the ports: `ManagedStorage` and `BackupStorage`.

    Args:
        path: The database file. It is created, readable only by its owner, when it is first used.
            `~` is expanded, symbolic links are followed, and the path is made absolute when the
            storage is created.
        codec: Encodes and decodes values; types registered with it are rebuilt on load.
        clock: Returns the present time for leases, in Unix seconds.
        busy_seconds: How long to wait while another process writes, before giving up with a
            `StorageError`.

    Attributes:
        path: The file, as an absolute path.
        codec: The codec.
        capabilities: Where it is, and what it can do.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        codec: Codec | None = None,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = 30.0,
    ) -> None:
        self.path = settled_path(path, "SqliteCheckpointStorage")
        self.codec = codec if codec is not None else Codec()
        self.capabilities = Capabilities(
            address=f"sqlite:///{self.path}",
            can_manage=True,
            can_back_up=True,
            can_queue=True,
            can_read_lineage=True,
        )
        database = Database(self.path, busy_seconds)
        self._clock = clock
        self._commits = QueuedCommits()
        self._upkeep = upkeep.Upkeep(self._commits)
        self._writer = Writer(database, self._commits.heads.clear)
        self._readers = Readers(database)
        self._changes = Changes(database)
        self._bell = Bell()

    def __copy__(self) -> Self:
        return (
            self  # a storage is a place: copies of objects that refer to it refer to the same one
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickle the path, so that another process opens the same database."""
        return type(self), (self.path, self.codec)

    async def aclose(self) -> None:
        """Finish running operations, move the log into the database and close.

        The storage may be used again afterwards.
        """
        self._changes.close()
        await self._readers.aclose()
        await self._writer.aclose()
        self.note_closed()

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
        stored = await self._readers.run(run_rows.find_run, run_id)
        return None if stored is None else stored.record

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return await self._readers.run(run_rows.find_waiting_runs, request_id)

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

    async def commit(self, commit: Commit) -> int | None:
        if commit.queue is not None:
            return await self._submit(commit)
        return await self._writer.run(
            lambda db: self._commits.commit(SqliteTables(db, self._clock), commit),
            alone=commit.header.run_id,
            is_small=commit.changes.size < _LARGE_BYTES,
            written=lambda db: self._commits.is_written(SqliteTables(db), commit),
        )

    async def _submit(self, commit: Commit) -> int | None:
        newest = await self._writer.run(
            lambda db: self._commits.submit(SqliteTables(db, self._clock), commit),
            alone=commit.header.run_id,
            is_small=commit.changes.size < _LARGE_BYTES,
            written=lambda db: self._commits.is_written(SqliteTables(db), commit),
        )
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
        return await self._readers.run(_read_journal, run_id, head, incarnation)

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
        entries = await self._write_small(self._commits.add_answers, run_id, answers, incarnation)
        self._bell.ring()
        return entries

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        return await self._readers.run(_read_inbox, run_id, incarnation)

    # --------------------------------------------------------------------------------- for workers

    async def claim_runs(self, claim: Claim) -> Claimed:
        return await self._write_small(self._commits.claim_runs, claim)

    async def put_back(
        self,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        *,
        incarnation: str | None = None,
    ) -> None:
        await self._write_small(self._commits.put_back, run_id, epoch, ready_at, incarnation)
        self._bell.ring()

    async def enqueue(
        self, run_id: str, entry: QueueEntry, *, incarnation: str | None = None
    ) -> None:
        await self._write_small(self._commits.enqueue, run_id, entry, incarnation)
        self._bell.ring()

    async def queue_entry(self, run_id: str) -> QueueEntry | None:
        return await self._readers.run(_queue_entry, run_id)

    async def next_ready_at(
        self, workflow_ids: Sequence[str], queues: Sequence[str]
    ) -> float | None:
        return await self._readers.run(queue_rows.next_ready_at, workflow_ids, queues)

    async def held_runs(self) -> list[RunRecord]:
        return await self._readers.run(_held_runs)

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        return await self._bell.wait_looking(self._changes.look, seen, seconds)

    # -------------------------------------------------------------------------------- looking after

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        found, problems = await self._readers.run(_find_runs, wanted)
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

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of the database in its state at one moment, with SQLite's online backup.

        Runs may continue meanwhile. The copy is one file without a log; it gets its name once it is
        complete, and replaces an existing backup.

        Args:
            target: The file.

        Returns:
            The size of the copy in bytes.

        Raises:
            StorageError: It cannot be written, or is a database in use.
        """
        place = settled_path(target, "a backup")
        if place == self.path:
            raise StorageError(
                f"{place} is the database itself: choose another name for the backup"
            )
        return await self._readers.run(backup.back_up, place)

    async def vacuum(self) -> None:
        """Return unused space to the file system; other processes cannot write meanwhile."""
        await self._writer.run_apart(lambda db: db.execute("VACUUM") and None)

    # -------------------------------------------------------------------------------------- reading

    def _load_parts(self, header: CheckpointHeader) -> Mapping[PartKey, Part]:
        return self._read_here(reads.load_parts, header, self._open_list)

    def _compare(
        self, first: CheckpointHeader, second: CheckpointHeader
    ) -> tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]:
        return self._read_here(reads.compare, first, second, self._open_list)

    def _open_list(self, entry: Listed, where: str) -> ListPart:
        return ListPart.stored(entry.length, partial(self._read_here, _read_list, entry, where))

    async def _read(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._readers.run(lambda db: job(SqliteTables(db), *args, **kwargs))

    def _read_here(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return self._readers.run_here(lambda db: job(SqliteTables(db), *args, **kwargs))

    async def _write(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._writer.run(
            lambda db: job(SqliteTables(db, self._clock), *args, **kwargs)
        )

    async def _write_small(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._writer.run(
            lambda db: job(SqliteTables(db, self._clock), *args, **kwargs), is_small=True
        )

    async def _list(self, workflow_id: str | None, run_id: str | None) -> list[CheckpointHeader]:
        headers, problems = await self._read(reads.list_headers, workflow_id, run_id)
        _warn(problems)
        return headers


def _read_list(tables: SqliteTables, entry: Listed, where: str) -> list[bytes]:
    try:
        return read_list(tables, entry)
    except DamagedPartError as error:
        raise damaged_part(where, error) from error


def _look(db: sqlite3.Connection, run_id: str, incarnation: str | None) -> StoredRun | None:
    stored = run_rows.find_run(db, run_id)
    return stored if stored and incarnation in (None, stored.record.incarnation) else None


def _read_journal(
    db: sqlite3.Connection, run_id: str, head: str, incarnation: str | None
) -> list[bytes]:
    stored = _look(db, run_id, incarnation)
    return run_rows.read_journal(db, stored) if stored and stored.record.head == head else []


def _read_inbox(db: sqlite3.Connection, run_id: str, incarnation: str | None) -> list[InboxEntry]:
    stored = _look(db, run_id, incarnation)
    return (
        rules.unread_entries(stored.record, run_rows.read_inbox(db, stored.key)) if stored else []
    )


def _queue_entry(db: sqlite3.Connection, run_id: str) -> QueueEntry | None:
    stored = run_rows.find_run(db, run_id)
    return None if stored is None else queue_rows.find_entry(db, stored)


def _held_runs(db: sqlite3.Connection) -> list[RunRecord]:
    found = [run_rows.find_run(db, run_id) for run_id in queue_rows.held_run_ids(db)]
    return [stored.record for stored in found if stored is not None]


def _find_runs(db: sqlite3.Connection, wanted: RunFilter) -> tuple[list[RunRecord], list[str]]:
    last = run_rows.find_run(db, wanted.before) if wanted.before is not None else None
    check_before(wanted, last.record if last else None)
    return run_rows.find_runs(db, wanted, last.record if last else None)


def _warn(problems: Iterable[str]) -> None:
    # Here and not on the thread that found them: warning filters and recorders belong to the
    # caller.
    for problem in problems:
        warnings.warn(problem, CorruptCheckpointWarning, stacklevel=4)
