"""Details of a run, a checkpoint, waiting questions, and a picture."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.diff import document
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.checkpoint.sections.graph import GRAPH
from supersteps.checkpoint.sections.message import MESSAGES, read_messages
from supersteps.checkpoint.sections.outputs import OUTPUTS
from supersteps.checkpoint.sections.question import REQUESTS, StoredRequest, read_request
from supersteps.checkpoint.sections.timer import TIMERS, read_timer
from supersteps.checkpoint.stored import as_json, elements
from supersteps.errors import CheckpointNotFoundError
from supersteps.service.errors import ServiceError
from supersteps.service.facts import FactsReader, retry_of
from supersteps.service.history import forks_of, headers_of
from supersteps.service.reads import UNREADABLE
from supersteps.service.summaries import summarize
from supersteps.service.views import CheckpointDetails, LogEntry, Question, RunDetails
from supersteps.states import WorkflowRunState
from supersteps.storage.listings import RunFilter
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord
from supersteps.viz.picture import Picture

_LATEST = 10

# The last line of a run's error, which the engine adds to the executor's exception.
_WHO_FAILED = re.compile(
    r"^\(executor (?P<executor>['\"].*['\"]), superstep \d+ of run .*\)$", re.MULTILINE
)


async def load(storage: ManagedStorage, checkpoint_id: str) -> CheckpointRecord:
    """Return a checkpoint.

    Raises:
        CheckpointNotFoundError: It was deleted in the meantime.
        CorruptCheckpointError: It is damaged.
    """
    record = await storage.load_record(checkpoint_id)
    if record is None:
        raise CheckpointNotFoundError(
            f"checkpoint {checkpoint_id!r} was deleted in the meantime; see the run's history"
        )
    return record


# ------------------------------------------------------------------------------------- a checkpoint


async def show_checkpoint(storage: ManagedStorage, checkpoint_id: str) -> CheckpointDetails:
    """Return a checkpoint in detail."""
    record = await load(storage, checkpoint_id)
    entry = await _entry(storage, record)
    return CheckpointDetails(
        entry=entry,
        workflow_id=record.header.workflow_id,
        metadata=record.header.metadata,
        content=await asyncio.to_thread(_content, record.parts),
    )


async def _entry(storage: ManagedStorage, record: CheckpointRecord) -> LogEntry:
    reader = FactsReader(storage)
    reader.take(record)
    run = await storage.get_run(record.header.run_id) if record.header.run_id else None
    entry = await reader.entry(record.header, run)
    assert entry is not None  # it was just read
    return entry


def _content(parts: Mapping[PartKey, Part]) -> dict[str, Any]:
    content = document({key: part for key, part in parts.items() if key != GRAPH})
    content.pop(GRAPH[0], None)
    return content


async def draw(storage: ManagedStorage, checkpoint_id: str) -> Picture:
    """Return the graph with the state of a checkpoint.

    Raises:
        ServiceError: The checkpoint has no stored graph.
    """
    # Imported here, since only pictures need it.
    from supersteps.viz.checkpoints import marks_of
    from supersteps.viz.structure import picture_of

    record = await load(storage, checkpoint_id)
    part = record.parts.get(GRAPH)
    if part is None:
        raise ServiceError(
            f"checkpoint {checkpoint_id!r} has no stored graph, since it was not saved by a run. "
            "Draw the workflow itself."
        )
    entry = await _entry(storage, record)
    checkpoint = WorkflowCheckpoint.from_record(record.header, lambda: record.parts, storage.codec)
    marks = await asyncio.to_thread(
        marks_of, checkpoint, ran=entry.ran, failed=who_failed(entry.error)
    )
    where = f", run {entry.run_id}, superstep {entry.step}" if entry.run_id else ""
    return picture_of(
        msgspec.json.decode(as_json(part)), f"{record.header.workflow_id}{where}", marks
    )


def who_failed(error: str | None) -> tuple[str, ...]:
    """Return the executors that a run's error names."""
    noted = list(_WHO_FAILED.finditer(error or ""))
    try:
        return (str(ast.literal_eval(noted[-1]["executor"])),) if noted else ()
    except (ValueError, SyntaxError):  # a similar text that is not the engine's
        return ()


# -------------------------------------------------------------------------------------------- a run


async def show_run(storage: ManagedStorage, run: RunRecord) -> RunDetails:
    """Return a run in detail, without the content of its head if that is damaged."""
    # The inbox is read first: a commit in between consumes its answers, and the new head no longer
    # asks.
    answered = {entry.request_id for entry in await storage.read_inbox(run.run_id)}
    run = await storage.get_run(run.run_id) or run
    reader = FactsReader(storage)
    try:
        head: CheckpointRecord | None = await storage.load_record(run.head)
    except UNREADABLE:
        head = None
    parts: Mapping[PartKey, Part] = {} if head is None else head.parts
    if head is not None:
        reader.take(head)
    headers = {header.checkpoint_id: header for header in await headers_of(storage, run)}
    lineage: list[LogEntry] = []
    following: str | None = run.head
    while following in headers and len(lineage) < _LATEST:
        header = headers[following]
        entry = await reader.entry(header, run)
        if entry is not None:
            lineage.append(entry)
        following = header.parent_id
    timers = sorted(
        (read_timer(part) for key, part in parts.items() if key[0] == TIMERS),
        key=lambda timer: timer.due,
    )
    return RunDetails(
        run=await summarize(storage, run),
        metadata=run.metadata,
        checkpoints=len(headers),
        outputs=await asyncio.to_thread(outputs_of, parts),
        questions=_by_age(_asked(run, parts, answered)),
        waiting=dict(
            Counter(t for message in read_messages(parts.get(MESSAGES)) for t in message.target_ids)
        ),
        timers=[timer.due for timer in timers],
        retries=[retry for timer in timers if (retry := retry_of(timer)) is not None],
        latest=lineage,
        forks=[fork.run_id for depth, fork in await forks_of(storage, run.run_id) if depth == 1],
    )


def outputs_of(parts: Mapping[PartKey, Part]) -> list[Any]:
    """Return every output of a lineage, as typed JSON."""
    part = parts.get(OUTPUTS)
    return [] if part is None else [msgspec.json.decode(item) for item in elements(part)]


# ---------------------------------------------------------------------------------------- questions


async def list_questions(
    storage: ManagedStorage, run: RunRecord | None = None, workflow_id: str | None = None
) -> list[Question]:
    """Return the waiting questions, oldest first.

    Runs with a damaged head are skipped, unless `run` is one.

    Raises:
        CorruptCheckpointError: The head of `run` is damaged.
    """
    if run is not None:
        return _by_age(
            await _waiting_in(storage, run) if workflow_id in (None, run.workflow_id) else []
        )
    found: list[Question] = []
    async for asking in all_runs(storage, RunFilter(workflow_id=workflow_id)):
        if asking.requests:
            # the details or the history of that run report the damage
            with contextlib.suppress(*UNREADABLE):
                found += await _waiting_in(storage, asking)
    return _by_age(found)


async def _waiting_in(storage: ManagedStorage, run: RunRecord) -> list[Question]:
    # The inbox is read first: a commit in between consumes its answers, and the new head no longer
    # asks.
    answered = {entry.request_id for entry in await storage.read_inbox(run.run_id)}
    now = await storage.get_run(run.run_id)
    if now is None:
        return []
    record = await storage.load_record(now.head)
    return [] if record is None else _asked(now, record.parts, answered)


def _asked(run: RunRecord, parts: Mapping[PartKey, Part], answered: set[str]) -> list[Question]:
    """Return the questions at a run's head; a cancelled run has none."""
    if run.status == WorkflowRunState.CANCELLED:
        return []
    return [
        question_of(run, read_request(part))
        for key, part in parts.items()
        if key[0] == REQUESTS and key[1] not in answered
    ]


def question_of(run: RunRecord, stored: StoredRequest) -> Question:
    """Return a question for display."""
    return Question(
        request_id=stored.request_id,
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        executor_id=stored.source_executor_id,
        step=stored.iteration,
        asked_at=stored.timestamp,
        data=msgspec.json.decode(stored.data),
        response_type=stored.response_type,
        response_schema=msgspec.json.decode(stored.response_schema),
        deadline=stored.deadline,
        default=msgspec.json.decode(stored.default),
    )


def _by_age(questions: list[Question]) -> list[Question]:
    return sorted(
        questions, key=lambda question: (question.asked_at, question.run_id, question.request_id)
    )
