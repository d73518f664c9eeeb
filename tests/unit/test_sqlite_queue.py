"""The queue in SQLite: what a claim reads, what it does not write, and damage."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supersteps import SqliteCheckpointStorage
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.claims import Claim
from supersteps.storage.sqlite.queue_rows import SQL
from tests.contract.support import ELSEWHERE, Writer


async def submitted(storage: SqliteCheckpointStorage, *run_ids: str) -> None:
    for number, run_id in enumerate(run_ids):
        entry = QueueEntry(ready_at=1.0 + number)
        await Writer(storage, run_id).commit(lease_seconds=None, queue=entry)


def claim(**fields: Any) -> Claim:
    return Claim(owner=ELSEWHERE, workflow_ids=("flow",), limit=10, **fields)


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        ("due", ("default", "flow", 0, 9.0), "queue_by_turn"),
        ("next_priority", ("default", "flow", 9), "queue_by_turn"),
        ("next_ready_at", ("default", "flow", 0), "queue_by_turn"),
        ("queued_workflows", ("default",), "queue_by_turn"),
        ("claimed", (), "queue_claimed"),
        ("held", (), "heads_held"),
        ("held", (), "queue_claimed"),
        ("held_runs", (), "heads_held"),
    ],
)
async def test_no_claim_reads_all_runs(
    statement: str, values: tuple[Any, ...], index: str, tmp_path: Path
) -> None:
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        await submitted(storage, "run")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        rows = db.execute(f"EXPLAIN QUERY PLAN {SQL[statement]}", values).fetchall()
    plan = [row[-1] for row in rows]
    assert any(index in step for step in plan), plan
    scans = [step for step in plan if step.startswith("SCAN")]
    assert all(" USING " in step for step in scans), plan


async def test_a_superstep_writes_neither_the_queue_nor_an_index_of_leases(tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        writer = Writer(storage)
        await writer.commit(queue=QueueEntry())
        writes: list[str] = []
        db = storage._writer._db
        assert db is not None
        db.set_trace_callback(writes.append)
        await writer.put(n=b"1")
        assert any("UPDATE heads" in statement for statement in writes)
        assert not any(" queue" in statement for statement in writes)
        assert not any("lease_owner =" in statement for statement in writes)


async def test_a_damaged_place_is_told_of_and_keeps_no_other_run_waiting(tmp_path: Path) -> None:
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        await submitted(storage, "bad", "good")
        assert await storage.verify() == []
    with closing(sqlite3.connect(tmp_path / "runs.db")) as db:
        db.execute("UPDATE queue SET crashes = 2 WHERE run = 1")
        db.commit()
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        (damage,) = await storage.verify()
        assert "run 'bad' is damaged: its row 1 in table `queue`" in damage.problem
        found = await storage.claim_runs(claim())
        assert [run.run_id for run in found.runs] == ["good"]
        (problem,) = found.problems
        assert "run 'bad' is damaged" in problem
        with pytest.raises(CorruptCheckpointError):
            await storage.queue_entry("bad")
        await storage.enqueue("bad", QueueEntry(ready_at=1.0))  # which mends it
        found = await storage.claim_runs(claim())
        assert [run.run_id for run in found.runs] == ["bad"]
