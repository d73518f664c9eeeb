"""A process is killed with SIGKILL amid a call that must not run twice; nobody begins that call
again.
"""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.killing import (
    DEADLINE,
    await_calls,
    calls,
    each_store,
    needs_sigkill,
    outputs_of,
    start,
)

pytestmark = [pytest.mark.slow, needs_sigkill]


def launch(folder: Path, store: str, command: str) -> subprocess.Popen[str]:
    return start("-m", "tests.acceptance.stoppable", str(folder), store, command)


def kill_amid_the_call(folder: Path, store: str, command: str) -> None:
    process = launch(folder, store, command)
    await_calls(process, folder, 2)
    process.kill()
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL, errors
    assert calls(folder) == ["start card", "charge card"]


@each_store
def test_without_an_error_edge_the_run_says_so(tmp_path: Path, store: str) -> None:
    kill_amid_the_call(tmp_path, store, "charge")
    for _ in range(2):
        process = launch(tmp_path, store, "charge")
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 4, errors
        assert "it is unknown whether it took effect" in errors
    assert calls(tmp_path) == ["start card", "charge card"]


@each_store
def test_along_the_error_edge_the_workflow_decides(tmp_path: Path, store: str) -> None:
    kill_amid_the_call(tmp_path, store, "charge-handled")
    assert outputs_of(launch(tmp_path, store, "charge-handled")) == [
        ["InterruptedCallError", True, "card"]
    ]
    assert calls(tmp_path) == ["start card", "charge card", "handles InterruptedCallError"]
