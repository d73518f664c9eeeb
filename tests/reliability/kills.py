"""Kill the process at every system call by which it changes the disk, then open what is left and
go on.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.reliability.judging import judge
from tests.reliability.table import Row, Verdict
from tests.reliability.tracing import CALLS, count, live, why_not

PLANS: tuple[tuple[str, ...], ...] = (
    (),
    ("restore", "prune", "delete"),
    ("fork", "prune", "vacuum"),
)
"""What is done after the run: each plan has kill points of its own."""

WORKERS = 2

P = TypeVar("P")

Scenario = Callable[[int, int], Row]
"""Takes a number of trials and a seed."""


def kill_sqlite(trials: int, seed: int) -> Row:
    return _kill("kill at a system call, SQLite", "runs.db", trials, seed)


def kill_file(trials: int, seed: int) -> Row:
    return _kill("kill at a system call, files", "checkpoints", trials, seed)


def _kill(scenario: str, store: str, trials: int, seed: int) -> Row:
    return try_all(scenario, store, lambda: kill_points(store, trials, seed), kill_at)


def try_all(
    scenario: str,
    store: str,
    points: Callable[[], list[P]],
    trial: Callable[[str, P], Verdict | None],
) -> Row:
    """Make a trial at each point, in several processes; one that shows nothing (None) does not
    count.
    """
    row = Row(scenario, skipped=why_not())
    if row.skipped:
        return row
    chosen = points()
    with ProcessPoolExecutor(WORKERS) as pool:
        for point, verdict in zip(
            chosen, pool.map(partial(trial, store), chosen, chunksize=4), strict=True
        ):
            if verdict is not None:
                row.take(verdict, f"{store} {point}")
    return row


Point = tuple[tuple[str, ...], tuple[str, ...]]
"""What is done, and at which calls the lives end, one after the other."""


def kill_points(store: str, trials: int, seed: int) -> list[Point]:
    """Return every single kill point of every plan if the trials suffice, and pairs of them for
    the rest.
    """
    dice = random.Random(f"{seed} kill {store}")
    single: list[Point] = []
    for plan in PLANS:
        with tempfile.TemporaryDirectory() as folder:
            counts = count(Path(folder, store), plan)
        single += [
            (plan, (f"{call}:signal=KILL:when={n}",))
            for call in CALLS
            for n in range(1, counts[call] + 1)
        ]
    if trials <= len(single):
        return dice.sample(single, trials)
    pairs = [
        (plan, (*first, *dice.choice([second for other, second in single if other == plan])))
        for plan, first in (dice.choice(single) for _ in range(trials - len(single)))
    ]
    return single + pairs


def kill_at(store: str, point: Point) -> Verdict | None:
    """End the workload's lives as a kill point says; judge what is left, None if no life was cut
    short.
    """
    plan, tampers = point
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, store)
        acknowledged: list[str] = []
        kills = 0
        for tamper in tampers:
            life = live(place, plan, tamper=tamper)
            acknowledged += life.acknowledged
            if life.code in (-9, 137):
                kills += 1
            elif life.code != 0:
                return Verdict(
                    wrong=[
                        f"it died of something else, exit code {life.code}: {life.errors[-300:]}"
                    ]
                )
        return judge(str(place), acknowledged) if kills else None
