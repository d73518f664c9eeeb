"""Changing what is stored: answers, restores, ends, pruning."""

from __future__ import annotations

import contextlib
from typing import Any

from supersteps._ids import new_id
from supersteps.checkpoint.owner import this_process
from supersteps.errors import RunFencedError, RunNotFoundError
from supersteps.service.errors import ReferenceNotFoundError, ServiceError
from supersteps.service.looking import list_questions, load
from supersteps.service.reading import Unwarned, all_runs
from supersteps.service.references import choose_question
from supersteps.service.views import Pruned, Question
from supersteps.storage import answering
from supersteps.storage.base import ManagedStorage
from supersteps.storage.records import LEASE_SECONDS, RunRecord
from supersteps.storage.retention import RetentionPolicy


async def answer(storage: ManagedStorage, reference: str, value: Any) -> Question:
    """Answer a question in plain JSON; see `Service.answer`."""
    try:
        question = choose_question(reference, await list_questions(storage))
    except ReferenceNotFoundError:
        # Where a run knows the question and it waits no more, why it does not says more than that it is not there.
        known = await storage.find_waiting_runs(reference) if reference else []
        if len(known) == 1:
            raise await answering.refusal(storage, known[0].run_id, reference) from None
        raise
    await answering.answer(storage, question.run_id, question.request_id, value)
    return question


async def restore(storage: ManagedStorage, checkpoint_id: str) -> RunRecord:
    """Make a checkpoint its run's head; see `Service.restore`.

    Returns:
        The run's record afterwards.
    """
    record = await load(storage, checkpoint_id)  # a damaged one is refused before anything is touched
    run_id = record.header.run_id
    if not run_id or await storage.get_run(run_id) is None:
        raise ServiceError(
            f"checkpoint {checkpoint_id!r} was saved by hand and belongs to no run, so there is no head to move; "
            "nothing was changed. Start a run from it where the workflow's code is."
        )
    taken = await storage.acquire(run_id, this_process(new_id()), LEASE_SECONDS)
    try:
        moved = await storage.move_head(run_id, taken.epoch, checkpoint_id)
    finally:
        # Whoever has taken the run over since then owns it rightly; there is nothing left to give up.
        with contextlib.suppress(RunFencedError, RunNotFoundError):
            await storage.release(run_id, taken.epoch)
    return await storage.get_run(run_id) or moved


async def prune(storage: ManagedStorage, run: RunRecord | None, policy: RetentionPolicy, dry_run: bool) -> list[Pruned]:
    """Remove checkpoints of a run, or of all; see `Service.prune`."""
    if run is not None:
        return [await _prune_one(storage, run.run_id, policy, dry_run)]
    pruned: list[Pruned] = []
    for run_id in [each.run_id async for each in all_runs(storage)]:
        with contextlib.suppress(RunNotFoundError):  # it was deleted meanwhile
            pruned.append(await _prune_one(storage, run_id, policy, dry_run))
    return pruned


async def _prune_one(storage: ManagedStorage, run_id: str, policy: RetentionPolicy, dry_run: bool) -> Pruned:
    gone = await Unwarned(storage.prune(run_id, policy, dry_run=dry_run))
    left = await Unwarned(storage.list_headers(run_id))
    return Pruned(run_id=run_id, checkpoints=gone, kept=len(left) - (len(gone) if dry_run else 0))
