"""The fast part of the power cuts, and proof that the lab would notice a library that does not
sync.
"""

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability import power
from tests.reliability.judging import acknowledgements, judge
from tests.reliability.recording import Disk, Op, record
from tests.reliability.tracing import why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
SEED = 20261123

each_store = pytest.mark.parametrize("store", ["runs.db", "checkpoints"])


@each_store
def test_nothing_synced_is_lost(store: str) -> None:
    row = (power.power_sqlite if store == "runs.db" else power.power_file)(40, SEED)

    assert row.is_clean, row.details
    assert row.trials == 40


@each_store
def test_the_recording_is_the_disk(store: str, tmp_path: Path) -> None:
    place, copy = tmp_path / "place", tmp_path / "copy"
    place.mkdir()
    copy.mkdir()
    disk = Disk()
    for op in record(place, store, ("fork", "prune")):
        disk.do(op)
    for op in disk.everything():
        disk.do(op)
    disk.lose_power(copy, random.Random(1))

    assert contents(copy) == contents(place)


def contents(folder: Path) -> dict[str, bytes]:
    files = [
        path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")
    ]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@each_store
def test_the_lab_notices_a_missing_sync(store: str) -> None:
    operations = [op for op in power.recorded(store, ()) if op.kind != "sync"]
    found: Counter[str] = Counter()
    for trial in range(30):
        dice = random.Random(trial)
        disk, said = Disk(), b""
        for op in operations[: dice.randint(len(operations) // 2, len(operations))]:
            said += op.data if op.kind == "said" else b""
            disk.do(op)
        with tempfile.TemporaryDirectory() as folder:
            disk.lose_power(Path(folder), dice)
            verdict = judge(str(Path(folder, store)), acknowledgements(said))
        found["lost"] += bool(verdict.lost)
        found["wrong"] += bool(verdict.wrong)

    assert found["lost"] >= 5, found


def test_writes_are_torn_and_dropped() -> None:
    disk = Disk()
    disk.do(Op("create", "a"))
    disk.do(Op("write", "a", b"synced"))
    disk.do(Op("sync", "a"))
    disk.do(Op("sync", ""))
    disk.do(Op("write", "a", b"X" * 2048, 6))
    seen = set()
    for trial in range(200):
        with tempfile.TemporaryDirectory() as folder:
            disk.lose_power(Path(folder), random.Random(trial))
            content = Path(folder, "a").read_bytes()
        assert content.startswith(b"synced")
        seen.add(len(content))

    assert {6, 6 + 2048} < seen
    assert all(size == 6 or (size - 6) % 512 == 0 for size in seen)
