"""Runs that were begun within a span of time."""

from __future__ import annotations

from datetime import UTC, datetime

from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord

PAGE = 500
"""Runs that are read at once on the way back to those that are wanted."""

Filters = tuple[str | None, str | None, str | None]
"""Workflow, status and tag; None for any."""


async def list_between(
    storage: ManagedStorage,
    filters: Filters,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> list[RunRecord]:
    """Return runs, the newest first.

    Args:
        storage: Where they are.
        filters: Which of them.
        since: Only those that were begun at this time or later.
        until: Only those that were begun before this time.
        limit: At most so many.
    """
    if since is None and until is None:
        return await storage.list_runs(*filters, limit)
    found: list[RunRecord] = []
    before: str | None = None
    while len(found) < limit:
        page = await storage.list_runs(*filters, PAGE, before)
        if not page:
            break
        for run in page:
            begun = datetime.fromisoformat(run.created_at).astimezone(UTC)
            if since is not None and begun < since:
                return found[:limit]
            if until is None or begun < until:
                found.append(run)
        before = page[-1].run_id
    return found[:limit]
