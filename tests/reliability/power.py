"""Cut the power at any moment: what was not synced is gone, in part or as a whole, in any order."""

from __future__ import annotations

import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from tests.reliability.judging import acknowledgements, judge
from tests.reliability.kills import PLANS, WORKERS
from tests.reliability.recording import Disk, Op, record
from tests.reliability.table import Row, Verdict
from tests.reliability.tracing import why_not


def power_sqlite(trials: int, seed: int) -> Row:
    return _power("power cut, SQLite", "runs.db", trials, seed)


def power_file(trials: int, seed: int) -> Row:
    return _power("power cut, files", "checkpoints", trials, seed)


def _power(scenario: str, store: str, trials: int, seed: int) -> Row:
    row = Row(scenario, skipped=why_not())
    if row.skipped:
        return row
    dice = random.Random(f"{seed} power {store}")
    lengths = [len(recorded(store, plan)) for plan in PLANS]
    cuts = []
    for number in range(trials):
        plan = number % len(PLANS)
        cuts.append((store, plan, dice.randint(1, lengths[plan]), f"{seed} {number}"))
    with ProcessPoolExecutor(WORKERS) as pool:  # forked: the recordings come along
        for cut, verdict in zip(
            cuts, pool.map(cut_at, *zip(*cuts, strict=True), chunksize=8), strict=True
        ):
            row.take(verdict, f"cut {cut}")
    return row


@cache
def recorded(store: str, plan: tuple[str, ...]) -> list[Op]:
    with tempfile.TemporaryDirectory() as folder:
        return record(Path(folder).resolve(), store, plan)


def cut_at(store: str, plan: int, moment: int, seed: str) -> Verdict:
    """Cut the power before operation number `moment`; judge what the disk has kept."""
    disk, said = Disk(), b""
    for op in recorded(store, PLANS[plan])[:moment]:
        if op.kind == "said":
            said += op.data
        else:
            disk.do(op)
    with tempfile.TemporaryDirectory() as folder:
        disk.lose_power(Path(folder), random.Random(seed))
        return judge(str(Path(folder, store)), acknowledgements(said))
