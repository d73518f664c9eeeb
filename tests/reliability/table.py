"""What the lab reports: one row for each scenario, and the ways in which a trial can go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """A scenario's trials.

    Attributes:
        scenario: What was tried.
        trials: How often.
        lost: Trials after which something acknowledged was missing.
        doubled: Trials after which something counted twice.
        wrong: Trials that ended in an error which says nothing, in a hang, in a wrong value, or in
            damage.
        seconds: How long it took.
        details: What went wrong, one line for each; enough to do that trial again.
        skipped: Why it was not tried, if it was not.
    """

    scenario: str
    trials: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    seconds: float = 0.0
    details: list[str] = field(default_factory=list)
    skipped: str | None = None

    def take(self, verdict: Verdict, trial: str) -> None:
        """Count a trial."""
        self.trials += 1
        self.lost += bool(verdict.lost)
        self.doubled += bool(verdict.doubled)
        self.wrong += bool(verdict.wrong)
        self.details += [
            f"{trial}: {problem}" for problem in (*verdict.lost, *verdict.doubled, *verdict.wrong)
        ]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


@dataclass
class Verdict:
    """What a trial showed: what was lost, what counted twice, and what else was wrong; all empty
    if nothing was.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def lines(rows: list[Row]) -> list[str]:
    """Return the table."""
    titles = ["scenario", "trials", "lost", "doubled", "wrong error", "seconds"]
    cells = [titles]
    for row in rows:
        if row.skipped:
            cells.append([row.scenario, "-", "-", "-", "-", f"skipped: {row.skipped}"])
        else:
            numbers = (row.trials, row.lost, row.doubled, row.wrong)
            cells.append(
                [row.scenario, *(f"{number:,}" for number in numbers), f"{row.seconds:.0f}"]
            )
    total = [
        sum(getattr(row, name) for row in rows) for name in ("trials", "lost", "doubled", "wrong")
    ]
    cells.append(
        ["all", *(f"{number:,}" for number in total), f"{sum(row.seconds for row in rows):.0f}"]
    )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 or cell.startswith("skipped") else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
