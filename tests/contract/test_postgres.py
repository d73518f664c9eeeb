import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("psycopg")

import psycopg

from supersteps.encryption.storage import EncryptedStorage
from supersteps.storage.ports import DurableStorage
from supersteps.storage.postgres.migrations import table_names
from supersteps.storage.postgres.storage import PostgresCheckpointStorage
from supersteps.testing import (
    Clock,
    Corruption,
    Inbox,
    Journal,
    Lineage,
    Retention,
    RoundTrips,
    StorageContract,
    Subject,
)
from tests.contract.support import Crash
from tests.contract.test_encrypted import KEYS
from tests.postgres_server import fresh_schema, server_dsn

READS = ("SELECT", "BEGIN", "SET", "ROLLBACK")


class PostgresSubject(Subject):
    """All tests of a process use one schema: to make one takes longer than most of them."""

    schema: ClassVar[str] = fresh_schema()
    place: ClassVar[Path | None] = None
    opened: ClassVar[list[PostgresCheckpointStorage]] = []

    def open_storage(self, folder: Path, clock: Clock) -> DurableStorage:
        if PostgresSubject.place != folder:
            PostgresSubject.place = folder
            while self.opened:
                self.opened.pop()._access._connections.close()
            with psycopg.connect(server_dsn()) as db:
                if db.execute("SELECT to_regnamespace(%s)", (self.schema,)).fetchone() != (None,):
                    for table in table_names():
                        db.execute(f"DELETE FROM {self.schema}.{table}")
        storage = PostgresCheckpointStorage(server_dsn(), schema=self.schema, clock=clock)
        self.opened.append(storage)
        return storage

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        run_id, _, number = checkpoint_id.rpartition("-")
        with psycopg.connect(server_dsn()) as db:
            db.execute(
                f"UPDATE {self.schema}.checkpoints "
                "SET entries = set_byte(entries, length(entries) - 1, "
                "                       get_byte(entries, length(entries) - 1) # 1) "
                "WHERE sequence = %s "
                f"AND run = (SELECT run FROM {self.schema}.runs WHERE run_id = %s)",
                (int(number), run_id),
            )

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        """Every statement that writes is a point: neither it nor any after it is sent."""
        self._left = point
        try:
            work()
        except Crash:
            return True
        finally:
            self._left = None
        return False

    _left: int | None = None

    def setup_method(self) -> None:
        self._patch = pytest.MonkeyPatch()
        counting = threading.Lock()
        real = psycopg.Connection.execute

        def execute(db: Any, statement: bytes | str, *args: Any, **options: Any) -> Any:
            text = statement if isinstance(statement, str) else statement.decode()
            with counting:
                if self._left is not None:
                    self._left -= not text.startswith(READS)
                    if self._left < 0:
                        raise Crash
            return real(db, statement, *args, **options)

        self._patch.setattr(psycopg.Connection, "execute", execute)
        super().setup_method()

    def teardown_method(self) -> None:
        try:
            super().teardown_method()
        finally:
            self._patch.undo()


class TestPostgres(PostgresSubject, StorageContract):
    pass


class TestEncryptedPostgres(
    PostgresSubject, RoundTrips, Lineage, Journal, Inbox, Corruption, Retention
):
    """What an encrypting wrapper changes; the rest is the same as without it."""

    def open_storage(self, folder: Path, clock: Clock) -> DurableStorage:
        return EncryptedStorage(super().open_storage(folder, clock), KEYS)
