"""Following a run from another process."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.service.errors import ReferenceNotFoundError
from supersteps.service.facts import FactsReader
from supersteps.service.reads import Unwarned
from supersteps.service.states import DAMAGED
from supersteps.service.summaries import step_of_head
from supersteps.service.views import LogEntry
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.queue import until_changed
from supersteps.storage.records import RunRecord

LOOK_EVERY_SECONDS = 0.2

_NOTED_IN_RUN = {WorkflowRunState.FAILED, WorkflowRunState.CANCELLED}
"""Statuses that only a run's record has, since they arise between commits."""


async def follow(
    storage: ManagedStorage, run: RunRecord, *, every: float = LOOK_EVERY_SECONDS
) -> AsyncGenerator[LogEntry, None]:
    """Yield the head of a run, then its new checkpoints; see `Service.follow`.

    Args:
        storage: The store.
        run: The run.
        every: Seconds between two reads, at most.

    Raises:
        ReferenceNotFoundError: The run was deleted in the meantime.
    """
    # The run may be driven by any process on any machine. This reads one record when something may
    # have changed, and the lineage only when the head has moved.
    mark = await until_changed(storage, None, every)
    seen = ""
    newest = -1
    told = ""
    now: RunRecord | None = run
    while now is not None:
        if now.head != seen:
            entries = await _new_entries(storage, now, newest)
            for sequence, entry in entries:
                yield entry
                newest = max(newest, sequence)
            if entries:
                seen, told = now.head, entries[-1][1].status
        elif now.status in _NOTED_IN_RUN and told not in (now.status, DAMAGED):
            # No checkpoint has this status: yield the head again, with the status of the run.
            for _, entry in await _new_entries(storage, now, newest):
                yield entry
                told = now.status
        if now.head == seen and await _has_ended(storage, now):
            return
        mark = await until_changed(storage, mark, every)
        now = await storage.get_run(run.run_id)
    raise ReferenceNotFoundError(f"run {run.run_id!r} was deleted while it was being followed")


async def _has_ended(storage: ManagedStorage, run: RunRecord) -> bool:
    if run.status in ENDED | _NOTED_IN_RUN:
        return True
    if run.status != WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
        return False
    # the run continues with these answers when it is resumed
    if await storage.read_inbox(run.run_id):
        return False
    # The inbox may be empty because a superstep has consumed the answer since the run was read.
    again = await storage.get_run(run.run_id)
    return again is not None and (again.head, again.status) == (run.head, run.status)


async def _new_entries(
    storage: ManagedStorage, run: RunRecord, newest: int
) -> list[tuple[int, LogEntry]]:
    """Return the lineage after checkpoint number `newest`, oldest first, and always the head.

    After a restore, these are the checkpoints after the restored one, or that one itself if none
    follow yet.
    """
    reader = FactsReader(storage)
    found: list[tuple[int, LogEntry]] = []
    for checkpoint_id, step in (await _newer(storage, run, newest)).items():
        number = sequence_of(checkpoint_id)
        known = CheckpointHeader(  # all that is known of it if it is damaged
            checkpoint_id=checkpoint_id,
            run_id=run.run_id,
            workflow_id=run.workflow_id,
            timestamp=run.updated_at,
            sequence=number,
            branch=run.branch,
            iteration_count=step,
        )
        entry = await reader.entry(known, run)
        if entry is not None:
            found.append((number, entry))
    # Without the head, try again: it was deleted between two reads, and the run has a new head.
    return found if found and found[-1][1].is_head else []


async def _newer(storage: ManagedStorage, run: RunRecord, newest: int) -> dict[str, int]:
    """Return the supersteps of the head and of the lineage's checkpoints after `newest`."""
    limit = 16 if newest >= 0 else 1
    while True:
        try:
            lineage = await Unwarned(storage.list_lineage(run.head, limit))
        except CheckpointError:  # the head is damaged: its entry reports that
            lineage = []
        if not lineage:
            return {run.head: await step_of_head(storage, run)}
        if newest < 0 or len(lineage) < limit or sequence_of(lineage[0].checkpoint_id) <= newest:
            return {
                info.checkpoint_id: info.step_number
                for info in lineage
                if info.checkpoint_id == run.head or sequence_of(info.checkpoint_id) > newest
            }
        limit *= 4


def sequence_of(checkpoint_id: str) -> int:
    """Return the number of a checkpoint in the order of its run's commits."""
    _run_id, number = split_checkpoint_id(checkpoint_id) or ("", -1)
    return number
