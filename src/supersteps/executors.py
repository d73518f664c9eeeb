"""Executors: the nodes of a graph, and what their handlers work with.

Subclass `Executor` and mark methods with `@handler`; for a step without state, decorate a function
with `@executor`. `WorkflowExecutor` runs a whole workflow as one node, `RequestInfoExecutor` asks
the outside world. What is used every day is at the root, too: `from supersteps import Executor`.
"""

from supersteps.define.context import Ready, WorkflowContext
from supersteps.define.executor import Executor, handler, response_handler
from supersteps.define.functions import FunctionExecutor, executor
from supersteps.define.policies import ExecutorFailure, FailurePolicy
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
)

__all__ = [
    "Executor",
    "ExecutorFailure",
    "FailurePolicy",
    "FunctionExecutor",
    "Ready",
    "RequestInfoExecutor",
    "RequestInfoMessage",
    "RequestResponse",
    "SubWorkflowRequestMessage",
    "SubWorkflowResponseMessage",
    "WorkflowContext",
    "WorkflowExecutor",
    "executor",
    "handler",
    "response_handler",
]
