"""Random sequences of what people and crashes do to runs, compared with a simulation of the runs'
history.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from supersteps import (
    InMemoryCheckpointStorage,
    ManagedStorage,
    RetentionPolicy,
    RunClosedError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    SqliteCheckpointStorage,
)
from supersteps.storage.answers import cancel_run
from tests.reliability.run_driving import Client, Driving, Handle
from tests.reliability.run_graph import LabClock, build, content_expected, content_of, time_of
from tests.reliability.run_history import History, Mismatch
from tests.reliability.run_model import Shape, Simulation, draw_shape
from tests.reliability.shrinking import shrink

SECONDS = 20.0
"""No sequence takes longer."""

WEIGHTS = {
    "open": 14,
    "step": 30,
    "crash": 8,
    "resume_older": 7,
    "answer": 22,
    "cancel_request": 4,
    "restore": 6,
    "fork": 4,
    "prune": 4,
    "cancel_run": 3,
    "close": 3,
    "clock": 6,
    "replay": 4,
    "start_again": 2,
}


class Op(NamedTuple):
    """An operation; see `storage_machine.Op`.

    Attributes:
        kind: The method of `Trial`, without its `do_`.
        client: Which of the two clients does it.
        dice: Seed of everything else.
    """

    kind: str
    client: int
    dice: int


Opener = Callable[[Path], Callable[[], ManagedStorage]]


def memory(folder: Path) -> Callable[[], ManagedStorage]:
    storage = InMemoryCheckpointStorage()
    return lambda: storage


def sqlite(folder: Path) -> Callable[[], ManagedStorage]:
    return lambda: SqliteCheckpointStorage(folder / "runs.db")


def sequence(seed: str) -> tuple[Shape, list[Op]]:
    """Return the graph and the operations of a trial."""
    dice = random.Random(seed)
    shape = draw_shape(dice)
    kinds = dice.choices([*WEIGHTS], [*WEIGHTS.values()], k=dice.randint(6, 16))
    return shape, [
        Op(kind, int(dice.random() < 0.3), dice.randrange(1 << 30))
        for kind in ["open", "step", *kinds]
    ]


def check(opener: Opener, shape: Shape, ops: Sequence[Op]) -> str | None:
    """Perform operations; return what went wrong, in their shortest form, if anything did."""
    problem = perform(opener, shape, ops)
    if problem is None:
        return None
    least = shrink(ops, lambda part: perform(opener, shape, part) is not None, tries=150)
    return perform(opener, shape, least) or f"only sometimes: {problem}"


def perform(opener: Opener, shape: Shape, ops: Sequence[Op]) -> str | None:
    """Perform operations in a folder of their own; return what was done and what went wrong, if
    anything did.
    """
    clock = LabClock()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), time_of(clock):
        warnings.simplefilter("ignore")
        trial = Trial(opener(Path(folder)), shape, clock)
        try:
            asyncio.run(trial.go(ops))
        except Mismatch as problem:
            return f"{problem}, after: {'; '.join(trial.told)}, on {shape}"
        except Exception as error:
            return f"{type(error).__name__}: {error}, after: {'; '.join(trial.told)}, on {shape}"
    return None


class Trial(Driving):
    """Runs in the hands of two clients, and what must be known of them.

    Args:
        opener: Opens the storage.
        shape: The graph.
        clock: The time.
    """

    def __init__(self, opener: Callable[[], ManagedStorage], shape: Shape, clock: LabClock) -> None:
        self.told: list[str] = []
        self.clock = clock
        self._open = opener
        self._shape = shape
        self._simulation = Simulation(shape)
        self._abandoned: list[ManagedStorage] = []
        self.histories: dict[str, History] = {}
        self.clients: list[Client] = []

    async def go(self, ops: Sequence[Op]) -> None:
        """Perform the operations; then end every run, through a client that remembers nothing."""
        self.clients = [self._client(), self._client()]
        try:
            async with asyncio.timeout(SECONDS):
                for op in ops:
                    await getattr(self, f"do_{op.kind}")(
                        self.clients[op.client], random.Random(op.dice)
                    )
                await self._end_all()
        finally:
            for storage in [*self._abandoned, *(client.storage for client in self.clients)]:
                await storage.aclose()

    async def _end_all(self) -> None:
        self.told.append("to the end")
        self._abandoned += [client.storage for client in self.clients]
        last = self._client()
        self.clients = [last]
        for history in self.histories.values():
            await self._end(last, history)
        if damages := await last.storage.verify():
            raise Mismatch(f"damaged: {damages}")

    def _client(self) -> Client:
        storage = self._open()
        return Client(storage, build(self._shape, storage))

    def run_of(self, dice: random.Random) -> History | None:
        """Return one of the runs, mostly the first one."""
        histories = [*self.histories.values()]
        return (
            None
            if not histories
            else histories[0]
            if dice.random() < 0.7
            else dice.choice(histories)
        )

    # -------------------------------------------------------------------------------------- driving

    async def do_open(self, client: Client, dice: random.Random) -> None:
        """Begin the run, or take it over where it stands."""
        history = self.run_of(dice)
        if history is None:
            self.told.append("start")
            history = self.histories["run"] = History(
                "run", self._simulation, {}, self._simulation.begin(1)
            )
            run = client.workflow.run_stream(1, run_id="run")
            await self.drive(client, Handle(run, history), dice.choice([0, 1, 2, 99]))
        elif dice.random() < 0.2:
            self.told.append(f"attach to {history.run_id}")
            run = client.workflow.run_stream(1, run_id=history.run_id, if_exists="attach")
            await self.drive(client, Handle(run, history, history.head), 1)
        else:
            await self._resume(client, history, history.head, dice)

    async def do_start_again(self, client: Client, dice: random.Random) -> None:
        """Begin a run under an id that is taken."""
        if "run" in self.histories:
            self.told.append("start again")
            try:
                await client.workflow.run(1, run_id="run")
            except RunExistsError:
                await self.sync(self.histories["run"])
            else:
                raise Mismatch("a run was begun twice")

    async def do_resume_older(self, client: Client, dice: random.Random) -> None:
        history = self.run_of(dice)
        if history is not None:
            await self._resume(client, history, dice.choice(history.present), dice)

    async def _resume(
        self, client: Client, history: History, checkpoint_id: str, dice: random.Random
    ) -> None:
        steps = dice.choice([0, 1, 2, 99])
        self.told.append(f"resume {checkpoint_id} for {steps}")
        run = client.workflow.run_stream_from_checkpoint(checkpoint_id)
        await self.drive(client, Handle(run, history, checkpoint_id), steps)

    async def do_step(self, client: Client, dice: random.Random) -> None:
        handle = self._handle(client, dice)
        if handle is not None:
            steps, leaves = dice.choice([1, 1, 2, 3, 99]), dice.random() < 0.3
            self.told.append(
                f"step {handle.history.run_id} by {self.clients.index(client)} for {steps}"
            )
            await self.drive(client, handle, steps, dice if leaves else None)

    async def do_crash(self, client: Client, dice: random.Random) -> None:
        """Let a client die at some turn of the event loop; another one takes its place."""
        turns = dice.choice([0, 1, 3, 7, 15, 30])
        self.told.append(f"crash {self.clients.index(client)} after {turns} turns")
        handle = self._handle(client, dice)
        if handle is not None:
            is_stale = handle.is_stale
            consumer = asyncio.create_task(handle.run.wait_for_completion())
            for _ in range(turns):
                await asyncio.sleep(0)
            vars(client.storage)["release"] = _released_by_nobody
            while others := asyncio.all_tasks() - {
                task for task in self.patrons if task is not None
            }:
                for task in others:
                    task.cancel()
                await asyncio.wait(others)
            with suppress(asyncio.CancelledError, Exception):
                consumer.result()
            with suppress(RunNotFoundError):  # what its thread still writes comes before this
                await client.storage.renew("no such run", 1, 1.0)
            vars(client.storage).pop("release")
            await self.sync(handle.history, None if is_stale else handle)
        self._abandoned.append(client.storage)
        self.clients[self.clients.index(client)] = self._client()

    async def do_restore(self, client: Client, dice: random.Random) -> None:
        """Rewind a run in place."""
        handle = self._handle(client, dice)
        if handle is None:
            return
        target = dice.choice(handle.history.present)
        self.told.append(f"restore {target}")
        was_stale = handle.is_stale
        try:
            await handle.run.restore_checkpoint(target)
        except RunFencedError:
            if not was_stale:
                raise
            client.handles.pop(handle.history.run_id)
        else:
            handle.history.move(target)
            handle.base, handle.seen, handle.made, handle.told = (
                target,
                handle.history.position,
                [],
                [],
            )
        await self.sync(handle.history)

    async def do_fork(self, client: Client, dice: random.Random) -> None:
        history = self.run_of(dice)
        if history is None or len(self.histories) > 2:
            return
        source = dice.choice(history.present)
        state = history.states[source]
        run_id = f"fork{len(self.histories)}"
        changes = {"shared_state.sum": 77} if "sum" in state.shared and dice.random() < 0.6 else {}
        self.told.append(f"fork {source} {changes}")
        root = state.edited(changes)
        fork = self.histories[run_id] = History(run_id, self._simulation, {}, root)
        run = client.workflow.fork(source, changes, run_id=run_id)
        await self.drive(client, Handle(run, fork), dice.choice([0, 1, 99]))
        await self.sync(history)

    async def do_prune(self, client: Client, dice: random.Random) -> None:
        history = self.run_of(dice)
        if history is not None:
            policy = RetentionPolicy(
                keep_last=dice.choice([1, 2, 4]), waiting_too=dice.random() < 0.5
            )
            self.told.append(f"prune {history.run_id} {policy.keep_last}")
            history.forget(await client.storage.prune(history.run_id, policy))
            for each in self.clients:  # who stood at what is gone has nothing to go on from
                handle = each.handles.get(history.run_id)
                if handle is not None and handle.base not in history.present:
                    each.handles.pop(history.run_id)
            await self.sync(history)

    async def do_cancel_run(self, client: Client, dice: random.Random) -> None:
        history = self.run_of(dice)
        if history is None:
            return
        handle = client.handles.get(history.run_id)
        self.told.append(f"cancel {history.run_id}")
        is_done = history.now.status == "IDLE" or history.is_cancelled
        if handle is None or dice.random() < 0.5:
            await cancel_run(client.storage, history.run_id)
        else:
            was_stale = handle.is_stale
            client.handles.pop(history.run_id)
            try:
                await handle.run.cancel()
            except RunFencedError:
                if not was_stale:
                    raise
                is_done = True
            else:
                # What counts is where the handle stands: from an older checkpoint it ends a run
                # that was done, too.
                is_done = was_stale or handle.history.states[handle.base].status == "IDLE"
                history.move_if_stored(await client.storage.get_run(history.run_id), handle.base)
        if not is_done:
            history.cancel()
        await self.sync(history, may_be_cancelled=True)

    async def do_close(self, client: Client, dice: random.Random) -> None:
        handle = self._handle(client, dice)
        if handle is not None:
            self.told.append(f"close {handle.history.run_id}")
            client.handles.pop(handle.history.run_id)
            await handle.run.aclose()
            await self.sync(handle.history)
            try:
                async for _ in handle.run:
                    raise Mismatch("a closed handle goes on")
            except RunClosedError:
                pass

    async def do_clock(self, client: Client, dice: random.Random) -> None:
        self.clock.seconds += dice.choice([1.0, 60.0, 400.0])
        self.told.append(f"it is {self.clock.seconds}")

    async def do_replay(self, client: Client, dice: random.Random) -> None:
        """Repeat a run in memory: it comes to the same."""
        history = self.run_of(dice)
        if history is None:
            return
        self.told.append(f"replay {history.run_id}")
        run = client.workflow.replay(history.run_id)
        await run.wait_for_completion()
        got, expected = content_of(run.snapshot()), content_expected(history.now)
        if not history.is_pruned and got != expected:
            raise Mismatch(f"the replay came to {got}, not {expected}")
        await self.sync(history)

    def _handle(self, client: Client, dice: random.Random) -> Handle | None:
        return dice.choice([*client.handles.values()]) if client.handles else None

    async def _end(self, client: Client, history: History) -> None:
        """Go on with a run until nothing is left to do."""
        for _ in range(60):
            if history.now.status == "IDLE":
                break
            self.clock.seconds += 1000.0
            handle = Handle(
                client.workflow.run_stream_from_checkpoint(history.head), history, history.head
            )
            client.handles[history.run_id] = handle
            for request_id in [*history.now.asks]:
                if request_id not in [entry.request_id for entry in history.inbox]:
                    await self.answer_through(handle, request_id, 1)
            await self.drive(client, handle, 99)
        else:
            raise Mismatch(f"the run does not end: {history.now}")


async def _released_by_nobody(*_: Any, **__: Any) -> None:
    """The dead release nothing."""
