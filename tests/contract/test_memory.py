from pathlib import Path

from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.testing import Clock, StorageContract


class TestMemory(StorageContract):
    lacks = ("durability",)

    def open_storage(self, folder: Path, clock: Clock) -> InMemoryCheckpointStorage:
        return InMemoryCheckpointStorage(clock=clock)
