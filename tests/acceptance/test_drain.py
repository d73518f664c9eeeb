"""A script is asked to end by a signal: it stops after a commit, and started again it ends like
an undisturbed one.
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.killing import DEADLINE, await_calls, calls, each_store, outputs_of, start
from tests.acceptance.stoppable import RUN, STEPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]


def launch(folder: Path, store: str, command: str) -> subprocess.Popen[str]:
    return start("-m", "tests.acceptance.stoppable", str(folder), store, command)


@each_store
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_repeatedly_it_ends_like_an_undisturbed_run(
    tmp_path: Path, store: str, number: signal.Signals
) -> None:
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    calm.mkdir()
    stopped.mkdir()
    expected = outputs_of(launch(calm, store, "count"))
    assert len(expected) == 2 * STEPS - 1

    drains = 0
    while True:
        process = launch(stopped, store, "count")
        await_calls(process, stopped, len(calls(stopped)) + 4)
        process.send_signal(number)
        out, errors = process.communicate(timeout=DEADLINE)
        if process.returncode == 0:
            break
        if process.returncode == -number:
            continue  # it had just ended
        assert process.returncode == 3, errors
        assert f"run '{RUN}' of workflow 'count' was asked to stop by {number.name}" in errors
        drains += 1

    assert json.loads(out) == expected
    assert drains >= 2
    counts = Counter(calls(stopped))
    assert set(counts) == set(calls(calm))
    # What finished is never repeated; only a counter that slept when it was stopped begins its call
    # again.
    assert {count for call, count in counts.items() if call.startswith("double")} == {1}
    assert sum(counts.values()) <= len(calls(calm)) + drains


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = launch(tmp_path, "checkpoints", "charge")
    await_calls(process, tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGTERM
