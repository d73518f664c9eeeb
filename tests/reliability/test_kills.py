"""The fast part of the kills and faults, and proof that the lab would notice what it looks for."""

import re
from pathlib import Path

import pytest

from tests.reliability import faults, kills, workload
from tests.reliability.judging import judge, undisturbed
from tests.reliability.table import Row, Verdict, lines
from tests.reliability.tracing import live, why_not

SEED = 20261123

needs_strace = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", [kills.kill_sqlite, kills.kill_file, faults.fault_sqlite, faults.fault_file]
)
def test_nothing_is_lost_at_a_system_call(scenario: kills.Scenario) -> None:
    row = scenario(8, SEED)

    assert row.is_clean, row.details
    assert row.trials >= 6  # now and then another thread makes the call, and no process dies


@pytest.mark.slow
def test_nothing_is_lost_in_surroundings_that_fail() -> None:
    row = faults.surroundings(12, SEED)

    assert row.is_clean, row.details


@needs_strace
def test_a_kill_is_a_kill(tmp_path: Path) -> None:
    life = live(tmp_path / "runs.db", tamper="fdatasync:signal=KILL:when=2")

    assert life.code in (-9, 137)
    assert not any(line.startswith("done") for line in life.acknowledged)


@needs_strace
def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    life = live(tmp_path / "checkpoints", tamper="fsync:error=EIO:when=20")

    assert life.code == 1
    assert "Error" in life.errors.splitlines()[-1]
    assert not any(line.startswith("done") for line in life.acknowledged)


def test_the_judge_notices_what_is_missing(tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")

    assert judge(store, []) == Verdict()
    assert judge(store, ["step 11 lab-000011"]).lost
    assert judge(str(tmp_path / "other.db"), ["step 1 lab-000001"]).lost


def test_the_judge_notices_another_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed()
    monkeypatch.setattr(workload, "LAPS", 2)

    verdict = judge(str(tmp_path / "runs.db"), [])

    assert verdict.lost


def test_the_table() -> None:
    row = Row("a scenario")
    row.take(Verdict(), "first")
    row.take(Verdict(lost=["superstep 3"]), "second")

    text = "\n".join(lines([row, Row("another", skipped="no strace")]))

    assert row.details == ["second: superstep 3"]
    assert not row.is_clean
    assert re.search(r"a scenario +2 +1 +0 +0 +0", text)
    assert "skipped: no strace" in text
