"""Run the tests on each interpreter among Python 3.11 to 3.14 that this machine has.

    python3 scripts/test_all.py [PYTHON ...] [-- PYTEST-ARGUMENT ...]

Without names, `python3.11` to `python3.14` are looked for. Where one is found that does not run,
such as the placeholder of a version manager, the newest version that pyenv has installed is taken.
`--others` leaves out the version that runs this script. Each gets an environment of its own in
`.venvs`, which is made once, and again when the dependencies change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ".venvs"
MINORS = (11, 12, 13, 14)
_ASK = "import sys; print('{}.{}.{}'.format(*sys.version_info[:3]), sys.executable)"
_MADE_OF = ("pyproject.toml", "constraints.txt", "scripts/bootstrap.py")


def look_at(python: str) -> tuple[str, str] | None:
    """Return an interpreter's version and file, None when it does not run."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version, _, file = done.stdout.strip().partition(" ")
    return (version, file) if done.returncode == 0 and file else None


def installed_by_pyenv(minor: int) -> list[str]:
    """Return the interpreters of a version (3.`minor`) that pyenv has installed, newest first."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = root.glob(f"versions/3.{minor}.*/bin/python3.{minor}")
    return [str(path) for path in sorted(found, key=_patch, reverse=True)]


def _patch(interpreter: Path) -> int:
    patch = interpreter.parts[-3].rpartition(".")[2]
    return int(patch) if patch.isdigit() else -1


def find(named: Sequence[str]) -> dict[str, str]:
    """Return the interpreters to be used: files by version, each version (3.12) once.

    Args:
        named: Those that the user wants; every one that can be found when there are none.

    Raises:
        SystemExit: One of those does not run, or none can be found.
    """
    found: dict[str, str] = {}
    for python in named or [f"python3.{minor}" for minor in MINORS]:
        others = [] if named else installed_by_pyenv(int(python.rpartition(".")[2]))
        seen = next(filter(None, map(look_at, [python, *others])), None)
        if seen is None:
            if named:
                sys.exit(f"{python} does not run: name the file of an interpreter")
            if shutil.which(python):
                print(f"{python} is passed over: it does not run", flush=True)
            continue
        version, file = seen
        found.setdefault(".".join(version.split(".")[:2]), file)
    if not found:
        sys.exit('no python3.11 to python3.14 runs here: name some (make test-all PYTHONS="...")')
    return found


def make_environment(version: str, python: str) -> Path:
    """Return the interpreter of an environment for a version, created again if it is outdated."""
    folder = ROOT / FOLDER / version
    ready = folder / ".ready"
    made_of = max((ROOT / name).stat().st_mtime for name in _MADE_OF)
    if not ready.exists() or ready.stat().st_mtime < made_of:
        command = [python, str(ROOT / "scripts/bootstrap.py"), f"{FOLDER}/{version}"]
        if subprocess.run(command, check=False).returncode:
            sys.exit(1)
        ready.touch()
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main(arguments: Sequence[str]) -> int:
    """Test on each interpreter; return 1 when tests failed on any."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    named, options = list(arguments[:cut]), arguments[cut + 1 :]
    skipped = ""
    if "--others" in named:
        named.remove("--others")
        skipped = "{}.{}".format(*sys.version_info[:2])
    outcomes: list[str] = []
    for version, python in find(named).items():
        if version == skipped:
            continue
        interpreter = make_environment(version, python)
        print(f"Python {version} ({python})", flush=True)
        started = time.monotonic()
        # Its programs come first: tests start `python` and `supersteps` too.
        path = f"{interpreter.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [str(interpreter), "-m", "pytest", "-q", *options]
        code = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False
        ).returncode
        word = "passed" if code == 0 else "FAILED"
        outcomes.append(f"  {version:6} {word}, {time.monotonic() - started:.0f} s")
    print("\n".join(["The tests:", *outcomes]))
    return int(any("FAILED" in outcome for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
