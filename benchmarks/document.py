"""Writes the recorded figures into docs/PERFORMANCE.md, as tables between two comments.

`<!-- table: bench passing sqlite -->` and `<!-- end of table -->` are such comments; the
text between them is written here only.
"""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks import instructions, report
from benchmarks.figures import Figure
from benchmarks.peers import comparison

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "PERFORMANCE.md"
RESULTS = Path(__file__).with_name("results")
BENCH = RESULTS / "bench.json"
PEERS = RESULTS / "peers.json"

_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<kind>\w+)(?P<names>[ \w-]*) -->\n)"
    r".*?(?P<end><!-- end of table -->)",
    re.S,
)


def read(path: Path) -> dict[str, Any]:
    """Return recorded results; none, if nothing is recorded."""
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def write(path: Path, results: dict[str, Any]) -> None:
    """Record results."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def bench_table(names: list[str]) -> str:
    """Return the figures of these workloads, and what they were measured on."""
    results = read(BENCH)
    figures: list[Figure] = []
    about: list[str] = []
    for name in names:
        if name not in results:
            return f"Not measured yet: {name}."
        figures += report.figures_of(results[name])
        sentence = report.sentence(results[name]["machine"])
        about += [] if sentence in about else [sentence]
    table = report.markdown(report.TITLES, map(report.cells, figures))
    return "\n\n".join([table, *about])


def peers_table(names: list[str]) -> str:
    """Return the comparison with other libraries, and what it was measured on."""
    results = read(PEERS)
    if not results:
        return "Not measured yet."
    lines = [result.cells() for result in comparison.results_of(results)]
    against = map(report.cells, report.figures_of(results))
    return "\n\n".join(
        [
            report.markdown(comparison.TITLES, lines),
            report.markdown(report.TITLES, against),
            report.sentence(results["machine"]),
        ]
    )


def guard_table(names: list[str]) -> str:
    """Return the recorded instructions of a step, for each build."""
    programs = [program.name for program in instructions.PROGRAMS]
    lines = [
        (build, *(f"{costs[name]:,.0f}" for name in programs))
        for build, costs in sorted(instructions.read_recorded().items())
    ]
    return report.markdown(("", *programs), lines)


def shares_table(names: list[str]) -> str:
    """Return the largest shares of each kind of run, side by side."""
    result = read(BENCH).get("shares")
    if result is None:
        return "Not measured yet."
    columns: dict[str, list[str]] = {}
    for share in report.figures_of(result):
        place, module = share.name.split(": ")
        columns.setdefault(place, []).append(f"{share.value:.0f} % {module}")
    lines = zip_longest(*columns.values(), fillvalue="")
    return f"{report.markdown(list(columns), lines)}\n\n{report.sentence(result['machine'])}"


TABLES = {
    "bench": bench_table,
    "shares": shares_table,
    "peers": peers_table,
    "guard": guard_table,
}


def rendered(page: str) -> str:
    """Return a page with the recorded figures in its tables."""

    def table(found: re.Match[str]) -> str:
        content = TABLES[found["kind"]](found["names"].split())
        return f"{found['begin']}\n{content}\n\n{found['end']}"

    return _TABLE.sub(table, page)


def render() -> None:
    """Write the recorded figures into the page."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} shows what is recorded.")


if __name__ == "__main__":
    render()
