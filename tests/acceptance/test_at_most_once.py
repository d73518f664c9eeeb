"""A process is killed with SIGKILL amid a call that must not run twice; nobody begins that call again."""

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_drain import DEADLINE, await_calls, calls, launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]

Stores = pytest.mark.parametrize("store", ["checkpoints", "runs.db"])


def kill_amid_the_call(folder: Path, store: str, command: str) -> None:
    process = launch(folder, store, command)
    await_calls(process, folder, 2)
    process.kill()
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL, errors
    assert calls(folder) == ["start card", "charge card"]


@Stores
def test_without_an_error_edge_the_run_says_so(tmp_path: Path, store: str) -> None:
    kill_amid_the_call(tmp_path, store, "charge")
    for _ in range(2):
        process = launch(tmp_path, store, "charge")
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 4, errors
        assert "it may have had its effect, or not" in errors
    assert calls(tmp_path) == ["start card", "charge card"]


@Stores
def test_along_the_error_edge_the_workflow_decides(tmp_path: Path, store: str) -> None:
    kill_amid_the_call(tmp_path, store, "charge-handled")
    process = launch(tmp_path, store, "charge-handled")
    out, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    assert json.loads(out) == [["InterruptedCallError", True, "card"]]
    assert calls(tmp_path) == ["start card", "charge card", "handles InterruptedCallError"]
