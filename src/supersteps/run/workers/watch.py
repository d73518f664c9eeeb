"""Watching a run that others drive: its committed events."""

from __future__ import annotations

from collections.abc import AsyncIterator

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.stored import elements
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.errors import RunFencedError
from supersteps.events import (
    RequestClosedEvent,
    SuperStepCompletedEvent,
    SuperStepCompletionInfo,
    WorkflowErrorDetails,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowOutputEvent,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
)
from supersteps.ids import split_checkpoint_id
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import WatchedRun
from supersteps.run.setup import RunSetup
from supersteps.run.wait import LOOK_EVERY_SECONDS, is_held
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage.ports import CheckpointStorage, DurableStorage
from supersteps.storage.queue import until_changed
from supersteps.storage.records import RunRecord
from supersteps.storage.rules import check_incarnation, no_such_run

_PAGE = 256
"""How many checkpoints of the lineage to ask for at first."""


async def events_of(
    setup: RunSetup, run_id: str, from_step: int, checkpoint_storage: CheckpointStorage | None
) -> AsyncIterator[WorkflowEvent]:
    """Give the committed events of a run until it ends; see `Workflow.watch`."""
    storage = setup.require(setup.storage_for(checkpoint_storage), "find runs in")
    watcher = _Watcher(setup, storage, run_id, from_step)
    mark = await until_changed(storage, None, LOOK_EVERY_SECONDS)
    told = ""
    while True:
        run = await watcher.record()
        async for event in watcher.news(run):
            yield event
        if run.head == watcher.head:  # else it could not be read: it was deleted meanwhile
            if run.status != told:
                for event in _status_events(run):
                    yield event
                told = run.status
            is_failed = run.status == WorkflowRunState.FAILED and not is_held(run)
            if run.status in ENDED or is_failed:
                return
        mark = await until_changed(storage, mark, LOOK_EVERY_SECONDS)


def _status_events(run: RunRecord) -> list[WorkflowEvent]:
    events: list[WorkflowEvent] = []
    if run.status == WorkflowRunState.FAILED:
        text = run.error or "the cause was not recorded"
        kind, _, message = text.partition(": ")
        details = WorkflowErrorDetails(
            kind if message else "Exception", message or text, extra={"run_id": run.run_id}
        )
        events.append(WorkflowFailedEvent(details))
    return [*events, WorkflowStatusEvent(WorkflowRunState(run.status))]


class _Watcher:
    """Reads what is new of one run.

    Attributes:
        head: The run's head as it was read last, None before that.
    """

    def __init__(
        self, setup: RunSetup, storage: DurableStorage, run_id: str, from_step: int
    ) -> None:
        self.head: str | None = None
        self._setup = setup
        self._storage = storage
        self._run_id = run_id
        self._from_step = from_step
        self._which: str | None = None
        self._newest = -1
        self._last: CheckpointRecord | None = None
        self._watched = StreamingRun(WatchedRun(setup, run_id))
        self._runner = setup.equip(self._watched._work, storage).runner

    async def record(self) -> RunRecord:
        """Return the run's record.

        Raises:
            RunNotFoundError: There is no such run, or it was deleted meanwhile.
            RunFencedError: It was deleted meanwhile, and another one has its id.
        """
        run = await self._storage.get_run(self._run_id)
        if run is None:
            raise no_such_run(self._run_id)
        check_incarnation(run, self._which)
        self._which = run.incarnation
        return run

    async def news(self, run: RunRecord) -> AsyncIterator[WorkflowEvent]:
        """Give the events of checkpoints that were committed since the last call."""
        if run.head == self.head:
            return
        for info in await self._new(run):
            record = await self._storage.load_record(info.checkpoint_id)
            if record is None:  # pruned meanwhile: what it says, the next one says too
                continue
            if record.header.incarnation != run.incarnation:
                raise RunFencedError(
                    f"run {self._run_id!r} was deleted while it was watched, and another one has "
                    "its id; watch it again to see the new one"
                )
            before = await self._before(record)
            for event in self._events(record, before):
                yield event
            self._last, self._newest = record, max(self._newest, record.header.sequence)
            if info.checkpoint_id == run.head:
                self.head = run.head

    async def _new(self, run: RunRecord) -> list[CheckpointInfo]:
        """Return the checkpoints on the way to the head that were not told of yet."""
        limit = _PAGE
        while True:
            lineage = await self._storage.list_lineage(run.head, limit)
            news = [info for info in lineage if self._is_new(info)]
            if len(lineage) < limit or len(news) < len(lineage):
                break
            limit *= 8
        if not news and lineage:  # restored to a checkpoint that was told of
            self.head = run.head
            self._last = None
        return news

    def _is_new(self, info: CheckpointInfo) -> bool:
        _, number = split_checkpoint_id(info.checkpoint_id) or ("", 0)
        return number > self._newest and (
            info.step_number > self._from_step or self._from_step <= 0
        )

    async def _before(self, record: CheckpointRecord) -> CheckpointRecord | None:
        """Return the checkpoint that one follows, None for the first."""
        parent, last = record.header.parent_id, self._last
        if parent is None:
            return None
        if last is not None and last.header.checkpoint_id == parent:
            return last
        return await self._storage.load_record(parent) or last

    def _events(
        self, record: CheckpointRecord, before: CheckpointRecord | None
    ) -> list[WorkflowEvent]:
        header, codec = record.header, self._setup.codec(self._storage)
        if before is None and header.iteration_count == 0:
            return [WorkflowStartedEvent(run_id=self._run_id)]
        runner = self._runner
        runner.show(self._setup.fit(self._storage, record).record)
        earlier = {} if before is None else before.parts
        yielded = elements(record.parts.get(OUTPUTS, b"[]"))
        told = len(elements(earlier.get(OUTPUTS, b"[]")))
        events: list[WorkflowEvent] = [
            WorkflowOutputEvent(codec.decode(value, f"outputs[{number}]"), "")
            for number, value in enumerate(yielded[told:], told)
        ]
        events += self._ended(record, before)
        events += [
            event
            for event in runner.waiting_requests()
            if ("requests", event.request_id) not in earlier
        ]
        info = SuperStepCompletionInfo((), runner.flows, runner.has_questions, header.info)
        return [*events, SuperStepCompletedEvent(header.iteration_count, info)]

    def _ended(
        self, record: CheckpointRecord, before: CheckpointRecord | None
    ) -> list[WorkflowEvent]:
        """Return an event for each question that ended without an answer from outside."""
        ended = self._opened(record).answered
        told = 0 if before is None else len(self._opened(before).answered)
        return [
            RequestClosedEvent(one.request_id, one.source_executor_id, one.outcome)
            for one in ended[told:]
            if one.outcome != "answered"
        ]

    def _opened(self, record: CheckpointRecord) -> WorkflowCheckpoint:
        codec = self._setup.codec(self._storage)
        return WorkflowCheckpoint.from_record(record.header, lambda: record.parts, codec)
