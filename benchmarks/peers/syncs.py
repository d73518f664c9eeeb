"""What a peer syncs to the disk in each step, counted by strace.

What is written but not synced is lost in a power cut, whatever the library says of it.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from benchmarks.peers.peers import Peer, run_command

FEW, MANY = 100, 200

_CALL = re.compile(r"\b(?:fsync|fdatasync|msync|sync_file_range)\(\d+<(?P<path>[^>]*)>")


def what(path: str) -> str:
    """Return what kind of file a synced path is."""
    name = Path(path).name
    if name.endswith("-wal"):
        return "log"
    if name.endswith("-journal"):
        return "journal"
    return "file" if "." in name else "folder"


def counted(printed: str) -> Counter[str]:
    """Return how often each kind of file was synced, from what strace has written."""
    return Counter(what(found["path"]) for found in _CALL.finditer(printed))


def per_step(few: Counter[str], many: Counter[str], steps: int) -> dict[str, float]:
    """Return the syncs of a step: the difference of two runs by that of their steps."""
    each = {kind: (many[kind] - few[kind]) / steps for kind in sorted(many | few)}
    return {kind: round(number, 1) for kind, number in each.items() if round(number, 1) > 0}


def shown(syncs: dict[str, float] | None) -> str:
    """Return the syncs of a step in words."""
    if syncs is None:
        return "not counted"
    return ", ".join(f"{number:g} {kind}" for kind, number in syncs.items()) or "none"


def syncs_of(peer: Peer, folder: Path) -> dict[str, float] | None:
    """Return what a peer syncs in a durable step; None where strace does not run.

    Raises:
        PeerFailed: The peer's script failed.
    """
    if shutil.which("strace") is None:
        return None
    counts = []
    for steps in (FEW, MANY):
        place, log = folder / str(steps), folder / f"{steps}.strace"
        place.mkdir()
        strace = ["strace", "-f", "-y", "-qq", "-o", str(log)]
        strace += ["-e", "trace=fsync,fdatasync,msync,sync_file_range"]
        asked = ("--steps", str(steps), "--seconds", "0", peer.modes[-1])
        run_command([*strace, *peer.command(place, *asked)])
        counts.append(counted(log.read_text()))
    # The script runs the work twice, the first time to warm up.
    return per_step(counts[0], counts[1], 2 * (MANY - FEW))
