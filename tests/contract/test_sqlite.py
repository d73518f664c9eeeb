import os
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from supersteps.storage._sqlite.database import Database
from supersteps.storage.sqlite import SqliteCheckpointStorage
from supersteps.testing import Clock, StorageContract

DIED = 42


class TestSqlite(StorageContract):
    def open_storage(self, folder: Path, clock: Clock) -> SqliteCheckpointStorage:
        return SqliteCheckpointStorage(folder / "runs.db", clock=clock)

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        run_id, _, sequence = checkpoint_id.rpartition("-")
        db = sqlite3.connect(folder / "runs.db")
        (run,) = db.execute("SELECT run FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        place = (run << 32 | int(sequence),)
        (data,) = db.execute("SELECT entries FROM checkpoints WHERE checkpoint = ?", place).fetchone()
        data = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
        db.execute("UPDATE checkpoints SET entries = ? WHERE checkpoint = ?", (data, *place))
        db.commit()
        db.close()

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        """Die in a child process, which shares nothing but the file, before its `point`-th statement."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking is deprecated where there are threads
            child = os.fork()
        if child == 0:
            die_before(point)
            work()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, DIED)
        return status == DIED


def die_before(point: int) -> None:
    """Have this process exit, without any farewell, before its `point`-th SQL statement."""
    left = point
    connect = Database.connect

    def count(statement: str) -> None:
        nonlocal left
        if left == 0:
            os._exit(DIED)
        left -= 1

    def counting(self: Database, *, read_only: bool = False) -> sqlite3.Connection:
        db = connect(self, read_only=read_only)
        if not read_only:
            db.set_trace_callback(count)
        return db

    pytest.MonkeyPatch().setattr(Database, "connect", counting)
