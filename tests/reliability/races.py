"""Processes that want the same run, or the same file, at the same time: one at a time wins, and
nothing is lost.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from supersteps import RequestInfoEvent, SuperstepsError, WorkflowRunState
from tests.reliability import racing
from tests.reliability.racing import RUN
from tests.reliability.referee import Race, undisturbed
from tests.reliability.table import Row, Verdict

STORES = ("runs.db", "checkpoints")
SECONDS = float(os.environ.get("LAB_SHARED_SECONDS", "20"))
"""How long processes share a file, in each trial."""

not_here = (
    None
    if Path("/proc/self/stat").exists()
    else "no /proc, from which to see that a process has stopped"
)


def resume(trials: int, seed: int) -> Row:
    """Many processes resume one run."""
    return _races("races to resume a run", resume_once, trials, seed)


def takeover(trials: int, seed: int) -> Row:
    """A stopped writer comes to after another process has taken its run over."""
    return _races("a stopped writer comes to", takeover_once, trials, seed)


def answers(trials: int, seed: int) -> Row:
    """Many processes answer one question."""
    return _races("races to answer", answers_once, trials, seed)


def upkeep(trials: int, seed: int) -> Row:
    """A run is driven while its checkpoints are pruned, deleted, exported and checked."""
    return _races("upkeep meanwhile", upkeep_once, trials, seed)


def shared_file(trials: int, seed: int) -> Row:
    """Two processes have several runs each in one file or folder, for a while."""
    return _races("two processes in one file", shared_file_once, trials, seed)


Trial = Callable[[Race, random.Random], None]


def _races(scenario: str, trial: Trial, trials: int, seed: int) -> Row:
    row = Row(scenario, skipped=not_here)
    if row.skipped:
        return row
    for number in range(trials):
        name = f"{trial.__name__} seed {seed} trial {number}"
        row.take(once(trial, name, STORES[number % 2]), f"{name} {STORES[number % 2]}")
    return row


def once(trial: Trial, name: str, store: str) -> Verdict:
    """Have one race."""
    with tempfile.TemporaryDirectory() as folder:
        race = Race(folder, store)
        try:
            with _reported(race):
                trial(race, random.Random(name))
        finally:
            race.end()
        return race.verdict


# ----------------------------------------------------------------------------------------- resuming


def resume_once(race: Race, dice: random.Random, *, unsafe: bool = False) -> None:
    begun = dice.choice(["fresh", "parked", "killed"])
    if begun == "parked":
        race.begin(race.racer("first", seed=dice.random(), limit=dice.randint(1, 9), again=False))
        race.wait()
    elif begun == "killed":
        point = dice.choice(
            ["call", "commit", "committed", "append_journal", "journalled", "taken"]
        )
        race.begin(
            race.racer("first", seed=dice.random(), at=(signal.SIGKILL, point, dice.randint(1, 12)))
        )
        race.wait()
    racers = []
    for number in range(dice.randint(2, 6)):
        at = (
            signal.SIGKILL,
            dice.choice(["call", "commit", "committed", "taken"]),
            dice.randint(1, 5),
        )
        racers.append(
            race.racer(
                f"racer{number}",
                seed=dice.random(),
                wait=dice.choice([0.0, 0.0, dice.random() * 0.02]),
                limit=dice.choice([0, 0, 1, 2, 3]),
                again=dice.random() < 0.8,
                at=at if dice.random() < 0.2 else None,
                ahead=100.0 * number if unsafe else 0.0,
                unsafe=unsafe,
            )
        )
    race.begin(*racers)
    race.wait()
    race.judge_calls()
    race.judge_run()
    race.judge_processes()


# -------------------------------------------------------------------------------------- taking over


def takeover_once(race: Race, dice: random.Random, *, unsafe: bool = False) -> None:
    """Stop a writer, take its run over, and let it go on: after the other one's end, or while it
    is at work too.
    """
    point = dice.choice(
        ["call", "call", "commit", "commit", "append_journal", "add_answers", "acquire", "any"]
    )
    most = {"call": 12, "commit": 10, "append_journal": 3}.get(point, 1)
    at = None if point == "any" else (int(signal.SIGSTOP), point, dice.randint(1, most))
    writer = race.racer("writer", seed=dice.random(), again=False, at=at, unsafe=unsafe)
    race.begin(writer)
    if at is None:
        _stop_anywhere(race, dice)
    race.stopped("writer")
    if dice.random() < 0.5:
        _take_over_meanwhile(race, dice, unsafe)
    else:
        _take_over_first(race, dice, unsafe)
    race.judge_run()
    race.judge_processes()


def _stop_anywhere(race: Race, dice: random.Random) -> None:
    race.begun()
    time.sleep(dice.random() * 0.06)
    race.send("writer", signal.SIGSTOP)


def _take_over_first(race: Race, dice: random.Random, unsafe: bool) -> None:
    """Let the other one come to the end; then the writer has nothing more to say."""
    race.begin(race.racer("taker", seed=dice.random(), ahead=100.0, unsafe=unsafe))
    if _is_held_up(race):  # it holds the lock of the files: it is not a stale one then
        race.send("writer", signal.SIGCONT)
        race.wait()
        return
    race.wait("taker")
    before, said = race.snapshot(), len(race.said("writer"))
    race.send("writer", signal.SIGCONT)
    race.wait()
    if race.snapshot() != before:
        race.verdict.doubled.append("the stale writer has changed what is stored")
    later = race.said("writer")[said:]
    race.verdict.doubled += [
        f"the stale writer was told {line}" for line in later if line[0] == "accepted"
    ]


def _is_held_up(race: Race) -> bool:
    """Wait until the other one is done or has met a lock that is held; return whether it is the
    latter.
    """
    deadline = time.monotonic() + racing.LIMIT_SECONDS
    while time.monotonic() < deadline and not race.heard("taker", "end", "error"):
        if race.heard("taker", "held"):
            return True
        time.sleep(0.002)
    return False


def _take_over_meanwhile(race: Race, dice: random.Random, unsafe: bool) -> None:
    """Stop the other one in a superstep of its own, too, and let the writer go on before it."""
    at = (int(signal.SIGSTOP), dice.choice(["taken", "call", "commit", "commit"]), 1)
    race.begin(race.racer("taker", seed=dice.random(), ahead=100.0, at=at, unsafe=unsafe))
    deadline = time.monotonic() + racing.LIMIT_SECONDS
    while time.monotonic() < deadline and not race.heard("taker", "stops", "held", "end", "error"):
        time.sleep(0.002)
    is_held = not race.heard("taker", "stops") and race.heard("taker", "held")
    if not is_held:
        race.stopped("taker")
        taken = race.heard("taker", "owns")
        before = race.snapshot() if taken else None
        race.send("writer", signal.SIGCONT)
        race.wait("writer")
        if taken and race.snapshot() != before:
            race.verdict.doubled.append("the stale writer has changed what is stored")
    race.send("writer", signal.SIGCONT)
    race.send("taker", signal.SIGCONT)
    while is_held and time.monotonic() < deadline and race.stopped("taker"):
        race.send("taker", signal.SIGCONT)
        time.sleep(0.01)
    race.wait()


# ---------------------------------------------------------------------------------------- answering


def answers_once(race: Race, dice: random.Random) -> None:
    request_id = asyncio.run(_ask(race))
    ways = ["storage", "storage", "workflow", "handle"]
    racers = [
        race.racer(
            f"answer{number}",
            "answer",
            seed=dice.random(),
            wait=dice.choice([0.0, 0.0, dice.random() * 0.02]),
            options={"request_id": request_id, "way": dice.choice(ways)},
        )
        for number in range(dice.randint(2, 5))
    ]
    if dice.random() < 0.6:
        racers.append(
            race.racer("driver", seed=dice.random(), answers=False, wait=dice.random() * 0.02)
        )
    killing = dice.choice(["nobody", "nobody", "itself", "from outside"])
    victim = dice.randrange(len(racers))
    if killing == "itself":
        points = (
            ["call", "commit", "committed"]
            if racers[victim].name == "driver"
            else ["add_answers", "answered"]
        )
        at = (int(signal.SIGKILL), dice.choice(points), 1)
        racers[victim] = replace(racers[victim], at=at)
    race.begin(*racers)
    if killing == "from outside":
        race.begun()
        time.sleep(dice.random() * 0.08)
        race.send(racers[victim].name, signal.SIGKILL)
    _settle(race, [racer.name for racer in racers])
    _judge_answers(race, request_id)
    race.judge_processes()


async def _ask(race: Race) -> str:
    """Drive the run until it waits for an answer; return what it asks."""
    async with (
        racing.open_store(race.store) as storage,
        racing.build(storage).run_stream(1, run_id=RUN) as run,
    ):
        asked = [event.request_id async for event in run if isinstance(event, RequestInfoEvent)]
    return asked[0]


def _settle(race: Race, names: list[str]) -> None:
    """Wait for those who answer; if nobody has, everybody was killed: somebody has to, for the
    driver to end.
    """
    race.wait(*(name for name in names if name != "driver"))
    if "driver" in names and not asyncio.run(_is_answered(race)):
        race.send("driver", signal.SIGKILL)
    race.wait()


async def _is_answered(race: Race) -> bool:
    async with racing.open_store(race.store) as storage:
        run = await storage.get_run(RUN)
        return run is None or not run.requests or bool(await storage.read_inbox(RUN))


def _judge_answers(race: Race, request_id: str) -> None:
    accepted = [
        name
        for name in race.racers
        for line in race.pick("accepted", name)
        if line[1] == request_id
    ]
    refused = [(name, line[2]) for name in race.racers for line in race.pick("refused", name)]
    taken = asyncio.run(_finish_answered(race))
    if len(accepted) > 1:
        race.verdict.doubled.append(f"{accepted} all were told that their answer counts")
    if accepted and taken not in [f"by {name}" for name in accepted]:
        race.verdict.lost.append(
            f"the answer of {accepted} was accepted, and what counts is {taken!r}"
        )
    for name, why in refused:
        if taken == f"by {name}":
            race.verdict.wrong.append(f"{name} was refused, and its answer counts")
        if why not in ("AlreadyAnsweredError", "UnknownRequestError"):
            race.verdict.wrong.append(f"{name} was refused with {why}")
    race.judge_run(answer=taken)


async def _finish_answered(race: Race) -> str:
    """Drive the run to its end, answering if needed; return the answer that it consumed."""
    async with racing.open_store(race.store) as storage:
        run = racing.build(storage).run_stream(1, run_id=RUN, if_exists="attach")
        async for event in run:
            if isinstance(event, RequestInfoEvent):
                await run.send_response(event.request_id, "by nobody else")
        outputs = (await run.wait_for_completion()).get_outputs()
        head = await storage.get_run(RUN)
        assert head is not None
        checkpoint = await storage.load_checkpoint(head.head)
        assert checkpoint is not None
        if len(checkpoint.answered) != 1:
            race.verdict.doubled.append(
                f"the question was answered {len(checkpoint.answered)} times"
            )
    return str(outputs[1]).removeprefix("lap 2 was ")


# ------------------------------------------------------------------------------------------ tidying


def upkeep_once(race: Race, dice: random.Random) -> None:
    laps = dice.randint(4, 8)
    drivers = [
        race.racer(
            f"driver{number}",
            seed=dice.random(),
            laps=laps,
            limit=dice.choice([0, 2, 5]),
            pause=dice.choice([0.0, 0.004, 0.02]),
            at=(
                int(signal.SIGKILL),
                dice.choice(["call", "commit", "committed"]),
                dice.randint(3, 30),
            )
            if number and dice.random() < 0.5
            else None,
        )
        for number in range(dice.randint(1, 2))
    ]
    tidiers = dice.choice([1, 1, 2])
    race.begin(
        *drivers,
        *(
            race.racer(
                f"tidier{n}",
                "upkeep",
                seed=dice.random(),
                laps=laps,
                options={"is_alone": tidiers == 1},
            )
            for n in range(tidiers)
        ),
    )
    race.wait()
    race.judge_run(gone=frozenset(line[1] for line in race.pick("deleted")))
    race.judge_processes()


# ------------------------------------------------------------------------------------------ sharing


def shared_file_once(race: Race, dice: random.Random, *, seconds: float | None = None) -> None:
    options = {"seconds": SECONDS if seconds is None else seconds, "lanes": 3}
    pauses = [0.0, 0.002]
    race.begin(
        *(
            race.racer(
                name, "share", seed=dice.random(), pause=dice.choice(pauses), options=options
            )
            for name in "pq"
        )
    )
    race.wait()
    finished = {name: [line[1] for line in race.pick("finished", name)] for name in "pq"}
    for name, run_ids in finished.items():
        if len(run_ids) < options["lanes"]:
            race.verdict.wrong.append(f"{name} made no progress: it finished {run_ids}")
    steps = list(range(len(undisturbed(3, "fine")[1])))
    asyncio.run(
        _judge_shared(race, [run_id for run_ids in finished.values() for run_id in run_ids], steps)
    )
    if race.store.endswith(".db"):
        db = sqlite3.connect(race.store)
        found = db.execute("PRAGMA integrity_check").fetchall()
        db.close()
        if found != [("ok",)]:
            race.verdict.wrong.append(f"integrity_check says {found}")
    race.judge_processes()


async def _judge_shared(race: Race, finished: list[str], steps: list[int]) -> None:
    async with racing.open_store(race.store) as storage:
        race.verdict.wrong += [
            f"damaged: {damage.what}: {damage.problem}" for damage in await storage.verify()
        ]
        for run_id in finished:
            run = await storage.get_run(run_id)
            if run is None or run.status != WorkflowRunState.IDLE.value:
                race.verdict.lost.append(f"run {run_id} was finished, and is {run and run.status}")
                continue
            lineage = [info.step_number for info in await storage.list_lineage(run.head, 1000)]
            if lineage != steps:
                race.verdict.lost.append(f"supersteps of run {run_id} are {lineage}, not {steps}")


@contextmanager
def _reported(race: Race) -> Iterator[None]:
    try:
        yield
    except SuperstepsError as error:
        race.verdict.wrong.append(f"what is left cannot be used: {type(error).__name__}: {error}")
