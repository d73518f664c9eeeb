"""`SqliteCheckpointStorage`: all guarantees, in one database file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import Commit
from supersteps.errors import StorageError
from supersteps.storage._bell import Bell
from supersteps.storage._paths import settled_path
from supersteps.storage.claims import Claim, Claimed
from supersteps.storage.delta.queue import QueuedCommits
from supersteps.storage.delta.storage import DeltaStorage
from supersteps.storage.ports import Capabilities
from supersteps.storage.queue import WorkQueue
from supersteps.storage.rules import InboxEntry, RunRecord
from supersteps.storage.sqlite import backup
from supersteps.storage.sqlite.changes import Changes
from supersteps.storage.sqlite.database import Database
from supersteps.storage.sqlite.readers import Readers
from supersteps.storage.sqlite.tables import SqliteTables
from supersteps.storage.sqlite.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")

_LARGE_BYTES = 1 << 18
"""Commits from this size on do not run on an event loop's thread, even with a fast disk."""


class SqliteCheckpointStorage(DeltaStorage, WorkQueue):
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

    _commits: QueuedCommits

    def __init__(
        self,
        path: str | os.PathLike[str],
        codec: Codec | None = None,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = 30.0,
    ) -> None:
        self.path = settled_path(path, "SqliteCheckpointStorage")
        super().__init__(codec, QueuedCommits())
        self.capabilities = Capabilities(
            address=f"sqlite:///{self.path}",
            can_manage=True,
            can_back_up=True,
            can_queue=True,
            can_read_lineage=True,
        )
        database = Database(self.path, busy_seconds)
        self._writer = Writer(database, clock, self._commits.heads.clear)
        self._readers = Readers(database)
        self._changes = Changes(database)
        self._bell = Bell()

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

    # ----------------------------------------------------------------------------- runs and commits

    async def commit(self, commit: Commit) -> int | None:
        if commit.queue is not None:
            return await self._submit(commit)
        return await self._writer.run(
            lambda tables: self._commits.commit(tables, commit),
            alone=commit.header.run_id,
            is_small=commit.changes.size < _LARGE_BYTES,
            written=lambda tables: self._commits.is_written(tables, commit),
        )

    async def _submit(self, commit: Commit) -> int | None:
        newest = await self._writer.run(
            lambda tables: self._commits.submit(tables, commit),
            alone=commit.header.run_id,
            is_small=commit.changes.size < _LARGE_BYTES,
            written=lambda tables: self._commits.is_written(tables, commit),
        )
        self._bell.ring()
        return newest

    # ---------------------------------------------------------------------------- journal and inbox

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        entries = await super().add_answers(run_id, answers, incarnation=incarnation)
        self._bell.ring()
        return entries

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
        return await self._readers.run(SqliteTables.next_ready_at, workflow_ids, queues)

    async def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        return await self._readers.run(SqliteTables.queued_workflows, queues)

    async def held_runs(self) -> list[RunRecord]:
        return await self._readers.run(_held_runs)

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        return await self._bell.wait_looking(self._changes.look, seen, seconds)

    # -------------------------------------------------------------------------------- looking after

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
        return await self._readers.run(lambda tables: backup.back_up(tables.db, place))

    async def vacuum(self) -> None:
        """Return unused space to the file system; other processes cannot write meanwhile."""
        await self._writer.run_apart(lambda tables: tables.db.execute("VACUUM") and None)

    # -------------------------------------------------------------------------------- transactions

    async def _read(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._readers.run(job, *args, **kwargs)

    def _read_here(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return self._readers.run_here(job, *args, **kwargs)

    async def _write(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._writer.run(lambda tables: job(tables, *args, **kwargs))

    async def _write_small(
        self,
        job: Callable[Concatenate[SqliteTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._writer.run(lambda tables: job(tables, *args, **kwargs), is_small=True)


def _queue_entry(tables: SqliteTables, run_id: str) -> QueueEntry | None:
    stored = tables.find_run(run_id)
    return None if stored is None else tables.find_entry(stored)


def _held_runs(tables: SqliteTables) -> list[RunRecord]:
    found = [tables.find_run(run_id) for run_id in tables.held_run_ids()]
    return [stored.record for stored in found if stored is not None]
