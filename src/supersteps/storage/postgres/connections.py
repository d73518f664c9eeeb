"""Connections to one server: opened, checked, kept for the next who needs one, replaced."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8, Int8BinaryDumper

from supersteps._process_fork import forkable_lock, keep_forever, restart_in_child
from supersteps.errors import StorageError
from supersteps.storage._statements import load_statements
from supersteps.storage.postgres._driver import psycopg
from supersteps.storage.postgres.addresses import Server
from supersteps.storage.postgres.refusals import cannot_connect, translated

Db: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Cursor: TypeAlias = "psycopg.Cursor[tuple[Any, ...]]"
Values: TypeAlias = Sequence[Any] | Mapping[str, Any] | None

_OLDEST = 130000
"""Postgres 13 is the first that tells what has become of a transaction by its number."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_MARK = "superstep.direct"
"""A setting that has no effect: a session that has it is the one that was asked for."""


def statements(file: str, schema: str) -> dict[str, str]:
    """Return the statements of a file in this folder, about the tables of a schema."""
    return {
        name: in_schema(text, schema)
        for name, text in load_statements("supersteps.storage.postgres", file).items()
    }


def in_schema(text: str, schema: str) -> str:
    """Return SQL about the tables of another schema than `supersteps`, which the files name."""
    return text.replace("supersteps.", f'"{schema}".')


def bigints(numbers: Iterable[int]) -> list[Int8]:
    """Return what is sent as an array of bigint; psycopg would choose a type by its first."""
    return list(map(Int8, numbers))


class Link:
    """A connection.

    Behind PgBouncer in transaction mode, two transactions of one connection may be done by two
    sessions of the server. Such a link prepares no statements, and sets its limits in each
    transaction; a direct one does both once.

    Attributes:
        db: The connection; it is in autocommit mode.
        is_direct: Whether one session of the server does all that is sent.
        limits: Statement timeout and lock timeout.
    """

    def __init__(self, db: Db, is_direct: bool, limits: tuple[str, str], limit: str) -> None:
        self.db = db
        self.is_direct = is_direct
        self._limits = limits
        self._limit = limit

    def execute(self, statement: str, values: Values = None) -> Cursor:
        """Execute a statement whose rows come in the binary format."""
        return self.db.execute(
            statement.encode(), values, prepare=self.is_direct or None, binary=True
        )

    def begin(self, how: str) -> None:
        """Begin a transaction."""
        self.db.execute(how.encode())
        if not self.is_direct:
            self.db.execute(self._limit.encode(), self._limits)

    @property
    def is_idle(self) -> bool:
        """Whether it can be used for another transaction."""
        return not self.db.closed and self.db.info.transaction_status == TransactionStatus.IDLE


class Connections:
    """Connections of one process to a server, used by one thread at a time.

    This is not psycopg's pool: that one hides why a connection fails behind a timeout, keeps
    threads that a forked child does not have, and would limit those who read on an event loop's
    thread while the others wait for that loop.

    Args:
        server: The server.
        size: So many are kept open while nobody uses them.
        patience_seconds: How long a statement may take, and how long to try to reach a server that
            was there before.
    """

    def __init__(self, server: Server, size: int, patience_seconds: float) -> None:
        self.server = server
        self.patience_seconds = patience_seconds
        self._size = size
        self._sql = statements("database.sql", server.schema)
        milliseconds = max(1, round(patience_seconds * 1000))
        self._limits = (str(milliseconds), str(max(1, milliseconds // 2)))
        self._options = self._own_options()
        self.restart()
        restart_in_child(self)

    def restart(self) -> None:
        """Forget the connections; those of a forked child are its parent's."""
        for link in getattr(self, "_idle", ()):
            keep_forever(link.db)
        self._lock = forkable_lock()
        self._idle: list[Link] = []
        self._was_there = False
        self._is_pooled = False

    @contextmanager
    def link(self) -> Iterator[Link]:
        """Lend a connection; one that is in a transaction afterwards is closed.

        Raises:
            StorageError: The server cannot be reached.
        """
        with self._lock:
            link = self._idle.pop() if self._idle else None
        if link is None:
            link = self._reach()
        try:
            yield link
        finally:
            with self._lock:
                is_kept = link.is_idle and len(self._idle) < self._size
                if is_kept:
                    self._idle.append(link)
            if not is_kept:
                link.db.close()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.db.close()

    def __del__(self) -> None:
        # A storage that nobody closed is no trouble. psycopg would warn of each connection.
        for link in getattr(self, "_idle", ()):
            link.db.close()

    # ------------------------------------------------------------------------------------- opening

    def _reach(self) -> Link:
        """Open a connection; wait for a server that was there before, for it may be restarting."""
        deadline = time.monotonic() + self.patience_seconds
        pause = _FIRST_PAUSE
        while True:
            try:
                link = self._open()
            except psycopg.Error as error:
                if not self._was_there or time.monotonic() + pause > deadline:
                    raise cannot_connect(error, self.server.name) from error
            else:
                self._was_there = True
                return link
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _open(self) -> Link:
        if not self._is_pooled:
            try:
                return self._checked(self._connect(self._options))
            except psycopg.OperationalError as error:
                if "startup parameter" not in str(error):
                    raise
                self._is_pooled = True  # PgBouncer lets no options through
        return self._checked(self._connect(None))

    def _connect(self, options: str | None) -> Db:
        given = psycopg.conninfo.conninfo_to_dict(self.server.dsn)
        wanted: dict[str, Any] = {
            "fallback_application_name": "supersteps",
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": max(1000, round(self.patience_seconds * 1000)),
        }
        if "," in str(given.get("host", "")):
            wanted["target_session_attrs"] = "read-write"  # after a failover, the new primary
        wanted = {name: value for name, value in wanted.items() if name not in given}
        if options is not None:
            wanted["options"] = options
        return psycopg.connect(self.server.dsn, autocommit=True, prepare_threshold=None, **wanted)

    def _own_options(self) -> str:
        """Return settings for a session; those that the user gives come later and count."""
        given = psycopg.conninfo.conninfo_to_dict(self.server.dsn).get("options")
        statement_timeout, lock_timeout = self._limits
        own = {
            _MARK: "yes",
            "statement_timeout": statement_timeout,
            "lock_timeout": lock_timeout,
            "idle_in_transaction_session_timeout": statement_timeout,
            "default_transaction_isolation": r"read\ committed",
        }
        settings = [f"-c {name}={value}" for name, value in own.items()]
        return " ".join([*settings, str(given or os.environ.get("PGOPTIONS", ""))]).strip()

    def _checked(self, db: Db) -> Link:
        try:
            # Every integer is sent as bigint: else each size would make a prepared statement of
            # its own.
            db.adapters.register_dumper(int, Int8BinaryDumper)
            row = db.execute(self._sql["settings"].encode(), prepare=False).fetchone()
            assert row is not None
            mark, synchronous, version, _is_standby = row
            self._check_server(synchronous, version)
        except BaseException:
            db.close()
            raise
        is_direct = mark == "yes"
        db.prepare_threshold = 5 if is_direct else None
        db.prepared_max = 500
        return Link(db, is_direct, self._limits, self._sql["limit"])

    def _check_server(self, synchronous: str, version: int) -> None:
        if version < _OLDEST:
            raise StorageError(
                f"{self.server.name} is Postgres {version // 10000}; the oldest that can be used "
                f"is {_OLDEST // 10000}"
            )
        if synchronous == "off":
            raise StorageError(
                f"{self.server.name} does not wait for its disk (synchronous_commit is off for "
                "this user, database or address), so that a commit could be lost after it was "
                "announced. Set it to on, or to a stricter value."
            )

    @contextmanager
    def errors(self, task: str) -> Iterator[None]:
        """Turn errors of psycopg into the library's.

        Args:
            task: What is being done to the server, as a verb.
        """
        try:
            yield
        except psycopg.Error as error:
            raise translated(error, self.server.name, task) from error
