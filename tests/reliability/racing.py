"""The processes of a race: each drives, answers or tidies what others do at the same time, and
says what happens to it.

A process writes a line for each thing at once, so that its log is whole also when it is killed:

    step 4 ID            superstep 4 was announced as committed by it
    call 4 a             it calls the handler `a` for superstep 4
    accepted ID          its answer was accepted
    refused ID WHY       its answer was not
    owns                 it has taken the run over
    busy, fenced, held   it was refused: another process drives the run, has taken it over, or has
                         the files locked
    done OUTPUTS         it has found the run at its end
    end                  it ended well; `error TYPE TEXT` says that it did not
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

from msgspec.structs import replace

from supersteps import (
    CheckpointSaveError,
    Executor,
    FileCheckpointStorage,
    ManagedStorage,
    RequestError,
    RequestInfoEvent,
    RunBusyError,
    RunFencedError,
    SqliteCheckpointStorage,
    StorageError,
    SuperStepCompletedEvent,
    SuperstepsError,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowRunState,
    executor,
    handler,
    response_handler,
)
from supersteps.checkpoint.record import Commit
from supersteps.ids import checkpoint_id
from supersteps.storage.files import locks

Store = SqliteCheckpointStorage | FileCheckpointStorage

RUN = "race"
LIMIT_SECONDS = 30.0
"""A process that takes longer hangs."""

MAKERS = "makers"
"""The scope in which each handler notes which process called it for which superstep."""

POINTS = {
    "commit": "committed",
    "append_journal": "journalled",
    "add_answers": "answered",
    "acquire": "taken",
}
"""Methods of a storage before which, and, under other names, after which a process may be
stopped.
"""


@dataclass(frozen=True)
class Racer:
    """What a process is to do.

    Attributes:
        name: Its name in this race.
        task: What it does: the name of a coroutine function of `TASKS`.
        folder: Where its log goes.
        store: The storage.
        seed: For its delays.
        laps: How long the run is.
        wait: How long it waits before it begins, in seconds.
        pause: The most that a handler takes, in seconds.
        limit: After how many supersteps it leaves the run and comes again; 0 is never.
        answers: Whether it answers the run's questions.
        again: Whether it tries again when it is told to keep off.
        at: How it stops itself: with which signal, at which point, which time it comes by.
        ahead: How far its clock is ahead, in seconds: leases of others have expired by it.
        unsafe: Whether its storage ignores the fence: the lab has to notice.
        options: More for the task.
    """

    name: str
    task: str
    folder: str
    store: str
    seed: str
    laps: int = 3
    wait: float = 0.0
    pause: float = 0.004
    limit: int = 0
    answers: bool = True
    again: bool = True
    at: tuple[int, str, int] | None = None
    ahead: float = 0.0
    unsafe: bool = False
    options: dict[str, Any] = field(default_factory=dict)


class Here:
    """What this process knows of itself; outside of a race nothing is said and nobody stops."""

    def __init__(self, racer: Racer | None = None, log: int = -1) -> None:
        self.racer = racer
        self.dice = random.Random(racer.seed if racer else 0)
        self._log = log
        self._passed: Counter[str] = Counter()

    def say(self, *words: object) -> None:
        if self._log >= 0:
            text = " ".join(map(str, words)).replace("\n", " ")
            os.write(self._log, f"{time.monotonic_ns()} {text}\n".encode())

    def passes(self, point: str) -> None:
        """Stop, if it is here and now that this process is to stop."""
        if self.racer is None or self.racer.at is None:
            return
        self._passed[point] += 1
        sign, where, number = self.racer.at
        if where == point and self._passed[point] == number:
            self.say("stops", point)
            os.kill(os.getpid(), sign)

    async def work(self, ctx: WorkflowContext[Any, Any]) -> None:
        """Be a handler that takes its time, and leave a mark."""
        self.say("call", ctx.step_number, ctx.executor_id)
        self.passes("call")
        if self.racer is not None:
            await asyncio.sleep(self.dice.random() * self.racer.pause)
        await ctx.queue_state_update(ctx.executor_id, [ctx.step_number, os.getpid()], scope=MAKERS)


here = Here()


# ------------------------------------------------------------------------------------- the workflow


class Clerk(Executor):
    """Starts a lap; at the second one it asks before it continues."""

    @handler
    async def begin(self, lap: int, ctx: WorkflowContext[int, str]) -> None:
        await here.work(ctx)
        await ctx.append_shared_state("laps", lap)
        if lap == 2:
            await ctx.request_info({"lap": lap}, str)
        else:
            await ctx.send_message(lap)

    @response_handler
    async def go_on(
        self, asked: dict[str, int], answer: str, ctx: WorkflowContext[int, str]
    ) -> None:
        await here.work(ctx)
        await ctx.yield_output(f"lap {asked['lap']} was {answer}")
        await ctx.send_message(asked["lap"])


def worker(name: str) -> Any:
    @executor(id=name)
    async def work(lap: int, ctx: WorkflowContext[str]) -> None:
        await here.work(ctx)
        await ctx.set_shared_state("sum", lap)
        state = await ctx.get_state() or {
            "pages": {str(i): f"{name} page {i} " * 10 for i in range(10)}
        }
        state["pages"][str(lap)] = f"{name} was here in lap {lap}"
        await ctx.set_state(state)
        await ctx.send_message(f"{name}{lap}")

    return work


def build(storage: ManagedStorage | None = None, laps: int = 3) -> Workflow:
    """Return the workflow: clerk -> (a, b) -> judge -> clerk, so many times."""

    @executor(id="judge")
    async def judge(words: list[str], ctx: WorkflowContext[int, str]) -> None:
        await here.work(ctx)
        await ctx.yield_output(" ".join(words))
        lap = int(words[0][1:])
        if lap < laps:
            await ctx.send_message(lap + 1)

    clerk, a, b = Clerk("clerk"), worker("a"), worker("b")
    builder = (
        WorkflowBuilder(name="race")
        .set_start_executor(clerk)
        .add_fan_out_edges(clerk, [a, b])
        .add_fan_in_edges([a, b], judge)
        .add_edge(judge, clerk)
        .with_reducer("sum", lambda value, update: value + update, initial=0)
    )
    return (builder if storage is None else builder.with_checkpointing(storage)).build()


# -------------------------------------------------------------------------------------- the storage


def open_store(store: str, ahead: float = 0.0, busy_seconds: float = 30.0) -> Store:
    """Return the storage at a path, with a clock that is ahead."""

    def clock() -> float:
        return time.time() + ahead

    if store.endswith(".db"):
        return SqliteCheckpointStorage(store, clock=clock, busy_seconds=busy_seconds)
    return FileCheckpointStorage(store, clock=clock)


def _open_watched(racer: Racer) -> Store:
    """Return a racer's storage, which stops it where it is to stop."""
    busy_seconds = 30.0
    if (
        racer.ahead
    ):  # somebody else is stopped, perhaps with the files locked: that is to be noticed soon
        busy_seconds = locks.LOCK_SECONDS = 0.4
    storage = open_store(racer.store, racer.ahead, busy_seconds)
    if racer.unsafe:
        setattr(storage, "commit", functools.partial(_commit_anyway, storage, storage.commit))  # noqa: B010
    for name in POINTS:
        setattr(storage, name, _watched(name, getattr(storage, name)))
    return storage


def _watched(name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        here.passes(name)
        result = await method(*args, **kwargs)
        if name == "acquire":
            here.say("owns")
        here.passes(POINTS[name])
        return result

    return watched


async def _commit_anyway(
    storage: ManagedStorage, method: Callable[[Commit], Awaitable[object]], commit: Commit
) -> None:
    """Commit as a storage without a fence does: after whatever is the head now."""
    run = await storage.get_run(commit.header.run_id)
    if run is not None and commit.header.parent_id is not None:
        number = run.sequence + 1
        identifier = checkpoint_id(run.run_id, number)
        header = replace(
            commit.header, parent_id=run.head, sequence=number, checkpoint_id=identifier
        )
        commit = replace(commit, header=header, epoch=run.epoch)
    await method(commit)


# ---------------------------------------------------------------------------------------- the tasks


async def drive(racer: Racer, storage: ManagedStorage, run_id: str = RUN) -> None:
    """Go on with the run until it is at its end, or only waits for somebody else's answer and
    need not be asked again.

    Whoever is told to keep off, or leaves, comes again.
    """
    while not await _drive_once(racer, storage, run_id):
        if not racer.again:
            return
        await asyncio.sleep(here.dice.random() * 0.01)


async def _drive_once(racer: Racer, storage: ManagedStorage, run_id: str) -> bool:
    run = build(storage, racer.laps).run_stream(1, run_id=run_id, if_exists="attach")
    steps = 0
    try:
        async with run:
            async for event in run:
                if isinstance(event, SuperStepCompletedEvent):
                    assert event.completion_info.checkpoint is not None
                    here.say(
                        "step", event.step_number, event.completion_info.checkpoint.checkpoint_id
                    )
                    steps += 1
                    if steps == racer.limit:
                        return False
                elif isinstance(event, RequestInfoEvent) and racer.answers:
                    try:
                        await run.send_response(event.request_id, "fine")
                        here.say("accepted", event.request_id)
                    except RequestError as error:
                        here.say("refused", event.request_id, type(error).__name__)
            if run.state is not WorkflowRunState.IDLE:
                return False
            here.say("done", json.dumps((await run.wait_for_completion()).get_outputs()))
            return True
    except RunBusyError:
        here.say("busy")
    except RunFencedError:
        here.say("fenced")
    except (StorageError, CheckpointSaveError):
        if not racer.ahead:
            raise
        here.say("held")
    return False


async def answer(racer: Racer, storage: Store) -> None:
    """Answer a question in one of the ways there are."""
    request_id, value = racer.options["request_id"], f"by {racer.name}"
    try:
        match racer.options["way"]:
            case "storage":
                await storage.answer(RUN, request_id, value)
            case "workflow":
                await build(storage, racer.laps).send_responses({request_id: value})
            case _:
                async with build(storage, racer.laps).run_stream(
                    1, run_id=RUN, if_exists="attach"
                ) as run:
                    await run.send_response(request_id, value)
    except RequestError as error:
        here.say("refused", request_id, type(error).__name__)
    except (RunBusyError, RunFencedError):
        here.say("busy")  # somebody else drives the run: the answer may have been accepted before
    else:
        here.say("accepted", request_id)


async def share(racer: Racer, storage: ManagedStorage) -> None:
    """Drive run after run, several at once, for a while."""
    end = time.monotonic() + racer.options["seconds"]

    async def one_by_one(lane: int) -> None:
        number = 0
        while time.monotonic() < end:
            run_id = f"{racer.name}-{lane}-{number}"
            await drive(racer, storage, run_id)
            here.say("finished", run_id)
            number += 1

    async with asyncio.TaskGroup() as lanes:
        for lane in range(racer.options["lanes"]):
            lanes.create_task(one_by_one(lane))


async def upkeep(racer: Racer, storage: Store) -> None:
    """Tidy while others drive."""
    from tests.reliability.tidying import tidy  # the only one who needs it

    await tidy(racer, storage, here)


TASKS: dict[str, Callable[[Racer, Store], Awaitable[None]]] = {
    "drive": drive,
    "answer": answer,
    "share": share,
    "upkeep": upkeep,
}


def live(racer: Racer, start: Barrier) -> None:
    """Be a process of a race."""
    global here
    place = Path(racer.folder, racer.name)
    here = Here(racer, os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    os.dup2(os.open(place.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started the race ends it
    faulthandler.dump_traceback_later(LIMIT_SECONDS - 5 + racer.options.get("seconds", 0), file=2)
    try:
        asyncio.run(_live(racer, start))
    except SuperstepsError as error:
        here.say("error", type(error).__name__, error, traceback.format_exc())
    except BaseException:
        here.say("error", traceback.format_exc())
    else:
        here.say("end")
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _live(racer: Racer, start: Barrier) -> None:
    async with _open_watched(racer) as storage:
        start.wait(LIMIT_SECONDS)
        time.sleep(racer.wait)  # noqa: ASYNC251 - there is nobody else in this loop yet
        here.say("begins", os.getpid())
        await TASKS[racer.task](racer, storage)
