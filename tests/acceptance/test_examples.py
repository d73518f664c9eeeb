"""Every example runs as its text says, in both ways of calling it, and shows what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_example_library import LIBRARY, TALKS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))


def environment() -> dict[str, str]:
    """The test's own, so that a child in another folder finds the examples."""
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
    }


def run(folder: Path, name: str, *arguments: str, stdin: str = "", status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", *arguments],
        cwd=folder,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


# What each of the short examples must have shown, in this order.
SHOWS = {
    "shout": ["outputs: ['hello -> OLLEH']", "final state: IDLE", "superstep 2", "'last': 'hello'"],
    "streaming": [
        "invoked: double",
        "committed: superstep 1",
        "output: 41",
        "checkpoint of superstep 3",
    ],
    "resume": [
        "split",
        "reserve",
        "charge",
        "failed",
        "resumed after superstep 1",
        "charge",
        "output: reserved",
    ],
    "restore_in_place": [
        "spent 60",
        "rewound to superstep 4",
        "spent 42",
        "branch 1: supersteps [5, 6]",
    ],
    "rehydrate": ["next ['collect']", "from superstep 3", "output: tides", "from superstep 1"],
    "responses": [
        "asked: Publish?",
        "output: yes",
        "awaiting human response",
        "output: no",
        "refused:",
    ],
    "hooks": ["mean: [21.0]", "'readings': [22.0, 21.5]", "once more: [21.0]"],
    "own_types": ["refused:", "Weight", "500 g of flour", "Weight('1000 g')"],
}


@pytest.mark.parametrize("name", SHOWS)
def test_short_example_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    text = run(tmp_path, name)

    rest = text
    for words in SHOWS[name]:
        assert words in rest, text
        rest = rest.partition(words)[2]


def test_resumed_example_does_not_repeat_the_finished_call(tmp_path: Path) -> None:
    assert run(tmp_path, "resume").count("reserve the goods") == 1


@pytest.mark.parametrize("name", ["shout", "checkpoint_picker"])
def test_example_runs_as_a_file_too(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), input="q\n", capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_every_example_is_tried_and_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert set(NAMES) == {*SHOWS, *LIBRARY, *TALKS, "checkpoint_picker", "many_items"}
    assert len({*LIBRARY, *TALKS}) == 12
    assert all(f"({name}.py)" in index for name in NAMES)


# ------------------------------------------------------------------------------------ guessing game


def test_guessing_game_finds_the_number(tmp_path: Path) -> None:
    answers = tmp_path / "answers.txt"
    answers.write_text("higher\nwhat\nlower\nlow\nyes\n")

    text = run(tmp_path, "guessing_game", "--answers", str(answers))

    assert "I did not understand 'what'" in text
    assert "Your number is 56: guess 4 was right." in text


def test_guessing_game_continues_after_it_was_left(tmp_path: Path) -> None:
    left = run(tmp_path, "guessing_game", stdin="higher\nlower\n")
    assert "The game waits for you." in left

    text = run(tmp_path, "guessing_game", stdin="yes\nyes\n")

    assert "Continue it?" in text
    assert "Your number is 62: guess 3 was right." in text


def test_guessing_game_survives_sigkill(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "examples.guessing_game"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as game:
        assert game.stdin is not None
        assert game.stdout is not None
        game.stdin.write("higher\n")
        game.stdin.flush()
        said = ""
        while "Guess 2" not in said:
            letter = game.stdout.read(1)
            assert letter, said
            said += letter
        game.kill()

    text = run(tmp_path, "guessing_game", stdin="y\nyes\n")

    assert "Your number is 75: guess 2 was right." in text


def test_guessing_game_notices_contradictions(tmp_path: Path) -> None:
    text = run(tmp_path, "guessing_game", "--highest", "2", stdin="higher\nhigher\n")

    assert "there is no such number" in text


def test_guessing_game_can_start_again(tmp_path: Path) -> None:
    run(tmp_path, "guessing_game", stdin="higher\n")

    text = run(tmp_path, "guessing_game", stdin="no\nyes\n")

    assert "Your number is 50: guess 1 was right." in text


# ------------------------------------------------------------------------------------- human review


def test_review_revises_until_approved(tmp_path: Path) -> None:
    answers = tmp_path / "answers.txt"
    answers.write_text("a moon\napprove\n")

    text = run(tmp_path, "human_review", "Tides", "--answers", str(answers))

    assert "Approved: Tides, version 2. Now with: a moon." in text


def test_review_continues_after_it_was_left(tmp_path: Path) -> None:
    left = run(tmp_path, "human_review", "Tides", stdin="a moon\n")
    assert "The review waits for you." in left

    text = run(tmp_path, "human_review", stdin="\napprove\n")

    assert "going on after superstep 7: awaiting human response" in text
    assert 'Please say "approve"' in text
    assert "Approved: Tides, version 2." in text


# -------------------------------------------------------------------------------- checkpoint picker


def test_picker_lists_and_resumes(tmp_path: Path) -> None:
    text = run(tmp_path, "checkpoint_picker", "--choose", "2")

    assert re.search(r"\[6\] \S+  superstep 6, idle", text)
    assert "Resuming from superstep 2." in text
    assert "output: boil water, then add tea" in text


def test_picker_takes_the_beginning_of_an_id(tmp_path: Path) -> None:
    first = run(tmp_path, "checkpoint_picker", stdin="q\n")
    ids = re.findall(r"\] (\S+)  superstep", first)

    text = run(tmp_path, "checkpoint_picker", "--choose", ids[4])

    assert "Resuming from superstep 4." in text


def test_picker_answers_wrong_choices_politely(tmp_path: Path) -> None:
    first = run(tmp_path, "checkpoint_picker", stdin="q\n")
    ids = re.findall(r"\] (\S+)  superstep", first)

    text = run(tmp_path, "checkpoint_picker", stdin=f"99\n-1\n{ids[0][:10]}\nnonsense\n\n5\n")

    assert "There is no checkpoint '99' here." in text
    assert "There is no checkpoint '-1' here." in text
    assert f"7 ids begin with '{ids[0][:10]}'" in text
    assert "There is no checkpoint 'nonsense' here." in text
    assert "Resuming from superstep 5." in text


def test_picker_leaves_cleanly_at_the_end_of_input(tmp_path: Path) -> None:
    assert "Nothing chosen, nothing changed." in run(tmp_path, "checkpoint_picker")


def test_picker_refuses_a_wrong_option(tmp_path: Path) -> None:
    text = run(tmp_path, "checkpoint_picker", "--choose", "99", status=1)

    assert "There is no checkpoint '99' here." in text
    assert "Traceback" not in text
