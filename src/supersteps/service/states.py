"""States of runs, as people say them."""

from __future__ import annotations

import time

from supersteps.service.summaries import describe_lease
from supersteps.storage.records import RunRecord

WORDS = {
    "IDLE": "done",
    "IDLE_WITH_PENDING_REQUESTS": "waiting",
    "IN_PROGRESS": "in progress",
    "IN_PROGRESS_PENDING_REQUESTS": "in progress, asks",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "DAMAGED": "damaged",
    "DRAINED": "stopped",
}


def state_of(run: RunRecord) -> str:
    """Return a run's state in a word: one that nobody drives, though it could go on, is stopped."""
    is_at_rest = (
        run.status.startswith("IN_PROGRESS") and describe_lease(run.lease, time.time())[0] is None
    )
    return WORDS["DRAINED"] if is_at_rest else WORDS.get(run.status, run.status.lower())
