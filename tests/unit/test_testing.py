from pathlib import Path
from typing import Any

import pytest

from supersteps.storage.files.storage import FileCheckpointStorage
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.testing import (
    CAPABILITIES,
    Clock,
    Journal,
    StorageContract,
    Subject,
    capabilities,
    judge,
    report,
)
from tests.contract.support import PlainStorage


def test_capabilities_are_told_by_the_methods(tmp_path: Path) -> None:
    class Half:
        async def save_checkpoint(self, checkpoint: Any) -> str:
            return ""

    for full in (InMemoryCheckpointStorage(), FileCheckpointStorage(tmp_path)):
        assert set(capabilities(full).values()) == {"full"}
    plain = capabilities(PlainStorage())
    assert (plain["checkpoints"], plain["commits"], plain["journal"], plain["management"]) == (
        "full",
        *["partial"] * 3,
    )
    assert capabilities(Half()) == {"checkpoints": "partial"}
    assert capabilities(object()) == {"checkpoints": "missing"}


def test_a_report_is_for_people() -> None:
    lines = report(PlainStorage()).splitlines()
    assert lines[0] == "PlainStorage:"
    assert (
        "  journal      partial  records of finished calls are there when the storage is reopened"
        in lines
    )


def test_a_verdict_tells_what_is_full_partial_missing_and_failed() -> None:
    class Forgetful(InMemoryCheckpointStorage):
        async def read_journal(self, run_id: str, head: str, **which: Any) -> list[bytes]:
            return []

    class Case(StorageContract):
        lacks = ("durability",)

        def open_storage(self, folder: Path, clock: Clock) -> InMemoryCheckpointStorage:
            return Forgetful(clock=clock)

    verdict = judge(Case, topics=("Journal", "Ownership", "Corruption", "Branches"))

    assert verdict.topics() == {
        "Branches": "full",
        "Corruption": "missing",
        "Journal": "failed",
        "Ownership": "failed",
    }
    assert {"test_records_come_back_in_order"} <= set(verdict.failures)
    text = str(verdict)
    assert "Forgetful lacks 'corruption': damage is detected and named" in text
    assert "    test_records_come_back_in_order: AssertionError: " in text


def test_a_case_of_ones_own_may_add_tests_that_are_coroutines() -> None:
    class Case(Journal):
        def open_storage(self, folder: Path, clock: Clock) -> InMemoryCheckpointStorage:
            return InMemoryCheckpointStorage(clock=clock)

        async def test_mine(self) -> None:
            assert await self.storage.list_checkpoint_ids() == ["never"]

    verdict = judge(Case, topics=("Case",))
    assert set(verdict.failures) == {"test_mine"}


def test_what_is_forgotten_or_misspelt_is_said() -> None:
    class Unsaid(StorageContract):
        pass

    class Misspelt(StorageContract):
        lacks = ("jornal",)

        def open_storage(self, folder: Path, clock: Clock) -> InMemoryCheckpointStorage:
            return InMemoryCheckpointStorage(clock=clock)

    with pytest.raises(NotImplementedError, match="def open_storage"):
        Unsaid().setup_method()
    case = Misspelt()
    case.setup_method()
    with pytest.raises(ValueError, match=r"'jornal'.*there are only durability, "):
        case.missing()
    case.teardown_method()


def test_every_capability_is_explained() -> None:
    assert all(CAPABILITIES.values())
    assert issubclass(StorageContract, Subject)
