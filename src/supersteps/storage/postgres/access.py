"""Access to one schema of a server: its connections, threads and the queue of commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from supersteps.storage._workers import Workers
from supersteps.storage.postgres.addresses import Server
from supersteps.storage.postgres.commit_queue import CommitQueue
from supersteps.storage.postgres.commits import PostgresCommits
from supersteps.storage.postgres.connections import Connections
from supersteps.storage.postgres.database import Database
from supersteps.storage.postgres.tables import PostgresTables

T = TypeVar("T")


class Access:
    """All that a storage has open.

    Args:
        server: The server.
        size: Maximum number of threads, and of connections that are kept open.
        patience_seconds: How long to wait for the server.
        clock: The time by which leases expire, None for the server's.

    Attributes:
        commits: Changes runs.
        database: Reads and writes.
        queue: Makes commits.
    """

    def __init__(
        self,
        server: Server,
        size: int,
        patience_seconds: float,
        clock: Callable[[], float] | None,
    ) -> None:
        self._connections = Connections(server, size, patience_seconds)
        self._workers = Workers("supersteps-postgres", size)
        self.commits = PostgresCommits(server.schema, clock)
        self.database = Database(self._connections, clock)
        self.queue = CommitQueue(self.database, self.commits, self._workers)

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job on a thread."""
        return await self._workers.run(job)

    async def aclose(self) -> None:
        """Wait for what is under way, and close the connections."""
        await self._workers.aclose()
        self._connections.close()

    def clear_up(self) -> None:
        """Delete the remains of deleted runs, in small transactions."""
        for run in self.database.write(PostgresTables.removed_runs):
            while self._delete_some(run):
                pass

    def _delete_some(self, run: int) -> bool:
        return self.database.write(lambda tables: tables.delete_some(run))
