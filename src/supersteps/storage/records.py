"""Records of runs, leases, inboxes and damage, as frozen values."""

from __future__ import annotations

from typing import Any

import msgspec

from supersteps.checkpoint.owner import Owner

LEASE_SECONDS = 30.0
"""For how many seconds a lease lasts after a renewal."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The owner of a run, and until when it is reserved to it.

    Attributes:
        owner: The owner.
        expires: Unix time in seconds, by the storage's clock.
        seconds: How long it lasts after a renewal.
    """

    owner: Owner
    expires: float
    seconds: float = LEASE_SECONDS


class Seen(msgspec.Struct, frozen=True, gc=False):
    """How a handle has last seen a run.

    Attributes:
        head: The run's head.
        commit_id: Identity of its newest commit. Ids of checkpoints may recur, where a run was
            deleted and another one was started or imported under its id; those of commits do not.
        is_cancelled: Whether it was cancelled.
    """

    head: str | None
    commit_id: str
    is_cancelled: bool = False


class InboxEntry(msgspec.Struct, frozen=True, gc=False):
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
    """Something stored that is damaged.

    Attributes:
        what: What is damaged: a file or a row, in words.
        problem: What is wrong with it.
        run_id: The run it belongs to, if known.
        checkpoint_id: The checkpoint it belongs to, if known.
        intact_ancestor: The nearest intact checkpoint before it, if there is one.
    """

    what: str
    problem: str
    run_id: str | None = None
    checkpoint_id: str | None = None
    intact_ancestor: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a storage knows about a run.

    Attributes:
        run_id: Id of the run.
        workflow_id: Name of its workflow.
        status: A `WorkflowRunState` value.
        head: Id of the current checkpoint.
        sequence: Number of the newest commit on any branch.
        branch: Number of the current branch.
        epoch: Fencing epoch, which grows each time a handle acquires the run.
        lease: The present lease, if there is one.
        created_at: ISO 8601, UTC.
        updated_at: ISO 8601, UTC; the newest checkpoint's timestamp or later.
        fingerprint: Hash of the graph's structure at the last commit of this run.
        error: The last failure, as text, until the run continues.
        requests: Ids of the requests that wait at the head.
        inbox_read: Inbox entries up to this number are consumed or dropped.
        commit_id: Identity of the newest commit.
        metadata: The user's metadata.
        tags: The user's tags.
        parent_run: The run it was forked from.
        parent_checkpoint: The checkpoint it was forked from.
        incarnation: Tells the run from earlier and later ones with the same id, which may recur:
            random, chosen by the first commit, and compared by every write. Empty for runs that an
            earlier version of the library started.
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
    incarnation: str = ""
