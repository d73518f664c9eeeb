"""Random sequences of what storages are asked to do, compared with a model after each operation."""

from __future__ import annotations

import asyncio
import random
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from supersteps import (
    FileCheckpointStorage,
    InMemoryCheckpointStorage,
    ManagedStorage,
    RetentionPolicy,
    SqliteCheckpointStorage,
)
from supersteps.checkpoint.owner import Owner, mark_advancing, this_process
from supersteps.checkpoint.record import Commit
from supersteps.testing.writer import Clock
from tests.reliability import drawing
from tests.reliability.comparing import RUNS, Comparing, Mismatch, answers_of
from tests.reliability.model import Model, Refused
from tests.reliability.shrinking import shrink

SECONDS = 60.0
"""No sequence takes longer."""


class Op(NamedTuple):
    """An operation; what it needs besides is drawn from `dice` when it is its turn, so that a
    part of them makes sense.

    Attributes:
        kind: The method of `Trial`, without its `do_`.
        client: Which of the two clients does it.
        run: Which run it is about.
        dice: Seed of everything else.
    """

    kind: str
    client: int
    run: int
    dice: int


WEIGHTS = {
    "commit": 40,
    "acquire": 8,
    "renew": 3,
    "release": 5,
    "move_head": 7,
    "append_journal": 7,
    "discard_journal": 2,
    "add_answers": 9,
    "delete_checkpoint": 5,
    "prune": 5,
    "delete_run": 1,
    "list_runs": 4,
    "list_lineage": 2,
    "clock": 5,
    "close": 2,
    "crash": 4,
    "vacuum": 2,
    "verify": 2,
}

Opener = Callable[[Path, Clock], ManagedStorage]


def memory() -> Opener:
    """Return an opener that always gives the same storage: it lives no longer than the process
    anyway.
    """
    opened: list[ManagedStorage] = []

    def open_it(folder: Path, clock: Clock) -> ManagedStorage:
        if not opened:
            opened.append(InMemoryCheckpointStorage(clock=clock))
        return opened[0]

    return open_it


def sqlite() -> Opener:
    return lambda folder, clock: SqliteCheckpointStorage(folder / "runs.db", clock=clock)


def files() -> Opener:
    return lambda folder, clock: FileCheckpointStorage(folder / "checkpoints", clock=clock)


def sequence(seed: str) -> list[Op]:
    """Return the operations of a trial."""
    dice = random.Random(seed)
    kinds = dice.choices([*WEIGHTS], [*WEIGHTS.values()], k=dice.randint(20, 40))
    runs = [0, 0, 0, 0, 1, 2] if dice.random() < 0.7 else [0]
    return [
        Op(kind, int(dice.random() < 0.35), dice.choice(runs), dice.randrange(1 << 30))
        for kind in ["commit", "commit", *kinds]
    ]


def check(make: Callable[[], Opener], ops: Sequence[Op]) -> str | None:
    """Perform operations; return what went wrong, in their shortest form, if anything did."""
    problem = perform(make(), ops)
    if problem is None:
        return None
    least = shrink(ops, lambda part: perform(make(), part) is not None)
    return perform(make(), least) or f"only sometimes: {problem}"


def perform(opener: Opener, ops: Sequence[Op]) -> str | None:
    """Perform operations in a folder of their own; return what was done and what went wrong, if
    anything did.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        trial = Trial(opener, Path(folder))
        try:
            asyncio.run(asyncio.wait_for(trial.go(ops), SECONDS))
        except Mismatch as problem:
            return f"{problem}, after: {'; '.join(trial.told)}"
        except Exception as error:
            return f"{type(error).__name__}: {error}, after: {'; '.join(trial.told)}"
    return None


class Trial(Comparing):
    """A storage in the hands of two clients, and the model of it.

    Args:
        opener: Opens the storage.
        folder: Where it may write.
    """

    def __init__(self, opener: Opener, folder: Path) -> None:
        self.clock = Clock()
        self.model = Model()
        self.told: list[str] = []
        self._open = partial(opener, folder, self.clock)
        self._clients = [self._open(), self._open()]
        self._abandoned: list[ManagedStorage] = []
        self._sent: dict[str, list[Commit]] = {}
        self._owners = owners()
        self.model.alive = {"machine-idle": False, "machine-busy": True, "machine-dead": False}
        mark_advancing("machine-busy", True)

    async def go(self, ops: Sequence[Op]) -> None:
        """Perform the operations, and look at everything at the end through clients that remember
        nothing.
        """
        try:
            for op in ops:
                dice = random.Random(op.dice)
                await getattr(self, f"do_{op.kind}")(op, dice)
                await self._compare(op.client, op.run, dice)
            self.told.append("reopened")
            self._abandoned += self._clients
            self._clients = [self._open()]
            for number in range(len(RUNS)):
                await self._compare_run(0, RUNS[number], None)
            await self._compare_listings(0)
            self._same("verify", [], await self._clients[0].verify())
        finally:
            for client in [*self._clients, *self._abandoned]:
                await client.aclose()

    async def _do(
        self, what: str, expect: Callable[[], Any], got: Callable[[], Awaitable[Any]]
    ) -> None:
        """Do one thing in the model and in the storage: the same must come of it."""
        self.told.append(what)
        refused: type[Exception] | None = None
        expected = None
        try:
            expected = expect()
        except Refused as error:
            refused = error.kind
            self.told[-1] += f" -> {refused.__name__}"
        try:
            value = await got()
        except Exception as error:
            if type(error) is not refused:
                raise Mismatch(f"{what} raised {type(error).__name__}: {error}") from error
            return
        if refused is not None:
            raise Mismatch(f"{what} was done; it must be refused with {refused.__name__}")
        self._same(what, expected, answers_of(value))

    # ------------------------------------------------------------------------------ what clients do

    async def do_commit(self, op: Op, dice: random.Random) -> None:
        run_id, client = RUNS[op.run], self._clients[op.client]
        sent = self._sent.setdefault(run_id, [])
        if sent and dice.random() < 0.08:
            commit, what = dice.choice(sent[-3:]), "commit again"
        else:
            commit = drawing.commit(dice, run_id, self.model.runs.get(run_id), self._owners)
            what = "commit"
            sent.append(commit)
        await self._do(
            f"{what} {described(commit)} by {op.client}",
            lambda: self.model.commit(commit),
            lambda: self._commit(client, commit),
        )

    async def _commit(self, client: ManagedStorage, commit: Commit) -> None:
        """Commit, and see whether the number of the newest answer is what the model has."""
        newest = await client.commit(commit)
        run = self.model.runs[commit.header.run_id]
        known = run.inbox[-1][0] if run.inbox else 0
        # A storage may be in doubt, and need not look where no question waits.
        if newest not in (None, known) and (newest or run.record.requests):
            raise Mismatch(f"the newest answer after {described(commit)} is {known}, not {newest}")

    async def do_acquire(self, op: Op, dice: random.Random) -> None:
        run_id, client = RUNS[op.run], self._clients[op.client]
        owner, seconds = dice.choice(self._owners), dice.choice([1.0, 30.0, 1e6])
        await self._do(
            f"acquire {run_id} by {op.client} as {owner.handle} for {seconds}",
            lambda: self.model.acquire(run_id, owner, seconds),
            lambda: client.acquire(run_id, owner, seconds),
        )

    async def do_renew(self, op: Op, dice: random.Random) -> None:
        run_id, client, epoch = RUNS[op.run], self._clients[op.client], self._epoch(op, dice)
        await self._do(
            f"renew {run_id} {epoch}",
            lambda: self.model.renew(run_id, epoch, 20.0),
            lambda: client.renew(run_id, epoch, 20.0),
        )

    async def do_release(self, op: Op, dice: random.Random) -> None:
        run_id, client, epoch = RUNS[op.run], self._clients[op.client], self._epoch(op, dice)
        status, error = (
            dice.choice([None, "FAILED", "CANCELLED"]),
            dice.choice([None, "it broke\n\u2028'"]),
        )
        await self._do(
            f"release {run_id} {epoch} {status} {error!r}",
            lambda: self.model.release(run_id, epoch, status, error),
            lambda: client.release(run_id, epoch, status=status, error=error),
        )

    async def do_move_head(self, op: Op, dice: random.Random) -> None:
        run_id, client, epoch = RUNS[op.run], self._clients[op.client], self._epoch(op, dice)
        target = self._checkpoint(op, dice)
        await self._do(
            f"move_head {run_id} {epoch} {target}",
            lambda: self.model.move_head(run_id, epoch, target),
            lambda: client.move_head(run_id, epoch, target),
        )

    async def do_append_journal(self, op: Op, dice: random.Random) -> None:
        run_id, client, epoch = RUNS[op.run], self._clients[op.client], self._epoch(op, dice)
        run = self.model.runs.get(run_id)
        head = run.record.head if run and dice.random() < 0.85 else self._checkpoint(op, dice)
        records = [drawing.value(dice) for _ in range(dice.randint(1, 3))]
        await self._do(
            f"append_journal {run_id} {epoch} {head} {len(records)}",
            lambda: self.model.append_journal(run_id, epoch, head, records),
            lambda: client.append_journal(run_id, epoch, head, records),
        )

    async def do_discard_journal(self, op: Op, dice: random.Random) -> None:
        run_id, client, epoch = RUNS[op.run], self._clients[op.client], self._epoch(op, dice)
        await self._do(
            f"discard_journal {run_id} {epoch}",
            lambda: self.model.discard_journal(run_id, epoch),
            lambda: client.discard_journal(run_id, epoch),
        )

    async def do_add_answers(self, op: Op, dice: random.Random) -> None:
        run_id, client = RUNS[op.run], self._clients[op.client]
        run = self.model.runs.get(run_id)
        waiting = run.record.requests if run and dice.random() < 0.85 else drawing.REQUESTS
        asked = [dice.choice(waiting or drawing.REQUESTS) for _ in range(dice.choice([1, 1, 1, 2]))]
        answers = [(request_id, drawing.value(dice)) for request_id in asked]
        await self._do(
            f"add_answers {run_id} {asked}",
            lambda: self.model.add_answers(run_id, answers),
            lambda: client.add_answers(run_id, answers),
        )

    async def do_delete_checkpoint(self, op: Op, dice: random.Random) -> None:
        client, target = self._clients[op.client], self._checkpoint(op, dice)
        await self._do(
            f"delete_checkpoint {target} by {op.client}",
            lambda: self.model.delete_checkpoint(target),
            lambda: client.delete_checkpoint(target),
        )

    async def do_delete_run(self, op: Op, dice: random.Random) -> None:
        run_id, client = RUNS[op.run], self._clients[op.client]
        await self._do(
            f"delete_run {run_id} by {op.client}",
            lambda: self.model.delete_run(run_id),
            lambda: client.delete_run(run_id),
        )

    async def do_prune(self, op: Op, dice: random.Random) -> None:
        run_id, client, dry_run = RUNS[op.run], self._clients[op.client], dice.random() < 0.25
        policy = RetentionPolicy(
            keep_last=dice.choice([None, 1, 2, 5]),
            keep_steps=dice.choice([None, None, 2, 3]),
            keep_for=timedelta(days=30),
            waiting_too=dice.random() < 0.5,
        )
        await self._do(
            f"prune {run_id} {policy} dry_run={dry_run} by {op.client}",
            lambda: self.model.prune(run_id, policy, dry_run),
            lambda: client.prune(run_id, policy, dry_run=dry_run),
        )

    async def do_list_runs(self, op: Op, dice: random.Random) -> None:
        client = self._clients[op.client]
        workflow_id = dice.choice([None, None, "flow", "no such"])
        status = dice.choice([None, None, *drawing.STATUSES])
        tag = dice.choice([None, None, *drawing.TAGS])
        limit = dice.choice([0, 1, 2, 50])
        before = dice.choice([None, None, *RUNS])

        async def listed() -> list[str]:
            found = await client.list_runs(workflow_id, status, tag, limit, before)
            return [run.run_id for run in found]

        await self._do(
            f"list_runs {workflow_id} {status} {tag} {limit} {before}",
            lambda: self.model.list_runs(workflow_id, status, tag, limit, before),
            listed,
        )

    async def do_list_lineage(self, op: Op, dice: random.Random) -> None:
        client, target, limit = (
            self._clients[op.client],
            self._checkpoint(op, dice),
            dice.choice([1, 2, 3, 99]),
        )
        run = next((run for run in self.model.runs.values() if target in run.kept), None)
        expected = [run.kept[c].header.info for c in run.lineage(target)][-limit:] if run else []
        await self._do(
            f"list_lineage {target} {limit}",
            lambda: expected,
            lambda: client.list_lineage(target, limit),
        )

    async def do_clock(self, op: Op, dice: random.Random) -> None:
        self.clock.now += dice.choice([0.5, 10.0, 31.0, 1e4, 2e6, -31.0, -1e4])
        self.model.now = self.clock.now
        self.told.append(f"it is {self.clock.now}")

    async def do_close(self, op: Op, dice: random.Random) -> None:
        self.told.append(f"close {op.client}")
        await self._clients[op.client].aclose()
        if dice.random() < 0.5:
            self._clients[op.client] = self._open()

    async def do_crash(self, op: Op, dice: random.Random) -> None:
        self.told.append(f"abandon {op.client}")
        self._abandoned.append(self._clients[op.client])
        self._clients[op.client] = self._open()

    async def do_vacuum(self, op: Op, dice: random.Random) -> None:
        await self._do(f"vacuum by {op.client}", lambda: None, self._clients[op.client].vacuum)

    async def do_verify(self, op: Op, dice: random.Random) -> None:
        run_id, client = dice.choice([None, RUNS[op.run]]), self._clients[op.client]
        await self._do(f"verify {run_id}", lambda: [], lambda: client.verify(run_id))

    def _epoch(self, op: Op, dice: random.Random) -> int:
        run = self.model.runs.get(RUNS[op.run])
        return (run.record.epoch if run else 1) + (
            dice.choice([-1, 1]) if dice.random() < 0.12 else 0
        )

    def _checkpoint(self, op: Op, dice: random.Random) -> str:
        """Return the id of a checkpoint: mostly one of the run's, seldom another run's or none."""
        run = self.model.runs.get(RUNS[op.run])
        if run is not None and dice.random() < 0.9:
            return run.record.head if dice.random() < 0.2 else dice.choice([*run.kept])
        others = [
            checkpoint_id for other in self.model.runs.values() for checkpoint_id in other.kept
        ]
        return dice.choice([*others, "none"])


def owners() -> list[Owner]:
    """Return owners: two whose lives only time can tell, three of this machine that are idle,
    busy, dead.
    """
    me = this_process("machine-idle")
    far = [Owner("elsewhere", "boot", "", 1, "1", f"machine-far{number}") for number in range(2)]
    dead = Owner(me.host, me.boot_id, me.pid_namespace, 1 << 23, "1", "machine-dead")
    return [*far, me, this_process("machine-busy"), dead]


def described(commit: Commit) -> str:
    header, changes = commit.header, commit.changes
    return (
        f"{header.checkpoint_id} after {header.parent_id} epoch {commit.epoch} "
        f"+{[*changes.puts]} >{[*changes.appends]} -{changes.deletes} read {commit.inbox_read}"
    )
