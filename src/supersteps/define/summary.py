"""Summaries of checkpoints and of the questions that they wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.codec.codec import RawValue
from supersteps.checkpoint.sections.question import PendingRequest
from supersteps.requests import RequestInfoMessage

T = TypeVar("T")


@dataclass(frozen=True)
class PendingRequestDetails:
    """A waiting question as a summary shows it.

    Attributes:
        request_id: Its id.
        prompt: The question's `prompt` field, if it has one.
        draft: The question's `draft` field, if it has one.
        iteration: The question's `iteration` field, if it has one, otherwise the superstep that
            asked.
        source_executor_id: The executor that asks.
        original_request: The question; a `RawValue` if its type is unknown.
    """

    request_id: str
    prompt: str | None = None
    draft: str | None = None
    iteration: int | None = None
    source_executor_id: str | None = None
    original_request: Any = None


@dataclass(frozen=True)
class WorkflowCheckpointSummary:
    """A short description of a checkpoint, for lists.

    Attributes:
        checkpoint_id: Its id.
        iteration_count: Supersteps done.
        targets: Executors with messages in flight to them.
        executor_states: Executors that have state.
        status: "awaiting human response", "awaiting next superstep" or "idle".
        draft_preview: The start of the draft of the first waiting question.
        pending_requests: Questions that wait for answers.
    """

    checkpoint_id: str
    iteration_count: int
    targets: list[str]
    executor_states: list[str]
    status: str
    draft_preview: str | None
    pending_requests: list[PendingRequestDetails]


def waiting_questions(
    checkpoint: WorkflowCheckpoint, request_executor_ids: Iterable[str] | None
) -> list[PendingRequestDetails]:
    """Return the questions that a checkpoint waits for; see `pending_requests_from_checkpoint`."""
    ids = None if request_executor_ids is None else frozenset(request_executor_ids)
    found = [_details(request.data, request) for request in checkpoint.pending_requests.values()]
    for sent in checkpoint.messages.values():
        for message in sent:
            is_for_us = ids is None or ids.intersection(message["target_ids"])
            if is_for_us and _is_question(message["data"]):
                found.append(
                    _details(
                        message["data"], None, message["source_id"], checkpoint.iteration_count
                    )
                )
    return found


def summary_of(
    checkpoint: WorkflowCheckpoint,
    *,
    request_executor_ids: Iterable[str] | None,
    preview_width: int,
) -> WorkflowCheckpointSummary:
    """Return a summary of a checkpoint; see `RequestInfoExecutor.checkpoint_summary`."""
    pending = waiting_questions(checkpoint, request_executor_ids)
    targets = {
        target: None
        for sent in checkpoint.messages.values()
        for m in sent
        for target in m["target_ids"]
    }
    draft = next((details.draft for details in pending if details.draft), None)
    onward = "awaiting next superstep" if targets else "idle"
    return WorkflowCheckpointSummary(
        checkpoint_id=checkpoint.checkpoint_id,
        iteration_count=checkpoint.iteration_count,
        targets=list(targets),
        executor_states=sorted(checkpoint.executor_states),
        status="awaiting human response" if pending else onward,
        draft_preview=_shorten(draft, preview_width) if draft else None,
        pending_requests=pending,
    )


def _is_question(value: Any) -> bool:
    """Return whether a message is a question, also if its type is unknown (a raw value)."""
    if isinstance(value, RawValue):
        return (
            isinstance(value.value, dict)
            and {"request_id", "source_executor_id"} <= value.value.keys()
        )
    return isinstance(value, RequestInfoMessage)


def _details(
    question: Any,
    request: PendingRequest | None,
    source: str | None = None,
    iteration: int | None = None,
) -> PendingRequestDetails:
    def field_of(name: str, kind: type[T]) -> T | None:
        content = question.value if isinstance(question, RawValue) else question
        value = content.get(name) if isinstance(content, dict) else getattr(content, name, None)
        return value if isinstance(value, kind) else None

    number = field_of("iteration", int)
    return PendingRequestDetails(
        request_id=request.request_id if request else field_of("request_id", str) or "",
        prompt=field_of("prompt", str),
        draft=field_of("draft", str),
        iteration=number if number is not None else request.iteration if request else iteration,
        source_executor_id=request.source_executor_id if request else source,
        original_request=question,
    )


def _shorten(text: str, width: int) -> str:
    """Return the text on one line, shortened at a space to the width."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    cut = line[: width - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > 0 else cut) + "…"
