"""`RunFilter`: content and order of listings, the same for every storage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from supersteps.checkpoint.record import CheckpointHeader, as_text
from supersteps.storage._refusals import no_such_run
from supersteps.storage.records import RunRecord


class RunFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which runs a listing contains; None filters nothing.

    A new filter is a field here, a line in `admits`, a condition in `storage/delta/runs.py` for the
    storages that filter by SQL, and an argument of `ManagedStorage.list_runs`.

    Attributes:
        workflow_id: Only runs of this workflow.
        status: Only runs with this `WorkflowRunState`.
        tag: Only runs with this label.
        since: Only runs that were started at this time or later.
        until: Only runs that were started before this time.
        limit: Maximum number of runs.
        before: Id of the last run of the page before; only older ones.

    Raises:
        ValueError: `limit` is negative, or a time has no time zone.
    """

    workflow_id: str | None = None
    status: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    before: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError(f"limit is the maximum number of runs, at least 0, not {self.limit!r}")
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(
                    f"{name} has no time zone: {moment!r}; write datetime(..., tzinfo=UTC)"
                )

    def admits(self, run: RunRecord) -> bool:
        """Return whether a run passes; `limit` and `before` are left to `page_of_runs`."""
        return (
            self.workflow_id in (None, run.workflow_id)
            and self.status in (None, run.status)
            and (self.tag is None or self.tag in run.tags)
            and (self.since is None or run.created_at >= as_text(self.since))
            and (self.until is None or run.created_at < as_text(self.until))
        )


ANY_RUN = RunFilter()


def page_of_runs(
    found: Iterable[RunRecord], wanted: RunFilter, last: RunRecord | None = None
) -> list[RunRecord]:
    """Return the newest runs that a filter admits, newest first.

    Args:
        found: All runs, in any order.
        wanted: The filter.
        last: The run `wanted.before`.

    Raises:
        RunNotFoundError: There is no run `wanted.before`.
    """
    check_before(wanted, last)
    passing = [
        run
        for run in found
        if wanted.admits(run) and (last is None or _listing_place(run) < _listing_place(last))
    ]
    return sorted(passing, key=_listing_place, reverse=True)[: wanted.limit]


def check_before(wanted: RunFilter, last: RunRecord | None) -> None:
    """Refuse a page that begins after a run that is not there.

    Args:
        wanted: The filter.
        last: The run `wanted.before`, None where it is not there or none is wanted.

    Raises:
        RunNotFoundError: It is not there.
    """
    if last is None and wanted.before is not None:
        raise no_such_run(wanted.before)


def _listing_place(run: RunRecord) -> tuple[str, str]:
    return run.created_at, run.run_id


def is_selected(header: CheckpointHeader, workflow_id: str | None, run_id: str | None) -> bool:
    """Return whether a listing with these filters contains a checkpoint; None filters nothing."""
    return workflow_id in (None, header.workflow_id) and run_id in (None, header.run_id)


def listing_order(header: CheckpointHeader) -> tuple[str, int, str]:
    """Return the sort key of listings: by time, and in a run by the order of commits."""
    return header.timestamp, header.sequence, header.checkpoint_id
