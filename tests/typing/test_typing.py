"""The type checker accepts what users write and refuses what is marked as wrong."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(*paths: str) -> str:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return checked.stdout + checked.stderr


def test_the_api_as_users_write_it() -> None:
    assert "Success: no issues found in 1 source file" in check("tests/typing/api_usage.py")


def test_an_ignore_that_is_not_needed_would_be_noticed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from supersteps import Workflow\n\nprint(Workflow)  # type: ignore[arg-type]\n"
    )

    assert "unused-ignore" in check(str(script))
