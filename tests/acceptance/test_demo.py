"""The demo: whenever its process is killed, the report is the one of an undisturbed run.

DEMO_KILLS=30 tries that many random moments instead of 4, DEMO_SEED=n repeats the moments of an
earlier run.
"""

import os
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("DEMO_KILLS", "4"))
SEED = int(os.environ.get("DEMO_SEED", random.randrange(100_000)))
CHECKPOINTS = 25
"""About as many as an undisturbed run commits; later kills hit nothing."""


def run_demo(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=55,
    )


def chances() -> list[tuple[int, int]]:
    """Random moments: after how many checkpoints, and the seed of the delay after that."""
    chance = random.Random(SEED)
    return [(chance.randrange(CHECKPOINTS + 1), chance.randrange(10_000)) for _ in range(KILLS)]


# The names of the tests must not depend on chance, so the moments are looked up by number.
@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_report_is_the_same_whenever_the_process_is_killed(number: int, tmp_path: Path) -> None:
    kill_after, seed = chances()[number]
    print(f"DEMO_SEED={SEED}, kill {number}: --kill-after {kill_after} --seed {seed}")

    demo = run_demo(
        "--out",
        str(tmp_path),
        "--kill-after",
        str(kill_after),
        "--seed",
        str(seed),
        "--pace",
        "0.006",
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stderr == ""
    assert "was killed" in demo.stdout
    assert "Byte for byte the same." in demo.stdout
    killed, undisturbed = (tmp_path / name / "report.html" for name in ("killed", "undisturbed"))
    assert killed.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_output_is_plain_when_piped(tmp_path: Path) -> None:
    demo = run_demo("--out", str(tmp_path), "--kill-after", "7", "--seed", "1", "--pace", "0.006")

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "\x1b" not in demo.stdout
    assert "\r" not in demo.stdout
    assert re.search(r"It left \d+ checkpoints behind", demo.stdout)
    assert "awaiting next superstep" in demo.stdout
    assert "Answered: approve (from answer.txt" in demo.stdout


@pytest.mark.slow
def test_rejected_report_is_not_written(tmp_path: Path) -> None:
    demo = run_demo(
        "--out", str(tmp_path), "--kill-after", "5", "--answer", "reject", "--pace", "0.001"
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "rejected" in demo.stdout
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.slow
def test_every_link_of_the_report_leads_somewhere(tmp_path: Path) -> None:
    run_demo("--out", str(tmp_path), "--kill-after", "99", "--pace", "0.001")

    page = Page()
    page.feed((tmp_path / "undisturbed" / "report.html").read_text(encoding="utf-8"))
    assert page.open_tags == []
    assert len(page.links) > 20
    assert page.links == {f"#{name}" for name in page.ids}


def test_wrong_option_is_explained() -> None:
    demo = run_demo("--kill-after", "-1")

    assert demo.returncode == 2
    assert "at least 0" in demo.stderr


class Page(HTMLParser):
    """Gathers ids and links, and the tags that were not closed in order."""

    EMPTY = frozenset({"meta", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open_tags.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and value:
                self.links.add(value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open_tags.pop() == tag
