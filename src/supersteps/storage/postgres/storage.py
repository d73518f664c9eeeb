"""`PostgresCheckpointStorage`: all guarantees, for programs on several machines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.record import Commit
from supersteps.storage.delta.storage import DeltaStorage
from supersteps.storage.delta.tables import StoredTables, WritableTables
from supersteps.storage.ports import Capabilities
from supersteps.storage.postgres.addresses import SCHEMA, read_dsn, split_address
from supersteps.storage.retention import RetentionPolicy

P = ParamSpec("P")
T = TypeVar("T")

_PRUNED_TOGETHER = 2000
"""Maximum number of checkpoints deleted in one transaction; the run waits meanwhile."""


class PostgresCheckpointStorage(DeltaStorage):
    """Keeps runs in a Postgres database (13 or later); safe across threads, loops and machines.

    Choose it when programs on several machines work on the same runs; on one machine
    `SqliteCheckpointStorage` is faster and needs no server. Needs `pip install
    'supersteps[postgres]'`.

    A superstep is one transaction in one round trip; runs that commit at the same time share
    transactions. Leases expire by the server's clock. A server that restarts, or a failover, is
    waited for, and a commit whose reply was lost is recognized.

    For what each method does, see the port `ManagedStorage`.

    Args:
        dsn: Where the server is: `postgresql://user:password@host:5432/database`, or libpq's
            `host=... dbname=...`. What it leaves out comes from the environment (`PGPASSWORD` and
            so on).
        codec: Encodes and decodes values; types registered with it are rebuilt on load.
        schema: The schema that all tables are in. It is created when it is first used.
        pool_size: Maximum number of connections for writing and reading at the same time. Whoever
            looks into a listed checkpoint may open another one for a moment.
        patience_seconds: How long to wait for a server that restarts and for a statement; half of
            it for a lock.
        clock: The time by which leases expire, in Unix seconds, for tests. None for the server's.

    Attributes:
        codec: The codec.
        capabilities: Where it is, without the password, and what it can do.

    Raises:
        StorageError: The address cannot be read, or psycopg is missing.
    """

    def __init__(
        self,
        dsn: str,
        codec: Codec | None = None,
        *,
        schema: str = SCHEMA,
        pool_size: int = 8,
        patience_seconds: float = 30.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if pool_size < 1:
            raise ValueError(f"pool_size is the number of connections, at least 1, not {pool_size}")
        self._server = read_dsn(dsn, schema)
        self._options: dict[str, Any] = {
            "schema": schema,
            "pool_size": pool_size,
            "patience_seconds": patience_seconds,
        }
        # Here, so that `from supersteps import *` needs no psycopg.
        from supersteps.storage.postgres.access import Access

        self._access = Access(self._server, pool_size, patience_seconds, clock)
        super().__init__(codec, self._access.commits)
        self.capabilities = Capabilities(
            address=self._server.name, can_manage=True, can_read_lineage=True
        )

    @classmethod
    def open(cls, address: str, *, codec: Codec | None = None) -> Self:
        """Return the storage at an address, which may name the schema: `...?schema=name`."""
        dsn, own = split_address(address)
        return cls(dsn, codec, schema=own.get("schema", SCHEMA))

    def __repr__(self) -> str:
        return f"PostgresCheckpointStorage({self._server.name!r})"

    def __reduce__(self) -> Any:
        """Let it be pickled: another process opens the same database."""
        return partial(type(self), **self._options), (self._server.dsn, self.codec)

    async def aclose(self) -> None:
        """Finish what is under way and close the connections; it may be used again afterwards."""
        await self._access.aclose()
        self.note_closed()

    async def commit(self, commit: Commit) -> int | None:
        return await self._access.queue.commit(commit)

    async def delete_run(self, run_id: str) -> bool:
        """Delete a run with all its checkpoints; return whether it was there.

        The run disappears at once; its checkpoints are deleted in small transactions. If those are
        interrupted, `vacuum` deletes the rest.
        """
        was_there = await self._write(self._delete_run, run_id)
        if was_there:
            await self._access.run(self._access.clear_up)
        return was_there

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        """Delete the checkpoints that a policy removes, many of them in several transactions.

        So the run's owner does not wait long.
        """
        unwanted = await super().prune(run_id, policy, dry_run=True)
        if dry_run:
            return unwanted
        gone: list[str] = []
        for first in range(0, len(unwanted), _PRUNED_TOGETHER):
            batch = unwanted[first : first + _PRUNED_TOGETHER]
            gone += await self._write(self._upkeep.remove, run_id, batch)
        return gone

    async def vacuum(self) -> None:
        """Make space of deleted rows reusable; other programs can read and write meanwhile."""
        await self._access.run(self._access.clear_up)
        await self._access.run(self._access.database.vacuum)

    def _delete_run(self, tables: WritableTables, run_id: str) -> bool:
        stored = tables.find_run(run_id)
        if stored is not None:
            tables.delete_run(stored)
            self._commits.heads.forget(run_id)
        return stored is not None

    # -------------------------------------------------------------------------------- transactions

    async def _read(
        self,
        job: Callable[Concatenate[StoredTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._access.run(lambda: self._read_here(job, *args, **kwargs))

    def _read_here(
        self,
        job: Callable[Concatenate[StoredTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return self._access.database.read(lambda tables: job(tables, *args, **kwargs))

    async def _write(
        self,
        job: Callable[Concatenate[WritableTables, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._access.run(
            lambda: self._access.database.write(lambda tables: job(tables, *args, **kwargs))
        )
