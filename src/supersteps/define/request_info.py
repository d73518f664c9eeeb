"""`RequestInfoExecutor`: sends questions to the outside world."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from supersteps.define.context import WorkflowContext
from supersteps.define.executor import Executor, handler
from supersteps.requests import RequestInfoMessage, RequestResponse

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
    from supersteps.define.summary import PendingRequestDetails, WorkflowCheckpointSummary


class RequestInfoExecutor(Executor):
    """The node that sends questions to the outside world.

    An executor can ask by itself with `ctx.request_info`, which is simpler; use this one to show in
    the graph who asks whom, or for workflows written for Agent Framework.

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

        A question that came out of a sub-workflow is passed on in the name of that sub-workflow: if
        there is an edge to it, the answer goes directly to the executor inside it that asked.
        """
        source = ctx.get_source_executor_id()
        if not ctx._call.leads_to_sub_workflow(message.source_executor_id):
            message.source_executor_id = source
        ctx._call.ask(message.request_id, message, source)

    @staticmethod
    def pending_requests_from_checkpoint(
        checkpoint: WorkflowCheckpoint, *, request_executor_ids: Iterable[str] | None = None
    ) -> list[PendingRequestDetails]:
        """Return the questions that a checkpoint waits for, asked or in flight.

        Args:
            checkpoint: The checkpoint.
            request_executor_ids: Ids of the executors that ask; if given, questions in flight to
                other executors are left out.
        """
        # Imported here because it imports the decoder of checkpoints.
        from supersteps.define.summary import waiting_questions

        return waiting_questions(checkpoint, request_executor_ids)

    @staticmethod
    def checkpoint_summary(
        checkpoint: WorkflowCheckpoint,
        *,
        request_executor_ids: Iterable[str] | None = None,
        preview_width: int = 70,
    ) -> WorkflowCheckpointSummary:
        """Return a short description of a checkpoint.

        Args:
            checkpoint: The checkpoint.
            request_executor_ids: See `pending_requests_from_checkpoint`.
            preview_width: Maximum length of the draft preview, in characters.
        """
        # Imported here because it imports the decoder of checkpoints.
        from supersteps.define.summary import summary_of

        return summary_of(
            checkpoint, request_executor_ids=request_executor_ids, preview_width=preview_width
        )
