"""Processes of the workload whose system calls are made to fail, or to be their last, by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.reliability.judging import acknowledgements, environment

CALLS = (
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "ftruncate",
    "mkdir",
    "link",
)
"""System calls by which a storage changes what is on the disk."""

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 60.0
# The interpreter itself: a version manager's shim is a shell script, whose calls would be counted
# too.
PYTHON = str(Path(sys.executable).resolve()) if sys.prefix == sys.base_prefix else sys.executable


@dataclass(frozen=True)
class Life:
    """How a process of the workload ended.

    Attributes:
        code: Its exit code; negative for a signal.
        acknowledged: What it said before, whole lines.
        errors: What it wrote to stderr.
    """

    code: int
    acknowledged: list[str]
    errors: str


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Return why system calls cannot be tampered with here, None if they can."""
    if shutil.which("strace") is None:
        return "there is no strace"
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1", "true"],
        capture_output=True,
    )
    return None if tried.returncode == 0 else "strace may not trace here"


def live(store: Path, operations: tuple[str, ...] = (), *, tamper: str | None = None) -> Life:
    """Let a process of the workload live, perhaps with a tampered system call.

    Args:
        store: Where it keeps its run.
        operations: What it does after the run.
        tamper: An expression for strace's `inject`, such as `fsync:error=EIO:when=3`. Calls are
            counted by thread.
    """
    command = [PYTHON, "-m", "tests.reliability.workload", str(store), *operations]
    if tamper is not None:
        calls = tamper.partition(":")[0]
        # Not with --seccomp-bpf: it is faster, but strace 6.1 then sends no signals.
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        command = [*strace, "-e", f"inject={tamper}", *command]
    return _finish(command)


def count(store: Path, operations: tuple[str, ...] = ()) -> Counter[str]:
    """Return how often each system call is made in an undisturbed life, by name; of the busiest
    thread.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        strace = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-o",
            str(log),
            "-e",
            f"trace={','.join(CALLS)}",
        ]
        life = _finish(
            [*strace, PYTHON, "-m", "tests.reliability.workload", str(store), *operations]
        )
        if life.code != 0:
            raise RuntimeError(f"the undisturbed workload failed: {life.errors}")
        by_thread: Counter[tuple[str, str]] = Counter(
            re.findall(r"^(\d+) +(\w+)\(", log.read_text(errors="replace"), re.M)
        )
    counts: Counter[str] = Counter()
    for (_, call), number in by_thread.items():
        counts[call] = max(counts[call], number)
    return counts


def _finish(command: list[str]) -> Life:
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, timeout=LIMIT_SECONDS
    )
    return Life(
        done.returncode, acknowledgements(done.stdout), done.stderr.decode(errors="replace")
    )
