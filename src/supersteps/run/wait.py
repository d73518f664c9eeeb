"""Waiting for a run that another handle or process drives."""

from __future__ import annotations

import time

from supersteps.engine.time_travel.resume_point import head_of
from supersteps.errors import WorkflowRuntimeError
from supersteps.events import WorkflowStatusEvent
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import WatchedRun
from supersteps.run.result import WorkflowRunResult
from supersteps.run.setup import RunSetup
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.queue import until_changed
from supersteps.storage.records import RunRecord
from supersteps.storage.rules import check_incarnation, lease_holds, limit_lease, no_such_run

LOOK_EVERY_SECONDS = 0.2
"""How often a run is read at the latest, since not every storage reports each change."""


async def result_of(
    setup: RunSetup, run_id: str, checkpoint_storage: CheckpointStorage | None
) -> WorkflowRunResult:
    """Wait until a run has completed or waits for answers; see `Workflow.wait`."""
    storage = setup.require(setup.storage_for(checkpoint_storage), "find runs in")
    handle = setup.registry.handle(storage, run_id)
    if handle is not None and handle.is_active():
        await handle.left()
    run = await until_at_rest(storage, run_id)
    record = await storage.load_record(run.head)
    if record is None:
        record, run = await head_of(storage, run_id)
    watched = StreamingRun(WatchedRun(setup, run_id))
    runner = setup.equip(watched._work, storage).runner
    runner.show(setup.fit(storage, record).record)
    state = WorkflowRunState(run.status)
    is_waiting = state is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
    return WorkflowRunResult(
        runner.waiting_requests() if is_waiting else [],
        [WorkflowStatusEvent(state)],
        run_id=run_id,
        outputs=runner.earlier_outputs(),
    )


async def until_at_rest(storage: DurableStorage, run_id: str) -> RunRecord:
    """Wait until a run has completed or only waits for answers, and return its record.

    Raises:
        RunNotFoundError: There is no such run, or it was deleted meanwhile.
        RunFencedError: It was deleted in the meantime, and another one has its id.
        WorkflowRuntimeError: It has failed, and no owner is working on it.
    """
    which: str | None = None
    mark = await until_changed(storage, None, LOOK_EVERY_SECONDS)
    while True:
        run = await _record(storage, run_id)
        check_incarnation(run, which)
        which = run.incarnation
        if run.status == WorkflowRunState.FAILED and not is_held(run):
            raise WorkflowRuntimeError(
                f"run {run_id!r} has failed: {run.error or 'the cause was not recorded'}. Fix the "
                f"cause, then resume the run from {run.head!r}."
            )
        if run.status in ENDED or (
            run.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
            and await _only_waits(storage, run)
        ):
            return run
        mark = await until_changed(storage, mark, LOOK_EVERY_SECONDS)


async def until_let_go(storage: DurableStorage, run_id: str) -> None:
    """Wait until a run has no owner, so that it can be continued.

    Raises:
        RunNotFoundError: There is no such run, or it was deleted meanwhile.
    """
    mark = await until_changed(storage, None, LOOK_EVERY_SECONDS)
    while True:
        if not is_held(await _record(storage, run_id)):
            return
        mark = await until_changed(storage, mark, LOOK_EVERY_SECONDS)


async def _record(storage: DurableStorage, run_id: str) -> RunRecord:
    run = await storage.get_run(run_id)
    if run is None:
        raise no_such_run(run_id)
    return run


def is_held(run: RunRecord) -> bool:
    """Return whether an owner is working on a run."""
    now = time.time()
    # A lease that reaches further than a lease lasts is from before the clock was set back, or from
    # a machine with another clock. Taking the run shortens it; a reader would wait for hours.
    return limit_lease(run, now) is run and lease_holds(run.lease, now)


async def _only_waits(storage: DurableStorage, run: RunRecord) -> bool:
    """Return whether all accepted answers are consumed."""
    if await storage.read_inbox(run.run_id):
        return False
    # The inbox may be empty because a superstep has consumed the answer after the run was read.
    again = await storage.get_run(run.run_id)
    return again is not None and (again.head, again.status) == (run.head, run.status)
