"""Details of a run and of a checkpoint, and a picture."""

from __future__ import annotations

import ast
import asyncio
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
from supersteps.checkpoint.sections.timer import TIMERS, read_timer
from supersteps.checkpoint.stored import as_json, elements
from supersteps.errors import CheckpointNotFoundError
from supersteps.service.errors import ServiceError
from supersteps.service.facts import FactsReader, retry_of
from supersteps.service.history import forks_of, headers_of
from supersteps.service.questions import questions_at
from supersteps.service.reads import UNREADABLE
from supersteps.service.summaries import summarize
from supersteps.service.views import CheckpointDetails, LogEntry, RunDetails
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
        questions=questions_at(run, parts, answered),
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
