"""Every error and warning of the library, in one tree.

Each message says which run, step, executor or file, what happened, and what to do next.

SuperstepsError
+-- WorkflowValidationError (ValueError)         the graph cannot be built
|   +-- MissingStartError                        no start executor was set
|   +-- ExecutorDuplicationError                 two executors have the same id
|   +-- EdgeDuplicationError                     the same edge was added twice
|   +-- UnknownExecutorError                     an edge or the start names an unknown executor
|   +-- GraphConnectivityError                   no path from the start reaches an executor
|   +-- TypeCompatibilityError                   the source never sends what the target accepts
|   +-- FanInTypeError                           the target of a fan-in does not accept a list
|   +-- UnanswerableQuestionError                no answer to a question could reach its executor
|   +-- EdgeGroupError                           a malformed edge group, e.g. without targets
|   +-- HandlerDefinitionError                   a handler has an unsupported signature
+-- WorkflowRuntimeError (RuntimeError)          the run cannot continue
|   +-- WorkflowConvergenceError                 max_iterations was reached (a checkpoint was saved)
|   +-- UnhandledMessageError (also ValueError)  the start executor does not accept the input
|   +-- UnknownTargetError (also ValueError)     send_message(target_id=...) without such an edge
|   +-- StateConflictError                       two executors wrote one shared key in a superstep
|   +-- ReducerError                             a reducer raised
|   +-- RoutingError                             a condition or selection function failed
|   +-- ConcurrentRunError                       an executor with hooks is already in another run
|   +-- UnanswerableRequestError                 the executor has no handler for the answer
|   +-- HandlerError                             a handler raised SystemExit or similar
|   +-- HandlerTimeoutError (also TimeoutError)  a handler exceeded its policy's timeout
|   +-- InterruptedCallError                     a crash interrupted an at-most-once call
|   +-- RunDrainedError                          the run was asked to stop, and did after a commit
|   +-- StreamBusyError                          a second consumer of one StreamingRun
|   +-- RunClosedError                           the handle was closed or cancelled
|   +-- CalledFromHandlerError                   a handler would wait for its own end
|   +-- HandlerContextError                      a context was used after its handler returned
+-- PictureError (ValueError, RuntimeError)      a picture cannot be drawn
+-- service.errors.ServiceError (ValueError)     a request to a store or the CLI cannot be met
|   +-- ReferenceNotFoundError                   no run, checkpoint or question matches
|   +-- AmbiguousReferenceError                  several match
|   +-- NoStoreError                             no store was named, or it is empty
|   +-- ApplicationError                         no workflow can be loaded from there
|   +-- InputError                               the workflow does not accept the input
+-- RequestError (ValueError)                    an answer was refused; nothing was changed
|   +-- UnknownRequestError                      no run waits for this request id
|   +-- AlreadyAnsweredError                     the request was already answered on this branch
|   +-- StaleRequestError                        the request was cancelled, or is on another branch
|   +-- LateResponseError                        the request's deadline has passed
|   +-- NoSchemaError                            only the workflow itself can check the answer
|   +-- ResponseTypeError (also TypeError)       the answer has the wrong type
+-- CheckpointError                              saving, loading and owning runs
    +-- CheckpointSaveError (RuntimeError)       a save failed; the last good checkpoint is intact
    +-- CheckpointNotFoundError (ValueError, too)  the storage has no such checkpoint
    +-- CorruptCheckpointError (ValueError)      stored data is damaged; names the file or row
    +-- DecryptionError (ValueError)             an encrypted record's key is missing or wrong
    +-- CheckpointVersionError (ValueError)      written by a newer version of the library
    +-- CheckpointEncodeError (ValueError)       a value cannot be saved
    +-- CheckpointDecodeError (ValueError)       stored data cannot be rebuilt by this program
    +-- CheckpointingDisabledError (ValueError)  the run has no storage, so it has no checkpoints
    +-- StorageError (RuntimeError)              the storage cannot be opened or used
    +-- RunNotFoundError (ValueError)            the storage has no such run
    +-- RunExistsError (ValueError)              a run with this id exists already
    +-- RunBusyError (RuntimeError)              another live owner is advancing this run
    +-- RunFencedError (RuntimeError)            another owner took the run; nothing was written
    +-- ForkError (ValueError)                   a change for a fork is invalid or does not fit
    +-- GraphChangedError (ValueError)           the graph no longer fits the checkpoint

SuperstepsWarning (UserWarning)
+-- CorruptCheckpointWarning                     a listing skipped a damaged checkpoint
+-- UndeliveredMessageWarning                    no edge accepted a message
+-- IgnoredResultWarning                         a handler's return value was ignored
+-- UnsavedStateWarning                          a dict in self.state, which is not saved
+-- PartialStorageWarning                        the storage cannot keep all guarantees
+-- BlockedLoopWarning                           an executor blocks the event loop
+-- LeaseWarning                                 a lease could not be renewed for a while
+-- ObserverWarning                              an observer raised an error
+-- StorageWarning                               a storage works, but needs attention
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

__all__ = [
    "AlreadyAnsweredError",
    "BlockedLoopWarning",
    "CalledFromHandlerError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "CheckpointSaveError",
    "CheckpointVersionError",
    "CheckpointingDisabledError",
    "ConcurrentRunError",
    "CorruptCheckpointError",
    "CorruptCheckpointWarning",
    "DecryptionError",
    "EdgeDuplicationError",
    "EdgeGroupError",
    "ExecutorDuplicationError",
    "FanInTypeError",
    "ForkError",
    "GraphChangedError",
    "GraphConnectivityError",
    "HandlerContextError",
    "HandlerDefinitionError",
    "HandlerError",
    "HandlerTimeoutError",
    "IgnoredResultWarning",
    "InterruptedCallError",
    "LateResponseError",
    "LeaseWarning",
    "MissingStartError",
    "NoSchemaError",
    "ObserverWarning",
    "PartialStorageWarning",
    "PictureError",
    "ReducerError",
    "RequestError",
    "ResponseTypeError",
    "RoutingError",
    "RunBusyError",
    "RunClosedError",
    "RunDrainedError",
    "RunExistsError",
    "RunFencedError",
    "RunNotFoundError",
    "StaleRequestError",
    "StateConflictError",
    "StorageError",
    "StorageWarning",
    "StreamBusyError",
    "SuperstepsError",
    "SuperstepsWarning",
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
    "WorkflowConvergenceError",
    "WorkflowRuntimeError",
    "WorkflowValidationError",
]


class SuperstepsError(Exception):
    """Base of every error this library raises on purpose."""


# --------------------------------------------------------------------------------- building a graph


class ValidationTypeEnum(Enum):
    """Which rule of the graph a `WorkflowValidationError` reports."""

    MISSING_START = "MISSING_START"
    EDGE_DUPLICATION = "EDGE_DUPLICATION"
    EXECUTOR_DUPLICATION = "EXECUTOR_DUPLICATION"
    UNKNOWN_EXECUTOR = "UNKNOWN_EXECUTOR"
    TYPE_COMPATIBILITY = "TYPE_COMPATIBILITY"
    GRAPH_CONNECTIVITY = "GRAPH_CONNECTIVITY"
    FAN_IN_TYPE = "FAN_IN_TYPE"
    EDGE_GROUP = "EDGE_GROUP"
    HANDLER_OUTPUT_ANNOTATION = "HANDLER_OUTPUT_ANNOTATION"


class WorkflowValidationError(SuperstepsError, ValueError):
    """The graph cannot be built; `validation_type` says which rule it breaks.

    Catch this one to handle every mistake in a graph.
    """

    validation_type: ValidationTypeEnum = ValidationTypeEnum.GRAPH_CONNECTIVITY

    def __init__(self, message: str, validation_type: ValidationTypeEnum | None = None) -> None:
        super().__init__(message)
        self.message = message
        if validation_type is not None:
            self.validation_type = validation_type


class MissingStartError(WorkflowValidationError):
    """The builder has no start executor: call `set_start_executor(...)`."""

    validation_type = ValidationTypeEnum.MISSING_START


class ExecutorDuplicationError(WorkflowValidationError):
    """Two different executors have the same id."""

    validation_type = ValidationTypeEnum.EXECUTOR_DUPLICATION

    def __init__(self, message: str, executor_id: str) -> None:
        super().__init__(message)
        self.executor_id = executor_id


class EdgeDuplicationError(WorkflowValidationError):
    """The same edge was added twice."""

    validation_type = ValidationTypeEnum.EDGE_DUPLICATION

    def __init__(self, message: str, edge_id: str) -> None:
        super().__init__(message)
        self.edge_id = edge_id


class UnknownExecutorError(WorkflowValidationError):
    """An edge or the start names an executor that was not added or registered."""

    validation_type = ValidationTypeEnum.UNKNOWN_EXECUTOR

    def __init__(self, message: str, executor_id: str) -> None:
        super().__init__(message)
        self.executor_id = executor_id


class GraphConnectivityError(WorkflowValidationError):
    """No path from the start executor reaches some executors."""

    validation_type = ValidationTypeEnum.GRAPH_CONNECTIVITY


class TypeCompatibilityError(WorkflowValidationError):
    """No type that the source sends is a type that the target accepts."""

    validation_type = ValidationTypeEnum.TYPE_COMPATIBILITY

    def __init__(
        self,
        message: str,
        source_executor_id: str,
        target_executor_id: str,
        source_types: Sequence[object] = (),
        target_types: Sequence[object] = (),
    ) -> None:
        super().__init__(message)
        self.source_executor_id = source_executor_id
        self.target_executor_id = target_executor_id
        self.source_types = list(source_types)
        self.target_types = list(target_types)


class FanInTypeError(TypeCompatibilityError):
    """The target of a fan-in has no handler for a list."""

    validation_type = ValidationTypeEnum.FAN_IN_TYPE


class UnanswerableQuestionError(WorkflowValidationError):
    """The answer to a question could never reach the executor that asks it."""


class EdgeGroupError(WorkflowValidationError):
    """An edge group is malformed: no targets, no default, two defaults."""

    validation_type = ValidationTypeEnum.EDGE_GROUP


class HandlerDefinitionError(WorkflowValidationError):
    """A handler's signature is not supported; raised when its class or function is defined."""

    validation_type = ValidationTypeEnum.HANDLER_OUTPUT_ANNOTATION


# ---------------------------------------------------------------------------------- running a graph


class WorkflowRuntimeError(SuperstepsError, RuntimeError):
    """The run cannot continue; its last checkpoint is intact."""


class WorkflowConvergenceError(WorkflowRuntimeError):
    """The run used up `max_iterations` supersteps with messages still in flight.

    A checkpoint was saved first: resume the run with a higher limit if it needs more supersteps.
    """


class UnhandledMessageError(WorkflowRuntimeError, ValueError):
    """The start executor does not accept an input of this type; nothing was started."""


class UnknownTargetError(WorkflowRuntimeError, ValueError):
    """`send_message(target_id=...)` names an executor that no edge connects to the sender."""


class StateConflictError(WorkflowRuntimeError):
    """Two executors wrote the same shared key in one superstep and it has no reducer.

    Give the key a reducer (`WorkflowBuilder.with_reducer`), or let one executor write it.
    """


class ReducerError(WorkflowRuntimeError):
    """The reducer of a shared key raised."""


class RoutingError(WorkflowRuntimeError):
    """An edge's condition or selection function raised, or returned an invalid answer."""


class ConcurrentRunError(WorkflowRuntimeError):
    """An executor instance that keeps its own state is already in use by another run.

    Register a factory (`WorkflowBuilder.register_executor`) to give each run its own instance.
    """


class UnanswerableRequestError(WorkflowRuntimeError):
    """An executor asked a question but has no handler for the answer."""


class HandlerError(WorkflowRuntimeError):
    """A handler raised an exception that cannot be re-raised unchanged; see `__cause__`.

    This replaces exceptions that have a meaning for the caller: `StopIteration`,
    `StopAsyncIteration`, `GeneratorExit`, `SystemExit`, a `CancelledError` although the run was not
    cancelled, and everything else that is not an `Exception`. Every other exception of a handler is
    raised to the consumer unchanged.
    """


class HandlerTimeoutError(WorkflowRuntimeError, TimeoutError):
    """A handler took longer than the timeout of its executor's failure policy."""


class InterruptedCallError(WorkflowRuntimeError):
    """A crash interrupted an at-most-once call; it is unknown whether it took effect.

    Check in the outside system, then handle the failure along an error edge, or resume the run with
    a program that may call the handler again.
    """


class RunDrainedError(WorkflowRuntimeError):
    """The run was asked to stop and stopped after a commit; resume it from there.

    Attributes:
        run_id: The run.
        checkpoint_id: Its head, None for a run without storage.
    """

    def __init__(self, message: str, run_id: str = "", checkpoint_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.checkpoint_id = checkpoint_id


class StreamBusyError(WorkflowRuntimeError):
    """A second consumer iterates over a `StreamingRun`, which has one at a time."""


class RunClosedError(WorkflowRuntimeError):
    """The handle was closed or the run was cancelled."""


class CalledFromHandlerError(WorkflowRuntimeError):
    """A handler tried to restore, drain, close or consume the run that it belongs to."""


class HandlerContextError(WorkflowRuntimeError):
    """A `WorkflowContext` was used after its handler had returned."""


# ----------------------------------------------------------------------------------------- pictures


class PictureError(SuperstepsError, ValueError, RuntimeError):
    """A picture cannot be drawn: there is no structure to draw, or a program is missing."""


# ----------------------------------------------------------------------------------------- requests


class RequestError(SuperstepsError, ValueError):
    """An answer was refused; nothing was changed."""


class UnknownRequestError(RequestError):
    """No run waits for a request with this id."""


class AlreadyAnsweredError(RequestError):
    """The request was already answered on this branch.

    To answer it again, restore a checkpoint from before the answer.
    """


class StaleRequestError(RequestError):
    """The request no longer waits: it was cancelled, or is on a branch that the run has left."""


class LateResponseError(RequestError):
    """The request's deadline has passed; its default is the answer."""


class NoSchemaError(RequestError):
    """The answer's type has no JSON Schema, so only the workflow itself can accept it."""


class ResponseTypeError(RequestError, TypeError):
    """The answer does not have the type that the request asks for."""


# ------------------------------------------------------------------------ checkpoints and ownership


class CheckpointError(SuperstepsError):
    """Base of errors about saving, loading and owning runs."""


class CheckpointSaveError(CheckpointError, RuntimeError):
    """A save failed; the run stopped at its last good checkpoint and can be resumed from there."""


class CheckpointNotFoundError(CheckpointError, ValueError, RuntimeError):
    """The storage has no such checkpoint."""


class CorruptCheckpointError(CheckpointError, ValueError):
    """Stored data is damaged; the message names the file or row."""


class DecryptionError(CheckpointError, ValueError):
    """The key of encrypted records is missing or wrong; the message names its id."""


class CheckpointVersionError(CheckpointError, ValueError):
    """The data was written by a newer version of the library."""


class CheckpointEncodeError(CheckpointError, ValueError):
    """A value cannot be saved; the message gives its path, its type and the fix."""


class CheckpointDecodeError(CheckpointError, ValueError):
    """Stored data cannot be rebuilt by this program: for example, a type is missing."""


class CheckpointingDisabledError(CheckpointError, ValueError):
    """The run has no storage, so it has no checkpoints."""


class StorageError(CheckpointError, RuntimeError):
    """The storage cannot be opened or used."""


class RunNotFoundError(CheckpointError, ValueError):
    """The storage has no such run."""


class RunExistsError(CheckpointError, ValueError):
    """A run with this id exists already; resume it, or pass `if_exists="attach"`."""


class RunBusyError(CheckpointError, RuntimeError):
    """Another live owner is advancing this run; the message says which and until when."""


class RunFencedError(CheckpointError, RuntimeError):
    """Another owner has taken the run from this handle, whose last write was refused."""


class ForkError(CheckpointError, ValueError):
    """A change for a fork names nothing, or does not fit its place; nothing was created."""


class GraphChangedError(CheckpointError, ValueError):
    """The graph no longer fits the checkpoint.

    Attributes:
        differences: One sentence for each thing that was added, removed or changed.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


# ----------------------------------------------------------------------------------------- warnings


class SuperstepsWarning(UserWarning):
    """Base of every warning this library gives."""


class CorruptCheckpointWarning(SuperstepsWarning):
    """A listing skipped a damaged checkpoint."""


class UndeliveredMessageWarning(SuperstepsWarning):
    """No edge accepted a message; it was not delivered."""


class IgnoredResultWarning(SuperstepsWarning):
    """A handler's return value was ignored: use `ctx.send_message` or `ctx.yield_output`."""


class UnsavedStateWarning(SuperstepsWarning):
    """An executor keeps a dict in `self.state`, which no checkpoint saves."""


class PartialStorageWarning(SuperstepsWarning):
    """The storage cannot keep all guarantees; given once per run."""


class BlockedLoopWarning(SuperstepsWarning):
    """An executor has blocked the event loop for seconds; given once per executor and run."""


class LeaseWarning(SuperstepsWarning):
    """A run's lease could not be renewed during a long superstep; repeated until it can."""


class ObserverWarning(SuperstepsWarning):
    """An observer raised an error; the run continues. Issued once per method and run."""


class StorageWarning(SuperstepsWarning):
    """A storage works but needs attention: for example, its log cannot be truncated."""
