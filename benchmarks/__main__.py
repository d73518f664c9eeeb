"""`make bench`: every figure beside its floor and its target, measured in one run."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks import document, report
from benchmarks.workloads import WORKLOADS, Workload, chosen


def arguments() -> Namespace:
    """Return what is asked for."""
    parser = ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("workloads", nargs="*", help="what to measure; everything if none is named")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--record", action="store_true", help="write them into docs/PERFORMANCE.md, too"
    )
    asked = parser.parse_args()
    try:
        asked.workloads = chosen(asked.workloads)
    except ValueError as error:
        parser.error(str(error))
    return asked


def measure(
    workloads: list[Workload], rounds: int | None, about: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Measure one workload after the other, saying which on stderr; return all as plain data."""
    results: dict[str, dict[str, Any]] = {}
    for workload in workloads:
        started = time.perf_counter()
        print(f"{workload.name} …", end=" ", file=sys.stderr, flush=True)
        figures = workload.measure(rounds or workload.rounds)
        seconds = time.perf_counter() - started
        print(f"{seconds:.0f} s", file=sys.stderr)
        results[workload.name] = report.as_json(about, figures, seconds)
    return results


def main() -> None:
    """Measure, print and record."""
    asked = arguments()
    if asked.list:
        print(report.aligned([(each.name, each.about) for each in WORKLOADS]))
        return
    about = report.machine()
    results = measure(asked.workloads, asked.rounds, about)
    figures = [figure for result in results.values() for figure in report.figures_of(result)]
    print(report.aligned([report.TITLES, *map(report.cells, figures)]))
    seconds = sum(result["seconds"] for result in results.values())
    print(report.sentence(about), f"It took {seconds} s.")
    if asked.json:
        document.write(asked.json, results)
    if asked.record:
        document.write(document.BENCH, document.read(document.BENCH) | results)
        document.render()


if __name__ == "__main__":
    main()
