"""Instructions per step: of which programs they are counted, recorded, and judged.

Each program runs for two numbers of steps; the difference of instructions, divided by that of
steps, is what one costs, without the start of the process. Two floors written by hand are counted
with the workloads: when those cost something else than they did then, this is another build of
Python or SQLite, and nothing can be said.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counting import Tool, run_python

RECORDED = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05
SAME_BUILD = 0.02


@dataclass(frozen=True)
class Counted:
    """A program whose instructions per step are counted.

    Attributes:
        name: What is recorded of it is under this name.
        module: Runs it, given its name and a number of steps.
        steps: The two numbers of steps.
        floors: What has to cost the same as when the figures were recorded, for them to be
            compared.
    """

    name: str
    module: str
    steps: tuple[int, int]
    floors: tuple[str, ...] = ()

    def cost(self, tool: Tool) -> float:
        """Return how many instructions a step costs."""
        command = ["-m", self.module, self.name]
        run_python([*command, "10"])  # whatever is imported is compiled now, and not counted
        few, many = (tool.count([*command, str(steps)]) for steps in self.steps)
        return (many - few) / (self.steps[1] - self.steps[0])


PROGRAMS = (
    Counted("tasks", "benchmarks.floors", (1000, 3000)),
    Counted("commits", "benchmarks.floors", (1000, 3000)),
    Counted("bare", "benchmarks.counted", (300, 900), ("tasks",)),
    Counted("memory", "benchmarks.counted", (300, 900), ("tasks",)),
    Counted("sqlite", "benchmarks.counted", (300, 900), ("tasks", "commits")),
)


@dataclass(frozen=True)
class Verdict:
    """What is said of one workload, and whether it is too slow."""

    name: str
    cost: float
    recorded: float | None
    comment: str = ""
    is_slower: bool = False

    def line(self) -> str:
        """Return its line of the table."""
        recorded = "-" if self.recorded is None else f"{self.recorded:,.0f}"
        return f"{self.name:8}{self.cost:>12,.0f}{recorded:>12}  {self.comment}".rstrip()


def judge(program: Counted, costs: Mapping[str, float], recorded: Mapping[str, float]) -> Verdict:
    """Return what is to be said of a program's cost.

    Args:
        program: The program.
        costs: What every program costs now.
        recorded: What they cost when that was last recorded; a program may be missing.
    """
    cost, before = costs[program.name], recorded.get(program.name)
    if before is None:
        return Verdict(program.name, cost, None, "not recorded")
    change = cost / before - 1
    comment = f"{change:+.1%}"
    others = [
        name
        for name in program.floors
        if name not in recorded or abs(costs[name] / recorded[name] - 1) > SAME_BUILD
    ]
    if others:
        what = " and ".join(others)
        return Verdict(
            program.name, cost, before, f"{comment}, not judged: another build, see {what}"
        )
    if not program.floors:
        return Verdict(program.name, cost, before, comment)
    if change > TOLERANCE:
        return Verdict(program.name, cost, before, f"{comment}, SLOWER", is_slower=True)
    if change < -TOLERANCE:
        comment += ", better: record it, so that it stays so"
    return Verdict(program.name, cost, before, comment)


def build(tool: Tool) -> str:
    """Return what figures are recorded under: they differ by what runs, where, and who counts."""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {python} {platform.machine()} {tool.name}"


def read_recorded() -> dict[str, dict[str, float]]:
    """Return the recorded figures, by build."""
    if not RECORDED.exists():
        return {}
    recorded: dict[str, dict[str, float]] = json.loads(RECORDED.read_text())
    return recorded


def record(name: str, costs: Mapping[str, float]) -> None:
    """Write the figures of this build into the recorded ones."""
    recorded = read_recorded() | {name: {key: round(cost) for key, cost in costs.items()}}
    RECORDED.write_text(json.dumps(recorded, indent=2, sort_keys=True) + "\n")
