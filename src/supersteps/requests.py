"""Questions and answers, as messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

RequestT = TypeVar("RequestT", bound="RequestInfoMessage")
ResponseT = TypeVar("ResponseT")
QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")


def _new_request_id() -> str:
    from uuid import uuid4  # slow to import and needed only for questions

    return str(uuid4())


@dataclass
class RequestInfoMessage:
    """Base of questions: subclass it as a dataclass with what a person needs to answer it.

    Attributes:
        request_id: Identifies the question; passed with the answer.
        source_executor_id: The executor that asks; filled in when it is asked.
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


@dataclass
class SubWorkflowResponseMessage(Generic[AnswerT]):
    """The answer to a sub-workflow's question, given by an executor of the outer workflow.

    Attributes:
        request_id: The question's id.
        data: The answer.
    """

    request_id: str
    data: AnswerT


@dataclass
class SubWorkflowRequestMessage(Generic[QuestionT]):
    """A sub-workflow's question, offered to the outer workflow before the outside world.

    It goes to an executor that handles `SubWorkflowRequestMessage[Question]` and to which an edge
    leads from the sub-workflow's node. That executor answers by
    `ctx.send_message(request.create_response(answer), target_id=request.executor_id)`.

    Attributes:
        request_id: The question's id.
        data: The question.
        executor_id: The sub-workflow's node, to which the answer goes.
        source_executor_id: The executor inside the sub-workflow that asks, by its path.
    """

    request_id: str
    data: QuestionT
    executor_id: str
    source_executor_id: str

    def create_response(self, data: AnswerT) -> SubWorkflowResponseMessage[AnswerT]:
        """Return the message that answers the question."""
        return SubWorkflowResponseMessage(self.request_id, data)
