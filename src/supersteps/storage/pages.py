"""All runs of a storage, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec.structs import replace

from supersteps.errors import RunNotFoundError
from supersteps.storage.listings import ANY_RUN, RunFilter
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord

PAGE = 1000
"""So many runs are read at once."""


async def all_runs(
    storage: ManagedStorage, wanted: RunFilter = ANY_RUN
) -> AsyncIterator[RunRecord]:
    """Yield runs, the newest first, each once, also when runs are deleted meanwhile.

    Args:
        storage: Where they are.
        wanted: Which of them; its `limit` and `before` do not count.
    """
    passed: set[str] = set()
    marks: list[str] = []
    while True:
        before = marks[-1] if marks else None
        try:
            page = await storage.find_runs(replace(wanted, limit=PAGE, before=before))
        except RunNotFoundError:
            marks.pop()  # it is gone: go on after the one before it
            continue
        for run in page:
            if run.run_id not in passed:
                yield run
            passed.add(run.run_id)
            marks.append(run.run_id)
        if len(page) < PAGE:
            return
