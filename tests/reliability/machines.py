"""Random sequences of operations, compared with models: on storages, on runs; and random values
on their way.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.reliability import run_machine, storage_machine, trips
from tests.reliability.table import Row, Verdict

WORKERS = 2
CODEC_BATCH = 100
BATCH = 20
"""Trials that a worker takes at once."""


def storages(trials: int, seed: int) -> Row:
    """Do to storages what clients may do, and compare with the model of a storage."""
    return _divided("storages against a model", storage_trial, trials, seed)


STORAGES = (
    ("memory", storage_machine.memory),
    ("sqlite", storage_machine.sqlite),
    ("file", storage_machine.files),
)


def storage_trial(seed: int, number: int) -> tuple[str, Verdict]:
    """Do one sequence on one of the storages."""
    name, make = STORAGES[number % len(STORAGES)]
    problem = storage_machine.check(make, storage_machine.sequence(f"{seed} {number}"))
    return f"{name} {seed} {number}", Verdict(wrong=[problem] if problem else [])


def runs(trials: int, seed: int) -> Row:
    """Do to runs what people and crashes may do, and compare with the simulation of their
    history.
    """
    return _divided("runs against a simulation", run_trial, trials, seed)


def run_trial(seed: int, number: int) -> tuple[str, Verdict]:
    """Do one sequence; most of them in memory, where thousands are possible."""
    name, opener = (
        ("sqlite", run_machine.sqlite) if number % 4 == 3 else ("memory", run_machine.memory)
    )
    shape, ops = run_machine.sequence(f"{seed} {number}")
    problem = run_machine.check(opener, shape, ops)
    return f"{name} {seed} {number}", Verdict(wrong=[problem] if problem else [])


Trial = Callable[[int, int], tuple[str, Verdict]]


def _divided(scenario: str, trial: Trial, trials: int, seed: int) -> Row:
    """Do trials in several processes."""
    row = Row(scenario)
    with ProcessPoolExecutor(WORKERS) as pool:
        for name, verdict in pool.map(partial(trial, seed), range(trials), chunksize=BATCH):
            row.take(verdict, name)
    return row


def codec(trials: int, seed: int) -> Row:
    """Send values through the codec and through each storage; what cannot be saved must be
    refused.
    """
    row = Row("values through codec and storages")
    sizes = [min(CODEC_BATCH, trials - first) for first in range(0, trials, CODEC_BATCH)]
    with ProcessPoolExecutor(WORKERS) as pool:
        results = pool.map(trips.check, range(len(sizes)), [seed] * len(sizes), sizes)
        for number, (made, verdict) in enumerate(results):
            row.take(verdict, f"batch {number} of {CODEC_BATCH}, seed {seed}")
            row.trials += made - 1
    return row
