"""Content and order of listings, the same for every storage."""

from __future__ import annotations

from collections.abc import Iterable

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage.records import RunRecord


def is_selected(header: CheckpointHeader, workflow_id: str | None, run_id: str | None) -> bool:
    """Return whether a listing with these filters contains a checkpoint; None filters nothing."""
    return workflow_id in (None, header.workflow_id) and run_id in (None, header.run_id)


def listing_order(header: CheckpointHeader) -> tuple[str, int, str]:
    """Return the sort key of listings: by time, and in a run by the order of commits."""
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
    """Return the newest runs that match, newest first, after the run `before`.

    Raises:
        ValueError: `limit` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit is the maximum number of runs, at least 0, not {limit!r}")
    passing = [
        run
        for run in found
        if workflow_id in (None, run.workflow_id)
        and status in (None, run.status)
        and (tag is None or tag in run.tags)
        and (before is None or (run.created_at, run.run_id) < (before.created_at, before.run_id))
    ]
    return sorted(passing, key=lambda run: (run.created_at, run.run_id), reverse=True)[:limit]
