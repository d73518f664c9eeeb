import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
from supersteps.testing import Clock, StorageContract


class TestSqlite(StorageContract):
    def open_storage(self, folder: Path, clock: Clock) -> SqliteCheckpointStorage:
        return SqliteCheckpointStorage(folder / "runs.db", clock=clock)

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        run_id, _, number = checkpoint_id.rpartition("-")
        with sqlite3.connect(folder / "runs.db") as db:
            (run,) = db.execute("SELECT run FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            row, place = "run = ? AND sequence = ?", (run, int(number))
            (entries,) = db.execute(
                f"SELECT entries FROM checkpoints WHERE {row}", place
            ).fetchone()
            spoilt = entries[:-1] + bytes([entries[-1] ^ 1])
            db.execute(f"UPDATE checkpoints SET entries = ? WHERE {row}", (spoilt, *place))
        db.close()

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        """What a death would leave is what the files hold at that moment: the survivor gets a
        copy of them.
        """
        self._left, self._at = point, self.folder.with_name(f"{self.folder.name} left")
        work()
        died, self._left = self._left < 0, None
        if died:
            self.folder = self._at
        return died

    # Every statement is a point.

    _left: int | None = None
    _at: Path

    def setup_method(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._tracing = threading.Lock()
        real = sqlite3.connect

        def connect(*args: Any, **options: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = real(*args, **options)
            db.set_trace_callback(self._trace)
            return db

        self._patch.setattr(sqlite3, "connect", connect)
        super().setup_method()

    def teardown_method(self) -> None:
        try:
            super().teardown_method()
        finally:
            self._patch.undo()

    def _trace(self, statement: str) -> None:
        with self._tracing:
            if self._left is None or self._left < 0:
                return
            self._left -= 1
            if self._left < 0:
                self._at.mkdir()
                for path in self.folder.glob("runs.db*"):
                    if not path.name.endswith("-shm"):
                        shutil.copy(path, self._at)
