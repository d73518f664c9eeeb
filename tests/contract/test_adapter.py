from pathlib import Path

import pytest

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.testing import Clock, StorageContract
from tests.contract.support import PlainStorage


class TestAdapter(StorageContract):
    """A plain storage: what it lacks is found out."""

    def setup_method(self) -> None:
        self.saved: dict[Path, dict[str, WorkflowCheckpoint]] = {}
        super().setup_method()

    def open_storage(self, folder: Path, clock: Clock) -> PlainStorage:
        storage = PlainStorage()
        storage.checkpoints = self.saved.setdefault(folder, {})
        return storage


class Watching(InMemoryCheckpointStorage):
    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        return await super().save_checkpoint(checkpoint)


class TestOverridden(StorageContract):
    """A durable storage whose subclass wants to see each checkpoint: driven through the adapter,
    too.
    """

    lacks = ("durability",)

    def open_storage(self, folder: Path, clock: Clock) -> Watching:
        return Watching(clock=clock)


def test_what_it_lacks_is_skipped_by_name() -> None:
    case = TestAdapter()
    case.setup_method()
    with pytest.raises(
        pytest.skip.Exception, match="PlainStorage lacks 'journal': records of finished calls"
    ):
        case.needs("journal")
    case.teardown_method()
