"""What a storage keeps of runs besides their checkpoints, as frozen values."""

from __future__ import annotations

from typing import Any

import msgspec

from supersteps.checkpoint.owner import Owner

LEASE_SECONDS = 30.0
"""How long others keep off after a sign of life from another machine's owner."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """Who advances a run, and until when others keep off.

    Attributes:
        owner: The holder.
        expires: Unix time in seconds, by the storage's clock.
        seconds: How long it lasts from a sign of life on.
    """

    owner: Owner
    expires: float
    seconds: float = LEASE_SECONDS


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


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
        incarnation: What tells the run from others that have, had or will have its id: random,
            chosen by the first commit, compared by every write. Ids are for people and may recur;
            this does not. Empty for runs that an earlier version of the library began.
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
