"""Summaries of runs: status, superstep, owner."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from supersteps.checkpoint.owner import Owner, is_alive, is_this_process
from supersteps.errors import CheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.service.reads import Unwarned
from supersteps.service.views import Holder, RunSummary
from supersteps.storage import rules
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import Lease, RunRecord


async def summarize(storage: ManagedStorage, run: RunRecord) -> RunSummary:
    """Return the summary of a run."""
    owner, is_abandoned = describe_lease(run.lease, time.time())
    return RunSummary(
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        status=run.status,
        step=await step_of_head(storage, run),
        head=run.head,
        branch=run.branch,
        created_at=run.created_at,
        updated_at=run.updated_at,
        requests=run.requests,
        error=run.error,
        owner=owner,
        is_abandoned=is_abandoned,
        tags=run.tags,
        parent_run=run.parent_run,
        parent_checkpoint=run.parent_checkpoint,
    )


async def step_of_head(storage: ManagedStorage, run: RunRecord) -> int:
    """Return the superstep of a run's head, estimated from earlier ones if it is damaged."""
    try:
        lineage = await Unwarned(storage.list_lineage(run.head, 1))
    except CheckpointError:
        lineage = []
    if lineage:
        return lineage[-1].step_number
    _run_id, number = split_checkpoint_id(run.head) or ("", run.sequence)
    headers = await Unwarned(storage.list_headers(run.run_id))
    before = rules.intact_before(number, headers)
    return before.iteration_count + 1 if before is not None else 0


def describe_lease(lease: Lease | None, now: float) -> tuple[str | None, bool]:
    """Return a run's owner in words, and whether it died without releasing the lease.

    Args:
        lease: The run's lease.
        now: Unix time in seconds.
    """
    if lease is None:
        return None, False
    # An idle handle of this process may be superseded, but it is not dead.
    is_present = is_this_process(lease.owner) or is_alive(lease.owner)
    if is_present is None:
        is_present = lease.expires > now
    return (lease.owner.describe(), False) if is_present else (None, True)


def holders_of(runs: Iterable[RunRecord], now: float) -> list[Holder]:
    """Return the processes that have runs, those with most runs first.

    Args:
        runs: Runs with leases.
        now: Unix time in seconds.
    """
    held: dict[Owner, list[RunRecord]] = {}
    for run in runs:
        if run.lease is not None:
            held.setdefault(replace(run.lease.owner, handle=""), []).append(run)
    found = [_holder(owner, theirs, now) for owner, theirs in held.items()]
    return sorted(found, key=lambda holder: (-len(holder.runs), holder.process))


def _holder(owner: Owner, runs: Sequence[RunRecord], now: float) -> Holder:
    leases = [run.lease for run in runs if run.lease is not None]
    seen = max(lease.expires - lease.seconds for lease in leases)
    return Holder(
        process=owner.describe(),
        is_alive=any(describe_lease(lease, now)[0] is not None for lease in leases),
        runs=tuple(run.run_id for run in runs),
        last_seen=datetime.fromtimestamp(min(seen, now), UTC).isoformat(timespec="seconds"),
    )
