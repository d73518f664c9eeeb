"""Rules of owning and advancing a run, as pure functions.

A storage applies them in its own transaction.

There is one writer per run: a commit has the fencing epoch with which its writer acquired the run,
and the storage compares it, and the head, in the transaction that writes the checkpoint. A lease
says until when other owners should wait. It avoids double work, but only the epoch makes a run
safe. Epochs and ids start again if a run is deleted and another one is started under its id, so
every write also names the incarnation of the run.

The rules of listings, lineage, inbox and errors are in their own modules and exported here too, so
that a storage finds all of them in one place.
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
from supersteps.states import WorkflowRunState
from supersteps.storage._inbox import accept_answers, check_answer, unread_entries
from supersteps.storage._lineage import branch_points, choose_head, intact_before, new_parents
from supersteps.storage._refusals import (
    check_saved,
    damaged,
    id_taken,
    no_such_checkpoint,
    no_such_run,
    replaced,
)
from supersteps.storage.listings import is_selected, listing_order, page_of_runs
from supersteps.storage.records import Damage, InboxEntry, Lease, RunRecord, Seen

__all__ = [
    "Damage",
    "InboxEntry",
    "Lease",
    "RunRecord",
    "accept_answers",
    "advance_run",
    "apply_commit",
    "branch_points",
    "check_answer",
    "check_epoch",
    "check_head",
    "check_incarnation",
    "check_saved",
    "check_seen",
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
    "replaced",
    "take_run",
    "unread_entries",
]

# ------------------------------------------------------------------------------------------- leases


def lease_holds(lease: Lease | None, now: float) -> bool:
    """Return whether a lease is valid: it has not expired, and its owner may be running.

    Args:
        lease: The lease, if any.
        now: Unix time in seconds, by the storage's clock.
    """
    if lease is None or (alive := is_alive(lease.owner)) is False:
        return False
    return lease.expires > now or (alive is True and is_this_process(lease.owner))


def limit_lease(run: RunRecord, now: float) -> RunRecord:
    """Return the record of a run whose lease lasts at most its own length from now.

    Clocks are set back and differ between machines: long after its owner has died, a lease may
    reach hours into the future of another machine. Storing the limited lease when it is first read
    bounds how long others wait. A running owner renews it before it expires.

    Args:
        run: The run.
        now: Unix time in seconds, by the storage's clock.
    """
    lease = run.lease
    if lease is None or lease.expires <= now + lease.seconds:
        return run
    return replace(run, lease=replace(lease, expires=now + lease.seconds))


def take_run(
    run: RunRecord, owner: Owner, now: float, lease_seconds: float, seen: Seen | None = None
) -> RunRecord:
    """Return the record of a run that `owner` acquires, with the next epoch.

    Raises:
        RunFencedError: The run has moved on since `owner` saw it.
        RunBusyError: Another owner has a valid lease.
    """
    if seen is not None:
        check_seen(run, seen)
    is_its_own = run.lease is not None and run.lease.owner == owner  # an interrupted attempt
    if lease_holds(run.lease, now) and not is_its_own:
        assert run.lease is not None
        until = datetime.fromtimestamp(run.lease.expires, UTC).isoformat(timespec="seconds")
        raise RunBusyError(
            f"run {run.run_id!r} is being advanced by {run.lease.owner.describe()} (its lease "
            f"lasts until {until} unless it is renewed). Wait for it to finish, or stop that "
            "process; then resume."
        )
    return replace(run, epoch=run.epoch + 1, lease=_lease(owner, now, lease_seconds))


def check_seen(run: RunRecord, seen: Seen) -> None:
    """Refuse a run that another handle has continued, or ended, since it was seen.

    Raises:
        RunFencedError: It has moved on.
    """
    if run.head != seen.head:
        raise RunFencedError(
            f"run {run.run_id!r} has moved on from {seen.head!r} to {run.head!r} since this handle "
            "read it; nothing was written. Resume the run from its head."
        )
    if run.commit_id != seen.commit_id:
        raise RunFencedError(
            f"run {run.run_id!r} was continued by another handle, and restored to {run.head!r}, "
            "since this handle read it; nothing was written. Resume the run from its head."
        )
    if run.status == WorkflowRunState.CANCELLED and not seen.is_cancelled:
        raise RunFencedError(
            f"run {run.run_id!r} was cancelled since this handle read it; nothing was written. "
            f"Resume it from its checkpoint {run.head!r} if it should continue."
        )


def check_incarnation(run: RunRecord, incarnation: str | None) -> None:
    """Refuse an operation that was meant for another run with the same id.

    Args:
        run: The present run.
        incarnation: The expected incarnation; None for the present one.

    Raises:
        RunFencedError: The present run has another incarnation.
    """
    if incarnation is not None and run.incarnation != incarnation:
        raise replaced(run.run_id)


def check_epoch(
    run: RunRecord | None, run_id: str, epoch: int, incarnation: str | None = None
) -> RunRecord:
    """Return the run if `epoch` still owns it.

    Args:
        run: The present run, None if there is none.
        run_id: Its id.
        epoch: The writer's epoch.
        incarnation: The writer's incarnation of the run; None for the present one.

    Raises:
        RunNotFoundError: The run was deleted in the meantime.
        RunFencedError: Another owner has taken over the run, or another run has its id.
    """
    if run is None:
        raise no_such_run(run_id)
    check_incarnation(run, incarnation)
    if run.epoch != epoch:
        owner = f" by {run.lease.owner.describe()}" if run.lease else ""
        raise RunFencedError(
            f"run {run_id!r} was taken over{owner}: its epoch is {run.epoch}, this handle's was "
            f"{epoch}. Nothing of this handle's last superstep was written. Read the run's new "
            "state, or resume it to take it back."
        )
    return run


def check_head(run: RunRecord, head: str) -> None:
    """Refuse records that follow a checkpoint that is not, or no longer, the run's head.

    Raises:
        RunFencedError: The head has moved.
    """
    if run.head != head:
        raise RunFencedError(
            f"run {run.run_id!r} has its head at {run.head!r}, but these records follow {head!r}; "
            "nothing was written. Resume the run from its head."
        )


def renew_lease(run: RunRecord, now: float, lease_seconds: float) -> RunRecord:
    """Return the record of a run with a renewed lease; a released lease stays released."""
    return (
        run
        if run.lease is None
        else replace(run, lease=_lease(run.lease.owner, now, lease_seconds))
    )


def release_run(run: RunRecord, status: str | None, error: str | None) -> RunRecord:
    """Return the record of a run without a lease."""
    return replace(run, lease=None, status=status or run.status, error=error or run.error)


def apply_commit(run: RunRecord | None, commit: Commit, now: float) -> RunRecord | None:
    """Return the run's record after a commit, None if the commit is already the head.

    Raises:
        RunExistsError: The commit creates a run that exists.
        RunNotFoundError: The run was deleted in the meantime.
        RunFencedError: The epoch or the head differs from the commit's.
        ValueError: The checkpoint's id does not match its run and number.
    """
    header = commit.header
    if header.checkpoint_id != checkpoint_id(header.run_id, header.sequence):
        raise ValueError(
            f"commit {header.sequence} of run {header.run_id!r} has the id of another checkpoint: "
            f"{header.checkpoint_id!r}"
        )
    if run is not None and is_same_commit(run, commit):
        return None
    if header.parent_id is None:
        if run is not None:
            raise RunExistsError(
                f"run {run.run_id!r} of workflow {run.workflow_id!r} exists already; resume it, or "
                "start "
                'another one with a different run_id (if_exists="attach" starts or resumes)'
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
            f"run {run.run_id!r} has its head at {run.head!r} (commit {run.sequence}), but this "
            f"commit follows {header.parent_id!r} as number {header.sequence}; nothing was "
            "written. Resume the run from its head."
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
    """Return the ids of the waiting questions after a commit; the same object if unchanged."""
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
    """Return whether the run's head is this commit: an earlier attempt whose reply was lost.

    Compares the commit's own id, not epoch and head: two processes that create one run choose the
    same.
    """
    return run.commit_id == commit.commit_id and run.head == commit.header.checkpoint_id


def move_head(
    run: RunRecord, target: CheckpointRecord, inbox_last: int, *, is_journalled: bool
) -> RunRecord:
    """Return the record of a run whose head moves to an older checkpoint, on a new branch.

    The branch is also new if the head stays but accepted answers or recorded calls are dropped: the
    work done from there may differ from the earlier work, and must not share its keys
    (`ctx.idempotency_key`).

    Args:
        run: The run, its epoch already checked.
        target: The checkpoint to continue from.
        inbox_last: Number of the newest inbox entry; all up to it are dropped, and the new branch
            asks again.
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
    return Lease(owner, now + seconds, float(seconds))  # an int would be stored differently
