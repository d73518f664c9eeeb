"""The rules of owning and advancing a run, as pure functions that a storage applies in its own transaction.

One writer per run: a commit carries the fencing epoch under which its writer took the run, and the storage compares
it, and the head, in the same transaction that writes the checkpoint. A lease says until when others should keep off;
it is a courtesy that avoids double work, the epoch is what makes it safe. Epochs and ids begin
anew when a run is deleted and another one is started under its id, so every write also says which
incarnation of the run it means.

The rules of listings, lineage, inbox and refusals live in modules of their own and are named here too, so that a
storage finds all of them in one place.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner, is_alive, is_this_process
from supersteps.checkpoint.record import CheckpointRecord, Commit
from supersteps.checkpoint.sections.question import REQUESTS
from supersteps.errors import RunBusyError, RunExistsError, RunFencedError
from supersteps.ids import checkpoint_id
from supersteps.storage._inbox import accept_answers, check_answer, unread_entries
from supersteps.storage._lineage import branch_points, choose_head, intact_before, new_parents
from supersteps.storage._refusals import (
    anew,
    check_saved,
    damaged,
    id_taken,
    no_such_checkpoint,
    no_such_run,
)
from supersteps.storage.listings import is_selected, listing_order, page_of_runs
from supersteps.storage.records import Damage, InboxEntry, Lease, RunRecord

__all__ = [
    "Damage",
    "InboxEntry",
    "Lease",
    "RunRecord",
    "accept_answers",
    "advance_run",
    "anew",
    "apply_commit",
    "branch_points",
    "check_answer",
    "check_epoch",
    "check_head",
    "check_incarnation",
    "check_saved",
    "choose_head",
    "create_run",
    "damaged",
    "id_taken",
    "intact_before",
    "is_same_commit",
    "is_selected",
    "lease_holds",
    "limit_lease",
    "listing_order",
    "move_head",
    "new_parents",
    "no_such_checkpoint",
    "no_such_run",
    "page_of_runs",
    "release_run",
    "renew_lease",
    "take_run",
    "unread_entries",
]

# ------------------------------------------------------------------------------------------- leases


def lease_holds(lease: Lease | None, now: float) -> bool:
    """Return whether a lease still keeps others off: neither out of time nor its owner known to be gone.

    Args:
        lease: The lease, if any.
        now: Unix time in seconds, by the storage's clock.
    """
    if lease is None or is_alive(lease.owner) is False:
        return False
    return lease.expires > now or is_this_process(lease.owner)


def limit_lease(run: RunRecord, now: float) -> RunRecord:
    """Return the record of a run whose lease holds no longer than its own length from now.

    Clocks are set back, and differ between machines: a lease may reach hours into the future of
    whoever looks at it, long after its owner has died. Storing at the first look what is left of it
    bounds how long others wait. An owner that lives renews it before it ends.

    Args:
        run: The run.
        now: Unix time in seconds, by the storage's clock.
    """
    lease = run.lease
    if lease is None or lease.expires <= now + lease.seconds:
        return run
    return replace(run, lease=replace(lease, expires=now + lease.seconds))


def take_run(run: RunRecord, owner: Owner, now: float, lease_seconds: float) -> RunRecord:
    """Return the record of a run that `owner` takes over, under the next epoch.

    Raises:
        RunBusyError: Somebody else's lease holds.
    """
    is_its_own = run.lease is not None and run.lease.owner == owner  # an attempt that was cut off
    if lease_holds(run.lease, now) and not is_its_own:
        assert run.lease is not None
        until = datetime.fromtimestamp(run.lease.expires, UTC).isoformat(timespec="seconds")
        raise RunBusyError(
            f"run {run.run_id!r} is being advanced by {run.lease.owner.describe()} (its lease runs until {until} "
            "unless it is renewed). Wait for it to finish, or stop that process; then resume."
        )
    return replace(run, epoch=run.epoch + 1, lease=_lease(owner, now, lease_seconds))


def check_incarnation(run: RunRecord, incarnation: str | None) -> None:
    """Refuse what was meant for another run of the same id.

    Args:
        run: The run that is there.
        incarnation: The one that is meant; None for whichever is there.

    Raises:
        RunFencedError: It is another one.
    """
    if incarnation is not None and run.incarnation != incarnation:
        raise anew(run.run_id)


def check_epoch(
    run: RunRecord | None, run_id: str, epoch: int, incarnation: str | None = None
) -> RunRecord:
    """Return the run if `epoch` still owns it.

    Args:
        run: The run that is there, None when there is none.
        run_id: Its id.
        epoch: The writer's epoch.
        incarnation: The run that the writer means; None for whichever is there.

    Raises:
        RunNotFoundError: The run was deleted meanwhile.
        RunFencedError: Somebody took the run over, or another one was started under its id.
    """
    if run is None:
        raise no_such_run(run_id)
    check_incarnation(run, incarnation)
    if run.epoch != epoch:
        holder = f" by {run.lease.owner.describe()}" if run.lease else ""
        raise RunFencedError(
            f"run {run_id!r} was taken over{holder}: its epoch is {run.epoch}, this handle's was {epoch}. Nothing of "
            "this handle's last superstep was written. Read the run's new state, or resume it to take it back."
        )
    return run


def check_head(run: RunRecord, head: str) -> None:
    """Refuse what follows a checkpoint that is not the run's head (any more).

    Raises:
        RunFencedError: The head has moved.
    """
    if run.head != head:
        raise RunFencedError(
            f"run {run.run_id!r} has its head at {run.head!r}, but these records follow {head!r}; nothing was written. "
            "Resume the run from its head."
        )


def renew_lease(run: RunRecord, now: float, lease_seconds: float) -> RunRecord:
    """Return the record of a run whose lease is extended; a lease that was given up stays so."""
    return (
        run
        if run.lease is None
        else replace(run, lease=_lease(run.lease.owner, now, lease_seconds))
    )


def release_run(run: RunRecord, status: str | None, error: str | None) -> RunRecord:
    """Return the record of a run that nobody advances now."""
    return replace(run, lease=None, status=status or run.status, error=error or run.error)


def apply_commit(run: RunRecord | None, commit: Commit, now: float) -> RunRecord | None:
    """Return the run's record after a commit, None when the commit is the head already and nothing is to be done.

    Raises:
        RunExistsError: The commit creates a run that exists.
        RunNotFoundError: The run was deleted meanwhile.
        RunFencedError: The epoch or the head is not what the commit says.
        ValueError: The checkpoint's id is not that of its run and number.
    """
    header = commit.header
    if header.checkpoint_id != checkpoint_id(header.run_id, header.sequence):
        raise ValueError(
            f"commit {header.sequence} of run {header.run_id!r} has a foreign id: {header.checkpoint_id!r}"
        )
    if run is not None and is_same_commit(run, commit):
        return None
    if header.parent_id is None:
        if run is not None:
            raise RunExistsError(
                f"run {run.run_id!r} of workflow {run.workflow_id!r} exists already; resume it, or start another one "
                'with a run_id of its own (if_exists="attach" starts or resumes)'
            )
        return create_run(commit, now)
    run = check_epoch(run, header.run_id, commit.epoch, header.incarnation)
    return advance_run(run, commit, now)


def create_run(commit: Commit, now: float) -> RunRecord:
    """Return the record of the run that a first commit creates."""
    header = commit.header
    return RunRecord(
        run_id=header.run_id,
        workflow_id=header.workflow_id,
        status=header.status,
        head=header.checkpoint_id,
        sequence=header.sequence,
        branch=header.branch,
        epoch=commit.epoch,
        lease=_lease_after(commit, now),
        created_at=header.timestamp,
        updated_at=header.timestamp,
        fingerprint=commit.fingerprint or "",
        requests=tuple(key[1] for key in commit.changes.puts if key[0] == REQUESTS),
        commit_id=commit.commit_id,
        metadata=header.metadata,
        tags=commit.tags,
        parent_run=commit.parent_run,
        parent_checkpoint=commit.parent_checkpoint,
        incarnation=header.incarnation,
    )


def advance_run(run: RunRecord, commit: Commit, now: float) -> RunRecord:
    """Return the record of a run after a commit whose epoch has been checked.

    Raises:
        RunFencedError: The head is not the commit's parent.
    """
    header = commit.header
    if header.parent_id != run.head or header.sequence <= run.sequence:
        raise RunFencedError(
            f"run {run.run_id!r} has its head at {run.head!r} (commit {run.sequence}), but this commit follows "
            f"{header.parent_id!r} as number {header.sequence}; nothing was written. Resume the run from its head."
        )
    return replace(
        run,
        status=header.status,
        head=header.checkpoint_id,
        sequence=header.sequence,
        branch=max(run.branch, header.branch),
        lease=_lease_after(commit, now),
        updated_at=header.timestamp,
        fingerprint=run.fingerprint if commit.fingerprint is None else commit.fingerprint,
        error=None,
        requests=_requests_after(run.requests, commit.changes),
        inbox_read=max(run.inbox_read, commit.inbox_read),
        commit_id=commit.commit_id,
    )


def _requests_after(requests: tuple[str, ...], changes: Changes) -> tuple[str, ...]:
    """Return the ids of the questions that wait after a commit; the same object if they stay."""
    ended = [key[1] for key in changes.deletes if key[0] == REQUESTS]
    asked = [key[1] for key in changes.puts if key[0] == REQUESTS]
    if not (ended or asked):
        return requests
    waiting = dict.fromkeys(requests)
    for request_id in ended:
        waiting.pop(request_id, None)
    waiting.update(dict.fromkeys(asked))
    return tuple(waiting)


def is_same_commit(run: RunRecord, commit: Commit) -> bool:
    """Return whether the run's head is this very commit: an earlier attempt got through but its reply was lost.

    The commit's own id tells, not epoch and head: two processes that create one run choose the same of those.
    """
    return run.commit_id == commit.commit_id and run.head == commit.header.checkpoint_id


def move_head(
    run: RunRecord, target: CheckpointRecord, inbox_last: int, *, is_journalled: bool
) -> RunRecord:
    """Return the record of a run whose head is moved to an older checkpoint: a new branch begins.

    So it does when the head stays what it is and accepted answers or recorded calls are dropped:
    what is done from there on may differ from what was done, and must not share its keys
    (`ctx.idempotency_key`).

    Args:
        run: The run, its epoch already checked.
        target: The checkpoint to continue from.
        inbox_last: Number of the newest inbox entry; all up to it are dropped, the new branch asks again.
        is_journalled: Whether there are records of calls that follow the head, which are dropped.
    """
    same = target.header.checkpoint_id == run.head
    same = same and inbox_last <= run.inbox_read and not is_journalled
    return replace(
        run,
        head=target.header.checkpoint_id,
        status=target.header.status,
        branch=run.branch if same else run.branch + 1,
        error=None,
        requests=tuple(key[1] for key in target.parts if key[0] == REQUESTS),
        inbox_read=inbox_last,
    )


def _lease_after(commit: Commit, now: float) -> Lease | None:
    if commit.lease_seconds is None or commit.owner is None:
        return None
    seconds = commit.lease_seconds
    return Lease(commit.owner, now + seconds, float(seconds))


def _lease(owner: Owner, now: float, seconds: float) -> Lease:
    return Lease(owner, now + seconds, float(seconds))  # a whole number would come back as another
