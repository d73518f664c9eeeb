"""Changes to stored runs: answer, restore, cancel, prune."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.answered import ANSWERED, find_answer
from supersteps.errors import RequestError, RunFencedError, RunNotFoundError, UnknownRequestError
from supersteps.ids import new_id
from supersteps.service.details import load
from supersteps.service.errors import ReferenceNotFoundError, ServiceError
from supersteps.service.questions import Question, list_questions
from supersteps.service.reads import UNREADABLE, Unwarned
from supersteps.service.references import choose_question
from supersteps.service.views import Pruned
from supersteps.storage import answers
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import LEASE_SECONDS, RunRecord
from supersteps.storage.retention import RetentionPolicy

SEARCHED = 200
"""How many runs, the newest, are searched for a question that is not waiting."""


async def answer(storage: ManagedStorage, reference: str, value: Any) -> Question:
    """Answer a question in plain JSON; see `Service.answer`."""
    try:
        question = choose_question(reference, await list_questions(storage))
    except ReferenceNotFoundError:
        reason = await why_not(storage, reference)
        if reason is not None:
            raise reason from None
        raise
    await answers.answer(storage, question.run_id, question.request_id, value)
    return question


async def why_not(
    storage: ManagedStorage, request_id: str, run: RunRecord | None = None
) -> RequestError | None:
    """Return why a question is not waiting for an answer; None if it is unknown.

    Args:
        storage: The store.
        request_id: The full id of the question.
        run: The run that asked; None searches the waiting runs, then the heads of the newest runs.
    """
    if not request_id:
        return None
    asking = [run] if run is not None else await storage.find_waiting_runs(request_id)
    for run_id in [one.run_id for one in asking] or await _where_it_ended(storage, request_id):
        reason = await answers.refusal(storage, run_id, request_id)
        if not isinstance(reason, UnknownRequestError):
            return reason
    return None


async def _where_it_ended(storage: ManagedStorage, request_id: str) -> list[str]:
    """Return the newest run at whose head a question has ended, among the newest runs."""
    for run in await storage.list_runs(limit=SEARCHED):
        try:
            record = await storage.load_record(run.head)
        except UNREADABLE:
            continue  # its questions cannot be read
        if record is not None and await asyncio.to_thread(_has_ended, record, request_id):
            return [run.run_id]
    return []


def _has_ended(record: CheckpointRecord, request_id: str) -> bool:
    return find_answer(record.parts.get(ANSWERED), request_id) is not None


async def restore(storage: ManagedStorage, checkpoint_id: str) -> RunRecord:
    """Move a run's head to a checkpoint; see `Service.restore`.

    Returns:
        The run's record afterwards.
    """
    record = await load(
        storage, checkpoint_id
    )  # refuses a damaged checkpoint before anything is changed
    run_id = record.header.run_id
    existing = await storage.get_run(run_id) if run_id else None
    if existing is None or existing.incarnation != record.header.incarnation:
        raise ServiceError(
            f"checkpoint {checkpoint_id!r} was saved with `save_checkpoint` and belongs to no "
            "run, so there is no head to move; nothing was changed. Start a run from it in "
            "code, with workflow.run_from_checkpoint."
        )
    which = existing.incarnation
    owner = this_process(new_id())
    taken = await storage.acquire(run_id, owner, LEASE_SECONDS, incarnation=which)
    try:
        moved = await storage.move_head(run_id, taken.epoch, checkpoint_id, incarnation=which)
    finally:
        # Another process has taken over the run since; there is no lease left to release.
        with contextlib.suppress(RunFencedError, RunNotFoundError):
            await storage.release(run_id, taken.epoch, incarnation=which)
    return await storage.get_run(run_id) or moved


async def prune(
    storage: ManagedStorage, run: RunRecord | None, policy: RetentionPolicy, dry_run: bool
) -> list[Pruned]:
    """Delete checkpoints of a run, or of all; see `Service.prune`."""
    if run is not None:
        return [await _prune_one(storage, run.run_id, policy, dry_run)]
    pruned: list[Pruned] = []
    for run_id in [each.run_id async for each in all_runs(storage)]:
        with contextlib.suppress(RunNotFoundError):  # it was deleted in the meantime
            pruned.append(await _prune_one(storage, run_id, policy, dry_run))
    return pruned


async def _prune_one(
    storage: ManagedStorage, run_id: str, policy: RetentionPolicy, dry_run: bool
) -> Pruned:
    gone = await Unwarned(storage.prune(run_id, policy, dry_run=dry_run))
    left = await Unwarned(storage.list_headers(run_id))
    return Pruned(run_id=run_id, checkpoints=gone, kept=len(left) - (len(gone) if dry_run else 0))
