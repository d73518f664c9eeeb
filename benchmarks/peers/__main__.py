"""`make bench-peers`: the same work by other libraries, in one run on one machine.

Each is installed by name and version into an environment of its own in benchmarks/peers/.envs.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path

from benchmarks import document, report
from benchmarks.peers.comparison import TITLES, against_fastest, as_json, compared
from benchmarks.peers.peers import PEERS


def main() -> None:
    """Install, measure and print."""
    parser = ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("peers", nargs="*", help="whom to compare; everybody if none is named")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long, at least")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--record", action="store_true", help="write them into docs/PERFORMANCE.md, too"
    )
    asked = parser.parse_args()
    peers = [peer for peer in PEERS if not asked.peers or peer.name in asked.peers]
    if not peers:
        parser.error(f"choose from {', '.join(sorted({peer.name for peer in PEERS}))}")
    about, started = report.machine(), time.perf_counter()
    results = compared(peers, asked.rounds, asked.seconds)
    seconds = time.perf_counter() - started
    print(report.aligned([TITLES, *(result.cells() for result in results)]))
    print("Steps per second: the median of the rounds, and the least and most of them.\n")
    print(report.aligned([report.TITLES, *map(report.cells, against_fastest(results))]))
    print(report.sentence(about), f"It took {seconds:.0f} s.")
    written = as_json(about, results, seconds)
    if asked.json:
        document.write(asked.json, written)
    if asked.record:
        document.write(document.PEERS, written)
        document.render()


if __name__ == "__main__":
    main()
