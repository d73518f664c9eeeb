"""The comparison with other libraries: what is read, counted and compared; nothing is run."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import comparison
from benchmarks.peers.comparison import (
    TITLES,
    Result,
    against_fastest,
    as_json,
    compared,
    results_of,
    run_once,
)
from benchmarks.peers.peers import PEERS, Peer, PeerFailed
from benchmarks.peers.protocol import Run, measured
from benchmarks.peers.syncs import counted, per_step, shown

PRINTED = """\
12 fdatasync(5</tmp/x 1/durable/checkpoints.db-wal>) = 0
12 fdatasync(5</tmp/x 1/durable/checkpoints.db-wal> <unfinished ...>
13 <... fdatasync resumed>)                = 0
12 fsync(7</tmp/x 1/durable>)              = 0
12 fdatasync(6</tmp/x 1/durable/dbos.sqlite-journal>) = 0
12 fdatasync(6</tmp/x 1/durable/dbos.sqlite>) = 0
12 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---
"""


def result(name: str, syncs: dict[str, float] | None, **rates: list[float]) -> Result:
    return Result(name, "somewhere", rates, syncs)


def test_syncs_are_counted_by_kind_of_file() -> None:
    assert counted(PRINTED) == {"log": 2, "folder": 1, "journal": 1, "file": 1}


def test_syncs_of_a_step_are_what_more_steps_add() -> None:
    few, many = Counter(log=210, folder=2), Counter(log=412, folder=2, file=1)
    assert per_step(few, many, 200) == {"log": 1.0}
    assert shown({"file": 1.0, "journal": 2.0}) == "1 file, 2 journal"
    assert (shown({}), shown(None)) == ("none", "not counted")


def test_the_fastest_peer_of_each_mode_is_compared_with() -> None:
    results = [
        result("by hand", {"log": 1.0}, bare=[1e6, 1e6], durable=[1e6, 1e6]),
        result(
            "supersteps", {"log": 1.0}, bare=[40.0, 60.0], memory=[9.0, 9.0], durable=[6.0, 6.0]
        ),
        result("quick", {}, bare=[10.0, 20.0], memory=[1.0, 1.0], durable=[100.0, 100.0]),
        result("other 2", {"log": 2.0}, bare=[1.0, 2.0], memory=[2.0, 3.0], durable=[1.0, 3.0]),
        Result("broken", "somewhere", {"bare": [1e9]}, problem="does not start"),
    ]
    bare, memory, durable = against_fastest(results)
    assert (bare.low, bare.high, bare.detail) == (3.0, 4.0, "quick")
    assert (memory.low, memory.high, memory.verdict) == (3.0, 4.5, "short, within the spread")
    assert (durable.value, durable.detail) == (4.0, "other 2, somewhere")  # `quick` syncs nothing


def test_without_a_peer_nothing_is_compared() -> None:
    assert against_fastest([result("supersteps", None, bare=[1.0])]) == []


def test_a_peer_that_cannot_be_installed_is_a_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(peer: Peer) -> None:
        raise PeerFailed("no matching distribution")

    monkeypatch.setattr(Peer, "install", refuse)
    [failed] = compared([Peer("nobody", "no.script", "nowhere", ("nobody==1",))], 2, 0.0)
    assert failed.cells() == ("nobody", "-", "-", "-", "-", "no figures: no matching distribution")
    assert len(failed.cells()) == len(TITLES)


def test_a_peer_whose_script_fails_is_a_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(command: list[str]) -> str:
        raise PeerFailed("no module named langgraph")

    monkeypatch.setattr(comparison, "syncs_of", lambda peer, folder: None)
    monkeypatch.setattr(comparison, "run_command", fail)
    [failed] = compared([Peer("nobody", "no.script", "nowhere")], 2, 0.0)
    assert failed.problem == "no module named langgraph"


def test_what_a_script_prints_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = (
        'a warning\n{"mode": "bare", "steps": 500, "seconds": 0.5}\n'
        '{"mode": "durable-sync", "steps": 100, "seconds": 2.0}\n'
    )
    monkeypatch.setattr(comparison, "run_command", lambda command: printed)
    assert run_once(PEERS[0], 0.5) == {"bare": 1000.0, "durable": 50.0}


def test_rates_are_shown_with_their_spread() -> None:
    shown_cells = result("one 1.0", {"log": 1.0}, bare=[1000.0, 3000.0, 1500.0]).cells()
    assert shown_cells == ("one 1.0", "1,500 (1,000 to 3,000)", "-", "-", "somewhere", "1 log")


def test_json_and_back() -> None:
    results = [result("supersteps", None, bare=[2.0]), result("one", {"log": 1.0}, bare=[1.0])]
    machine: dict[str, Any] = {"date": "today"}
    written = json.loads(json.dumps(as_json(machine, results, 1.0)))
    assert results_of(written) == results
    assert written["figures"][0]["value"] == 2.0


async def test_a_mode_warms_up_and_repeats_until_the_time_is_over(tmp_path: Path) -> None:
    runs: list[int] = []

    @asynccontextmanager
    async def mode(folder: Path) -> AsyncIterator[Run]:
        async def run(steps: int) -> None:
            runs.append(steps)

        yield run
        runs.append(0)

    steps, seconds = await measured(mode, tmp_path, 5, 0.001)
    assert runs == [5] * (steps // 5 + 1) + [0]
    assert seconds >= 0.001
    runs.clear()
    assert (await measured(mode, tmp_path, 5, 0.0))[0] == 5
    assert runs == [5, 5, 0]


def test_each_peer_has_a_script() -> None:
    root = Path(__file__).parents[2]
    for peer in PEERS:
        assert (root / (peer.script.replace(".", "/") + ".py")).is_file()
