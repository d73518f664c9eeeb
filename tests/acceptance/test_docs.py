"""The documentation keeps its word: every program and every command in it is run, page by page.

In a page, a block whose first line is a comment with a file name is written to that file; a Python
program that no command of the page runs is run by itself. `sh` blocks are run in their order, each
after the files above it. A `text` block below the words "It prints:" or "On stdout:" is what the
program or the commands above it have just written to stdout, but for times and sizes.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if "```sh" in path.read_text() or "```python" in path.read_text()
)
WRITTEN = ("python", "toml", "json")
PROMISES = ("It prints:\n\n", "On stdout:\n\n")
VARYING = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+\+00:00| UTC)?|\d+ s ago|[\d.]+ k?B\b"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands are for a POSIX shell"
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    is_promised: bool
    """Whether the page says that this is what is printed."""

    @property
    def file_name(self) -> str | None:
        found = re.match(r"(?:#|//) ([\w./-]+\.\w+)\n", self.text)
        return found[1] if found else None


def blocks(page: Path) -> Iterator[Block]:
    content = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", content, re.M | re.S):
        yield Block(found[1], found[2], is_promised=content[: found.start()].endswith(PROMISES))


def environment(folder: Path) -> dict[str, str]:
    python_folder = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERSTEPS_")}
    return kept | {
        "PATH": python_folder
        + os.pathsep
        + os.environ["PATH"],  # so that `python` and `supersteps` are these
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        ),
        "HOME": str(folder),
    }


def run(command: list[str], folder: Path, accepted: tuple[int, ...]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )
    said = f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode in accepted, said
    assert "Traceback" not in done.stderr, said
    return done.stdout


def what_counts(text: str) -> list[str]:
    """Return lines without what varies; how wide columns are varies with what is in them."""
    return [
        re.sub(r"(?<=\S) {2,}", "  ", re.sub(VARYING, "*", line.rstrip()))
        for line in text.rstrip().splitlines()
    ]


def is_run_by_commands(name: str, page: list[Block]) -> bool:
    module = re.escape(name.removesuffix(".py").replace("/", "."))
    words = rf"(?:{re.escape(name)}|(?<![\w.]){module}:)"
    return any(re.search(words, block.text) for block in page if block.language in ("sh", "toml"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_programs_and_commands_run(page: Path, tmp_path: Path) -> None:
    found = list(blocks(page))
    printed = ""
    for block in found:
        if block.language in WRITTEN:
            name = block.file_name
            assert name, (
                f"a {block.language} block without a file name in its first line:\n{block.text}"
            )
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.language == "python" and not is_run_by_commands(name, found):
                printed = run([sys.executable, name], tmp_path, accepted=(0,))
        elif block.language == "sh":
            printed = run(
                ["bash", "-c", block.text], tmp_path, accepted=(0, 3)
            )  # 3: it waits for an answer
        elif block.language == "text" and block.is_promised:
            assert what_counts(block.text) == what_counts(printed)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert not [page for page in sorted(pages) if f": {page}\n" not in navigation]


@pytest.mark.parametrize(
    "page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix()
)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)", text)

    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]

    assert not missing
