"""What the tests that kill processes share: start a Python process, wait for its calls, kill it
at random moments.

A program that is to be killed appends a line to the file `calls` of its folder with every call of a
handler, before the call does anything else. A `Program` is one whose lines name places of calls,
and that says its outputs as JSON.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supersteps import ManagedStorage, WorkflowCheckpoint, open_storage

ROOT = Path(__file__).parents[2]
DEADLINE = 50.0
SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))

needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
each_store = pytest.mark.parametrize("store", ["checkpoints", "runs.db"])


def dice_for(*what: object) -> random.Random:
    """Return dice of a test's own; print the seed, so that a failure can be had again."""
    print(f"KILL_SEED={SEED}")
    return random.Random(" ".join(map(str, (SEED, *what))))


def start(
    *arguments: str, stdin: int | None = None, stderr: int | None = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start Python, with every warning an error; it can import what this process can."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def outputs_of(process: subprocess.Popen[str]) -> list[Any]:
    """Let a process come to its end, which must be a good one; return the outputs that it says."""
    out, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    outputs: list[Any] = json.loads(out)
    return outputs


def calls(folder: Path) -> list[str]:
    try:
        return (folder / "calls").read_text().splitlines()
    except FileNotFoundError:
        return []


def await_calls(process: subprocess.Popen[str], folder: Path, goal: int) -> None:
    """Wait until there are so many calls, or the process has ended."""
    end = time.monotonic() + DEADLINE
    while process.poll() is None and len(calls(folder)) < goal and time.monotonic() < end:
        time.sleep(0.001)


async def lineage(
    folder: Path, store: str, run_id: str, types: list[type]
) -> list[WorkflowCheckpoint]:
    async with stored(folder, store, types) as storage:
        return await storage.list_checkpoints(run_id=run_id)


def stored(folder: Path, store: str, types: list[type]) -> ManagedStorage:
    storage = open_storage(folder / store)
    assert isinstance(storage, ManagedStorage)
    storage.codec.add_types(types)
    return storage


@dataclass(frozen=True)
class Program:
    """A module that drives one run with the arguments FOLDER STORE; started again, it goes on
    where the run was.
    """

    module: str
    run_id: str
    types: list[type]

    def start(self, folder: Path, store: str) -> subprocess.Popen[str]:
        return start("-m", self.module, str(folder), store)

    def finish(self, folder: Path, store: str) -> list[Any]:
        return outputs_of(self.start(folder, store))

    def lineage(self, folder: Path, store: str) -> list[WorkflowCheckpoint]:
        return asyncio.run(lineage(folder, store, self.run_id, self.types))

    async def recorded(self, folder: Path, store: str) -> list[str]:
        """Return where the calls stand that the journal of the unfinished superstep holds."""
        async with stored(folder, store, self.types) as storage:
            run = await storage.get_run(self.run_id)
            if run is None:
                return []
            head = await storage.load_record(run.head)
            assert head is not None
            step = head.header.iteration_count + 1
            found = [
                json.loads(record) for record in await storage.read_journal(self.run_id, run.head)
            ]
            return [
                f"{self.run_id}:{run.branch}:{step}:{record['executor_id']}:{record['key']}"
                for record in found
            ]


def assert_that_kills_leave_no_trace(
    program: Program,
    folder: Path,
    store: str,
    *,
    most_calls: int,
    most_seconds: float,
    most_kills: int | None = None,
) -> tuple[list[Any], list[WorkflowCheckpoint]]:
    """Run a program once in peace, and once killed again and again; nothing but repeated calls
    tells them apart.

    Args:
        program: What to run.
        folder: Where the two runs get a folder each.
        store: The storage of both.
        most_calls: A process is killed after one to so many further calls,
        most_seconds: and up to so many seconds.
        most_kills: After so many kills it may go on to its end.

    Returns:
        The outputs and the checkpoints.
    """
    dice = dice_for(program.module, store)
    calm, killed = folder / "calm", folder / "killed"
    calm.mkdir()
    killed.mkdir()
    expected = program.finish(calm, store)

    kills, settled = 0, Counter[str]()
    end = time.monotonic() + DEADLINE
    while kills != most_kills:
        if time.monotonic() > end:
            pytest.fail(f"not done after {kills} kills")
        process = program.start(killed, store)
        await_calls(process, killed, len(calls(killed)) + dice.randint(1, most_calls))
        time.sleep(dice.random() * most_seconds)
        process.kill()
        out, errors = process.communicate()
        if process.returncode == 0:
            outputs = json.loads(out)
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
        # Recorded calls have run exactly once more often than never: from now on they must not run
        # again.
        counts = Counter(calls(killed))
        found = asyncio.run(program.recorded(killed, store))
        settled.update({key: counts[key] for key in found if key not in settled})
    else:
        outputs = program.finish(killed, store)

    print(f"{kills} kills, {len(settled)} recorded calls")
    assert outputs == expected
    first, second = program.lineage(calm, store), program.lineage(killed, store)
    assert [content(checkpoint) for checkpoint in second] == [
        content(checkpoint) for checkpoint in first
    ]
    assert [checkpoint.iteration_count for checkpoint in second] == list(range(len(first)))
    assert [checkpoint.timestamp for checkpoint in second] == sorted(
        {checkpoint.timestamp for checkpoint in second}
    )
    counts = Counter(calls(killed))
    assert set(counts) == set(calls(calm))
    assert {key: counts[key] for key in settled} == dict(settled)
    assert kills >= 3
    return expected, second


def content(checkpoint: WorkflowCheckpoint) -> Any:
    """Return all that two runs of the same workflow have in common."""
    return (
        checkpoint.iteration_count,
        checkpoint.branch,
        checkpoint.status,
        checkpoint.shared_state,
        checkpoint.executor_states,
        checkpoint.fan_in,
        checkpoint.sub_workflows,
        checkpoint.outputs,
        checkpoint.messages,
        list(checkpoint.pending_requests),
    )
