"""Checkpoints as they are stored: header, record, commit."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time_ns
from typing import Any

import msgspec

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import CheckpointVersionError
from supersteps.ids import new_id
from supersteps.states import WorkflowRunState

FORMAT_VERSION = "1.0"
"""Version of the stored format; the major number changes when older libraries could misread it."""


def check_version(version: str, where: str) -> None:
    """Refuse what a newer library wrote.

    Args:
        version: The stored `version`.
        where: What carries it, for the message ("checkpoint 'x'", "file /a/b.json").

    Raises:
        CheckpointVersionError: Its major number is above this library's, or it is not a version.
    """
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit()) or int(major) > int(
        FORMAT_VERSION.partition(".")[0]
    ):
        raise CheckpointVersionError(
            f"{where} has format version {version!r}; this library reads versions up to "
            f"{FORMAT_VERSION}. Upgrade supersteps to read it."
        )


_second = (0, "")
"""The second of the last call of `utc_now`, and its text; replaced as one object."""


def as_text(moment: datetime) -> str:
    """Return a time as records hold it: ISO 8601, UTC; text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def utc_now() -> str:
    """Return the present as ISO 8601 with microseconds, in UTC: text order is time order."""
    global _second
    seconds, micros = divmod(time_ns() // 1000, 1_000_000)
    known, text = _second
    if known != seconds:
        text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
        _second = seconds, text
    return f"{text}.{micros:06d}+00:00"


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The small facts of a checkpoint; everything else is parts.

    Attributes:
        checkpoint_id: Id of the checkpoint, unique in its storage.
        run_id: The run it belongs to; empty for a checkpoint that was saved by hand.
        workflow_id: Name of the workflow.
        parent_id: The checkpoint it follows, None for iteration 0.
        sequence: Position in the order of the run's commits, over all branches, from 0.
        branch: Number of the run's branch: 0 until a restore, one more after each.
        iteration_count: Supersteps done on this lineage.
        max_iterations: The limit in force when it was written.
        steps_since_input: Supersteps since the last input from outside, which the limit counts.
        timestamp: ISO 8601, UTC, microseconds; strictly increasing within a run.
        status: A `WorkflowRunState` value.
        metadata: The user's own remarks about the run, JSON values.
        version: `FORMAT_VERSION` of the writer.
        incarnation: What tells its run from others of the same id; see `RunRecord`. Empty for a
            checkpoint that was made by hand.
    """

    checkpoint_id: str
    workflow_id: str
    timestamp: str
    run_id: str = ""
    parent_id: str | None = None
    sequence: int = 0
    branch: int = 0
    iteration_count: int = 0
    max_iterations: int = 100
    steps_since_input: int = 0
    status: str = WorkflowRunState.IN_PROGRESS.value
    metadata: dict[str, Any] = {}
    version: str = FORMAT_VERSION
    incarnation: str = ""

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint's handle."""
        return CheckpointInfo(self.run_id, self.checkpoint_id, self.iteration_count, self.parent_id)


class CheckpointRecord(msgspec.Struct, frozen=True):
    """A whole checkpoint as stored.

    Attributes:
        header: The small facts.
        parts: Every part, encoded; the mapping belongs to the receiver, the parts are immutable.
    """

    header: CheckpointHeader
    parts: dict[PartKey, Part]


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One atomic step of a run: a new checkpoint that becomes the head.

    Attributes:
        header: The new checkpoint's header. `parent_id` must be the run's head (None creates the
            run), `incarnation` the run's (the first commit gives the run its own), and
            `checkpoint_id` is `_ids.checkpoint_id(run_id, sequence)`.
        changes: What differs from the parent.
        epoch: The writer's fencing epoch; it must be the run's.
        inbox_read: Inbox entries up to this number are consumed by the commit.
        lease_seconds: Extends the writer's lease from now; None gives it up.
        owner: The writer, as the lease names it.
        fingerprint: Hash of the graph's structure, when it is new to the run.
        tags: The user's labels, when the commit creates the run.
        parent_run: The run it is forked from, when the commit creates a fork.
        parent_checkpoint: The checkpoint it is forked from.
        queue: The run's place in the queue, when the commit creates a run for workers.
        commit_id: Identity of this very attempt, by which a commit whose reply was lost is
            recognised.
    """

    header: CheckpointHeader
    changes: Changes
    epoch: int
    inbox_read: int = 0
    lease_seconds: float | None = None
    owner: Owner | None = None
    fingerprint: str | None = None
    tags: tuple[str, ...] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None
    queue: QueueEntry | None = None
    commit_id: str = msgspec.field(default_factory=new_id)
