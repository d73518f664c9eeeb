from pathlib import Path

from supersteps.storage.sqlite import SqliteCheckpointStorage
from supersteps.testing import Clock, StorageContract


class TestSqlite(StorageContract):
    def open_storage(self, folder: Path, clock: Clock) -> SqliteCheckpointStorage:
        return SqliteCheckpointStorage(folder / "runs.db", clock=clock)
