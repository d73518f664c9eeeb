"""Each workflow of the library of examples ends the same, however often its process is killed on
the way.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
KILLS = 3
LIMIT = 30.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]

# The last lines of each, and how many seconds an hour takes: where people may come too late, it is
# to be long enough for a process that is killed and started again.
LIBRARY = {
    "map_reduce": (["=>  12 the", "=>   4 tide", "=>   3 sea", "=>   2 a", "=>   2 and"], 0.1),
    "expense_approvals": (
        [
            "=> anna: yes (in person)",
            "=> ben: no (in person)",
            "=> cleo: yes (no answer in time)",
            "=> approved",
        ],
        0.5,
    ),
    "nested_review": (
        ["=> the color of the sea, shorter", "=> the gray gull", "=> the tide table, longer"],
        0.1,
    ),
    "saga": (
        [
            "=> undone: hotel",
            "=> undone: flight",
            "=> no trip to Lisbon: no car in Lisbon",
            "=> bookings left: []",
        ],
        0.1,
    ),
    "scheduled_retry": (
        [
            "=> parcel 17 is registered",
            "=> parcel 17 is packed",
            "=> parcel 17 is on the ferry",
            "=> parcel 17 is delivered",
        ],
        0.1,
    ),
    "branching_story": (
        [
            "=> Nina stands before two doors. You find a boat. You wait for the morning.",
            "=> Nina stands before two doors. You find a lighthouse. You wait for the morning.",
            """=> ~ shared_state['door']: "left" -> "right\"""",
            """=> ~ shared_state['story'][1]: "You find a boat." -> "You find a lighthouse.\"""",
            "=> ~ outputs[0]: "
            '"Nina stands before two doors. You find a boat. You wait for the morning." -> '
            '"Nina stands before two doors. You find a lighthouse. You wait for the morning."',
        ],
        0.1,
    ),
    "tool_loop": (["=> The spring tide is 6.4 m. Mail: sent (spring tide: 6.4 m)."], 0.1),
    "csv_etl": (
        [
            "=> cod: 2 rows, 76 kg",
            "=> herring: 4 rows, 502.5 kg",
            "=> mackerel: 3 rows, 130 kg",
            "=> rejected: row 3: '' is not a weight",
            "=> rejected: row 6: 'boot' is not a known fish",
            "=> rejected: row 7: could not convert string to float: 'forty'",
            "=> rejected: row 10: '-3' is not a weight",
        ],
        0.1,
    ),
    "support_escalation": (
        [
            "=> asked: first level, then second level, then head of support",
            "=> head of support: Have you tried turning it off and on again?",
        ],
        0.4,
    ),
    "order_fulfilment": (["=> order 4: barometer is on its way", "=> order 4: 80"], 0.1),
}


def launch(folder: Path, name: str, *arguments: str, hour: float = 0.1) -> subprocess.Popen[str]:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "EXAMPLES_HOUR": str(hour),
    }
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-m", f"examples.{name}", *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


def watch(process: subprocess.Popen[str], kill: Callable[[int], bool] = lambda lines: False) -> str:
    """Return all that a process says; have it killed as soon as `kill` says so about the
    supersteps it has shown.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    guard = Timer(LIMIT, process.kill)
    guard.start()
    said, shown = "", 0
    with process:
        if kill(shown):
            process.kill()
        for line in process.stdout:
            said += line
            shown += "is committed" in line
            if kill(shown):
                process.kill()
    guard.cancel()
    return said


def final(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("=>")]


@pytest.mark.parametrize("store", ["run.db"])
@pytest.mark.parametrize("name", LIBRARY)
def test_killed_and_started_again_it_ends_like_an_undisturbed_run(
    name: str, store: str, tmp_path: Path
) -> None:
    print(f"KILL_SEED={SEED}")
    dice = random.Random(f"{SEED} {name}")
    expected, hour = LIBRARY[name]
    begun = time.monotonic()
    process = launch(tmp_path, name, "--storage", f"calm/{store}", hour=hour)
    calm = watch(process)
    took = time.monotonic() - begun
    assert process.returncode == 0, calm
    assert final(calm) == expected
    supersteps = calm.count("is committed")

    lives = []
    for number in range(KILLS):
        process = launch(tmp_path, name, "--storage", f"killed/{store}", hour=hour)
        if number % 2:
            Timer(dice.uniform(0.3, 0.9) * took / (number + 1), process.kill).start()
            lives.append(watch(process))
        else:
            goal = dice.randint(1, max(1, supersteps // KILLS))
            lives.append(watch(process, lambda shown, goal=goal: shown >= goal))  # type: ignore[misc]  # a bound name
        assert process.returncode in (0, -signal.SIGKILL), lives[-1]
    process = launch(tmp_path, name, "--storage", f"killed/{store}", hour=hour)
    lives.append(watch(process))

    assert process.returncode == 0, lives
    assert final(lives[-1]) == expected, lives
    assert "continuing the unfinished run" in lives[-1]


def test_order_is_charged_once_wherever_the_charge_is_cut_short(tmp_path: Path) -> None:
    seen = set()
    for number, delay in enumerate(
        (0.02, 0.075, 0.13)
    ):  # before the bank books, after, after the commit
        place = f"{number}/run.db"
        process = launch(tmp_path, "order_fulfilment", "--storage", place)
        begun: list[float] = []

        def is_time(
            shown: int, process: subprocess.Popen[str] = process, delay: float = delay
        ) -> bool:
            if shown == 1 and not begun:  # noqa: B023
                begun.append(time.monotonic())  # noqa: B023
                Timer(delay, process.kill).start()
            return False

        watch(process, is_time)
        text = watch(launch(tmp_path, "order_fulfilment", "--storage", place))
        assert final(text) == LIBRARY["order_fulfilment"][0], text
        seen.update(re.findall(r"cut short: (not booked|\[.*\])", text))

    assert len(seen) >= 1  # which of them a slow machine meets is a matter of luck


def test_expense_is_answered_by_another_process_while_none_runs_it(tmp_path: Path) -> None:
    where = ("--storage", "run.db")
    watch(launch(tmp_path, "expense_approvals", *where, hour=20), lambda shown: shown >= 2)

    listed = watch(launch(tmp_path, "expense_approvals", *where, "--list"))
    assert re.findall(r"(\w+) is asked until", listed) == ["anna", "ben", "cleo"]

    for name in ("cleo", "anna", "ben"):
        answer = '{"approve": false, "remark": "by mail"}'
        listed = watch(launch(tmp_path, "expense_approvals", *where, "--answer", name, answer))
        assert f"{name} is asked" not in listed

    text = watch(launch(tmp_path, "expense_approvals", *where, hour=20))
    assert final(text)[-1] == "=> rejected"
    assert text.count("(by mail)") == 3


# -------------------------------------------------------------------- the two that talk to a person


def play_game(prompt: str) -> str:
    if "Continue it?" in prompt:
        return "yes"
    number = int(re.findall(r"is it (\d+)\?", prompt)[-1])
    return "yes" if number == 36 else "higher" if number < 36 else "lower"


def review(prompt: str) -> str:
    version = int(re.findall(r"version (\d)", prompt)[-1])
    return "approve" if version == 4 else f"remark {version}"


TALKS = {
    "guessing_game": (play_game, "] ", "Your number is 36: guess 7 was right."),
    "human_review": (
        review,
        "change? ",
        "Approved: A poem about tides, version 4. Now with: remark 1. Now with: remark 2. Now "
        "with: remark 3.",
    ),
}


def pieces(process: subprocess.Popen[str], end: str) -> Iterator[str]:
    """Yield what a process says, from prompt to prompt."""
    assert process.stdout is not None
    said = ""
    while letter := process.stdout.read(1):
        said += letter
        if said.endswith(end):
            yield said
            said = ""
    yield said


def talk(process: subprocess.Popen[str], name: str, leave_after: int | None = None) -> list[str]:
    """Answer what a process asks; kill it after so many answers."""
    reply, end, _ = TALKS[name]
    assert process.stdin is not None
    heard = []
    guard = Timer(LIMIT, process.kill)
    guard.start()
    try:
        for piece in pieces(process, end):
            heard.append(piece)
            if piece.endswith(end):
                try:
                    process.stdin.write(reply(piece) + "\n")
                    process.stdin.flush()
                except BrokenPipeError:
                    continue  # it was killed
            if len(heard) == leave_after:
                process.kill()
    finally:
        guard.cancel()
        process.kill()
        try:
            process.communicate()
        except BrokenPipeError:
            process.wait()
    return heard


@pytest.mark.parametrize("name", TALKS)
def test_talk_continues_however_often_it_is_interrupted(name: str, tmp_path: Path) -> None:
    print(f"KILL_SEED={SEED}")
    dice = random.Random(f"{SEED} {name}")
    (tmp_path / "calm").mkdir()
    (tmp_path / "killed").mkdir()
    calm = talk(launch(tmp_path / "calm", name), name)
    assert TALKS[name][2] in calm[-1]

    heard: list[str] = []
    for number in range(KILLS):
        process = launch(tmp_path / "killed", name)
        if number % 2:
            Timer(dice.uniform(0.1, 0.3), process.kill).start()
            heard += talk(process, name)
        else:
            heard += talk(process, name, leave_after=dice.randint(1, 2))
    heard += talk(launch(tmp_path / "killed", name), name)

    assert TALKS[name][2] in heard[-1], heard
