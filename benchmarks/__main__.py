"""`make bench`: every figure beside its floor and its target, measured in one run."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Figure
from benchmarks.workloads import WORKLOADS, Workload, chosen


def arguments() -> Namespace:
    """Return what is asked for."""
    parser = ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="what to measure; everything if none is named")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    try:
        asked.workloads = chosen(asked.workloads)
    except ValueError as error:
        parser.error(str(error))
    return asked


def measure(workloads: list[Workload], rounds: int | None) -> list[Figure]:
    """Measure one workload after the other, saying which on stderr."""
    figures: list[Figure] = []
    for workload in workloads:
        begun = time.perf_counter()
        print(f"{workload.name} …", end=" ", file=sys.stderr, flush=True)
        figures += workload.measure(rounds or workload.rounds)
        print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return figures


def main() -> None:
    """Measure and print."""
    asked = arguments()
    if asked.list:
        print(report.aligned([(each.name, each.about) for each in WORKLOADS]))
        return
    about, begun = report.machine(), time.perf_counter()
    figures = measure(asked.workloads, asked.rounds)
    seconds = time.perf_counter() - begun
    print(report.aligned([report.TITLES, *map(report.cells, figures)]))
    print(report.sentence(about), f"It took {seconds:.0f} s.")
    if asked.json:
        written = report.as_json(about, figures, seconds)
        asked.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
