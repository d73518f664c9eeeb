"""The rules of claims: which runs a worker gets, as pure functions.

A claim first takes up runs whose owner is gone, then those that are due: the queues take turns, and
within a queue a higher priority comes first, then whoever has waited longest. A run that is taken
has a new epoch and a lease, as `acquire` gives them, so the fence is the same. A storage does all
of it in one transaction, or with each run locked while it is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.queue_entry import DEFAULT_QUEUE, QueueEntry
from supersteps.errors import CorruptCheckpointError
from supersteps.states import WorkflowRunState
from supersteps.storage.records import LEASE_SECONDS, Lease, RunRecord
from supersteps.storage.rules import lease_holds, limit_lease, release_run

MOST_CRASHES = 3
"""After so many dead owners without a commit in between, a run is parked as failed."""

_AT_REST = frozenset({WorkflowRunState.IDLE, WorkflowRunState.CANCELLED, WorkflowRunState.FAILED})
"""Nobody takes such a run, unless somebody restores or resumes it."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker asks for.

    Attributes:
        owner: The worker. Each run that it gets is leased to a handle of its own, named after the
            worker's, the run and the epoch (`handle_of`).
        workflow_ids: The workflows that it can run.
        queues: The queues that it serves, the one whose turn it is first.
        limit: How many runs it takes at most.
        lease_seconds: How long the leases last.
        workflow_limits: How many runs of a workflow may be claimed at once, by all workers.
        key_limit: How many runs with the same `concurrency_key` may be; None for any number.
        adopts: Whether it takes up runs too that were started by hand and whose owner is gone.
        recovers: Whether it looks for runs whose owner is gone. That costs more than the rest, so
            a worker asks for it now and then.
    """

    owner: Owner
    workflow_ids: tuple[str, ...]
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    limit: int = 1
    lease_seconds: float = LEASE_SECONDS
    workflow_limits: Mapping[str, int] = {}
    key_limit: int | None = None
    adopts: bool = True
    recovers: bool = True


class Claimed(msgspec.Struct, frozen=True):
    """What a worker gets.

    Attributes:
        runs: Runs that it has now, with their new epochs and leases.
        poisoned: Runs that were parked as failed, because they kept killing their owners.
        problems: What is wrong with runs that could not be read, and were passed over.
    """

    runs: list[RunRecord] = []
    poisoned: list[RunRecord] = []
    problems: list[str] = []


class Candidate(NamedTuple):
    """A run that a claim may take, as far as a listing tells.

    Attributes:
        turn: Its place among those of its queue: lower ones come first.
        run_id: The run.
        workflow_id: Its workflow.
        concurrency_key: What it is limited by.
        is_claimed: Whether a worker has taken it before, so that it is counted already.
    """

    turn: tuple[float, ...]
    run_id: str
    workflow_id: str
    concurrency_key: str | None = None
    is_claimed: bool = False


def candidate(run: RunRecord, entry: QueueEntry | None) -> Candidate:
    """Return a run as a claim lists it, for storages that have both at hand."""
    if entry is None:
        return Candidate((), run.run_id, run.workflow_id)
    turn = (-entry.priority, entry.ready_at or 0.0)
    key = entry.concurrency_key
    return Candidate(turn, run.run_id, run.workflow_id, key, entry.is_claimed)


class Outcome(NamedTuple):
    """What a claim makes of a run.

    Attributes:
        run: The run's record from now on.
        entry: Its place in the queue from now on, None where it still has none.
        is_taken: Whether the worker has it.
        is_poison: Whether it was parked, because it kept killing its owners.
    """

    run: RunRecord
    entry: QueueEntry | None
    is_taken: bool = False
    is_poison: bool = False


Judge = Callable[[RunRecord, QueueEntry | None], Outcome | None]


class Shelf(Protocol):
    """What a claim reads and writes of a storage."""

    def held(self) -> Iterable[Candidate]:
        """Give the runs that have a lease, and those that are claimed."""
        ...

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        """Give the runs of a workflow that may be taken from a queue, in the order of their turns.

        A turn is the negated priority, then `ready_at`.
        """
        ...

    def claimed(self) -> Iterable[tuple[str, str | None]]:
        """Give the workflow and the concurrency key of each run that is claimed."""
        ...

    def change(self, run_id: str, judge: Judge) -> Outcome | None:
        """Have a run judged as it is now, and store the outcome, if there is one."""
        ...


def claim_runs(shelf: Shelf, claim: Claim, now: float) -> Claimed:
    """Take runs for a worker.

    Args:
        shelf: The storage.
        claim: What is asked for.
        now: Unix time in seconds, by the storage's clock.
    """
    found = Claimed([], [], [])
    limits = _Limits(claim, shelf)
    for candidate in _candidates(shelf, claim, now):
        if len(found.runs) >= claim.limit:
            break
        if not limits.admit(candidate):
            continue
        try:
            outcome = shelf.change(
                candidate.run_id, lambda run, entry: judge(run, entry, claim, now)
            )
        except CorruptCheckpointError as error:  # one damaged run must not keep all others waiting
            found.problems.append(str(error))
            continue
        if outcome is None:
            continue
        if outcome.is_taken:
            found.runs.append(outcome.run)
            limits.count(candidate)
        elif outcome.is_poison:
            found.poisoned.append(outcome.run)
    return found


def _candidates(shelf: Shelf, claim: Claim, now: float) -> Iterator[Candidate]:
    """Give what may be taken, in the order in which it is."""
    if claim.recovers:
        wanted = frozenset(claim.workflow_ids)
        yield from [run for run in shelf.held() if run.workflow_id in wanted]
    waiting = [
        merge(*(shelf.due(queue, workflow_id, now) for workflow_id in claim.workflow_ids))
        for queue in claim.queues
    ]
    while waiting:
        for queue in tuple(waiting):
            candidate = next(queue, None)
            if candidate is None:
                waiting.remove(queue)
            else:
                yield candidate


class _Limits:
    """How many runs are claimed, where that is limited."""

    def __init__(self, claim: Claim, shelf: Shelf) -> None:
        self._workflow_limits = claim.workflow_limits
        self._key_limit = claim.key_limit
        self._of_workflow: Counter[str] = Counter()
        self._of_key: Counter[str | None] = Counter()
        if claim.workflow_limits or claim.key_limit is not None:
            for workflow_id, key in shelf.claimed():
                self._add(workflow_id, key)

    def _add(self, workflow_id: str, key: str | None) -> None:
        self._of_workflow[workflow_id] += 1
        self._of_key[key] += 1

    def admit(self, run: Candidate) -> bool:
        """Return whether one more run like this may be claimed."""
        if run.is_claimed:
            return True
        limit = self._workflow_limits.get(run.workflow_id)
        if limit is not None and self._of_workflow[run.workflow_id] >= limit:
            return False
        key, most = run.concurrency_key, self._key_limit
        return key is None or most is None or self._of_key[key] < most

    def count(self, run: Candidate) -> None:
        """Learn that a run was taken."""
        if not run.is_claimed:
            self._add(run.workflow_id, run.concurrency_key)


# ----------------------------------------------------------------------------------- of single runs


def judge(run: RunRecord, entry: QueueEntry | None, claim: Claim, now: float) -> Outcome | None:
    """Return what a claim makes of a run, None where it leaves it as it is.

    Args:
        run: The run.
        entry: Its place in the queue, None where a person drives it.
        claim: What is asked for.
        now: Unix time in seconds, by the storage's clock.
    """
    if not _may_be_taken(run, entry, claim, now):
        limited = limit_lease(run, now)
        return None if limited is run else Outcome(limited, entry)
    if run.status in _AT_REST:
        return _at_rest(run, entry)
    entry = _with_crash(run, entry or _adopted(now))
    if run.lease is not None and entry.crashes >= MOST_CRASHES:
        return _poisoned(run, entry)
    epoch = run.epoch + 1
    owner = replace(claim.owner, handle=handle_of(claim.owner, run.run_id, epoch))
    lease = Lease(owner, now + claim.lease_seconds, float(claim.lease_seconds))
    return Outcome(
        replace(run, epoch=epoch, lease=lease),
        replace(entry, is_claimed=True, ready_at=None),
        is_taken=True,
    )


def handle_of(worker: Owner, run_id: str, epoch: int) -> str:
    """Return the handle to which a run is leased that a worker has taken under an epoch."""
    return f"{worker.handle}/{epoch}/{run_id}"


def _may_be_taken(run: RunRecord, entry: QueueEntry | None, claim: Claim, now: float) -> bool:
    if run.workflow_id not in claim.workflow_ids or lease_holds(run.lease, now):
        return False
    if entry is None:
        return claim.adopts and run.lease is not None
    if entry.queue not in claim.queues:
        return False
    is_due = entry.ready_at is not None and entry.ready_at <= now
    return entry.is_claimed or is_due or run.lease is not None


def _adopted(now: float) -> QueueEntry:
    """Return an entry for a run that was started by hand."""
    return QueueEntry(ready_at=now)


def _at_rest(run: RunRecord, entry: QueueEntry | None) -> Outcome | None:
    if entry is None or not (entry.is_claimed or entry.ready_at is not None):
        return None
    return Outcome(run, replace(entry, is_claimed=False, ready_at=None))


def _with_crash(run: RunRecord, entry: QueueEntry) -> QueueEntry:
    """Return an entry that counts the death of the run's owner, if it has one."""
    if run.lease is None:
        return entry
    before = entry.crashes if entry.crashed_at == run.sequence else 0
    return replace(entry, crashes=before + 1, crashed_at=run.sequence)


def _poisoned(run: RunRecord, entry: QueueEntry) -> Outcome:
    assert run.lease is not None
    error = (
        f"poison: {entry.crashes} workers died while they had this run, the last one was "
        f"{run.lease.owner.describe()}, and none of them got beyond checkpoint {run.head!r}. Find "
        "out what kills them (memory, a crash in C, os._exit), then resume the run from there."
    )
    parked = release_run(run, WorkflowRunState.FAILED.value, error)
    return Outcome(
        replace(parked, epoch=run.epoch + 1),
        replace(entry, is_claimed=False, ready_at=None),
        is_poison=True,
    )


def put_back(
    run: RunRecord, entry: QueueEntry, ready_at: float | None, *, is_answered: bool, now: float
) -> QueueEntry:
    """Return the entry of a run that its worker gives back.

    Args:
        run: The run.
        entry: Its entry.
        ready_at: From when on a worker may take it again; None if only something from outside
            makes it ready.
        is_answered: Whether there is an answer that no superstep has taken.
        now: Unix time in seconds, by the storage's clock.
    """
    if run.status in _AT_REST:
        ready_at = None
    elif is_answered:
        ready_at = now
    return replace(entry, is_claimed=False, ready_at=ready_at)


def made_ready(entry: QueueEntry, now: float) -> QueueEntry:
    """Return the entry of a run that was answered or restored; the same one if it need not change.

    One that is claimed stays as it is: whoever puts the run back looks for answers.
    """
    if entry.is_claimed or (entry.ready_at is not None and entry.ready_at <= now):
        return entry
    return replace(entry, ready_at=now)
