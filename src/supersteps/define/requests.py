"""Questions to the outside world: `RequestInfoExecutor` asks them, `RequestResponse` brings the answers back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supersteps.define.context import WorkflowContext
from supersteps.define.executor import Executor, handler

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
    from supersteps.define.summary import PendingRequestDetails, WorkflowCheckpointSummary

RequestT = TypeVar("RequestT", bound="RequestInfoMessage")
ResponseT = TypeVar("ResponseT")


def _new_request_id() -> str:
    from uuid import uuid4  # slow to import, and only those who ask need it

    return str(uuid4())


@dataclass
class RequestInfoMessage:
    """Base of questions: subclass it as a dataclass with the fields the person needs to answer.

    Attributes:
        request_id: Names the question; the answer gives it.
        source_executor_id: The executor that asks; filled in on the way out.
    """

    request_id: str = field(default_factory=_new_request_id)
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


class RequestInfoExecutor(Executor):
    """The node that passes questions to the outside world; its id names it in the graph.

    Connect it both ways with each executor that asks: a `RequestInfoMessage` sent to it becomes a
    `RequestInfoEvent`, and the answer comes back as a `RequestResponse`.
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

        A question that came out of a sub-workflow and is passed on goes out in the name of that
        sub-workflow: where an edge leads there, the answer goes straight to the executor inside it
        that asked.
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
            request_executor_ids: Ids of the executors that ask; when given, questions on their way
                to other executors do not count.
        """
        from supersteps.define.summary import (
            waiting_questions,  # brings the decoder of checkpoints
        )

        return waiting_questions(checkpoint, request_executor_ids)

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
        from supersteps.define.summary import summary_of  # brings the decoder of checkpoints

        return summary_of(
            checkpoint, request_executor_ids=request_executor_ids, preview_width=preview_width
        )
