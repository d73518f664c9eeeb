"""supersteps: workflows that survive anything.

A graph of executors runs in supersteps; after each one, everything that a run is gets committed as one atomic
checkpoint, from which it can be inspected, resumed, restored in place, rehydrated in a new process or forked.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Never

from supersteps.define.context import Ready, WorkflowContext
from supersteps.define.edges import (
    Case,
    Default,
    ErrorEdgeGroup,
    FanInEdgeGroup,
    FanOutEdgeGroup,
    SingleEdgeGroup,
    SwitchCaseEdgeGroup,
)
from supersteps.define.executor import Executor, handler, response_handler
from supersteps.define.functions import FunctionExecutor, executor
from supersteps.define.policies import ExecutorFailure, FailurePolicy
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.define.subworkflow import WorkflowExecutor
from supersteps.errors import (
    AlreadyAnsweredError,
    BlockedLoopWarning,
    CalledFromHandlerError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointingDisabledError,
    CheckpointNotFoundError,
    CheckpointSaveError,
    CheckpointVersionError,
    ConcurrentRunError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    DecryptionError,
    EdgeDuplicationError,
    EdgeGroupError,
    ExecutorDuplicationError,
    FanInTypeError,
    ForkError,
    GraphChangedError,
    GraphConnectivityError,
    HandlerContextError,
    HandlerDefinitionError,
    HandlerError,
    HandlerTimeoutError,
    IgnoredResultWarning,
    InterruptedCallError,
    LateResponseError,
    LeaseWarning,
    MissingStartError,
    NoSchemaError,
    PartialStorageWarning,
    PictureError,
    ReducerError,
    RequestError,
    ResponseTypeError,
    RoutingError,
    RunBusyError,
    RunClosedError,
    RunDrainedError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    StaleRequestError,
    StateConflictError,
    StorageError,
    StorageWarning,
    StreamBusyError,
    SuperstepsError,
    SuperstepsWarning,
    TypeCompatibilityError,
    UnanswerableQuestionError,
    UnanswerableRequestError,
    UndeliveredMessageWarning,
    UnhandledMessageError,
    UnknownExecutorError,
    UnknownRequestError,
    UnknownTargetError,
    UnsavedStateWarning,
    ValidationTypeEnum,
    WorkflowConvergenceError,
    WorkflowRuntimeError,
    WorkflowValidationError,
)
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
)
from supersteps.run.builder import WorkflowBuilder

if TYPE_CHECKING:
    from supersteps.checkpoint.checkpoint import (
        AnsweredRequest,
        PendingRequest,
        SubWorkflowState,
        WorkflowCheckpoint,
    )
    from supersteps.checkpoint.codec.codec import Codec, RawValue, checkpointable
    from supersteps.checkpoint.diff import Change, CheckpointDiff
    from supersteps.checkpoint_info import CheckpointInfo
    from supersteps.define.summary import PendingRequestDetails, WorkflowCheckpointSummary
    from supersteps.encryption.storage import EncryptedStorage, Keyring
    from supersteps.engine.time_travel.fork import DELETE
    from supersteps.events import (
        ExecutorCompletedEvent,
        ExecutorEvent,
        ExecutorFailedEvent,
        ExecutorInvokedEvent,
        RequestClosedEvent,
        RequestInfoEvent,
        SuperStepCompletedEvent,
        SuperStepCompletionInfo,
        SuperStepStartedEvent,
        SuperStepStartInfo,
        WorkflowErrorDetails,
        WorkflowErrorEvent,
        WorkflowEvent,
        WorkflowEventSource,
        WorkflowFailedEvent,
        WorkflowLifecycleEvent,
        WorkflowOutputEvent,
        WorkflowStartedEvent,
        WorkflowStatusEvent,
        WorkflowWarningEvent,
    )
    from supersteps.run.handle import StreamingRun
    from supersteps.run.result import WorkflowRunResult
    from supersteps.run.workflow import Workflow
    from supersteps.secrets import Secret
    from supersteps.states import WorkflowRunState
    from supersteps.storage.addresses import open_storage
    from supersteps.storage.files.storage import FileCheckpointStorage
    from supersteps.storage.memory import InMemoryCheckpointStorage
    from supersteps.storage.ports import CheckpointStorage, DurableStorage, ManagedStorage
    from supersteps.storage.retention import RetentionPolicy
    from supersteps.storage.sqlite.storage import SqliteCheckpointStorage
    from supersteps.storage.transfer import export_run, import_run
    from supersteps.viz import WorkflowViz

__version__ = "0.1.0"

# Imported when first used: a workflow is defined without msgspec, asyncio, engine and storages.
# The names under `if TYPE_CHECKING` above, by their modules.
_MODULES: dict[str, tuple[str, ...]] = {
    "checkpoint.checkpoint": (
        "AnsweredRequest",
        "PendingRequest",
        "SubWorkflowState",
        "WorkflowCheckpoint",
    ),
    "checkpoint.codec.codec": ("Codec", "RawValue", "checkpointable"),
    "checkpoint.diff": ("Change", "CheckpointDiff"),
    "checkpoint_info": ("CheckpointInfo",),
    "engine.time_travel.fork": ("DELETE",),
    "events": (
        "ExecutorCompletedEvent",
        "ExecutorEvent",
        "ExecutorFailedEvent",
        "ExecutorInvokedEvent",
        "RequestClosedEvent",
        "RequestInfoEvent",
        "SuperStepCompletedEvent",
        "SuperStepCompletionInfo",
        "SuperStepStartedEvent",
        "SuperStepStartInfo",
        "WorkflowErrorDetails",
        "WorkflowErrorEvent",
        "WorkflowEvent",
        "WorkflowEventSource",
        "WorkflowFailedEvent",
        "WorkflowLifecycleEvent",
        "WorkflowOutputEvent",
        "WorkflowStartedEvent",
        "WorkflowStatusEvent",
        "WorkflowWarningEvent",
    ),
    "run.result": ("WorkflowRunResult",),
    "run.handle": ("StreamingRun",),
    "secrets": ("Secret",),
    "states": ("WorkflowRunState",),
    "storage.ports": ("CheckpointStorage", "DurableStorage", "ManagedStorage"),
    "encryption.storage": ("EncryptedStorage", "Keyring"),
    "storage.files.storage": ("FileCheckpointStorage",),
    "storage.memory": ("InMemoryCheckpointStorage",),
    "storage.addresses": ("open_storage",),
    "storage.retention": ("RetentionPolicy",),
    "storage.sqlite.storage": ("SqliteCheckpointStorage",),
    "storage.transfer": ("export_run", "import_run"),
    "define.summary": ("PendingRequestDetails", "WorkflowCheckpointSummary"),
    "viz": ("WorkflowViz",),
    "run.workflow": ("Workflow",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"supersteps.{_LAZY[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "DELETE",
    "AlreadyAnsweredError",
    "AnsweredRequest",
    "BlockedLoopWarning",
    "CalledFromHandlerError",
    "Case",
    "Change",
    "CheckpointDecodeError",
    "CheckpointDiff",
    "CheckpointEncodeError",
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointNotFoundError",
    "CheckpointSaveError",
    "CheckpointStorage",
    "CheckpointVersionError",
    "CheckpointingDisabledError",
    "Codec",
    "ConcurrentRunError",
    "CorruptCheckpointError",
    "CorruptCheckpointWarning",
    "DecryptionError",
    "Default",
    "DurableStorage",
    "EdgeDuplicationError",
    "EdgeGroupError",
    "EncryptedStorage",
    "ErrorEdgeGroup",
    "Executor",
    "ExecutorCompletedEvent",
    "ExecutorDuplicationError",
    "ExecutorEvent",
    "ExecutorFailedEvent",
    "ExecutorFailure",
    "ExecutorInvokedEvent",
    "FailurePolicy",
    "FanInEdgeGroup",
    "FanInTypeError",
    "FanOutEdgeGroup",
    "FileCheckpointStorage",
    "ForkError",
    "FunctionExecutor",
    "GraphChangedError",
    "GraphConnectivityError",
    "HandlerContextError",
    "HandlerDefinitionError",
    "HandlerError",
    "HandlerTimeoutError",
    "IgnoredResultWarning",
    "InMemoryCheckpointStorage",
    "InterruptedCallError",
    "Keyring",
    "LateResponseError",
    "LeaseWarning",
    "ManagedStorage",
    "MissingStartError",
    "Never",
    "NoSchemaError",
    "PartialStorageWarning",
    "PendingRequest",
    "PendingRequestDetails",
    "PictureError",
    "RawValue",
    "Ready",
    "ReducerError",
    "RequestClosedEvent",
    "RequestError",
    "RequestInfoEvent",
    "RequestInfoExecutor",
    "RequestInfoMessage",
    "RequestResponse",
    "ResponseTypeError",
    "RetentionPolicy",
    "RoutingError",
    "RunBusyError",
    "RunClosedError",
    "RunDrainedError",
    "RunExistsError",
    "RunFencedError",
    "RunNotFoundError",
    "Secret",
    "SingleEdgeGroup",
    "SqliteCheckpointStorage",
    "StaleRequestError",
    "StateConflictError",
    "StorageError",
    "StorageWarning",
    "StreamBusyError",
    "StreamingRun",
    "SubWorkflowRequestMessage",
    "SubWorkflowResponseMessage",
    "SubWorkflowState",
    "SuperStepCompletedEvent",
    "SuperStepCompletionInfo",
    "SuperStepStartInfo",
    "SuperStepStartedEvent",
    "SuperstepsError",
    "SuperstepsWarning",
    "SwitchCaseEdgeGroup",
    "TypeCompatibilityError",
    "UnanswerableQuestionError",
    "UnanswerableRequestError",
    "UndeliveredMessageWarning",
    "UnhandledMessageError",
    "UnknownExecutorError",
    "UnknownRequestError",
    "UnknownTargetError",
    "UnsavedStateWarning",
    "ValidationTypeEnum",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowCheckpoint",
    "WorkflowCheckpointSummary",
    "WorkflowContext",
    "WorkflowConvergenceError",
    "WorkflowErrorDetails",
    "WorkflowErrorEvent",
    "WorkflowEvent",
    "WorkflowEventSource",
    "WorkflowExecutor",
    "WorkflowFailedEvent",
    "WorkflowLifecycleEvent",
    "WorkflowOutputEvent",
    "WorkflowRunResult",
    "WorkflowRunState",
    "WorkflowRuntimeError",
    "WorkflowStartedEvent",
    "WorkflowStatusEvent",
    "WorkflowValidationError",
    "WorkflowViz",
    "WorkflowWarningEvent",
    "checkpointable",
    "executor",
    "export_run",
    "handler",
    "import_run",
    "open_storage",
    "response_handler",
]
