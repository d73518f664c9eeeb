"""The same work by everybody, round by round, and the table of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.figures import Figure, figure, ratios
from benchmarks.peers.peers import Peer, PeerFailed, run_command
from benchmarks.peers.syncs import shown, syncs_of
from benchmarks.scratch import scratch

TITLES = ("", "bare", "memory", "durable", "durable in", "syncs of a durable step")
MODES = ("bare", "memory", "durable")
OURS = "supersteps"
FLOOR = "by hand"
TARGETS = {"bare": None, "memory": 4.5, "durable": None}


@dataclass
class Result:
    """What one peer did.

    Attributes:
        name: The peer, with its version.
        durable: Where its durable mode keeps what it saves.
        rates: Steps per second of each round, by mode.
        syncs: What it syncs in a durable step; None where that was not counted.
        problem: Why there are no figures, or none of some rounds.
    """

    name: str
    durable: str
    rates: dict[str, list[float]] = field(default_factory=dict)
    syncs: dict[str, float] | None = None
    problem: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return its line of the table."""
        if self.problem:
            return (self.name, *["-"] * (len(TITLES) - 2), f"no figures: {self.problem}")
        rates = (_rate(self.rates.get(mode)) for mode in MODES)
        return (self.name, *rates, self.durable, shown(self.syncs))


def _rate(rounds: Sequence[float] | None) -> str:
    if not rounds:
        return "-"
    return f"{median(rounds):,.0f} ({min(rounds):,.0f} to {max(rounds):,.0f})"


def run_once(peer: Peer, seconds: float) -> dict[str, float]:
    """Return a peer's steps per second, by mode.

    Raises:
        PeerFailed: Its script failed.
    """
    with scratch() as folder:
        printed = run_command(peer.command(folder, "--seconds", str(seconds), *peer.modes))
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"mode"')]
    return {line["mode"].partition("-")[0]: line["steps"] / line["seconds"] for line in lines}


def prepared(peer: Peer) -> Result:
    """Install a peer, count its syncs and return what its figures will be added to."""
    result = Result(peer.name, peer.durable)
    try:
        peer.install()
        result.name = f"{peer.name} {peer.version()}".rstrip()
        with scratch() as folder:
            result.syncs = syncs_of(peer, folder)
    except PeerFailed as error:
        result.problem = str(error)
    return result


def compared(peers: Iterable[Peer], rounds: int, seconds: float) -> list[Result]:
    """Measure all peers, each round in the reverse order of the last."""
    pairs = [(peer, prepared(peer)) for peer in peers]
    for number in range(rounds):
        print(f"Round {number + 1} of {rounds} …", file=sys.stderr)
        for peer, result in pairs[:: -1 if number % 2 else 1]:
            if result.problem:
                continue
            try:
                for mode, rate in run_once(peer, seconds).items():
                    result.rates.setdefault(mode, []).append(rate)
            except PeerFailed as error:
                result.problem = str(error)
    return [result for _, result in pairs]


def against_fastest(results: Iterable[Result]) -> list[Figure]:
    """Return this library's rates as ratios to those of the fastest peer, mode by mode.

    Durably, only peers count whose steps would survive a power cut: who syncs nothing does less.
    """
    whole = [result for result in results if not result.problem]
    ours = next((result for result in whole if result.name == OURS), None)
    figures = []
    for mode in MODES:
        peers = [
            each
            for each in whole
            if each.name not in (OURS, FLOOR)
            and each.rates.get(mode)
            and (mode != "durable" or each.syncs != {})
        ]
        if ours is None or not peers:
            continue
        fastest = max(peers, key=lambda peer: median(peer.rates[mode]))
        figures.append(
            figure(
                f"{mode}: times the fastest peer",
                ratios(ours.rates[mode], fastest.rates[mode]),
                at_least=TARGETS[mode],
                detail=f"{fastest.name}{f', {fastest.durable}' if mode == 'durable' else ''}",
            )
        )
    return figures


def as_json(about: dict[str, Any], results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """Return what was measured as plain data."""
    written = report.as_json(about, against_fastest(results), seconds)
    return written | {"results": [asdict(result) for result in results]}


def results_of(written: dict[str, Any]) -> list[Result]:
    """Return the results that `as_json` wrote."""
    return [Result(**entry) for entry in written["results"]]
