"""A figure of the tables: a median over rounds, how far the rounds lie apart, and a target."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: What was measured.
        value: The median of the rounds.
        low: The least of the rounds.
        high: The most of the rounds.
        unit: What the figure counts; empty for ratios and exponents.
        target: What is to be reached; None when the figure is only for information.
        at_most: Whether the target is an upper bound.
        detail: The figure in other units, and what it is compared with.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""
    target: float | None = None
    at_most: bool = False
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is reached, in a few words."""
        if self.target is None:
            return ""
        if self._reaches(self.value):
            return "reached"
        best = self.low if self.at_most else self.high
        return "short, within the spread" if self._reaches(best) else "SHORT"

    def _reaches(self, value: float) -> bool:
        assert self.target is not None
        return value <= self.target if self.at_most else value >= self.target


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(
    name: str,
    rounds: Sequence[float],
    *,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    detail: str = "",
) -> Figure:
    """Return the figure of what was measured in each round, with one bound at most."""
    return Figure(
        name,
        median(rounds),
        min(rounds),
        max(rounds),
        unit,
        at_least if at_most is None else at_most,
        at_most is not None,
        detail,
    )


def interleaved(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure several things in turn, round by round, each round in the reverse order of the last.

    What is compared is measured within moments, since the speed of a shared machine drifts.

    Returns:
        What was measured, by name: one value for each round.
    """
    samples: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            gc.collect()  # no measurement pays for another's garbage
            samples[name].append(measures[name]())
    return samples


def ratios(values: Iterable[float], floors: Iterable[float]) -> list[float]:
    """Return what was measured in each round as a ratio to the floor of the same round."""
    return [value / floor for value, floor in zip(values, floors, strict=True)]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the power of the size with which a cost grows, fitted in logarithms.

    0 means no growth, 1 growth in proportion, 2 quadratic growth.
    """
    x = [math.log(size) for size in sizes]
    y = [math.log(cost) for cost in costs]
    x_mean, y_mean = fmean(x), fmean(y)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return slope / sum((a - x_mean) ** 2 for a in x)


def growth(
    name: str,
    rounds: int,
    sizes: Sequence[int],
    cost: Callable[[int], float],
    *,
    at_most: float | None,
    unit: str = "µs",
) -> Figure:
    """Measure a cost at several sizes, interleaved; return the exponent with which it grows.

    Args:
        name: What grows with what.
        rounds: How often each size is measured.
        sizes: The sizes, ascending.
        cost: Returns the cost at a size.
        at_most: The exponent that is allowed.
        unit: That of the cost.
    """
    samples = interleaved(rounds, {str(size): partial(cost, size) for size in sizes})
    by_round = zip(*samples.values(), strict=True)
    shown = ", ".join(f"{number(median(samples[str(size)]))} at {size:,}" for size in sizes)
    return figure(
        name,
        [exponent(sizes, costs) for costs in by_round],
        at_most=at_most,
        detail=f"{unit}: {shown}",
    )
