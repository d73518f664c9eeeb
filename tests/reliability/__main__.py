"""The reliability lab: tries to lose data, and reports what happened.

    python -m tests.reliability [--seed N] [--scale 0.1] [SCENARIO ...]

A scenario is a function `(trials, seed) -> Row` in a module of this folder. Each can be had again
by its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from importlib import import_module

from tests.reliability.table import Row, lines

SCENARIOS: dict[str, tuple[str, int]] = {
    "kill-sqlite": ("kills:kill_sqlite", 1_500),
    "kill-file": ("kills:kill_file", 900),
    "fault-sqlite": ("faults:fault_sqlite", 500),
    "fault-file": ("faults:fault_file", 300),
    "surroundings": ("faults:surroundings", 40),
    "power-sqlite": ("power:power_sqlite", 2_000),
    "power-file": ("power:power_file", 2_000),
    "machine-storage": ("machines:storages", 6_000),
    "machine-run": ("machines:runs", 4_500),
    "codec": ("machines:codec", 5_000),
    "race-resume": ("races:resume", 100),
    "race-takeover": ("races:takeover", 40),
    "race-answers": ("races:answers", 60),
    "race-upkeep": ("races:upkeep", 40),
    "race-shared-file": ("races:shared_file", 4),
    "hostile-records": ("hostile:records", 60_000),
    "hostile-files": ("hostile:files", 30_000),
    "hostile-database": ("hostile:database", 15_000),
    "hostile-names": ("hostile:names", 2_000),
    "hostile-sealed": ("hostile:sealed", 5_000),
}
"""Scenarios: where each is, and how many trials the whole lab makes of it."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.reliability", description="Try to lose data.")
    parser.add_argument("scenario", nargs="*", help=f"only these: {', '.join(SCENARIOS)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the trials of the whole lab"
    )
    options = parser.parse_args()
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}")
    print(f"seed {options.seed}", flush=True)
    rows = [
        perform(name, max(1, int(SCENARIOS[name][1] * options.scale)), options.seed)
        for name in options.scenario or SCENARIOS
    ]
    print("\n".join(["", *lines(rows)]))
    return 0 if all(row.is_clean for row in rows) else 1


def perform(name: str, trials: int, seed: int) -> Row:
    """Run a scenario; problems are reported at once."""
    module, _, function = SCENARIOS[name][0].partition(":")
    scenario: Callable[[int, int], Row] = getattr(
        import_module(f"tests.reliability.{module}"), function
    )
    print(f"{name} ...", end=" ", flush=True)
    begun = time.monotonic()
    row = scenario(trials, seed)
    row.seconds = time.monotonic() - begun
    print(row.skipped or f"{row.trials:,} trials in {row.seconds:.0f} s", flush=True)
    for detail in row.details[:20]:
        print(f"  {detail}", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
