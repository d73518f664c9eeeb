"""Run the commands of docs/tour.md in a fresh folder and write down what they say.

A `console` block holds commands, each after a dollar sign, and after each of them its output.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "docs" / "tour.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"


def recorded(text: str) -> str:
    """Return the page with its commands' output as it is now."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("letters.py", "pyproject.toml"):
            (found,) = re.findall(
                rf"^```\w+\n(# {re.escape(name)}\n.*?)^```$",
                QUICKSTART.read_text("utf-8"),
                re.M | re.S,
            )
            Path(folder, name).write_text(found, encoding="utf-8")
        return re.sub(
            r"^```console\n(.*?)^```$",
            lambda block: _recorded_block(block[1], Path(folder)),
            text,
            flags=re.M | re.S,
        )


def _recorded_block(block: str, folder: Path) -> str:
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    said = [f"$ {command}\n{_output(command, folder)}" for command in commands]
    return f"```console\n{''.join(said)}```"


def _output(command: str, folder: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SUPERSTEPS_")
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    output = done.stdout if not done.stdout or done.stdout.endswith("\n") else done.stdout + "\n"
    status = {-9: 137}.get(done.returncode, done.returncode)
    return output + (f"[exit code {status}]\n" if status else "")


if __name__ == "__main__":
    TOUR.write_text(recorded(TOUR.read_text("utf-8")), encoding="utf-8")
    print(f"{TOUR} is recorded")
