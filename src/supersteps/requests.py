"""Questions to the outside world: `RequestInfoExecutor` asks them, `RequestResponse` brings the answers back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from supersteps.checkpoint.checkpoint import PendingRequest, WorkflowCheckpoint
from supersteps.checkpoint.codec import RawValue
from supersteps.context import WorkflowContext
from supersteps.executor import Executor, handler

RequestT = TypeVar("RequestT", bound="RequestInfoMessage")
ResponseT = TypeVar("ResponseT")
T = TypeVar("T")


@dataclass
class RequestInfoMessage:
    """Base of questions: subclass it as a dataclass with the fields the person needs to answer.

    Attributes:
        request_id: Names the question; the answer gives it.
        source_executor_id: The executor that asks; filled in on the way out.
    """

    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    source_executor_id: str | None = None


@dataclass
class RequestResponse(Generic[RequestT, ResponseT]):
    """An answer, delivered to the executor that asked: handle `RequestResponse[Question, Answer]`.

    Attributes:
        data: The answer.
        original_request: The question.
        request_id: The question's id.
    """

    data: ResponseT
    original_request: RequestT
    request_id: str


@dataclass(frozen=True)
class PendingRequestDetails:
    """A waiting question as a summary shows it.

    Attributes:
        request_id: Its id.
        prompt: The question's `prompt` field, if it has one.
        draft: The question's `draft` field, if it has one.
        iteration: The question's `iteration` field, if it has one, else the superstep that asked.
        source_executor_id: The executor that asks.
        original_request: The question; a `RawValue` where its type is not known.
    """

    request_id: str
    prompt: str | None = None
    draft: str | None = None
    iteration: int | None = None
    source_executor_id: str | None = None
    original_request: Any = None


@dataclass(frozen=True)
class WorkflowCheckpointSummary:
    """A checkpoint in a few words, for lists and pickers.

    Attributes:
        checkpoint_id: Its id.
        iteration_count: Supersteps done.
        targets: Executors to which messages are on their way.
        executor_states: Executors that keep state.
        status: "awaiting human response", "awaiting next superstep" or "idle".
        draft_preview: The beginning of the first waiting question's draft.
        pending_requests: Questions that wait for answers.
    """

    checkpoint_id: str
    iteration_count: int
    targets: list[str]
    executor_states: list[str]
    status: str
    draft_preview: str | None
    pending_requests: list[PendingRequestDetails]


class RequestInfoExecutor(Executor):
    """The node that passes questions to the outside world; its id names it in the graph.

    Connect it both ways with each executor that asks: a `RequestInfoMessage` sent to it becomes a `RequestInfoEvent`,
    and the answer comes back as a `RequestResponse`.
    """

    def __init__(self, id: str = "request_info") -> None:
        """One node serves all executors that ask, and a workflow may have several.

        Args:
            id: Unique within the workflow.
        """
        super().__init__(id)

    @handler
    async def run(
        self, message: RequestInfoMessage, ctx: WorkflowContext[RequestResponse[Any, Any]]
    ) -> None:
        """Record the question; the answer goes to the executor that sent it.

        A question that came out of a sub-workflow and is passed on goes out in the name of that sub-workflow: where an
        edge leads there, the answer goes straight to the executor inside it that asked.
        """
        source = ctx.get_source_executor_id()
        if not ctx._call.leads_to_sub_workflow(message.source_executor_id):
            message.source_executor_id = source
        ctx._call.ask(message.request_id, message, source)

    @staticmethod
    def pending_requests_from_checkpoint(
        checkpoint: WorkflowCheckpoint, *, request_executor_ids: Iterable[str] | None = None
    ) -> list[PendingRequestDetails]:
        """Return the questions that a checkpoint waits for, asked or just about to be.

        Args:
            checkpoint: The checkpoint.
            request_executor_ids: Ids of the executors that ask; when given, questions on their way to other executors
                do not count.
        """
        ids = None if request_executor_ids is None else frozenset(request_executor_ids)
        found = [
            _details(request.data, request) for request in checkpoint.pending_requests.values()
        ]
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

    @staticmethod
    def checkpoint_summary(
        checkpoint: WorkflowCheckpoint,
        *,
        request_executor_ids: Iterable[str] | None = None,
        preview_width: int = 70,
    ) -> WorkflowCheckpointSummary:
        """Return a checkpoint in a few words.

        Args:
            checkpoint: The checkpoint.
            request_executor_ids: See `pending_requests_from_checkpoint`.
            preview_width: Longest draft preview, in characters.
        """
        pending = RequestInfoExecutor.pending_requests_from_checkpoint(
            checkpoint, request_executor_ids=request_executor_ids
        )
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
    """Return whether a message is a question, also where its type is not known and it comes raw."""
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
    """Return the text on one line, cut between words so that it fits."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    cut = line[: width - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > 0 else cut) + "…"
