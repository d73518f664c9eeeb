"""`Replay`: a lineage, to be repeated in memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, utc_now
from supersteps.checkpoint.sections.answered import ANSWERED, StoredAnswer, read_answers
from supersteps.checkpoint.sections.question import (
    INTERCEPTED,
    REQUESTS,
    Request,
    StoredRequest,
    read_request,
)
from supersteps.checkpoint.sections.timer import TIMERS, read_timer
from supersteps.checkpoint.values import Sealer
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.merged import Merged
from supersteps.engine.plan import Answer, due_timers
from supersteps.engine.state import State
from supersteps.engine.time_travel.resume_point import find_checkpoint
from supersteps.errors import CheckpointNotFoundError
from supersteps.storage.ports import DurableStorage, is_managed

_PAGE = 1000
_ALWAYS = "9999"
"""Later than any timer, as text."""


class Replay:
    """What a replay takes from the lineage that it repeats.

    Attributes:
        start: The checkpoint that it begins at.
        to_step: The superstep after which it ends.
        max_iterations: The highest limit that was in force on the lineage.
    """

    def __init__(
        self,
        storage: DurableStorage,
        start: CheckpointRecord,
        lineage: Sequence[CheckpointHeader],
        answers: Sequence[StoredAnswer],
        to_step: int | None,
    ) -> None:
        """Prepare.

        Args:
            storage: Where the lineage is; only read.
            start: The checkpoint to begin at.
            lineage: Headers of the lineage's checkpoints from there on, oldest first.
            answers: Every question of the lineage that has ended.
            to_step: The superstep after which to end. None is the lineage's last one, or no end
                if there is no lineage.
        """
        self.start = start
        first = start.header.iteration_count
        last = lineage[-1].iteration_count if lineage else sys.maxsize
        self.to_step = last if to_step is None else to_step
        self.max_iterations = max(
            [start.header.max_iterations, *(header.max_iterations for header in lineage)]
        )
        self._storage = storage
        self._headers = {header.iteration_count: header for header in lineage}
        closed = [answer for answer in answers if answer.iteration > first]
        self._times = {answer.iteration: answer.timestamp for answer in closed}
        # What executors answered inside the run, they answer again.
        self._answers = [answer for answer in closed if answer.outcome != "intercepted"]
        self._taken = 0
        self._records: dict[int, CheckpointRecord | None] = {first: start}

    def branch(self, step: int) -> int:
        """Return the number of the branch on which a superstep was committed."""
        later = [number for number in self._headers if number >= step]
        known = self._headers.get(
            min(later) if later else max(self._headers, default=0), self.start.header
        )
        return known.branch

    def has_work(self, iteration: int, state: State) -> bool:
        """Return whether there is another superstep to repeat."""
        if iteration >= self.to_step:
            return False
        if state.messages or state.replies or state.timers:
            return True
        askers = {request.source_executor_id for request in state.requests.values()}
        return any(answer.source_executor_id in askers for answer in self._answers)

    # --------------------------------------------------------------------------- before a superstep

    async def answers(self, step: int, state: State, sealer: Sealer) -> list[Answer]:
        """Return the answers that the superstep consumed.

        If it would do nothing without them, these are the next ones.
        """
        limit = step
        if not (state.messages or state.replies or state.timers):
            limit = max(step, min((answer.iteration for answer in self._answers), default=step))
        found: dict[str, Answer] = {}
        for stored in [answer for answer in self._answers if answer.iteration <= limit]:
            request_id = await self._asked_as(stored, state)
            if request_id is None or request_id in found:
                if stored.iteration <= step and limit > step:
                    self._answers.remove(stored)  # no executor asks for it in this repetition
                continue
            self._taken += 1
            value = None if stored.outcome == "cancelled" else sealer.load(bytes(stored.data))
            found[request_id] = Answer(self._taken, request_id, value, stored.outcome)
            self._answers.remove(stored)
        return list(found.values())

    async def _asked_as(self, stored: StoredAnswer, state: State) -> str | None:
        """Return the id under which an answer's question waits here.

        Random ids differ each time.
        """
        if stored.request_id in state.requests:
            return stored.request_id
        record = await self._record(stored.iteration - 1)
        asker = stored.source_executor_id
        here = [
            request_id for request_id, r in state.requests.items() if r.source_executor_id == asker
        ]
        there = [] if record is None else [key[1] for key in record.parts if key[0] == REQUESTS]
        strangers = [request_id for request_id in here if request_id not in there]
        if record is None:
            return strangers[0] if strangers else None
        waiting = [
            _request(record, REQUESTS, request_id) for request_id in there if request_id not in here
        ]
        same = [
            request.request_id
            for request in waiting
            if request and request.source_executor_id == asker
        ]
        place = same.index(stored.request_id) if stored.request_id in same else len(strangers)
        return strangers[place] if place < len(strangers) else None

    async def timers(self, step: int, state: State, *, alone: bool) -> list[str]:
        """Return the ids of the timers that the superstep took.

        All of them are returned if that is no longer known.

        Args:
            step: The superstep.
            state: The state before it.
            alone: Whether the superstep has nothing else to do.
        """
        waiting = due_timers(state, _ALWAYS)
        record = await self._record(step) if waiting else None
        if record is None:
            return waiting
        fired = [timer_id for timer_id in waiting if (TIMERS, timer_id) not in record.parts]
        return fired if fired or not alone else waiting

    # ---------------------------------------------------------------------------- after a superstep

    def closed_at(self, step: int) -> str:
        """Return when the superstep was committed that took answers."""
        return self._times.get(step) or utc_now()

    async def take_times(self, merged: Merged, step: int) -> None:
        """Give questions and timers the times that they had."""
        if not (merged.opened or merged.intercepted or merged.timers):
            return
        record = await self._record(step)
        if record is None:
            return
        merged.opened = [
            _timed(request, _request(record, REQUESTS, request.request_id))
            for request in merged.opened
        ]
        merged.intercepted = [
            _timed(request, _request(record, INTERCEPTED, request.request_id))
            for request in merged.intercepted
        ]
        for number, timer in enumerate(merged.timers):
            part = record.parts.get((TIMERS, timer.timer_id))
            if part is not None:
                merged.timers[number] = replace(timer, due=read_timer(part).due)

    async def _record(self, step: int) -> CheckpointRecord | None:
        """Return the lineage's checkpoint after a superstep, None if it no longer exists."""
        if step not in self._records:
            header = self._headers.get(step)
            record = (
                None if header is None else await self._storage.load_record(header.checkpoint_id)
            )
            for old in [number for number in self._records if number < step - 1]:
                del self._records[old]
            self._records[step] = record
        return self._records[step]


def _request(record: CheckpointRecord, section: str, request_id: str) -> StoredRequest | None:
    part = record.parts.get((section, request_id))
    return None if part is None else read_request(part)


def _timed(request: Request, stored: StoredRequest | None) -> Request:
    return (
        request
        if stored is None
        else replace(request, timestamp=stored.timestamp, deadline=stored.deadline)
    )


# ------------------------------------------------------------------------------ finding the lineage


async def find_replay(
    storage: DurableStorage,
    reference: str | CheckpointInfo | WorkflowCheckpoint,
    to_step: int | None,
) -> Replay:
    """Return what is to be repeated.

    Args:
        storage: Where it is.
        reference: A checkpoint, or the id of a run, for the whole of its head's lineage.
        to_step: The superstep after which to end.

    Raises:
        CheckpointNotFoundError: There is no such checkpoint, nor a run of this name.
        ValueError: `to_step` comes before the checkpoint.
    """
    start, tip = await _ends(storage, reference)
    lineage: list[CheckpointHeader] = []
    answers: list[StoredAnswer] = []
    if tip is not None:
        headers = {
            header.checkpoint_id: header for header in await _headers(storage, start.header.run_id)
        }
        ids = await _lineage_ids(storage, tip)
        if start.header.checkpoint_id not in ids:
            tip = _newest_after(start.header.checkpoint_id, headers)
            ids = await _lineage_ids(storage, tip)
        after = ids[ids.index(start.header.checkpoint_id) :]
        lineage = [headers[checkpoint_id] for checkpoint_id in after if checkpoint_id in headers]
        last = await storage.load_record(tip)
        if last is not None:
            answers = read_answers(last.parts.get(ANSWERED))
    first = start.header.iteration_count
    if to_step is not None and to_step < first:
        raise ValueError(
            f"to_step={to_step} comes before superstep {first}, which is where checkpoint "
            f"{start.header.checkpoint_id!r} stands; begin at an earlier checkpoint"
        )
    return Replay(storage, start, lineage, answers, to_step)


async def _ends(
    storage: DurableStorage, reference: str | CheckpointInfo | WorkflowCheckpoint
) -> tuple[CheckpointRecord, str | None]:
    """Return the checkpoint to begin at, and the head of its run, None where it belongs to none."""
    try:
        start = await find_checkpoint(storage, reference)
    except CheckpointNotFoundError:
        run = await storage.get_run(reference) if isinstance(reference, str) else None
        if run is None:
            raise
        oldest = (await _lineage_ids(storage, run.head))[0]
        return await find_checkpoint(storage, oldest), run.head
    known = await storage.get_run(start.header.run_id) if start.header.run_id else None
    return start, None if known is None else known.head


async def _headers(storage: DurableStorage, run_id: str) -> list[CheckpointHeader]:
    if is_managed(storage):
        return await storage.list_headers(run_id)
    return [checkpoint.to_header() for checkpoint in await storage.list_checkpoints(run_id=run_id)]


async def _lineage_ids(storage: DurableStorage, tip: str) -> list[str]:
    """Return a checkpoint and all its ancestors, oldest first."""
    pages: list[list[CheckpointInfo]] = []
    cursor: str | None = tip
    while cursor is not None and (page := await storage.list_lineage(cursor, _PAGE)):
        pages.append(page)
        cursor = page[0].parent
    return [info.checkpoint_id for page in reversed(pages) for info in page]


def _newest_after(checkpoint_id: str, headers: dict[str, CheckpointHeader]) -> str:
    """Return the newest checkpoint of an abandoned branch: the last one that follows this one."""
    following = {checkpoint_id}
    for header in sorted(headers.values(), key=lambda header: header.sequence):
        if header.parent_id in following:
            following.add(header.checkpoint_id)
    return max(following, key=lambda known: headers[known].sequence if known in headers else -1)
