"""Submitting a run: it is durable and queued, and nothing has run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.errors import RunExistsError
from supersteps.ids import check_id, new_run_id
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import WatchedRun
from supersteps.run.setup import RunSetup
from supersteps.storage.ports import CheckpointStorage, name_of
from supersteps.storage.queue import WorkQueue, queue_of


def entry_of(
    start_at: datetime | timedelta | None, priority: int, queue: str, concurrency_key: str | None
) -> QueueEntry:
    """Return the place in the queue of a run that is about to be submitted.

    Raises:
        ValueError: A time has no time zone, or the queue no name.
        TypeError: The priority is not a whole number, or a name is not text.
    """
    if type(priority) is not int:
        raise TypeError(f"priority is a whole number, not {priority!r}")
    if not isinstance(queue, str) or not isinstance(concurrency_key, str | None):
        raise TypeError(
            f"queue and concurrency_key are text, not {queue!r} and {concurrency_key!r}"
        )
    if not queue:
        raise ValueError('queue is the name of a queue, such as "default", not ""')
    ready_at = time.time()
    if isinstance(start_at, timedelta):
        ready_at += start_at.total_seconds()
    elif start_at is not None:
        if start_at.utcoffset() is None:
            raise ValueError(
                f"start_at has no time zone: {start_at!r}; write datetime(..., tzinfo=UTC), or a "
                "timedelta from now"
            )
        ready_at = start_at.timestamp()
    return QueueEntry(
        queue=queue, priority=priority, ready_at=ready_at, concurrency_key=concurrency_key
    )


async def submit(
    setup: RunSetup,
    message: Any,
    checkpoint_storage: CheckpointStorage | None,
    entry: QueueEntry,
    *,
    run_id: str | None,
    if_exists: Literal["raise", "error", "attach"],
    metadata: Mapping[str, Any] | None,
    tags: Sequence[str],
) -> str:
    """Create a run for workers and return its id; see `Workflow.submit`."""
    if if_exists not in ("raise", "error", "attach"):
        raise ValueError(f'if_exists is "raise" or "attach", not {if_exists!r}')
    storage = queue_of(setup.require(setup.storage_for(checkpoint_storage), "submit runs to"))
    chosen = new_run_id() if run_id is None else check_id(run_id, "run_id")
    handle = StreamingRun(WatchedRun(setup, chosen))
    try:
        runner = setup.equip(handle._work, storage).runner
        await runner.begin(message, dict(metadata or {}), tags, entry)
    except RunExistsError:
        if if_exists != "attach":
            raise
        await _attach(setup, storage, chosen, entry)
    finally:
        await handle.aclose()
    return chosen


async def _attach(setup: RunSetup, storage: WorkQueue, run_id: str, entry: QueueEntry) -> None:
    """See that workers go on with a run that is there already."""
    run = await storage.get_run(run_id)
    workflow_id = setup.definition.workflow_id
    if run is not None and run.workflow_id != workflow_id:
        raise RunExistsError(
            f"run {run_id!r} in {name_of(storage)} is one of workflow {run.workflow_id!r}, not of "
            f"{workflow_id!r}: submit this one under another run_id"
        )
    if run is not None and await storage.queue_entry(run_id) is None:
        await storage.enqueue(run_id, entry, incarnation=run.incarnation)
