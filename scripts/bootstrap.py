"""Make .venv with the pinned dependencies and this project, editable; needs only Python.

Another folder may be named (`python3.13 scripts/bootstrap.py .venvs/3.13`).
It parses on Python 3.6 too: an old interpreter gets a sentence, not a SyntaxError.
"""

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = sys.argv[1] if __name__ == "__main__" and len(sys.argv) > 1 else ".venv"
VENV = os.path.join(ROOT, NAME)
VENV_PYTHON = (
    os.path.join(VENV, "Scripts", "python.exe")
    if os.name == "nt"
    else os.path.join(VENV, "bin", "python")
)


def missing_prerequisite() -> str:
    """Say in one line what is missing and how to get it; empty when nothing is."""
    version = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        return (
            f"supersteps needs Python 3.11 or newer, and {sys.executable} is {version}: install "
            "a newer one (Debian 12, Ubuntu 24.04: apt install python3 python3-venv; "
            "macOS: brew install python; others: https://www.python.org/downloads) "
            "or name one, as in `make test PYTHON=/path/to/python3.11`"
        )
    for module in ("venv", "ensurepip"):
        if find_spec(module) is None:
            return (
                f"supersteps needs the '{module}' module to make .venv, and {sys.executable} "
                f"has none: install it (Debian, Ubuntu: apt install python{version}-venv) "
                "or name a complete Python, as in `make test PYTHON=/path/to/python3.11`"
            )
    return ""


def venv_works() -> bool:
    """A .venv may be left from an interrupted set-up, an older Python or another folder."""
    probe = "import sys, pip; print(sys.version_info >= (3, 11), sys.prefix)"
    try:
        answer = subprocess.run(
            [VENV_PYTHON, "-c", probe], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    return answer.stdout.decode().strip() == "True " + VENV


def run(*command: str) -> None:
    """Run quietly; on failure show what it said and stop."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        print("failed", flush=True)
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit("setting up " + NAME + " failed (see above) at: " + " ".join(command))


def pip_install(*arguments: str) -> None:
    run(
        VENV_PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    )


def progress(words: str) -> None:
    print(words, end="", flush=True)


def main() -> None:
    problem = missing_prerequisite()
    if problem:
        sys.exit(problem)
    started = time.monotonic()
    progress("Setting up " + NAME + ": ")
    if not venv_works():
        progress("Python {}.{}.{}, ".format(*sys.version_info[:3]))
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
    progress("pinned dependencies, ")
    pip_install("--require-hashes", "--requirement", "constraints.txt")
    # A command of its own: pip cannot hash a folder, and asks for hashes of everything that one
    # command names. Without isolation it builds with the backend just installed, so nothing
    # unpinned is fetched.
    progress("supersteps, ")
    pip_install("--no-deps", "--no-build-isolation", "--editable", ".")
    print(f"ready in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
