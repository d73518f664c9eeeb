"""System calls that fail, and surroundings that fail: nothing is lost, and an error says what
happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from supersteps import ManagedStorage, open_storage
from tests.reliability import workload
from tests.reliability.judging import acknowledgements, environment, judge, silent
from tests.reliability.kills import PLANS, try_all
from tests.reliability.table import Row, Verdict
from tests.reliability.tracing import CALLS, ROOT, Life, count, live

ERRORS = ("EIO", "ENOSPC")
SYNCS = ("fsync", "fdatasync")


def fault_sqlite(trials: int, seed: int) -> Row:
    return _fault("a failing system call, SQLite", "runs.db", trials, seed)


def fault_file(trials: int, seed: int) -> Row:
    return _fault("a failing system call, files", "checkpoints", trials, seed)


def _fault(scenario: str, store: str, trials: int, seed: int) -> Row:
    return try_all(scenario, store, lambda: fault_points(store, trials, seed), fault_at)


Point = tuple[tuple[str, ...], str]
"""What is done, and which call fails."""


def fault_points(store: str, trials: int, seed: int) -> list[Point]:
    """Return fault points: each call by which the disk is changed, once and for good, with each
    error.
    """
    dice = random.Random(f"{seed} fault {store}")
    points: list[Point] = []
    for plan in PLANS:
        with tempfile.TemporaryDirectory() as folder:
            counts = count(Path(folder, store), plan)
        for call in CALLS:
            for n in range(1, counts[call] + 1):
                # `when=N` fails once; `when=N+` fails from then on, as a disk that is full or gone
                # does.
                points += [
                    (plan, f"{call}:error={error}:when={n}{more}")
                    for error in ERRORS
                    for more in ("", "+")
                ]
    syncs = [point for point in points if point[1].split(":")[0] in SYNCS]
    if trials >= len(points):
        return points
    chosen = dice.sample(syncs, min(len(syncs), trials // 3))
    return chosen + dice.sample(points, trials - len(chosen))


def fault_at(store: str, point: Point) -> Verdict:
    """Let a call fail, look at how the process took it, then judge what is left."""
    plan, tamper = point
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, store)
        life = live(place, plan, tamper=tamper)
        _do_again(str(place), life.acknowledged)
        verdict = judge(str(place), life.acknowledged)
        verdict.wrong += complaints(life, may_end_well=True)
        return verdict


def _do_again(store: str, acknowledged: list[str]) -> None:
    """Finish a removal that a full disk has cut short, as its error says: free some space, then
    do it again.
    """
    last = acknowledged[-1].split() if acknowledged else []
    if last in (["begin", "prune"], ["begin", "delete"]):

        async def again() -> None:
            storage = open_storage(store)
            assert isinstance(storage, ManagedStorage)
            async with storage:
                await workload.operate(storage, last[1])

        with silent():
            asyncio.run(again())


def complaints(life: Life, *, may_end_well: bool) -> list[str]:
    """Return what is wrong with how a process took a failure: it ends well, or in an error that
    says what happened.
    """
    if life.code == 0:
        return [] if may_end_well else ["it went on as if nothing had failed"]
    if life.code < 0:
        return [f"it died of signal {-life.code}"]
    # The last exception of the chain, without its notes.
    last = life.errors.rpartition("Traceback (most recent call last):")[2]
    if not any(line.startswith("supersteps.errors.") for line in last.splitlines()):
        return [f"its error is not one of the library: {last[-300:]!r}"]
    return []


# ------------------------------------------------------------------------------------- surroundings


def surroundings(trials: int, seed: int) -> Row:
    """Storages in places that fail by themselves: full, read-only, gone, forbidden ones."""
    row = Row("surroundings that fail")
    dice = random.Random(f"{seed} surroundings")
    kinds = [full_disk, small_files, read_only, few_files, deleted_folder, forbidden]
    for number in range(trials):
        kind, store = (
            kinds[number % len(kinds)],
            ("runs.db", "checkpoints")[number // len(kinds) % 2],
        )
        row.take(kind(store, dice), f"{kind.__name__} {store}, trial {number}")
    return row


def _live_limited(
    place: Path,
    limit: Callable[[], None] | None = None,
    pause: Callable[[], None] | None = None,
    prefix: tuple[str, ...] = (),
) -> Life:
    """Let a process of the workload live under a limit; call `pause` once it has committed
    something.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.reliability.workload", str(place)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    assert process.stdout is not None
    said = b""
    if pause is not None:
        said = process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        pause()
        process.send_signal(signal.SIGCONT)
    rest, errors = process.communicate(timeout=60)
    return Life(process.returncode, acknowledgements(said + rest), errors.decode(errors="replace"))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextlib.contextmanager
def _tmpfs(kilobytes: int) -> Iterator[Path | None]:
    """A file system of so much, None where one cannot be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        if (
            shutil.which("mount") is None
            or subprocess.run(["mount", *options], capture_output=True).returncode
        ):
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def full_disk(store: str, dice: random.Random) -> Verdict:
    """The disk fills up; once there is space again, the run continues."""
    with _tmpfs(dice.randrange(40, 220, 4)) as folder:
        if folder is None:
            return Verdict()
        life = _live_limited(folder / store)
        subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True)
        verdict = judge(str(folder / store), life.acknowledged)
        verdict.wrong += complaints(life, may_end_well=True)
        return verdict


def small_files(store: str, dice: random.Random) -> Verdict:
    """No file may grow beyond a size, in the middle of which a write ends: a short write."""
    size = dice.randrange(3_000, 150_000)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with _folder() as folder:
        life = _live_limited(folder / store, limit)
        verdict = judge(str(folder / store), life.acknowledged)
        verdict.wrong += complaints(life, may_end_well=True)
        return verdict


def few_files(store: str, dice: random.Random) -> Verdict:
    """The process may open only a few files."""
    number = dice.randrange(8, 16)

    with _folder() as folder:
        life = _live_limited(
            folder / store, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
        )
        verdict = judge(str(folder / store), life.acknowledged)
        if (
            "supersteps.errors." in life.errors or life.acknowledged
        ):  # else Python itself could not even begin
            verdict.wrong += complaints(life, may_end_well=True)
        return verdict


def read_only(store: str, dice: random.Random) -> Verdict:
    """The file system becomes read-only while the run is in progress."""
    with _tmpfs(50_000) as folder:
        if folder is None:
            return Verdict()

        def freeze() -> None:
            # Files that are open for writing hold it up: a lazy remount by force is what a failing
            # disk does.
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], capture_output=True)

        life = _live_limited(folder / store, pause=freeze)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        verdict = judge(str(folder / store), life.acknowledged)
        verdict.wrong += complaints(life, may_end_well=True)
        return verdict


def deleted_folder(store: str, dice: random.Random) -> Verdict:
    """Somebody deletes what the run is kept in: nothing can be kept, but the process has to say
    so.
    """
    with _folder() as folder:
        place = folder / "place"
        life = _live_limited(place / store, pause=lambda: shutil.rmtree(place))
        return Verdict(wrong=complaints(life, may_end_well=False))


def forbidden(store: str, dice: random.Random) -> Verdict:
    """The right to write is revoked, then granted again."""
    # The superuser may write anywhere, unless that very right is dropped.
    prefix = (
        ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
    )
    if prefix and (
        shutil.which("setpriv") is None
        or subprocess.run([*prefix, "true"], capture_output=True).returncode
    ):
        return Verdict()
    with _folder() as folder:
        place = folder / "place"
        place.mkdir()

        def forbid() -> None:
            for path in [*place.rglob("*"), place]:
                path.chmod(0o500 if path.is_dir() else 0o400)

        life = _live_limited(place / store, pause=forbid, prefix=prefix)
        for path in [place, *place.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        verdict = judge(str(place / store), life.acknowledged)
        verdict.wrong += complaints(life, may_end_well=True)
        return verdict
