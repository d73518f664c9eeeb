"""The README keeps its word: its Python programs run, its shell commands do what they say, its
links lead somewhere.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])

needs_shell = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands are for a POSIX shell"
)


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def programs() -> dict[str, str]:
    """The Python programs by the file name in their first line."""
    return {code.partition("\n")[0].removeprefix("# "): code for code in blocks("python")}


def run(command: list[str], folder: Path) -> str:
    python_folder = str(Path(sys.executable).parent)
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PATH": python_folder + os.pathsep + os.environ["PATH"],  # so that `python` is this one
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_program(name: str, folder: Path) -> str:
    (folder / name).write_text(programs()[name], encoding="utf-8")
    return run([sys.executable, name], folder)


def test_every_program_has_a_name_and_a_test() -> None:
    assert set(programs()) == {
        "shout.py",
        "count.py",
        "review.py",
        "orders.py",
        "travel.py",
        "rewind.py",
    }


def test_first_workflow(tmp_path: Path) -> None:
    text = run_program("shout.py", tmp_path)

    assert text.startswith("['hello -> OLLEH']\n")
    assert "2 IDLE {'original': 'hello'}" in text
    assert len(list((tmp_path / "checkpoints").glob("*.json"))) == 3


def test_first_workflow_has_about_20_lines() -> None:
    assert len([line for line in programs()["shout.py"].splitlines()[1:] if line]) <= 20


@needs_shell
@pytest.mark.slow
def test_killed_program_continues(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(programs()["count.py"], encoding="utf-8")
    (commands,) = [block for block in blocks("sh") if "kill -9" in block]

    text = run(["sh", "-c", commands], tmp_path)

    numbers = [int(number) for number in re.findall(r"working on (\d+)", text)]
    assert sorted(set(numbers)) == list(range(1, 11))
    assert len(numbers) <= 11, "at most the superstep that was killed is repeated"
    assert text.count("['counted to 10']") == 2, text


def test_sub_workflow_and_failures(tmp_path: Path) -> None:
    assert run_program("orders.py", tmp_path) == "['9.95', 'nan']\n"


def test_time_travel(tmp_path: Path) -> None:
    text = run_program("travel.py", tmp_path)

    assert text.startswith("['an owl in 3 chapters']\n")
    assert "a fox in 3 chapters" in text
    assert text.endswith("have the same content\n")


def test_question_and_answer(tmp_path: Path) -> None:
    text = run_program("review.py", tmp_path)

    assert text.startswith("IDLE_WITH_PENDING_REQUESTS ")
    assert text.endswith("['published: A text about tides']\n")


def test_restoring_in_place(tmp_path: Path) -> None:
    text = run_program("rewind.py", tmp_path)

    assert re.findall(r"^superstep (\d+)", text, re.MULTILINE) == ["5", "6"]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)

    assert named == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))

    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]

    assert not missing
