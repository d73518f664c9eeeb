"""`supersteps submit`, `worker` and `workers` as people and scripts use them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

APP = """
import asyncio
from pathlib import Path
from typing import Never

from supersteps import SqliteCheckpointStorage, WorkflowBuilder, WorkflowContext, executor

@executor
async def count(number: int, ctx: WorkflowContext[int, int]) -> None:
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    await (ctx.send_message(number - 1) if number else ctx.yield_output(0))

workflow = WorkflowBuilder(name="count").set_start_executor(count).add_edge(count, count).build()

@executor
async def shout(text: str, ctx: WorkflowContext[Never, str]) -> None:
    await ctx.yield_output(text.upper())

loud = WorkflowBuilder(name="loud").set_start_executor(shout).build()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "SUPERSTEPS_STORE": "sqlite:///runs.db", "NO_COLOR": "1"}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "supersteps", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = start(folder, *arguments)
    out, err = done.communicate(timeout=60)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{out}\n{err}"
    return out + err


def until(folder: Path, words: str, *arguments: str) -> str:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        said = run(folder, *arguments)
        if words in said:
            return said
    raise TimeoutError(f"{words!r} was not in {said}")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_submitted_run_is_driven_by_a_worker_which_ends_in_good_order(folder: Path) -> None:
    assert run(folder, "submit", "app.py:workflow", "3", "--run-id", "one") == "one\n"
    told = json.loads(
        run(folder, "submit", "app.py:loud", "hi", "--queue", "mail", "-o", "json", "--key", "ann")
    )
    assert (told["workflow_id"], told["queue"]) == ("loud", "mail")
    assert run(folder, "submit", "app.py:workflow", "3", "--run-id", "one", "--attach") == "one\n"
    assert "exists already" in run(
        folder, "submit", "app.py:workflow", "3", "--run-id", "one", code=2
    )
    assert "queued" in run(folder, "runs")
    assert run(folder, "workers") == "nobody drives a run\n"

    worker = start(folder, "worker", "app.py:workflow", "app.py:loud", "--queue", "default")
    try:
        said = until(folder, "one", "workers")
        assert f"process {worker.pid} on " in said
        assert "alive" in said
        (folder / "go").touch()
        until(folder, "done", "runs", "--workflow", "count")
        assert "queued" in run(folder, "runs", "--workflow", "loud")  # no worker serves its queue
    finally:
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert "takes runs of count, loud" in err
    assert "has ended" in err
    assert run(folder, "workers", "-o", "json") == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_runs_of_a_worker_that_was_killed_are_shown_and_taken_up(folder: Path) -> None:
    run(folder, "submit", "app.py:workflow", "1", "--run-id", "one")
    worker = start(folder, "worker", "app.py:workflow")
    until(folder, "one", "workers")
    worker.kill()
    worker.communicate(timeout=60)
    assert "gone" in run(folder, "workers")
    (folder / "go").touch()
    other = start(folder, "worker", "app.py:workflow")
    try:
        until(folder, "done", "runs")
    finally:
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["worker"], "name the workflows"),
        (["worker", "app.py:nothing"], "nothing"),
        (["worker", "app.py:loud", "--limit", "loud"], "WORKFLOW=N"),
        (["worker", "app.py:loud", "--store", "memory:"], "a store that workers share"),
        (["submit", "app.py:loud", "x", "--store", "memory:"], "a store that workers share"),
        (["submit", "app.py:workflow", "x"], "supersteps submit app.py:workflow 0"),
        (["submit", "app.py:loud", "x", "--attach"], "--attach needs --run-id"),
        (["submit", "app.py:loud", "x", "--after", "soon"], "not a duration"),
    ],
)
def test_what_cannot_be_meant_is_said(folder: Path, arguments: list[str], words: str) -> None:
    assert words in run(folder, *arguments, code=2)
    assert not (folder / "runs.db").exists()
