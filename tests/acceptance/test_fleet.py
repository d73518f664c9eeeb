"""Workers in processes of their own: killed at random, stopped in good order, late to come back."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from supersteps import SqliteCheckpointStorage, Worker, Workflow
from tests.acceptance.fleet import STEPS, fleet_workflow

RUNS = int(os.environ.get("SUPERSTEPS_TEST_FLEET_RUNS", "60"))
SECONDS = 600.0
"""For how long the fleet may take."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]


class Fleet:
    """Worker processes."""

    def __init__(self, database: Path, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.acceptance.fleet", str(database), str(folder)]
        self.workers: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        return worker

    def end(self, worker: subprocess.Popen[str], how: signal.Signals) -> int:
        self.workers.remove(worker)
        worker.send_signal(how)
        code = worker.wait(60)
        assert worker.stdout is not None
        worker.stdout.close()
        return code


@contextmanager
def fleet_of(count: int, database: Path, folder: Path) -> Iterator[Fleet]:
    fleet = Fleet(database, folder)
    try:
        for _ in range(count):
            fleet.start()
        yield fleet
    finally:
        for worker in tuple(fleet.workers):
            fleet.end(worker, signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


async def ready(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"


async def submitted(workflow: Workflow, count: int) -> list[str]:
    return [await workflow.submit(1) for _ in range(count)]


async def progress(storage: SqliteCheckpointStorage, runs: list[str]) -> AsyncIterator[int]:
    """Give how many runs are done, until all are."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        records = [await storage.get_run(run_id) for run_id in runs]
        bad = [run for run in records if run is None or run.status in ("FAILED", "CANCELLED")]
        assert bad == []
        done = sum(run is not None and run.status == "IDLE" for run in records)
        yield done
        if done == len(runs):
            return
    raise TimeoutError(f"{done} of {len(runs)} runs were done after {SECONDS} s")


async def check(storage: SqliteCheckpointStorage, runs: list[str], folder: Path) -> None:
    """See that each run took each superstep once, and that each step was one piece of work."""
    keys = set()
    for run_id in runs:
        steps = [header.iteration_count for header in await storage.list_headers(run_id)]
        assert steps == list(range(STEPS + 1)), run_id
        for number in range(1, STEPS + 1):
            lines = (folder / f"{run_id}-{number}").read_text().split()
            assert len(set(lines)) == 1, f"{run_id}-{number} was done as several pieces of work"
            keys.add(lines[0])
    assert len(keys) == len(runs) * STEPS
    assert len(list(folder.iterdir())) == len(runs) * STEPS
    assert await storage.held_runs() == []


async def test_two_workers_killed_at_random_complete_all_runs_each_step_once(
    tmp_path: Path, folder: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        workflow = fleet_workflow(storage, folder)
        runs = await submitted(workflow, RUNS // 2)
        killed = 0
        with fleet_of(2, tmp_path / "runs.db", folder) as fleet:
            for worker in fleet.workers:
                await ready(worker)
            runs += await submitted(workflow, RUNS - len(runs))
            async for _done in progress(storage, runs):
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                victim = chance.choice(fleet.workers)
                fleet.end(victim, signal.SIGKILL)
                killed += 1
                await ready(fleet.start())
            for worker in tuple(fleet.workers):
                assert fleet.end(worker, signal.SIGTERM) == 0
        assert killed
        await check(storage, runs, folder)
        assert await storage.verify() == []


async def test_a_worker_that_is_asked_to_end_commits_and_gives_its_runs_back(
    tmp_path: Path, folder: Path
) -> None:
    async with SqliteCheckpointStorage(tmp_path / "runs.db") as storage:
        workflow = fleet_workflow(storage, folder)
        with fleet_of(1, tmp_path / "runs.db", folder) as fleet:
            (worker,) = fleet.workers
            await ready(worker)
            runs = await submitted(workflow, 20)
            assert fleet.end(worker, signal.SIGTERM) == 0
            assert await storage.held_runs() == []
            await ready(fleet.start())
            async for _done in progress(storage, runs):
                await asyncio.sleep(0.1)
        for run_id in runs:
            for number in range(1, STEPS + 1):
                assert len((folder / f"{run_id}-{number}").read_text().split()) == 1


async def test_a_worker_that_was_stopped_beyond_its_lease_changes_nothing_when_it_wakes(
    tmp_path: Path, folder: Path
) -> None:
    """The lease of a stopped process of this machine ends by time: a clock ahead shortens that."""
    database = tmp_path / "runs.db"
    async with (
        SqliteCheckpointStorage(database) as storage,
        SqliteCheckpointStorage(database, clock=lambda: time.time() + 31.0) as ahead,
    ):
        workflow = fleet_workflow(storage, folder)
        with fleet_of(1, database, folder) as fleet:
            (sleeper,) = fleet.workers
            await ready(sleeper)
            runs = await submitted(workflow, 40)
            held = await _stopped_at_work(sleeper, storage, database)
            async with Worker(ahead, [fleet_workflow(ahead, folder)]) as worker:
                task = asyncio.create_task(worker.run(handle_signals=False))
                async for _done in progress(storage, runs):
                    await asyncio.sleep(0.05)
                worker.drain()
                await task
            before = {run_id: await storage.get_run(run_id) for run_id in runs}
            sleeper.send_signal(signal.SIGCONT)
            assert fleet.end(sleeper, signal.SIGTERM) == 0
            assert {run_id: await storage.get_run(run_id) for run_id in runs} == before
        taken = [before[run_id] for run_id in held]
        assert all(run is not None and run.epoch == 3 for run in taken)
        await check(storage, runs, folder)


async def _stopped_at_work(
    worker: subprocess.Popen[str], storage: SqliteCheckpointStorage, database: Path
) -> list[str]:
    """Stop a worker while it has runs, but not amid a transaction; return the runs."""
    for _ in range(1000):
        worker.send_signal(signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            held = []
        else:
            held = [run.run_id for run in await storage.held_runs()]
        if held:
            return held
        worker.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.005)
    raise TimeoutError("the worker had nothing to do")
