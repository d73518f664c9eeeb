"""`make guard`: fails when a superstep costs more instructions than were last recorded for it.

A figure that is better by as much only says so: it is worth recording, so that it stays so.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from benchmarks import document
from benchmarks.counting import CountingFailed, Tool, working_tool
from benchmarks.instructions import PROGRAMS, TOLERANCE, build, judge, read_recorded, record


def count_all(tool: Tool) -> dict[str, float]:
    """Return what a step of each program costs."""
    with ThreadPoolExecutor(min(len(PROGRAMS), os.cpu_count() or 1)) as pool:
        # The longest first, so that no processor is idle at the end.
        costs = {program.name: pool.submit(program.cost, tool) for program in reversed(PROGRAMS)}
        return {program.name: costs[program.name].result() for program in PROGRAMS}


def compare(name: str, costs: Mapping[str, float]) -> int:
    """Print how the figures compare with the recorded ones; return the exit code."""
    recorded = read_recorded()[name]
    verdicts = [judge(program, costs, recorded) for program in PROGRAMS]
    print(f"{'':8}{'now':>12}{'recorded':>12}  instructions per step, {name}")
    print(*(verdict.line() for verdict in verdicts), sep="\n")
    slower = [verdict.name for verdict in verdicts if verdict.is_slower]
    if not slower:
        return 0
    print(
        f"A superstep costs over {TOLERANCE:.0%} more instructions than recorded:"
        f" {', '.join(slower)}. See where they go:\n"
        f"  valgrind --tool=callgrind {sys.executable} -m benchmarks.counted {slower[0]} 900\n"
        "If a guarantee needs them, say so in the commit and record the new figures:"
        " make guard ARGS=--record",
        file=sys.stderr,
    )
    return 1


def main() -> int:
    """Count, and compare or record."""
    parser = ArgumentParser(prog="make guard", description=__doc__)
    parser.add_argument("--record", action="store_true", help="record the figures of this build")
    arguments = parser.parse_args()
    tool = working_tool()
    if isinstance(tool, str):
        print(f"Guard skipped, nothing here counts instructions ({tool}).")
        return 1 if arguments.record else 0
    name = build(tool)
    if not arguments.record and name not in read_recorded():
        print(f"Guard skipped: nothing is recorded for {name} (make guard ARGS=--record).")
        return 0
    try:
        costs = count_all(tool)
    except CountingFailed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.record:
        record(name, costs)
        print(f"Recorded for {name}.")
        document.render()
        return 0
    return compare(name, costs)


if __name__ == "__main__":
    sys.exit(main())
