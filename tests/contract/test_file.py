import contextlib
from collections.abc import Callable
from pathlib import Path

from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.testing import Clock, StorageContract
from tests.contract.support import Crash, crash_files


class TestFile(StorageContract):
    def open_storage(self, folder: Path, clock: Clock) -> FileCheckpointStorage:
        return FileCheckpointStorage(folder / "checkpoints", clock=clock)

    def damage(self, folder: Path, checkpoint_id: str) -> None:
        path = folder / "checkpoints" / f"{checkpoint_id}.json"
        data = path.read_bytes()
        path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])

    def crash(self, point: int, work: Callable[[], object]) -> bool:
        with crash_files(half=point % 2 == 1) as faults:
            faults.arm(point)
            with contextlib.suppress(Crash):
                work()
            return faults.disarm()
