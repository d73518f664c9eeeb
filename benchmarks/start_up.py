"""How long the library and its command take to start, beside Python itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure, figure, interleaved, ratios

COMMAND = str(Path(sys.executable).with_name("supersteps"))
ENVIRONMENT = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
"""In which modules are compiled once, at the first use, as everywhere else."""


def seconds(*command: str) -> float:
    """Return how long a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - started


def start_up_figures(rounds: int) -> list[Figure]:
    """The import and `supersteps --help`."""
    seconds(COMMAND, "--help")
    taken = interleaved(
        rounds,
        {
            "python": lambda: seconds(sys.executable, "-c", "pass"),
            "import": lambda: seconds(sys.executable, "-c", "import supersteps"),
            "help": lambda: seconds(COMMAND, "--help"),
        },
    )

    def beside(name: str, which: str, at_most: float) -> Figure:
        shown = [f"{median(taken[each]) * 1000:.0f}" for each in (which, "python")]
        return figure(
            name,
            ratios(taken[which], taken["python"]),
            at_most=at_most,
            detail=f"{shown[0]} ms beside {shown[1]} of bare Python",
        )

    return [
        beside("import supersteps, times bare Python", "import", 60 / 12),
        beside("supersteps --help, times bare Python", "help", 80 / 12),
    ]
