"""`WorkflowExecutor`: a workflow as a node of another one."""

from __future__ import annotations

from typing import Any

from supersteps.define.executor import Executor, equip
from supersteps.define.graph import Inner, InnerWorkflow
from supersteps.errors import WorkflowValidationError


class WorkflowExecutor(Executor):
    """A workflow as a node of another one: use it to reuse a workflow or to divide a large one.

    Every message to the node starts an inner run inside the run of the outer workflow. It has its
    own state and is committed in the same checkpoints, superstep by superstep. Its outputs are sent
    along the node's edges. Its questions go to the outside world, unless an executor behind an edge
    of the node handles such questions. The inner run ends when nothing is left to do. The inner
    workflow's storage, retention and time limit are ignored; its `max_iterations` limits the
    supersteps of each inner run, which for the limit of the outer workflow counts as one.

    Attributes:
        workflow: The inner workflow.
        allow_direct_output: Whether what it yields are outputs of the outer workflow.
    """

    __supersteps__: Inner

    def __init__(
        self, workflow: InnerWorkflow, id: str, *, allow_direct_output: bool = False
    ) -> None:
        """The node accepts what the inner workflow's start executor accepts.

        Args:
            workflow: The inner workflow; one object may be used in several nodes.
            id: The node's id.
            allow_direct_output: Whether outputs of the inner workflow are outputs of the outer one
                instead of messages.

        Raises:
            WorkflowValidationError: One of its executors keeps its own attributes and is not
                created by a factory.
        """
        self.workflow = workflow
        self.allow_direct_output = allow_direct_output
        equip(self, id, Inner(workflow, allow_direct_output=allow_direct_output))
        for node_id, node in workflow.graph.nodes.items():
            if node.factory is None and node.executor.__supersteps__.has_hooks:
                raise WorkflowValidationError(
                    f"executor {node_id!r} of sub-workflow {workflow.workflow_id!r} keeps its own "
                    "attributes (it has checkpoint hooks), so each run needs its own instance: "
                    f"register_executor(factory, {node_id!r})"
                )


def takes_input(executor: Executor, message: Any) -> bool:
    """Return whether an executor, or the innermost start of a sub-workflow, handles a message."""
    while isinstance(executor, WorkflowExecutor):
        executor = executor.__supersteps__.start
    return executor.can_handle(message)
