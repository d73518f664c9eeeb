"""`WorkflowExecutor`: a workflow as a node of another one, and the messages by which the two talk about questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from supersteps.define.executor import Executor, HandlerSpec, equip
from supersteps.define.handlers import Handlers
from supersteps.define.requests import RequestInfoExecutor, RequestInfoMessage, RequestResponse
from supersteps.errors import WorkflowValidationError

if TYPE_CHECKING:
    from supersteps.define.graph import Graph
    from supersteps.run.workflow import Workflow

QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")

PATH_MARK = "/"
"""Joins the names of nested sub-workflows in an executor's path."""


@dataclass
class SubWorkflowResponseMessage(Generic[AnswerT]):
    """The answer to a sub-workflow's question, given by an executor around it.

    Attributes:
        request_id: The question's id.
        data: The answer.
    """

    request_id: str
    data: AnswerT


@dataclass
class SubWorkflowRequestMessage(Generic[QuestionT]):
    """A sub-workflow's question, offered to the executors around it before it goes to the outside world.

    An executor that handles `SubWorkflowRequestMessage[Question]`, and to which an edge leads from
    the sub-workflow's node, gets it, and answers by
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


class Inner(Handlers):
    """What a node's inner workflow handles, sends and yields, as the engine sees it.

    Attributes:
        workflow: The inner workflow.
        allow_direct_output: Whether what it yields are outputs of the outer workflow.
        may_ask: Whether anything inside can ask a question.
    """

    __slots__ = ("allow_direct_output", "may_ask", "workflow")

    def __init__(self, workflow: Workflow, *, allow_direct_output: bool) -> None:
        self.workflow = workflow
        self.allow_direct_output = allow_direct_output
        nodes = workflow.graph.nodes
        self.may_ask = any(_asks(node.executor) for node in nodes.values())
        taken = list(self.start.input_types)
        if self.may_ask:
            answers = (RequestResponse, SubWorkflowResponseMessage)
            taken += [kind for kind in answers if kind not in taken]
        super().__init__(
            HandlerSpec(f"input_{number}", _never_called, kind, (), (), is_async=True)
            for number, kind in enumerate(taken)
        )

    @property
    def graph(self) -> Graph:
        """The inner workflow's structure."""
        return self.workflow.graph

    @property
    def start(self) -> Executor:
        """The executor that gets the node's messages."""
        graph = self.workflow.graph
        return graph.nodes[graph.start_id].executor

    @property
    def output_types(self) -> list[Any]:
        """Types of the messages it may send: what the inner workflow yields, and questions."""
        outputs = self.workflow.output_types
        if not outputs and not self.allow_direct_output:
            return []
        questions: list[Any] = (
            [RequestInfoMessage, SubWorkflowRequestMessage] if self.may_ask else []
        )
        return [*([] if self.allow_direct_output else outputs), *questions]

    @property
    def workflow_output_types(self) -> list[Any]:
        """Types of the outputs it may yield."""
        return self.workflow.output_types if self.allow_direct_output else []


class WorkflowExecutor(Executor):
    """A workflow as a node of another one.

    Every message to the node begins a run of its own inside the run of the outer workflow: with
    state of its own, committed in the same checkpoints, superstep by superstep. What it yields is
    sent along the node's edges; what it asks goes to the outside world, unless an executor behind
    an edge of the node handles such questions. It is gone when it has nothing left to do. A
    storage, retention or limit of time of the inner workflow plays no part; its `max_iterations`
    counts its own supersteps. For the outer workflow it counts as one, like any executor's call.

    Attributes:
        workflow: The inner workflow.
        allow_direct_output: Whether what it yields are outputs of the outer workflow.
    """

    __supersteps__: Inner

    def __init__(self, workflow: Workflow, id: str, *, allow_direct_output: bool = False) -> None:
        """The node takes what the inner workflow's start executor takes.

        Args:
            workflow: The inner workflow; one object may stand in several places.
            id: The node's id.
            allow_direct_output: Make what the inner workflow yields outputs of the outer one,
                instead of messages.

        Raises:
            WorkflowValidationError: One of its executors keeps attributes of its own and is not
                made by a factory.
        """
        self.workflow = workflow
        self.allow_direct_output = allow_direct_output
        equip(self, id, Inner(workflow, allow_direct_output=allow_direct_output))
        for node_id, node in workflow.graph.nodes.items():
            if node.factory is None and node.executor.__supersteps__.has_hooks:
                raise WorkflowValidationError(
                    f"executor {node_id!r} of sub-workflow {workflow.workflow_id!r} keeps "
                    "attributes of its own (it has checkpoint hooks), so each run needs one "
                    f"of its own: register_executor(factory, {node_id!r})"
                )


def takes_input(executor: Executor, message: Any) -> bool:
    """Return whether an executor, or the innermost start of a sub-workflow, handles a message."""
    while isinstance(executor, WorkflowExecutor):
        executor = executor.__supersteps__.start
    return executor.can_handle(message)


def _asks(executor: Executor) -> bool:
    if isinstance(executor, WorkflowExecutor):
        return executor.__supersteps__.may_ask
    return isinstance(executor, RequestInfoExecutor) or bool(executor.__supersteps__.response_specs)


def check_paths(ids: Sequence[str]) -> None:
    """Refuse ids that could be taken for paths, in a graph that has sub-workflows.

    Raises:
        WorkflowValidationError: An id has a slash in it.
    """
    for node_id in ids:
        if PATH_MARK in node_id:
            raise WorkflowValidationError(
                f"executor id {node_id!r} has a {PATH_MARK!r} in it, which joins names of nested "
                "sub-workflows; give it another id, because this workflow has or is a sub-workflow"
            )


async def _never_called(*_arguments: Any) -> None:
    raise AssertionError("the messages of a sub-workflow's node go straight to its start executor")
