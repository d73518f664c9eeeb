"""`WorkflowExecutor`: a workflow as a node of another one."""

from __future__ import annotations

from typing import Any

from supersteps.define.executor import Executor, equip
from supersteps.define.graph import Inner, InnerWorkflow
from supersteps.errors import WorkflowValidationError


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

    def __init__(
        self, workflow: InnerWorkflow, id: str, *, allow_direct_output: bool = False
    ) -> None:
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
