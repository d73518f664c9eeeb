"""The statuses of runs in words."""

from __future__ import annotations

import time

from supersteps.service.summaries import describe_lease
from supersteps.states import IN_PROGRESS, WorkflowRunState
from supersteps.storage.records import RunRecord

DAMAGED = "DAMAGED"
"""Shown as the status of a checkpoint that cannot be read."""
DRAINED = "DRAINED"
"""Shown as the status of a run that was stopped between two supersteps."""
QUEUED = "QUEUED"
"""Shown as the status of a run that waits for a worker."""

WORDS: dict[str, str] = {
    WorkflowRunState.IDLE: "done",
    WorkflowRunState.IDLE_WITH_PENDING_REQUESTS: "waiting",
    WorkflowRunState.IN_PROGRESS: "in progress",
    WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS: "in progress, asks",
    WorkflowRunState.FAILED: "failed",
    WorkflowRunState.CANCELLED: "cancelled",
    DAMAGED: "damaged",
    DRAINED: "stopped",
    QUEUED: "queued",
}


def state_of(run: RunRecord) -> str:
    """Return a run's status in words; a run that could continue but has no owner is stopped."""
    is_at_rest = run.status in IN_PROGRESS and describe_lease(run.lease, time.time())[0] is None
    return WORDS[DRAINED] if is_at_rest else WORDS.get(run.status, run.status.lower())
