"""What a checkpoint tells of the superstep that led to it.

It is read from the parts; no state is decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.checkpoint.sections.answered import ANSWERED, StoredAnswer, read_answers
from supersteps.checkpoint.sections.graph import GRAPH, read_start
from supersteps.checkpoint.sections.message import MESSAGES, read_messages
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.sections.question import INTERCEPTED, REQUESTS, read_request
from supersteps.checkpoint.sections.timer import StoredTimer, read_timer
from supersteps.checkpoint.stored import elements
from supersteps.paths import is_fan_in
from supersteps.service.reads import UNREADABLE
from supersteps.service.states import DAMAGED
from supersteps.service.views import LogEntry, Retry
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord


@dataclass(frozen=True, slots=True)
class Facts:
    """What a history needs to know of a checkpoint.

    Attributes:
        header: Its header.
        messages: How many messages are in flight.
        targets: Executors that they go to.
        timers: Executors that delayed messages go to, by the timer's id.
        retries: Calls that are made again, by the timer's id.
        asking: Who asks and in which superstep, by the request's id.
        inside: The same for questions that stay inside the workflow.
        outputs: How many outputs the lineage has.
        answered: Questions that ended, encoded.
        start: The start executor, if the stored structure tells.
    """

    header: CheckpointHeader
    messages: int
    targets: tuple[str, ...]
    timers: Mapping[str, tuple[str, ...]]
    retries: Mapping[str, Retry]
    asking: Mapping[str, tuple[str, int]]
    inside: Mapping[str, tuple[str, int]]
    outputs: int
    answered: Part | None
    start: str | None


def facts_of(record: CheckpointRecord) -> Facts:
    """Return what a history needs to know of a checkpoint."""
    parts = record.parts
    messages = read_messages(parts.get(MESSAGES))
    timers: dict[str, tuple[str, ...]] = {}
    retries: dict[str, Retry] = {}
    asking: dict[PartKey, tuple[str, int]] = {}
    for key, part in parts.items():
        match key:
            case ("timers", timer_id):
                timer = read_timer(part)
                timers[timer_id] = timer.message.target_ids
                if (retry := retry_of(timer)) is not None:
                    retries[timer_id] = retry
            case ("requests" | "intercepted", _):
                stored = read_request(part)
                asking[key] = (stored.source_executor_id, stored.iteration)
            case _:
                pass
    return Facts(
        header=record.header,
        messages=len(messages),
        targets=tuple(
            dict.fromkeys(target for message in messages for target in message.target_ids)
        ),
        timers=timers,
        retries=retries,
        asking={key[1]: asker for key, asker in asking.items() if key[0] == REQUESTS},
        inside={key[1]: asker for key, asker in asking.items() if key[0] == INTERCEPTED},
        outputs=_length(parts.get(OUTPUTS)),
        answered=parts.get(ANSWERED),
        # Only the first superstep needs it; a structure is too large to decode for each checkpoint.
        start=read_start(parts.get(GRAPH)) if record.header.iteration_count == 0 else None,
    )


def retry_of(timer: StoredTimer) -> Retry | None:
    """Return the call that a timer repeats, None if it delivers a message for the first time."""
    if timer.attempt < 2:
        return None
    return Retry(
        executor_id=", ".join(timer.message.target_ids), attempt=timer.attempt, due=timer.due
    )


def _length(part: Part | None) -> int:
    return 0 if part is None else len(part if isinstance(part, ListPart) else elements(part))


def who_ran(before: Facts, after: Facts) -> tuple[str, ...]:
    """Return the executors that ran in the superstep between two checkpoints, as far as known.

    Those ran for whom something waited that no longer does: every message in flight, timers that
    were due, answers that were taken. What a full fan-in delivers is a message in flight as well.
    """
    if after.header.iteration_count != before.header.iteration_count + 1:
        return ()  # checkpoints between the two were removed
    ran = dict.fromkeys(before.targets)
    for timer_id, targets in before.timers.items():
        if timer_id not in after.timers:
            ran.update(dict.fromkeys(target for target in targets if not is_fan_in(target)))
    for request_id, (asker, _step) in before.inside.items():
        if request_id not in after.inside:
            ran[asker] = None
    for ended in _ended_between(before, after):
        if ended.outcome != "cancelled":
            ran[ended.source_executor_id] = None
    if not ran and before.start is not None and after.header.iteration_count == 1:
        return (before.start,)
    return tuple(ran)


def _ended_between(before: Facts, after: Facts) -> list[StoredAnswer]:
    known = _length(before.answered)
    return read_answers(after.answered, known)


class FactsReader:
    """Reads the facts of checkpoints, each once.

    Args:
        storage: The store.
    """

    def __init__(self, storage: ManagedStorage) -> None:
        self._storage = storage
        self._known: dict[str, Facts | str | None] = {}

    async def read(self, checkpoint_id: str | None) -> Facts | str | None:
        """Return a checkpoint's facts, or why it cannot be read; None if it does not exist."""
        if checkpoint_id is None:
            return None
        if checkpoint_id not in self._known:
            try:
                record = await self._storage.load_record(checkpoint_id)
            except UNREADABLE as error:
                self._known[checkpoint_id] = str(error)
            else:
                self._known[checkpoint_id] = None if record is None else facts_of(record)
        return self._known[checkpoint_id]

    def take(self, record: CheckpointRecord) -> Facts:
        """Return the facts of a checkpoint that is loaded already, and remember them."""
        facts = self._known[record.header.checkpoint_id] = facts_of(record)
        return facts

    async def entry(self, header: CheckpointHeader, run: RunRecord | None) -> LogEntry | None:
        """Return a checkpoint as an entry of a history, None if it no longer exists.

        Args:
            header: Its header; of a damaged one, as much as can be told.
            run: Its run, None for a checkpoint that was saved by hand.
        """
        facts = await self.read(header.checkpoint_id)
        if facts is None:
            return None
        is_head = run is not None and run.head == header.checkpoint_id
        known = header if isinstance(facts, str) else facts.header
        parent = known.parent_id or (run.parent_checkpoint if run is not None else None)
        has_failed = run is not None and run.status == WorkflowRunState.FAILED
        entry = LogEntry(
            checkpoint_id=known.checkpoint_id,
            run_id=known.run_id,
            parent=parent,
            step=known.iteration_count,
            branch=known.branch,
            timestamp=known.timestamp,
            # A failure or a cancellation changes the run, not the checkpoint at which it happened.
            status=run.status if is_head and run is not None else known.status,
            is_head=is_head,
            error=run.error if is_head and run is not None and has_failed else None,
        )
        if isinstance(facts, str):
            return msgspec.structs.replace(entry, status=DAMAGED, error=facts)
        before = await self.read(parent)
        if isinstance(before, Facts) and _length(facts.answered) > _length(before.answered):
            # On a thread, since lists that a storage reads on access may block.
            return await asyncio.to_thread(_compared, entry, before, facts)
        return _compared(entry, before, facts)


def _compared(entry: LogEntry, before: Facts | str | None, after: Facts) -> LogEntry:
    """Return an entry with what is new since the checkpoint before it, as far as known."""
    if isinstance(before, Facts):
        outputs = max(0, after.outputs - before.outputs)
        asked = tuple(request_id for request_id in after.asking if request_id not in before.asking)
        closed = tuple(request_id for request_id in before.asking if request_id not in after.asking)
        # A fork begins as a copy: no superstep led to its first checkpoint.
        ran = who_ran(before, after) if after.header.parent_id is not None else ()
        retries = tuple(
            retry for timer_id, retry in after.retries.items() if timer_id not in before.retries
        )
    else:
        outputs = after.outputs if entry.parent is None else 0
        asked = tuple(
            request_id for request_id, (_asker, step) in after.asking.items() if step == entry.step
        )
        closed, ran, retries = (), (), ()
    return msgspec.structs.replace(
        entry,
        ran=ran,
        retries=retries,
        messages=after.messages,
        outputs=outputs,
        asked=asked,
        closed=closed,
    )
