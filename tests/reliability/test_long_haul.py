"""The long haul in small: counts of what is stored and what is kept in memory, not times."""

import gc
import sqlite3
import tracemalloc
from pathlib import Path

from supersteps import SqliteCheckpointStorage
from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.values import Sealer
from supersteps.engine.levels import SHARED_STATE
from supersteps.engine.view import Overlay, View, Write
from tests.reliability.long_haul import (
    Countdown,
    Course,
    Figures,
    counting,
    crowded,
    fan,
    lines,
    slow,
)


def rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as database:
        count: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    database.close()
    return count


class Memory(Course):
    """Measures what Python has allocated, at each tenth."""

    def reach(self, done: int) -> None:
        if done in self._places:
            self._places.discard(done)
            self.seen.append((done, 0.0, tracemalloc.get_traced_memory()[0], 0, 0.0))


async def test_a_long_run_with_retention_keeps_little_in_its_file_and_in_memory(
    tmp_path: Path,
) -> None:
    sizes = []
    for steps in (250, 750):
        path = tmp_path / f"{steps}.db"
        course = Memory(steps)
        async with SqliteCheckpointStorage(path) as storage:
            tracemalloc.start()
            try:
                await counting(Countdown(course, steps), storage, steps, keep=50).run(
                    steps, run_id="r"
                )
            finally:
                tracemalloc.stop()
        assert rows(path, "checkpoints") <= 150
        assert rows(path, "chunks") <= 300
        sizes.append(path.stat().st_size)
        kept = [memory for _, _, memory, *_ in course.seen]
        assert (
            kept[-1] - kept[5] < 1_000_000
        )  # the result keeps the newest events, and no more of them than it may

    assert sizes[1] <= sizes[0] * 1.5 + 100_000


async def test_many_runs_leave_what_they_stored_and_nothing_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    kept = []
    async with SqliteCheckpointStorage(path) as storage:
        workflow = counting(Countdown(), storage, 3)
        tracemalloc.start()
        try:
            for number in range(150):
                await workflow.run(2, run_id=f"r{number}")
                if number % 50 == 49:
                    gc.collect()
                    kept.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()

    assert rows(path, "runs") == 150
    assert rows(path, "checkpoints") == 150 * 4
    assert rows(path, "journal") == 0
    assert kept[2] - kept[1] < 40_000


async def test_many_messages_in_one_superstep_are_one_commit(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteCheckpointStorage(path) as storage:
        await crowded(storage).run(3000, run_id="r")
        record = await storage.load_record("r-000002")

    assert record is not None
    assert record.parts[("executor_states", "tally", "count")] == b"3000"
    assert rows(path, "checkpoints") == 3
    assert rows(path, "journal") == 0


def test_items_that_are_appended_one_by_one_are_not_copied_each_time() -> None:
    sealer = Sealer(Codec(), encoding=True)
    overlay: Overlay = {}
    view = View({}, {}, sealer)
    view.note(Write(SHARED_STATE, "seen", sealer.seal(0, ""), is_update=True), overlay)
    before = overlay[SHARED_STATE]["seen"]
    view.note(Write(SHARED_STATE, "seen", sealer.seal(1, ""), is_update=True), overlay)

    assert overlay[SHARED_STATE]["seen"] is before
    assert view.read(SHARED_STATE, "seen", overlay) == [0, 1]


async def test_a_wide_fan_and_a_slow_consumer_come_to_their_end(tmp_path: Path) -> None:
    (tmp_path / "fan").mkdir()
    fanned = await fan(tmp_path / "fan", 10, width=50)
    talked = await slow(tmp_path, 5000)

    assert fanned.size == 10
    assert talked.remarks[-1].endswith("undelivered")
    assert int(talked.remarks[0].split()[2].replace(",", "")) <= 1001
    assert not [problem for problem in talked.problems if "arrived" in problem]


def test_the_table_says_what_is_not_flat() -> None:
    row = Figures("a part", 10, "item", 1.0, 0.1, 0.2, 2.0, (10_000_000, 70_000_000)).judge()

    assert "NOT FLAT: the last tenth took 2.00 times" in lines([row])[1]
    assert "memory grew by 60.0 MB" in lines([row])[1]


def test_time_that_other_processes_used_is_not_a_failure() -> None:
    row = Figures("a part", 10, "item", 1.0, 0.1, 0.2, 1.1).judge()

    assert not row.problems
    assert "1.10 times by the processor" in row.remarks[0]
