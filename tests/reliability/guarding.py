"""Worker processes that try hostile input, and what they are watched for.

    python -m tests.reliability.guarding MODULE:FUNCTION SEED FIRST STEP END PROGRESS

The function is given an empty folder and returns another one, `trial(dice) -> (what was tried,
problems)`. Each trial is watched: it may not take longer than a few seconds, need much memory,
import modules, or end the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

from tests.reliability.table import Row, Verdict

Trial = Callable[[random.Random], tuple[str, list[str]]]
Prepare = Callable[[Path], Trial]

ROOT = Path(__file__).parents[2]
LIBRARY = f"{ROOT / 'src' / 'supersteps'}{os.sep}"
WORKERS = 2
SECONDS = 10
"""How long one trial may take."""

HEADROOM = 2 << 30
"""How much more memory a worker may ask for than it has when it begins."""

BLOW_UP = 256 << 10
"""By how many KB one trial may raise the memory that a worker has ever used."""

_MOST_DEATHS = 20
_LAZY = re.compile(
    r"supersteps\.|tests\.|msgspec|zoneinfo|tzdata|importlib\.|fractions$|_|encodings|filelock|hmac$|secrets$"
)
"""Modules that the library itself imports late; what a zone is named is looked up in `tzdata` at
most.
"""


def watched(place: str, trials: int, seed: int, scenario: str) -> Row:
    """Try something in worker processes; count as wrong whatever goes wrong, the death of a
    worker included.

    Args:
        place: The function that prepares the trials, `module:function`.
        trials: How many.
        seed: Each trial has dice of its own, made of this and its number.
        scenario: For the row.
    """
    row = Row(scenario)
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(lambda worker: _work(place, trials, seed, worker), range(WORKERS)))
    for done, problems in parts:
        row.trials += done
        for number, problem in sorted(problems):
            row.take(Verdict(wrong=[problem]), f"seed {seed}, trial {number}")
            row.trials -= 1  # it is among those that were done
    return row


def _work(place: str, trials: int, seed: int, worker: int) -> tuple[int, list[tuple[int, str]]]:
    """Have every trial of one worker done, by as many processes as it takes."""
    problems: list[tuple[int, str]] = []
    first = worker
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder, "progress")
        for _ in range(_MOST_DEATHS):
            progress.write_text(str(first))
            arguments = (place, seed, first, WORKERS, trials, progress)
            process = subprocess.run(
                [sys.executable, "-m", "tests.reliability.guarding", *map(str, arguments)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "MALLOC_ARENA_MAX": "2",
                    "TMPDIR": folder,
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            lines = process.stdout.decode().splitlines()
            problems += [(number, problem) for number, problem in map(json.loads, lines)]
            if process.returncode == 0:
                break
            last = int(progress.read_text())
            trace = process.stderr.decode(errors="replace")
            problems.append((last, f"the process ended with {process.returncode}: {trace[-3000:]}"))
            first = last + WORKERS
    return len(
        range(worker, min(first, trials) if process.returncode else trials, WORKERS)
    ), problems


def main(place: str, seed: int, first: int, step: int, end: int, progress: str) -> None:
    """Do the trials `first`, `first + step`, … and say what goes wrong, a line of JSON each."""
    module, _, name = place.partition(":")
    prepare: Prepare = getattr(import_module(module), name)
    note = os.open(progress, os.O_WRONLY)
    with tempfile.TemporaryDirectory() as folder:
        trial = prepare(Path(folder))
        limit_memory()
        watch_calls(Path(folder))
        for number in range(first, end, step):
            os.pwrite(note, str(number).encode(), 0)
            what, problems = guarded(trial, random.Random(f"{seed} {place} {number}"))
            for problem in problems:
                print(json.dumps([number, f"{what}: {problem}"]), flush=True)


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Do what is the lab's own work."""
    before = len(_seen)
    yield
    del _seen[before:]


_seen: list[str] = []
"""What has been done that no trial may do."""

_FORBIDDEN = frozenset(
    [
        "os.system",
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "ctypes.dlopen",
        "socket.connect",
        "pickle.find_class",
        "sqlite3.enable_load_extension",
        "sqlite3.load_extension",
        "urllib.Request",
        "webbrowser.open",
        "code.__new__",
    ]
)
_READABLE = (
    *map(str, (ROOT / "src", ROOT / "tests", sys.prefix, sys.base_prefix)),
    *(
        "/usr/share/zoneinfo",
        "/usr/lib/zoneinfo",
        "/usr/share/lib/zoneinfo",
        "/etc/zoneinfo",
        "/proc",
        "/dev/null",
    ),
)


def watch_calls(folder: Path) -> None:
    """From now on, note calls that no stored data may lead to: programs, connections, files
    outside the folder.
    """

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _FORBIDDEN:
            _seen.append(f"{event} {arguments!r}"[:300])
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.fsdecode(arguments[0])
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            is_writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if not path.startswith((str(folder), *(() if is_writing else _READABLE))):
                _seen.append(f"{event} {arguments!r}"[:300])

    sys.addaudithook(hook)


def limit_memory() -> None:
    size = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if _has_proc()
        else 0
    )
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, resource.RLIM_INFINITY))


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def guarded(trial: Trial, dice: random.Random) -> tuple[str, list[str]]:
    """Do a trial; return what was tried and what was wrong. One that hangs ends the process."""
    _seen.clear()
    modules = set(sys.modules)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        what, problems = trial(dice)
    except BaseException as error:  # what the library raises on purpose, the trial has caught
        what, problems = "uncaught", [described(error)]
    finally:
        faulthandler.cancel_dump_traceback_later()
    imported = sorted(name for name in set(sys.modules) - modules if not _LAZY.match(name))
    if imported:
        problems.append(f"imported {imported}")
    problems += [f"did {event}" for event in dict.fromkeys(_seen)]
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if more > BLOW_UP:
        problems.append(f"needed {more >> 10} MB")
    return what, problems


def described(error: BaseException) -> str:
    """Return an error and where in the library it was raised."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(LIBRARY):
            place = f" at {file.removeprefix(LIBRARY)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}: {str(error)[:300]}"


if __name__ == "__main__":
    # By its name: the scenarios import this module too, and there must be one of it.
    import_module("tests.reliability.guarding").main(
        sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
    )
