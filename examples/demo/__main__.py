"""Kill a workflow in the middle, resume it in a new process, and compare its report with that of
an undisturbed one.

python -m examples.demo                    asks you to approve the report
python -m examples.demo --answer approve   does not ask
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from supersteps import FileCheckpointStorage, RequestInfoExecutor, WorkflowCheckpoint

from .console import Console
from .workflow import Job

HERE = Path(__file__).parent
ANSWER_FILE = HERE / "answer.txt"
"""Holds the answer for when there is no terminal."""

LONGEST_DELAY = 0.15
"""Seconds between the checkpoint and the kill, at most: about two supersteps."""


@dataclass
class Killer:
    """Decides when the process dies: a random moment after so many checkpoints; with `after` None
    never.
    """

    after: int | None
    delay: float
    has_struck: bool = False

    def strike_if_due(self, process: subprocess.Popen[str], checkpoints: int) -> bool:
        """Kill the process if the time has come, once; return whether it was killed."""
        if self.has_struck or self.after is None or checkpoints < self.after:
            return False
        time.sleep(self.delay)
        process.kill()  # SIGKILL: nothing in the process gets a chance to react
        self.has_struck = True
        return True


@dataclass
class Progress:
    """What the processes of one run have said so far."""

    checkpoints: int = 0
    counted: list[list[str]] = field(default_factory=list)
    request: dict[str, Any] | None = None
    output: str | None = None

    @property
    def documents(self) -> int:
        """How many different documents were counted."""
        return len({document for process in self.counted for document in process})


@dataclass
class Site:
    """Where one run keeps its files."""

    folder: Path

    @property
    def storage(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def clear(self) -> None:
        """Remove what an earlier demo left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def digest(self) -> str | None:
        """Return the SHA-256 of the report, None when there is none."""
        return (
            hashlib.sha256(self.report.read_bytes()).hexdigest() if self.report.exists() else None
        )


def main() -> int:
    """Run the demo; 0 when the two reports are the same."""
    options = parse_options()
    console = Console()
    try:
        return run_demo(options, console)
    except (KeyboardInterrupt, EOFError):
        console.say()
        console.say(
            "Stopped. Nothing is lost: the checkpoints are in the folder, but the demo always "
            "starts from the beginning."
        )
        return 130


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--kill-after",
        type=int,
        metavar="N",
        help="kill after so many checkpoints (default: random)",
    )
    parser.add_argument(
        "--answer", choices=["approve", "reject"], help="answer the question with this"
    )
    parser.add_argument("--seed", type=int, help="chooses the random moment of the kill")
    parser.add_argument(
        "--pace", type=float, default=Job.pace, metavar="SECONDS", help="what a page takes"
    )
    options = parser.parse_args()
    if options.kill_after is not None and options.kill_after < 0:
        parser.error("--kill-after is a number of checkpoints, at least 0")
    return options


def run_demo(options: argparse.Namespace, console: Console) -> int:
    """Play the demo's acts one after the other."""
    seed = options.seed if options.seed is not None else random.randrange(10_000)
    chance = random.Random(seed)
    after = options.kill_after if options.kill_after is not None else chance.randint(4, 16)
    killer = Killer(after, chance.uniform(0, LONGEST_DELAY * (1 if after else 5)))
    killed, undisturbed = Site(options.out / "killed"), Site(options.out / "undisturbed")
    killed.clear()
    undisturbed.clear()

    console.say(
        f"{len(topics)} documents of Python's own help. Seed {seed}: kill after {after} "
        "checkpoints."
    )
    progress = Progress()
    answer: str | None = None
    while progress.output is None:
        console.headline("Going on in a new process" if progress.counted else "Starting")
        if run_process(killed, progress, killer, answer, options.pace, console):
            show_what_is_left(killed, console)
        elif progress.output is None:
            answer = get_answer(progress, options.answer, console)
    if not killer.has_struck:
        console.say(
            f"  The run was done after {progress.checkpoints} checkpoints, so nothing was killed."
        )
    console.say(f"  {progress.output}")
    console.say(f"  {tell_repeats(progress)}")

    console.headline("The same work in one process that is not killed")
    run_process(undisturbed, Progress(), Killer(None, 0), answer, options.pace, console)
    return compare(killed, undisturbed, console)


def run_process(
    site: Site,
    progress: Progress,
    killer: Killer,
    answer: str | None,
    pace: float,
    console: Console,
) -> bool:
    """Start a worker and follow what it says until it ends; return whether it was killed."""
    command = [
        sys.executable,
        "-m",
        "examples.demo.worker",
        str(site.storage.resolve()),
        str(site.report.resolve()),
    ]
    command += ["--pace", str(pace)] + (["--answer", answer] if answer else [])
    counted: list[str] = []
    progress.counted.append(counted)
    with subprocess.Popen(
        command, cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        try:
            was_killed = killer.strike_if_due(process, progress.checkpoints)
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # the process died while it was speaking
                follow(json.loads(line), progress, counted, console)
                was_killed = killer.strike_if_due(process, progress.checkpoints) or was_killed
        except BaseException:
            process.kill()
            raise
    if process.returncode and not was_killed:
        raise SystemExit(
            f"the worker failed (exit status {process.returncode}); what it said is above"
        )
    outcome = "was killed" if was_killed else "ended by itself"
    console.say(
        f"  process {process.pid} {outcome}; {progress.documents} of {len(topics)} documents "
        "counted"
    )
    return was_killed


def follow(news: dict[str, Any], progress: Progress, counted: list[str], console: Console) -> None:
    """Take a line of a worker."""
    match news["event"]:
        case "counted":
            counted.append(news["document"])
        case "checkpoint":
            progress.checkpoints += 1
        case "request":
            progress.request = news
        case "done":
            progress.output = news["output"]
    text = f"{progress.documents} of {len(topics)} documents, {progress.checkpoints} checkpoints"
    worth = news["event"] == "checkpoint" and progress.checkpoints % 4 == 0
    console.progress(progress.documents, len(topics), text, is_worth_a_line=worth)


def show_what_is_left(site: Site, console: Console) -> None:
    """List the checkpoints that the killed process left behind."""
    checkpoints = asyncio.run(list_checkpoints(site.storage))
    console.headline(f"Killed. It left {len(checkpoints)} checkpoints behind")
    rows = [describe(checkpoint) for checkpoint in checkpoints]
    if len(rows) > 9:
        rows[3:-5] = [("...", "", "", "")]
    if rows:
        console.table(("step", "saved at", "status", "targets"), rows)
    else:
        console.say("  It died before the first one, so the run begins again.")


async def list_checkpoints(folder: Path) -> list[WorkflowCheckpoint]:
    """Return every checkpoint in a folder, oldest first."""
    async with FileCheckpointStorage(folder) as storage:
        return await storage.list_checkpoints()


def describe(checkpoint: WorkflowCheckpoint) -> tuple[str, str, str, str]:
    """Return a checkpoint as a row of the table."""
    summary = RequestInfoExecutor.checkpoint_summary(checkpoint)
    time_of_day = checkpoint.timestamp[11:23]
    return str(summary.iteration_count), time_of_day, summary.status, ", ".join(summary.targets)


def get_answer(progress: Progress, given: str | None, console: Console) -> str:
    """Return the answer to the workflow's question: as the command line says, else a person's,
    else the file's.
    """
    request = progress.request
    if request is None:
        raise SystemExit("the worker ended without a question and without a result")
    console.headline(request["prompt"])
    console.say(f"  {request['draft']}")
    if given is None and sys.stdin.isatty():
        return console.ask("  Your answer:", ["approve", "reject"])
    answer = given or ANSWER_FILE.read_text(encoding="utf-8").strip()
    source = "--answer" if given else f"{ANSWER_FILE.name}, since there is no terminal"
    console.say(f"  Answered: {answer} (from {source})")
    return answer


def tell_repeats(progress: Progress) -> str:
    """Say which work was done twice."""
    documents = [document for process in progress.counted for document in process]
    by_process = " + ".join(str(len(process)) for process in progress.counted if process)
    repeated = len(documents) - progress.documents
    return (
        f"documents counted, by process: {by_process}; counted twice because of the kill: "
        f"{repeated}"
    )


def compare(killed: Site, undisturbed: Site, console: Console) -> int:
    """Compare the two reports; return the exit status."""
    digests = [site.digest() for site in (killed, undisturbed)]
    console.headline("The reports")
    for site, digest in zip((killed, undisturbed), digests, strict=True):
        console.say(f"  {digest or 'no report':64}  {site.report}")
    if digests[0] != digests[1]:
        console.say("  They differ, which must never be.")
        return 1
    console.say(
        "  Byte for byte the same." if digests[0] else "  Rejected in both, so nothing was written."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
