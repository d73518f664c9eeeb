"""Counts the instructions of a Python program: a measure that a busy machine leaves as it is.

Valgrind's cachegrind counts as callgrind does, in half the time; callgrind says where they go.
Where valgrind does not run, `perf stat` may: it needs the processor's own counters, which most
virtual machines and containers do not give.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

_PROBE = ["-S", "-c", "pass"]


class CountingFailed(Exception):
    """The counted program itself failed, or nothing was counted."""


def run_python(arguments: list[str], tool: tuple[str, ...] = ()) -> str:
    """Run the Python interpreter with these arguments; return what is printed to stderr.

    Raises:
        CountingFailed: The program failed.
    """
    done = subprocess.run(
        [*tool, sys.executable, *arguments],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise CountingFailed(
            f"`{' '.join([*tool, 'python', *arguments])}` ended with exit code"
            f" {done.returncode}:\n{done.stderr or done.stdout}"
        )
    return done.stderr


@dataclass(frozen=True)
class Tool:
    """A program that counts the instructions of another one.

    Attributes:
        name: What it is called.
        command: What is put before the counted command.
        found: Finds the count in what is printed to stderr.
    """

    name: str
    command: tuple[str, ...]
    found: Callable[[str], int | None]

    def count(self, arguments: list[str]) -> int:
        """Return how many instructions the Python interpreter executes, given these arguments.

        Raises:
            CountingFailed: The program failed, or nothing was counted.
        """
        printed = run_python(arguments, self.command)
        count = self.found(printed)
        if not count:
            raise CountingFailed(f"{self.name} counted nothing:\n{printed}")
        return count

    def why_not(self) -> str | None:
        """Return why it cannot count here, in a few words; None when it can."""
        if shutil.which(self.command[0]) is None:
            return "not installed"
        try:
            self.count(_PROBE)
        except CountingFailed as error:
            return str(error).strip().rpartition("\n")[2].strip() or "counts nothing"
        return None


def found_by_cachegrind(printed: str) -> int | None:
    """Return the count in what cachegrind prints."""
    found = re.search(r"\bI\s+refs:\s+([\d,]+)", printed)
    return int(found[1].replace(",", "")) if found else None


def found_by_perf(printed: str) -> int | None:
    """Return the count in what `perf stat -x,` prints."""
    found = re.search(r"^(\d+),[^,]*,instructions", printed, re.M)
    return int(found[1]) if found else None


TOOLS = (
    Tool(
        "cachegrind",
        ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
        found_by_cachegrind,
    ),
    Tool("perf", ("perf", "stat", "-x,", "-e", "instructions:u"), found_by_perf),
)


def working_tool() -> Tool | str:
    """Return the first tool that can count here, or why none can."""
    reasons = []
    for tool in TOOLS:
        reason = tool.why_not()
        if reason is None:
            return tool
        reasons.append(f"{tool.command[0]}: {reason}")
    return "; ".join(reasons)
