"""People are asked while the process dies between any two events: each answer counts, once."""

import asyncio
import json
import os
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import pytest

from examples.expense_approvals import Question, Verdict
from examples.guessing_game import Guess
from tests.acceptance.humans import RUN, answer_to
from tests.acceptance.killing import dice_for, each_store, lineage, start

TRIALS = 4
THREADS = 2
LIVES = 200

OUTPUTS = {
    "game": ["Your number is 59: guess 5 was right."],
    "expenses": [
        "anna: yes (anna has read it)",
        "ben: no (ben has read it)",
        "cleo: yes (cleo has read it)",
        "approved",
    ],
}
QUESTIONS = {"game": 5, "expenses": 3}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]

each_kind = pytest.mark.parametrize("kind", OUTPUTS)


class Driver(Protocol):
    def __call__(self, folder: Path, **job: Any) -> dict[str, Any]: ...


@pytest.fixture(scope="module")
def drive() -> Iterator[Driver]:
    """Have jobs done, each in a process of its own; several threads may ask for them."""
    free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()

    def do(folder: Path, **job: Any) -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        process = free.get()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(
            json.dumps({"do": "live", "outside": False, "folder": str(folder), **job}) + "\n"
        )
        process.stdin.flush()
        ended: dict[str, Any] = json.loads(process.stdout.readline())
        free.put(process)
        assert ended["status"] in (0, -signal.SIGKILL), ended.get("error", ended)
        return ended

    with ExitStack() as processes:
        for _ in range(THREADS):
            process = start("-m", "tests.acceptance.humans", stdin=subprocess.PIPE, stderr=None)
            free.put(processes.enter_context(process))
        yield do


def assert_consumed_once(folder: Path, store: str, kind: str) -> None:
    """See in what is stored, and in what the handlers wrote down, that each answer was taken by
    one superstep.
    """
    checkpoints = asyncio.run(lineage(folder, store, RUN, [Guess, Question, Verdict]))
    assert [checkpoint.iteration_count for checkpoint in checkpoints] == list(
        range(len(checkpoints))
    )
    assert {checkpoint.branch for checkpoint in checkpoints} == {0}
    assert checkpoints[-1].outputs == OUTPUTS[kind]

    asked: dict[str, Any] = {}
    taken: dict[str, int] = {}
    known: list[Any] = []
    for before, after in pairwise(checkpoints):
        asked.update({name: request.data for name, request in after.pending_requests.items()})
        assert after.answered[: len(known)] == known
        for answer in after.answered[len(known) :]:
            assert answer.request_id not in taken
            assert answer.request_id in before.pending_requests
            assert answer.request_id not in after.pending_requests
            assert answer.iteration == after.iteration_count
            assert answer.outcome == "answered"
            assert answer.data == answer_to(asked[answer.request_id])
            taken[answer.request_id] = after.iteration_count
        known = after.answered
    assert set(taken) == set(asked)
    assert len(taken) == QUESTIONS[kind]

    # A call that a crash cut short is made again under the same key; a second superstep would have
    # another one.
    calls = defaultdict(set)
    for line in (folder / "consumed").read_text(encoding="utf-8").splitlines():
        key, step, request_id, _ = json.loads(line)
        calls[request_id].add(key)
        assert step == taken[request_id]
    assert {request_id: len(keys) for request_id, keys in calls.items()} == dict.fromkeys(taken, 1)
    assert len(set[str]().union(*calls.values())) == len(taken)


@each_kind
@each_store
def test_answers_count_once_wherever_the_process_dies(
    kind: str, store: str, tmp_path: Path, drive: Driver
) -> None:
    calm = drive(tmp_path / "calm", kind=kind, store=store, kill_after=None)
    assert calm["outputs"] == OUTPUTS[kind]
    assert_consumed_once(tmp_path / "calm", store, kind)

    def die_after(k: int) -> None:
        folder = tmp_path / f"after-{k}"
        assert drive(folder, kind=kind, store=store, kill_after=k)["status"] == -signal.SIGKILL
        ended = drive(folder, kind=kind, store=store, kill_after=None)
        assert ended["outputs"] == OUTPUTS[kind], k
        assert_consumed_once(folder, store, kind)

    with ThreadPoolExecutor(THREADS) as pool:
        swept = list(pool.map(die_after, range(calm["events"] + 1)))
    assert len(swept) > 20


@each_kind
@each_store
@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
def test_answers_count_once_however_often_the_process_dies(
    kind: str, store: str, outside: bool, tmp_path: Path, drive: Driver
) -> None:
    dice = dice_for(kind, store, outside)

    def live_and_die(seed: float) -> int:
        dice, folder = random.Random(seed), tmp_path / str(seed)
        kills = 0
        for _ in range(LIVES):
            job = {"kind": kind, "store": store, "outside": outside}
            # Not all die: one that always dies early would never come to its end.
            ended = drive(
                folder, **job, kill_after=dice.randint(1, 12) if dice.random() < 0.8 else None
            )
            kills += bool(ended["status"])
            if ended["status"] == 0 and not ended["waits"]:
                assert ended["outputs"] == OUTPUTS[kind]
                assert_consumed_once(folder, store, kind)
                return kills
            if outside and dice.random() < 0.7:
                drive(folder, do="post", store=store, limit=dice.randint(1, 3))
        pytest.fail(f"not done after {LIVES} lives")

    with ThreadPoolExecutor(THREADS) as pool:
        kills = sum(pool.map(live_and_die, [dice.random() for _ in range(TRIALS)]))
    print(f"{kills} kills")
    assert kills
