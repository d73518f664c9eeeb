"""A map over many items, killed with SIGKILL and started again: no finished item is made twice."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.many_items import RUN_ID
from supersteps import SqliteCheckpointStorage
from tests.acceptance.test_examples import environment

ITEMS = 600
AT_ONCE = 8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]


def start(folder: Path) -> subprocess.Popen[str]:
    options = ["--items", str(ITEMS), "--at-once", str(AT_ONCE), "--seconds", "0.01"]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "examples.many_items", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_at(folder: Path, words: str) -> str:
    """Kill the process as soon as it has said something; return what it said."""
    said = ""
    with start(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if words in line:
                process.kill()
                break
    assert words in said, said
    return said


async def recorded(folder: Path) -> set[int]:
    """The items whose calls are durably recorded; the first superstep has sent them in order."""
    async with SqliteCheckpointStorage(folder / "checkpoints" / "many_items.db") as storage:
        run = await storage.get_run(RUN_ID)
        assert run is not None
        assert run.head is not None
        keys = [
            json.loads(record)["key"] for record in await storage.read_journal(RUN_ID, run.head)
        ]
        return {int(key) for key in keys}


def made(folder: Path) -> Counter[int]:
    lines = (folder / "checkpoints" / "many_items.made").read_text().split()
    return Counter(map(int, lines))


def test_killed_twice_and_started_again_it_makes_no_finished_item_twice(tmp_path: Path) -> None:
    finished: dict[int, int] = {}
    for words in ("30 %", "60 %"):
        said = kill_at(tmp_path, words)
        times = made(tmp_path)
        finished |= {
            item: times[item] for item in asyncio.run(recorded(tmp_path)) - finished.keys()
        }
        assert "Traceback" not in said
    assert len(finished) > 100

    with start(tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "items were finished before" in said

    counted = made(tmp_path)
    assert counted.keys() == set(range(ITEMS))
    assert {item: counted[item] for item in finished if item % 50 != 7} == {
        item: times
        for item, times in finished.items()
        if item % 50 != 7  # which is tried again
    }

    with start(tmp_path) as process:
        process.communicate(timeout=60)
    assert made(tmp_path) == counted  # a run that is done is not made again
