"""What can be measured, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import (
    durable,
    footprint,
    growing,
    long_runs,
    postgres,
    questions,
    shares,
    speed,
    start_up,
    state,
)
from benchmarks.figures import Figure


@dataclass(frozen=True)
class Workload:
    """Something that can be measured.

    Attributes:
        name: What it is chosen by.
        rounds: How many rounds give a median that repeats, unless something else is asked for.
        measure: Measures it, in so many rounds.
    """

    name: str
    rounds: int
    measure: Callable[[int], list[Figure]]

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return (self.measure.__doc__ or "").partition("\n")[0]


WORKLOADS = (
    Workload("passing", 15, speed.passing_figures),
    Workload("self-loop", 7, speed.self_loop_figures),
    Workload("sqlite", 9, durable.commit_figures),
    Workload("postgres", 7, postgres.commit_figures),
    Workload("thousand-runs", 5, durable.crowd_figures),
    Workload("opening", 9, long_runs.opening_figures),
    Workload("listing", 5, long_runs.listing_figures),
    Workload("waiting", 5, questions.waiting_figures),
    Workload("asking", 3, questions.asking_figures),
    Workload("start-up", 15, start_up.start_up_figures),
    Workload("growth", 3, growing.growth_figures),
    Workload("peak-memory", 1, footprint.peak_figures),
    Workload("large-state", 3, footprint.large_figures),
    Workload("bytes", 1, state.small_figures),
    Workload("untouched", 5, state.untouched_figures),
    Workload("history", 1, state.history_figures),
    Workload("shares", 3, shares.share_figures),
    Workload("whole-history", 5, state.whole_history_figures),
)


def chosen(names: list[str]) -> list[Workload]:
    """Return the workloads of these names; all of them, if none is given.

    Raises:
        ValueError: There is no workload of a name.
    """
    known = {workload.name: workload for workload in WORKLOADS}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no workload {name!r}; choose from {', '.join(known)}")
    return [known[name] for name in names] if names else list(WORKLOADS)
