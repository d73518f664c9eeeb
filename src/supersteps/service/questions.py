"""`Question`: a waiting question as people see it, and where it is found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.sections.question import REQUESTS, StoredRequest, read_request
from supersteps.events import RequestInfoEvent
from supersteps.service.reads import UNREADABLE
from supersteps.states import WorkflowRunState
from supersteps.storage.listings import RunFilter
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import ManagedStorage
from supersteps.storage.records import RunRecord
from supersteps.typing.annotations import display_name
from supersteps.typing.schema import schema_of


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that waits for an answer.

    Attributes:
        request_id: Its id.
        run_id: The run that asks.
        workflow_id: Name of that run's workflow.
        executor_id: The executor that asks.
        step: The superstep that asked.
        asked_at: ISO 8601, UTC.
        data: The question, as typed JSON.
        response_type: Type of the answer, for display.
        response_schema: JSON Schema of the answer; None if only the workflow's own code can accept
            it.
        deadline: When the default becomes the answer: ISO 8601, UTC.
        default: The answer at the deadline, as typed JSON.
    """

    request_id: str
    run_id: str
    workflow_id: str
    executor_id: str
    step: int
    asked_at: str
    data: Any
    response_type: str
    response_schema: dict[str, Any] | None = None
    deadline: str | None = None
    default: Any = None


def question_of(run: RunRecord, stored: StoredRequest) -> Question:
    """Return a question as it is stored."""
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


def question_of_event(
    event: RequestInfoEvent, data: Any, *, run_id: str, workflow_id: str, step: int
) -> Question:
    """Return a question as the stream of its run delivers it.

    Args:
        event: The event.
        data: The question, as typed JSON.
        run_id: The run.
        workflow_id: Name of its workflow.
        step: The superstep that asked.
    """
    return Question(
        request_id=event.request_id,
        run_id=run_id,
        workflow_id=workflow_id,
        executor_id=event.source_executor_id,
        step=step,
        asked_at=datetime.now(UTC).isoformat(timespec="seconds"),
        data=data,
        response_type=display_name(event.response_type),
        response_schema=schema_of(event.response_type),
        deadline=event.deadline,
    )


# ------------------------------------------------------------------------------- where they wait


async def list_questions(
    storage: ManagedStorage, run: RunRecord | None = None, workflow_id: str | None = None
) -> list[Question]:
    """Return the waiting questions, oldest first.

    Runs with a damaged head are skipped, unless `run` is one.

    Raises:
        CorruptCheckpointError: The head of `run` is damaged.
    """
    if run is not None:
        return await _waiting_in(storage, run) if workflow_id in (None, run.workflow_id) else []
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
    return [] if record is None else questions_at(now, record.parts, answered)


def questions_at(
    run: RunRecord, parts: Mapping[PartKey, Part], answered: set[str]
) -> list[Question]:
    """Return the questions at a run's head, oldest first; a cancelled run has none."""
    if run.status == WorkflowRunState.CANCELLED:
        return []
    return _by_age(
        question_of(run, read_request(part))
        for key, part in parts.items()
        if key[0] == REQUESTS and key[1] not in answered
    )


def _by_age(questions: Iterable[Question]) -> list[Question]:
    return sorted(
        questions, key=lambda question: (question.asked_at, question.run_id, question.request_id)
    )
