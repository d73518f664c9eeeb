"""The run record and the rules of owning a run, as pure functions that a storage applies in its own transaction.

One writer per run: a commit carries the fencing epoch under which its writer took the run, and the storage compares
it, and the head, in the same transaction that writes the checkpoint. A lease says until when others should keep off;
it is a courtesy that avoids double work, the epoch is what makes it safe.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from supersteps._ids import MAX_ID_LENGTH, check_id, checkpoint_id
from supersteps.checkpoint.owner import Owner, is_alive, is_this_process
from supersteps.checkpoint.record import REQUESTS, CheckpointHeader, CheckpointRecord, Commit, check_version, utc_now
from supersteps.errors import (
    AlreadyAnsweredError,
    CheckpointNotFoundError,
    RunBusyError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    StorageError,
    UnknownRequestError,
)


class Lease(msgspec.Struct, frozen=True):
    """Who advances a run, and until when others keep off.

    Attributes:
        owner: The holder.
        expires: Unix time in seconds, by the storage's clock.
    """

    owner: Owner
    expires: float


class InboxEntry(msgspec.Struct, frozen=True):
    """An accepted answer that no superstep has consumed yet.

    Attributes:
        number: Position in the run's inbox, from 1.
        request_id: The request it answers.
        value: The answer, encoded.
        received_at: ISO 8601, UTC.
    """

    number: int
    request_id: str
    value: bytes
    received_at: str


class Damage(msgspec.Struct, frozen=True):
    """Something stored that cannot be trusted any more.

    Attributes:
        what: What is damaged: a file or a row, in words.
        problem: What is wrong with it.
        run_id: The run it belongs to, if that can be told.
        checkpoint_id: The checkpoint it belongs to, if that can be told.
        intact_ancestor: The nearest checkpoint before it that is whole, if there is one.
    """

    what: str
    problem: str
    run_id: str | None = None
    checkpoint_id: str | None = None
    intact_ancestor: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a storage knows of a run.

    Attributes:
        run_id: Id of the run.
        workflow_id: Name of its workflow.
        status: A `WorkflowRunState` value.
        head: Id of the current checkpoint.
        sequence: Number of the newest commit on any branch.
        branch: Number of the current branch.
        epoch: Fencing epoch: one more each time somebody takes the run.
        lease: Who advances it now, if anybody.
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC; the newest checkpoint's timestamp or later.
        fingerprint: Hash of the graph's structure at the last commit of this run.
        error: The last failure, as text, until the run goes on.
        requests: Ids of the requests that wait at the head.
        inbox_read: Inbox entries up to this number are consumed or dropped.
        commit_id: Identity of the newest commit.
        metadata: The user's own remarks.
        tags: The user's own labels.
        parent_run: The run it was forked from.
        parent_checkpoint: The checkpoint it was forked from.
    """

    run_id: str
    workflow_id: str
    status: str
    head: str
    sequence: int
    branch: int = 0
    epoch: int = 1
    lease: Lease | None = None
    created_at: str
    updated_at: str
    fingerprint: str = ""
    error: str | None = None
    requests: tuple[str, ...] = ()
    inbox_read: int = 0
    commit_id: str = ""
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None


# ----------------------------------------------------------------------------------------- listings


def is_selected(header: CheckpointHeader, workflow_id: str | None, run_id: str | None) -> bool:
    """Return whether a listing with these filters holds a checkpoint; None lets everything pass."""
    return workflow_id in (None, header.workflow_id) and run_id in (None, header.run_id)


def listing_order(header: CheckpointHeader) -> tuple[str, int, str]:
    """Return the key by which listings are sorted: by time, within a run by the order of commits."""
    return header.timestamp, header.sequence, header.checkpoint_id


def page_of_runs(
    found: Iterable[RunRecord],
    *,
    workflow_id: str | None,
    status: str | None,
    tag: str | None,
    limit: int,
    before: RunRecord | None,
) -> list[RunRecord]:
    """Return the newest runs that pass the filters, newest first, after those of the page that `before` ended."""
    passing = [
        run
        for run in found
        if workflow_id in (None, run.workflow_id)
        and status in (None, run.status)
        and (tag is None or tag in run.tags)
        and (before is None or (run.created_at, run.run_id) < (before.created_at, before.run_id))
    ]
    return sorted(passing, key=lambda run: (run.created_at, run.run_id), reverse=True)[:limit]


# -------------------------------------------------------------------------- saving by hand, absence


def check_saved(header: CheckpointHeader) -> str:
    """Return the id of a checkpoint that is saved by hand, if it can be kept and read again.

    Raises:
        ValueError: The id is empty, unprintable or too long.
        CheckpointVersionError: This library could not read it.
    """
    check_id(header.checkpoint_id, "checkpoint_id", MAX_ID_LENGTH + 20)  # a run's id and a number
    check_version(header.version, f"checkpoint {header.checkpoint_id!r}")
    return header.checkpoint_id


def id_taken(taken: str) -> StorageError:
    """Return the error of a checkpoint whose id belongs to a different one."""
    return StorageError(
        f"there is another checkpoint {taken!r} in this storage already, and what is committed does not "
        "change; nothing was written. Save yours under an id of its own "
        "(dataclasses.replace(checkpoint, checkpoint_id=...))."
    )


def no_such_run(run_id: str) -> RunNotFoundError:
    """Return the error of a run that is not there."""
    return RunNotFoundError(f"run {run_id!r} is not in this storage (any more); nothing was written")


def no_such_checkpoint(wanted: str, run_id: str) -> CheckpointNotFoundError:
    """Return the error of a checkpoint that a run does not have."""
    return CheckpointNotFoundError(
        f"run {run_id!r} has no checkpoint {wanted!r}; nothing was changed. Its checkpoints: "
        f"list_checkpoint_ids(run_id={run_id!r})"
    )


# -------------------------------------------------------------------------------------------- rules


def lease_holds(lease: Lease | None, now: float) -> bool:
    """Return whether a lease still keeps others off: neither out of time nor its owner known to be gone.

    Args:
        lease: The lease, if any.
        now: Unix time in seconds, by the storage's clock.
    """
    if lease is None or is_alive(lease.owner) is False:
        return False
    return lease.expires > now or is_this_process(lease.owner)


def take_run(run: RunRecord, owner: Owner, now: float, lease_seconds: float) -> RunRecord:
    """Return the record of a run that `owner` takes over, under the next epoch.

    Raises:
        RunBusyError: Somebody else's lease holds.
    """
    if lease_holds(run.lease, now):
        assert run.lease is not None
        until = datetime.fromtimestamp(run.lease.expires, UTC).isoformat(timespec="seconds")
        raise RunBusyError(
            f"run {run.run_id!r} is being advanced by {run.lease.owner.describe()} (its lease runs until {until} "
            "unless it is renewed). Wait for it to finish, or stop that process; then resume."
        )
    return replace(run, epoch=run.epoch + 1, lease=Lease(owner, now + lease_seconds))


def check_epoch(run: RunRecord | None, run_id: str, epoch: int) -> RunRecord:
    """Return the run if `epoch` still owns it.

    Raises:
        RunNotFoundError: The run was deleted meanwhile.
        RunFencedError: Somebody took the run over.
    """
    if run is None:
        raise no_such_run(run_id)
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
    return run if run.lease is None else replace(run, lease=Lease(run.lease.owner, now + lease_seconds))


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
    return advance_run(check_epoch(run, header.run_id, commit.epoch), commit, now)


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
    closed = {key[1] for key in commit.changes.deletes if key[0] == REQUESTS}
    kept = [request_id for request_id in run.requests if request_id not in closed] if closed else run.requests
    opened = [key[1] for key in commit.changes.puts if key[0] == REQUESTS and key[1] not in kept]
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
        requests=(*kept, *opened),
        inbox_read=max(run.inbox_read, commit.inbox_read),
        commit_id=commit.commit_id,
    )


def is_same_commit(run: RunRecord, commit: Commit) -> bool:
    """Return whether the run's head is this very commit: an earlier attempt got through but its reply was lost.

    The commit's own id tells, not epoch and head: two processes that create one run choose the same of those.
    """
    return run.commit_id == commit.commit_id and run.head == commit.header.checkpoint_id


def move_head(run: RunRecord, target: CheckpointRecord, inbox_last: int) -> RunRecord:
    """Return the record of a run whose head is moved to an older checkpoint: a new branch begins.

    Args:
        run: The run, its epoch already checked.
        target: The checkpoint to continue from.
        inbox_last: Number of the newest inbox entry; all up to it are dropped, the new branch asks again.
    """
    same = target.header.checkpoint_id == run.head
    return replace(
        run,
        head=target.header.checkpoint_id,
        status=target.header.status,
        branch=run.branch if same else run.branch + 1,
        error=None,
        requests=tuple(key[1] for key in target.parts if key[0] == REQUESTS),
        inbox_read=inbox_last,
    )


def choose_head(lost: CheckpointHeader, remaining: Iterable[CheckpointHeader]) -> CheckpointHeader | None:
    """Return the checkpoint that becomes a run's head when its head is deleted, None when nothing is left.

    That is the parent. Where earlier deletes took it, the newest one before the lost head, of its own branch if
    possible; else the newest of all.
    """
    others = {header.checkpoint_id: header for header in remaining if header.checkpoint_id != lost.checkpoint_id}
    if lost.parent_id in others:
        return others[lost.parent_id]
    older = [header for header in others.values() if header.sequence < lost.sequence]
    return max(older or others.values(), key=lambda h: (h.branch == lost.branch, h.sequence), default=None)


def unread_entries(run: RunRecord, inbox: Iterable[InboxEntry]) -> list[InboxEntry]:
    """Return the inbox entries that no commit has consumed and no restore has dropped."""
    return [entry for entry in inbox if entry.number > run.inbox_read]


def accept_answers(
    run: RunRecord, inbox: Sequence[InboxEntry], answers: Iterable[tuple[str, bytes]]
) -> list[InboxEntry]:
    """Return the entries that answers become, numbered after those of the inbox: all of them or an error.

    Args:
        run: The run.
        inbox: Its inbox, in order; consumed entries may be missing.
        answers: Request ids and encoded values.

    Raises:
        AlreadyAnsweredError: The inbox, or an earlier one of `answers`, has an answer for one of the requests.
        UnknownRequestError: The run's head does not wait for one of the requests.
    """
    answered = {entry.request_id for entry in unread_entries(run, inbox)}
    last = max(run.inbox_read, inbox[-1].number if inbox else 0)
    entries = []
    for number, (request_id, value) in enumerate(answers, last + 1):
        check_answer(run, request_id, answered)
        answered.add(request_id)
        entries.append(InboxEntry(number, request_id, value, utc_now()))
    return entries


def check_answer(run: RunRecord, request_id: str, answered: Container[str]) -> None:
    """Refuse an answer that the run does not wait for.

    Args:
        run: The run.
        request_id: The request that the answer names.
        answered: Requests whose answers lie in the inbox, unconsumed.

    Raises:
        AlreadyAnsweredError: An answer lies in the inbox already.
        UnknownRequestError: The run's head does not wait for this request.
    """
    if request_id in answered:
        raise AlreadyAnsweredError(
            f"request {request_id!r} of run {run.run_id!r} is answered already; its answer waits for the next superstep"
        )
    if request_id not in run.requests:
        waiting = ", ".join(map(repr, run.requests)) or "none"
        raise UnknownRequestError(
            f"run {run.run_id!r} does not wait for request {request_id!r} at its head {run.head!r}; "
            f"requests that wait: {waiting}. Nothing was changed."
        )


def _lease_after(commit: Commit, now: float) -> Lease | None:
    if commit.lease_seconds is None or commit.owner is None:
        return None
    return Lease(commit.owner, now + commit.lease_seconds)
