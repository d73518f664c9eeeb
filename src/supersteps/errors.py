"""The exception tree: every error says which run, step, executor or file, what happened, and what to do next.

SuperstepsError
├── WorkflowValidationError (ValueError)          a graph that cannot be built
│   ├── MissingStartError                         no start executor was set
│   ├── ExecutorDuplicationError                  two executors share an id
│   ├── EdgeDuplicationError                      one edge was added twice
│   ├── UnknownExecutorError                      an edge or the start names an executor nobody added
│   ├── GraphConnectivityError                    executors that no path from the start reaches
│   ├── TypeCompatibilityError                    the source never sends what the target accepts
│   ├── FanInTypeError                            a fan-in target that takes no list
│   ├── UnanswerableQuestionError                 a question that nobody could ever answer
│   ├── EdgeGroupError                            a malformed edge group (no targets, two defaults, ...)
│   └── HandlerDefinitionError                    a handler's signature cannot be understood
├── WorkflowRuntimeError (RuntimeError)           a run that cannot go on
│   ├── WorkflowConvergenceError                  max_iterations exceeded (a checkpoint was saved first)
│   ├── UnhandledMessageError (also ValueError)   the input is of a type the start executor does not accept
│   ├── UnknownTargetError (also ValueError)      send_message(target_id=...) along no edge
│   ├── StateConflictError                        two executors wrote one shared key in one superstep
│   ├── ReducerError                              a reducer raised
│   ├── RoutingError                              an edge's condition or selection function raised or answered nonsense
│   ├── ConcurrentRunError                        an executor instance with hooks is already in another run
│   ├── UnanswerableRequestError                  a question whose answer the asker has no handler for
│   ├── HandlerError                              a handler raised SystemExit or the like
│   ├── HandlerTimeoutError (also TimeoutError)   a handler took longer than its failure policy allows
│   ├── InterruptedCallError                      an at-most-once call was cut short; whether it took effect is unknown
│   ├── RunDrainedError                           the run was asked to stop, and stopped after a commit
│   ├── StreamBusyError                           a second consumer of one StreamingRun
│   ├── RunClosedError                            the handle was closed or cancelled
│   ├── CalledFromHandlerError                    a handler would wait for its own end
│   └── HandlerContextError                       a context used after its handler returned
├── PictureError (ValueError, RuntimeError)       a picture that cannot be drawn
├── service.errors.ServiceError (ValueError)      asked of a store or the command line, and cannot be done as asked
│   ├── ReferenceNotFoundError                    no run, checkpoint or question is meant
│   ├── AmbiguousReferenceError                   several are
│   ├── NoStoreError                              it is not said where runs are kept, or there is nothing
│   ├── ApplicationError                          no workflow can be loaded from there
│   └── InputError                                an input is not what the workflow takes
├── RequestError (ValueError)                     an answer that cannot be taken (nothing was changed)
│   ├── UnknownRequestError                       no run waits for this request id
│   ├── AlreadyAnsweredError                      the request has been answered on this branch
│   ├── StaleRequestError                         the request was taken back, or waits only on another branch
│   ├── LateResponseError                         the request's deadline has passed
│   ├── NoSchemaError                             only the workflow itself knows what the answer must be
│   └── ResponseTypeError (also TypeError)        the answer is not of the type the request asks for
└── CheckpointError                               saving, loading and owning runs
    ├── CheckpointSaveError (RuntimeError)        a save failed; the run stopped at its last good checkpoint
    ├── CheckpointNotFoundError (ValueError, too)   no such checkpoint in this storage
    ├── CorruptCheckpointError (ValueError)       stored data is damaged; names the file or row
    ├── DecryptionError (ValueError)              sealed records whose key is missing, or is another one
    ├── CheckpointVersionError (ValueError)       written by a newer version of the library
    ├── CheckpointEncodeError (ValueError)        a value that cannot make the trip
    ├── CheckpointDecodeError (ValueError)        stored data that cannot be rebuilt here
    ├── CheckpointingDisabledError (ValueError)   asked for checkpoints of a run that has no storage
    ├── StorageError (RuntimeError)               the storage cannot be opened or used
    ├── RunNotFoundError (ValueError)             no such run in this storage
    ├── RunExistsError (ValueError)               a run with this id exists already
    ├── RunBusyError (RuntimeError)               another live owner advances this run
    ├── RunFencedError (RuntimeError)             this handle lost the run to another owner; it changed nothing
    ├── ForkError (ValueError)                    a change to a checkpoint that leads nowhere, or does not fit
    └── GraphChangedError (ValueError)            the graph no longer fits the checkpoint; lists what differs

SuperstepsWarning (UserWarning)
├── CorruptCheckpointWarning                      a listing passed over a damaged checkpoint
├── UndeliveredMessageWarning                     a message that no edge accepted
├── IgnoredResultWarning                          a handler returned a value; it goes nowhere
├── UnsavedStateWarning                           a dict in self.state, which is not saved
├── PartialStorageWarning                         the storage lacks abilities that the guarantees need
├── BlockedLoopWarning                            an executor keeps the loop from turning
├── LeaseWarning                                  a lease could not be renewed meanwhile
└── StorageWarning                                a storage works, but wants attention
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


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
    """A graph that cannot be built; `validation_type` says which rule it breaks."""

    validation_type: ValidationTypeEnum = ValidationTypeEnum.GRAPH_CONNECTIVITY

    def __init__(self, message: str, validation_type: ValidationTypeEnum | None = None) -> None:
        super().__init__(message)
        self.message = message
        if validation_type is not None:
            self.validation_type = validation_type


class MissingStartError(WorkflowValidationError):
    """The builder was never told where to start."""

    validation_type = ValidationTypeEnum.MISSING_START


class ExecutorDuplicationError(WorkflowValidationError):
    """Two different executors carry the same id."""

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
    """An edge or the start names an executor that nobody added."""

    validation_type = ValidationTypeEnum.UNKNOWN_EXECUTOR

    def __init__(self, message: str, executor_id: str) -> None:
        super().__init__(message)
        self.executor_id = executor_id


class GraphConnectivityError(WorkflowValidationError):
    """Executors that no path from the start executor reaches."""

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
    """The target of a fan-in takes no list."""

    validation_type = ValidationTypeEnum.FAN_IN_TYPE


class UnanswerableQuestionError(WorkflowValidationError):
    """Questions would be asked whose answer could never reach whoever asks."""


class EdgeGroupError(WorkflowValidationError):
    """An edge group that makes no sense: no targets, no default, two defaults."""

    validation_type = ValidationTypeEnum.EDGE_GROUP


class HandlerDefinitionError(WorkflowValidationError):
    """A handler's signature cannot be understood; raised when its class or function is defined."""

    validation_type = ValidationTypeEnum.HANDLER_OUTPUT_ANNOTATION


# ---------------------------------------------------------------------------------- running a graph


class WorkflowRuntimeError(SuperstepsError, RuntimeError):
    """A run that cannot go on; its last checkpoint is intact."""


class WorkflowConvergenceError(WorkflowRuntimeError):
    """The run used up `max_iterations` supersteps with messages still in flight; a checkpoint was saved first."""


class UnhandledMessageError(WorkflowRuntimeError, ValueError):
    """The input is of a type that the start executor does not accept; nothing was started."""


class UnknownTargetError(WorkflowRuntimeError, ValueError):
    """`send_message(target_id=...)` names an executor to which no edge leads from the sender."""


class StateConflictError(WorkflowRuntimeError):
    """Two executors wrote one shared key in one superstep and the key has no reducer."""


class ReducerError(WorkflowRuntimeError):
    """The reducer of a shared key raised."""


class RoutingError(WorkflowRuntimeError):
    """An edge's condition or selection function raised, or chose a target it does not have."""


class ConcurrentRunError(WorkflowRuntimeError):
    """An executor instance that keeps state of its own is already at work in another run."""


class UnanswerableRequestError(WorkflowRuntimeError):
    """An executor asks a question whose answer it has no handler for."""


class HandlerError(WorkflowRuntimeError):
    """A handler raised what cannot be passed on as it is; `__cause__` is what it raised.

    These are exceptions that mean something to whoever called it: `StopIteration`,
    `StopAsyncIteration`, `GeneratorExit`, `SystemExit`, a `CancelledError` though nobody cancelled
    the run, and whatever else is no `Exception`. Every other exception of a handler is raised to
    the consumer itself.
    """


class HandlerTimeoutError(WorkflowRuntimeError, TimeoutError):
    """A handler took longer than its executor's failure policy allows."""


class InterruptedCallError(WorkflowRuntimeError):
    """A call that must not run twice was cut short by a crash: it may have had its effect, or not."""


class RunDrainedError(WorkflowRuntimeError):
    """The run was asked to stop, and stopped after a commit; it can be resumed from there.

    Attributes:
        run_id: The run.
        checkpoint_id: Its head, None for a run without storage.
    """

    def __init__(self, message: str, run_id: str = "", checkpoint_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.checkpoint_id = checkpoint_id


class StreamBusyError(WorkflowRuntimeError):
    """A `StreamingRun` has one consumer at a time."""


class RunClosedError(WorkflowRuntimeError):
    """The handle was closed or the run was cancelled."""


class CalledFromHandlerError(WorkflowRuntimeError):
    """A handler tried to rewind, drain, end or consume the very run that waits for it."""


class HandlerContextError(WorkflowRuntimeError):
    """A `WorkflowContext` was used after its handler had returned."""


# ----------------------------------------------------------------------------------------- pictures


class PictureError(SuperstepsError, ValueError, RuntimeError):
    """A picture that cannot be drawn: there is no structure to draw, or a program is missing."""


# ----------------------------------------------------------------------------------------- requests


class RequestError(SuperstepsError, ValueError):
    """An answer that cannot be taken; nothing was changed."""


class UnknownRequestError(RequestError):
    """No run waits for a request with this id."""


class AlreadyAnsweredError(RequestError):
    """The request has been answered on this branch; restore a checkpoint before the answer to answer anew."""


class StaleRequestError(RequestError):
    """The request no longer waits: it was taken back, or it belongs to a branch that the run has left."""


class LateResponseError(RequestError):
    """The request's deadline has passed; its default counts as the answer."""


class NoSchemaError(RequestError):
    """The answer's type has no JSON Schema, so only the workflow itself can check and take it."""


class ResponseTypeError(RequestError, TypeError):
    """The answer is not of the type that the request asks for."""


# ------------------------------------------------------------------------ checkpoints and ownership


class CheckpointError(SuperstepsError):
    """Base of errors about saving, loading and owning runs."""


class CheckpointSaveError(CheckpointError, RuntimeError):
    """A save failed; the run stopped at its last good checkpoint and can be resumed from there."""


class CheckpointNotFoundError(CheckpointError, ValueError, RuntimeError):
    """The storage holds no such checkpoint."""


class CorruptCheckpointError(CheckpointError, ValueError):
    """Stored data is damaged; the message names the file or row."""


class DecryptionError(CheckpointError, ValueError):
    """Sealed records need a key that the keyring does not have, or has another one for; the message names its id."""


class CheckpointVersionError(CheckpointError, ValueError):
    """The data was written by a newer version of the library."""


class CheckpointEncodeError(CheckpointError, ValueError):
    """A value cannot make the trip to disk and back; the message gives its path, its type and the fix."""


class CheckpointDecodeError(CheckpointError, ValueError):
    """Stored data cannot be rebuilt here."""


class CheckpointingDisabledError(CheckpointError, ValueError):
    """The run has no storage, so it has no checkpoints."""


class StorageError(CheckpointError, RuntimeError):
    """The storage cannot be opened or used."""


class RunNotFoundError(CheckpointError, ValueError):
    """The storage holds no such run."""


class RunExistsError(CheckpointError, ValueError):
    """A run with this id exists already; resume it, or pass `if_exists="attach"`."""


class RunBusyError(CheckpointError, RuntimeError):
    """Another live owner advances this run; the message says who and until when."""


class RunFencedError(CheckpointError, RuntimeError):
    """This handle lost the run to another owner; what it tried last was not written."""


class ForkError(CheckpointError, ValueError):
    """A change that a fork was to make leads nowhere or does not fit its place; nothing was created."""


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
    """A listing passed over a damaged checkpoint."""


class UndeliveredMessageWarning(SuperstepsWarning):
    """A message that no edge accepted; it went nowhere."""


class IgnoredResultWarning(SuperstepsWarning):
    """A handler returned a value, which goes nowhere: handlers send messages and yield outputs."""


class UnsavedStateWarning(SuperstepsWarning):
    """An executor keeps a dict in `self.state`, which is in no checkpoint."""


class PartialStorageWarning(SuperstepsWarning):
    """The storage lacks abilities that the guarantees need; given once per run."""


class BlockedLoopWarning(SuperstepsWarning):
    """An executor has kept the event loop from turning for seconds; given once per executor and run."""


class LeaseWarning(SuperstepsWarning):
    """A run's lease could not be renewed during a long superstep; given until it can be again."""


class StorageWarning(SuperstepsWarning):
    """A storage works, but somebody should look after it: its log cannot be emptied, for one."""
