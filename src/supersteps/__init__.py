"""supersteps: workflows that survive anything.

A graph of executors runs in supersteps; after each one, everything that a run is gets committed as
one atomic checkpoint, from which it can be inspected, resumed, restored in place, rehydrated in a
new process or forked.

This module lists what most programs need. The rest is in modules by topic: `supersteps.executors`,
`supersteps.edges`, `supersteps.events`, `supersteps.checkpoints`, `supersteps.storages`,
`supersteps.errors` and, for what programs seldom need, `supersteps.backends`,
`supersteps.observers`, `supersteps.testing` and `supersteps.viz`.
"""

from typing import TYPE_CHECKING, Any
from typing import Never as Never

from supersteps.define.context import WorkflowContext
from supersteps.define.edges import Case, Default
from supersteps.define.executor import Executor, handler, response_handler
from supersteps.define.functions import executor
from supersteps.define.policies import ExecutorFailure, FailurePolicy
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.errors import (
    CheckpointError,
    GraphChangedError,
    RequestError,
    RunBusyError,
    RunExistsError,
    SuperstepsError,
)
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
)
from supersteps.run.builder import WorkflowBuilder

__version__ = "0.1.0"

_TOPICS = ("executors", "edges", "errors", "checkpoints", "storages", "events")
"""Modules whose names can be imported from here, too; the light ones come first."""

if TYPE_CHECKING:
    from supersteps.checkpoints import DELETE, CheckpointInfo, WorkflowCheckpoint, checkpointable
    from supersteps.events import (
        RequestInfoEvent,
        SuperStepCompletedEvent,
        WorkflowEvent,
        WorkflowOutputEvent,
        WorkflowRunState,
        WorkflowStatusEvent,
    )
    from supersteps.run.handle import StreamingRun
    from supersteps.run.result import WorkflowRunResult
    from supersteps.run.workers.worker import Worker
    from supersteps.run.workflow import Workflow
    from supersteps.secrets import Secret
    from supersteps.storages import (
        CheckpointStorage,
        EncryptedStorage,
        FileCheckpointStorage,
        InMemoryCheckpointStorage,
        PostgresCheckpointStorage,
        RetentionPolicy,
        SqliteCheckpointStorage,
        export_run,
        import_run,
        open_storage,
    )
    from supersteps.viz import WorkflowViz

    # For scripts that import all from one place, as those written for the reference do.
    # isort: split
    from supersteps.checkpoints import *  # noqa: F403
    from supersteps.edges import *  # noqa: F403
    from supersteps.errors import *  # noqa: F403
    from supersteps.events import *  # noqa: F403
    from supersteps.executors import *  # noqa: F403
    from supersteps.storages import *  # noqa: F403
else:
    from importlib import import_module

    # Imported when first used: a workflow is defined without msgspec, asyncio, engine and storages.
    _OWN = {
        "Secret": "secrets",
        "StreamingRun": "run.handle",
        "Worker": "run.workers.worker",
        "Workflow": "run.workflow",
        "WorkflowRunResult": "run.result",
        "WorkflowViz": "viz",
    }

    def __getattr__(name: str) -> Any:
        if name in _TOPICS:
            return import_module(f"supersteps.{name}")
        value = globals()[name] = getattr(_source_of(name), name)
        return value

    def _source_of(name: str) -> Any:
        if name in _OWN:
            return import_module(f"supersteps.{_OWN[name]}")
        for topic in _TOPICS if not name.startswith("_") else ():
            module = import_module(f"supersteps.{topic}")
            if name in module.__all__:
                return module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DELETE",
    "Case",
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointStorage",
    "Default",
    "EncryptedStorage",
    "Executor",
    "ExecutorFailure",
    "FailurePolicy",
    "FileCheckpointStorage",
    "GraphChangedError",
    "InMemoryCheckpointStorage",
    "PostgresCheckpointStorage",
    "RequestError",
    "RequestInfoEvent",
    "RequestInfoExecutor",
    "RequestInfoMessage",
    "RequestResponse",
    "RetentionPolicy",
    "RunBusyError",
    "RunExistsError",
    "Secret",
    "SqliteCheckpointStorage",
    "StreamingRun",
    "SubWorkflowRequestMessage",
    "SubWorkflowResponseMessage",
    "SuperStepCompletedEvent",
    "SuperstepsError",
    "Worker",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowCheckpoint",
    "WorkflowContext",
    "WorkflowEvent",
    "WorkflowExecutor",
    "WorkflowOutputEvent",
    "WorkflowRunResult",
    "WorkflowRunState",
    "WorkflowStatusEvent",
    "WorkflowViz",
    "checkpointable",
    "executor",
    "export_run",
    "handler",
    "import_run",
    "open_storage",
    "response_handler",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *_TOPICS, "__version__"})
