"""A process that drives nested sub-workflows is killed with SIGKILL at random moments, and nothing of it shows."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from supersteps import ManagedStorage, WorkflowCheckpoint, open_storage
from tests.acceptance.killable_nested import LINES, ORDERS, RUN, Approval, Line, Order

ROOT = Path(__file__).parents[2]
DEADLINE = 50.0
KILLS = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]


def launch(folder: Path, store: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.acceptance.killable_nested", str(folder), store],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, store: str) -> list[Any]:
    process = launch(folder, store)
    out, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    result: list[Any] = json.loads(out)
    return result


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def storage_of(folder: Path, store: str) -> ManagedStorage:
    storage = open_storage(folder / store)
    assert isinstance(storage, ManagedStorage)
    storage.codec.add_types([Order, Line, Approval])
    return storage


async def recorded(folder: Path, store: str) -> list[str]:
    """Return the idempotency keys of the calls that the journal of the unfinished superstep holds."""
    async with storage_of(folder, store) as storage:
        run = await storage.get_run(RUN)
        if run is None:
            return []
        head = await storage.load_record(run.head)
        assert head is not None
        step = head.header.iteration_count + 1
        found = [json.loads(record) for record in await storage.read_journal(RUN, run.head)]
        return [f"{RUN}:{run.branch}:{step}:{record['executor_id']}:{record['key']}" for record in found]


async def lineage(folder: Path, store: str) -> list[WorkflowCheckpoint]:
    async with storage_of(folder, store) as storage:
        return await storage.list_checkpoints(run_id=RUN)


def content(checkpoint: WorkflowCheckpoint) -> Any:
    return (
        checkpoint.iteration_count,
        checkpoint.branch,
        checkpoint.status,
        checkpoint.shared_state,
        checkpoint.executor_states,
        checkpoint.sub_workflows,
        checkpoint.outputs,
        checkpoint.messages,
        list(checkpoint.pending_requests),
    )


@pytest.mark.parametrize("store", ["checkpoints", "runs.db"])
def test_killed_inside_sub_workflows_it_ends_like_a_run_nobody_killed(tmp_path: Path, store: str) -> None:
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    print(f"KILL_SEED={seed}")
    dice = random.Random(seed)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    expected = finish(calm, store)
    assert len(expected) == ORDERS

    kills, settled = 0, Counter[str]()
    outputs = None
    while kills < KILLS:
        process = launch(killed, store)
        end = time.monotonic() + DEADLINE
        goal = len(calls(killed)) + dice.randint(1, 5)
        while process.poll() is None and len(calls(killed)) < goal and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.012)
        process.kill()
        out, errors = process.communicate()
        if process.returncode == 0:
            outputs = json.loads(out)
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
        # Recorded calls have run exactly once more often than never: from now on they must not run again.
        counts = Counter(calls(killed))
        settled.update({key: counts[key] for key in asyncio.run(recorded(killed, store)) if key not in settled})
    if outputs is None:
        outputs = finish(killed, store)

    print(f"{kills} kills, {len(settled)} recorded calls")
    assert outputs == expected
    first, second = asyncio.run(lineage(calm, store)), asyncio.run(lineage(killed, store))
    assert [content(cp) for cp in second] == [content(cp) for cp in first]
    assert max(len(cp.sub_workflows) for cp in first) == ORDERS * (1 + LINES)
    assert (second[-1].sub_workflows, second[-1].executor_states) == ({}, {})
    counts = Counter(calls(killed))
    assert set(counts) == set(calls(calm))
    assert {key: counts[key] for key in settled} == dict(settled)
    assert kills >= 3
