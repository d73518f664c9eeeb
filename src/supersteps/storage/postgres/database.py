"""Reading and writing in transactions, also across a restart of the server.

psycopg's blocking connections are used, on threads of the storage. They are needed anyway: the
parts of a listed checkpoint are read when they are first used, on the caller's thread. psycopg's
asynchronous connections belong to one event loop, while a storage serves any number of loops. To
hand a job to a thread costs about as much as an event loop's own waiting for a socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from supersteps._process_fork import restart_in_child
from supersteps.errors import StorageError
from supersteps.storage.postgres._driver import psycopg
from supersteps.storage.postgres.connections import Connections, Link, statements
from supersteps.storage.postgres.migrations import migrate, table_names
from supersteps.storage.postgres.refusals import is_broken, is_to_be_redone
from supersteps.storage.postgres.stored_tables import PostgresStoredTables
from supersteps.storage.postgres.tables import PostgresTables

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE = 0.1


class Database:
    """The tables of one schema.

    Args:
        connections: Connections to the server.
        clock: The time by which leases expire, None for the server's.
    """

    def __init__(self, connections: Connections, clock: Callable[[], float] | None) -> None:
        self.connections = connections
        self.server = connections.server
        self.clock = clock
        self._database_sql = statements("database.sql", self.server.schema)
        self._tables_sql = statements("tables.sql", self.server.schema)
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget that the schema has been checked."""
        self._is_checked = False

    def read(self, job: Callable[[PostgresStoredTables], T]) -> T:
        """Do a job that sees one state of the database."""
        return self._repeat("read", lambda link: self._read(link, job))

    def write(self, job: Callable[[PostgresTables], T]) -> T:
        """Do a job in a transaction, durably.

        It is done anew where the connection broke before the transaction was committed, or another
        transaction came between. Where the reply to COMMIT was lost, the server is asked what has
        become of the transaction.
        """
        return self._repeat("write to", lambda link: self._write(link, job))

    def execute(self, job: Callable[[Link], T]) -> T:
        """Do a job that needs no transaction, once."""
        with self.connections.errors("write to"), self.connections.link() as link:
            self._check(link)
            return job(link)

    def vacuum(self) -> None:
        """Make the space of deleted rows reusable."""

        def vacuum(link: Link) -> None:
            if link.is_direct:
                link.db.execute("SET statement_timeout = 0")
            tables = ", ".join(f'"{self.server.schema}".{name}' for name in table_names())
            link.db.execute(self._database_sql["vacuum"].format(tables=tables).encode())
            link.db.close()  # its settings are changed

        self.execute(vacuum)

    # ------------------------------------------------------------------------------- transactions

    def _repeat(self, task: str, job: Callable[[Link], T]) -> T:
        attempt = 1
        deadline = time.monotonic() + self.connections.patience_seconds
        with self.connections.errors(task):
            while True:
                with self.connections.link() as link:
                    try:
                        self._check(link)
                        return job(link)
                    except psycopg.Error as error:
                        broken = is_broken(error, link.db)
                        link.db.close()
                        if broken and time.monotonic() > deadline:
                            raise
                        if not broken and not (attempt < _ATTEMPTS and is_to_be_redone(error)):
                            raise
                if broken:
                    self.connections.close()  # the others are of the same age
                if attempt > 1:
                    time.sleep(_PAUSE)
                attempt += 1

    def _read(self, link: Link, job: Callable[[PostgresStoredTables], T]) -> T:
        link.begin(self._database_sql["begin_read"])
        try:
            return job(PostgresStoredTables(link, self._tables_sql))
        finally:
            if not link.db.closed:
                link.db.execute("ROLLBACK")

    def _write(self, link: Link, job: Callable[[PostgresTables], T]) -> T:
        is_committing = False
        try:
            with link.db.pipeline():
                link.begin(self._database_sql["begin"])
                transaction = link.execute(self._database_sql["transaction"])
                try:
                    result = job(PostgresTables(link, self._tables_sql, self.clock))
                except psycopg.Error:
                    raise
                except BaseException:
                    link.db.execute("ROLLBACK")
                    raise
                number = _first(transaction)
                is_committing = True
                link.db.execute("COMMIT")
        except psycopg.Error as error:
            if not (is_committing and is_broken(error, link.db)):
                raise
            if not self._is_committed(number):
                raise
        return result

    def _is_committed(self, transaction: str) -> bool:
        """Return what has become of a transaction whose COMMIT was not answered."""
        deadline = time.monotonic() + self.connections.patience_seconds
        while time.monotonic() < deadline:
            self.connections.close()  # those that are idle are of the same age
            with self.connections.link() as link:
                try:
                    outcome = _first(link.execute(self._database_sql["outcome"], (transaction,)))
                except psycopg.Error:
                    outcome = ""
                    link.db.close()
            if outcome in ("committed", "aborted"):
                return outcome == "committed"
            time.sleep(_PAUSE)  # perhaps the server has not noticed that the connection is gone
        raise StorageError(
            f"{self.server.name} does not tell whether the last transaction was committed: the "
            "connection was lost while it was. Look at the run before you go on."
        )

    def _check(self, link: Link) -> None:
        """See once per process that the schema is there and up to date."""
        if not self._is_checked:
            migrate(link, self.server)
            self._is_checked = True


def _first(cursor: psycopg.Cursor[tuple[object, ...]]) -> str:
    row = cursor.fetchone()
    assert row is not None
    return str(row[0])
