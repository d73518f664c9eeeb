"""Events: what a run's stream yields, as immutable values.

Live events (an executor was invoked, completed or failed; a handler's own events) arrive as they
happen and may repeat after a crash. `WorkflowOutputEvent`, `RequestInfoEvent`,
`SuperStepCompletedEvent` and the final status arrive only after the commit that makes them true.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

import msgspec

from supersteps._error_texts import message_of, traceback_of
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.secrets import redact
from supersteps.states import WorkflowRunState

__all__ = [
    "ExecutorCompletedEvent",
    "ExecutorEvent",
    "ExecutorFailedEvent",
    "ExecutorInvokedEvent",
    "RequestClosedEvent",
    "RequestInfoEvent",
    "SuperStepCompletedEvent",
    "SuperStepCompletionInfo",
    "SuperStepStartInfo",
    "SuperStepStartedEvent",
    "WorkflowErrorDetails",
    "WorkflowErrorEvent",
    "WorkflowEvent",
    "WorkflowEventSource",
    "WorkflowFailedEvent",
    "WorkflowLifecycleEvent",
    "WorkflowOutputEvent",
    "WorkflowRunState",
    "WorkflowStartedEvent",
    "WorkflowStatusEvent",
    "WorkflowWarningEvent",
]


class WorkflowEventSource(StrEnum):
    """Who made an event: the framework, or an executor's handler."""

    FRAMEWORK = "FRAMEWORK"
    EXECUTOR = "EXECUTOR"


class WorkflowEvent:
    """Base of all events; subclass it for events of your own and send them with `ctx.add_event`.

    Attributes:
        data: Any value, for the consumer of the stream.
        origin: Who made the event.
    """

    origin: WorkflowEventSource = WorkflowEventSource.EXECUTOR
    data: Any

    def __init__(self, data: Any = None) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(data={self.data!r})"


class _FrameworkEvent(WorkflowEvent):
    # Fixed for these events, an attribute of the instance for others.
    origin: ClassVar[WorkflowEventSource] = WorkflowEventSource.FRAMEWORK  # type: ignore[misc]


@dataclass(frozen=True)
class WorkflowErrorDetails:
    """A failure as plain data.

    Attributes:
        error_type: The exception's class name.
        message: Its text.
        traceback: Its traceback, as text.
        executor_id: The executor that failed, if one did.
        extra: Further facts: run_id and superstep.
    """

    error_type: str
    message: str
    traceback: str | None = None
    executor_id: str | None = None
    extra: dict[str, Any] | None = None

    @classmethod
    def from_exception(
        cls,
        exc: BaseException,
        *,
        executor_id: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WorkflowErrorDetails:
        """Return the details of an exception, of bounded length and with secrets redacted.

        Args:
            exc: The exception.
            executor_id: The executor that raised it.
            extra: Further facts to include.
        """
        return cls(type(exc).__name__, message_of(exc), traceback_of(exc), executor_id, extra)


@dataclass(frozen=True)
class WorkflowStartedEvent(_FrameworkEvent):
    """The stream starts: of a new run, or of a resumed one.

    Attributes:
        data: Unused.
        run_id: The run.
    """

    data: Any = None
    run_id: str = ""


@dataclass(frozen=True)
class WorkflowStatusEvent(_FrameworkEvent):
    """The run's state changed.

    Attributes:
        state: The new state.
        data: Unused.
    """

    state: WorkflowRunState
    data: Any = None


@dataclass(frozen=True)
class WorkflowFailedEvent(_FrameworkEvent):
    """The run failed; the stream then raises the error itself.

    Attributes:
        details: What happened, and where.
        data: Unused.
    """

    details: WorkflowErrorDetails
    data: Any = None


@dataclass(frozen=True)
class WorkflowErrorEvent(_FrameworkEvent):
    """An error that did not end the run.

    Attributes:
        data: The exception.
    """

    data: Any = None


@dataclass(frozen=True)
class WorkflowWarningEvent(_FrameworkEvent):
    """Probably a mistake, such as a message that no edge accepted.

    Attributes:
        data: The warning's text.
    """

    data: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            object.__setattr__(self, "data", redact(self.data))


@dataclass(frozen=True)
class WorkflowOutputEvent(_FrameworkEvent):
    """An output that a handler yielded, delivered after its commit.

    Attributes:
        data: The output.
        source_executor_id: The executor that yielded it.
    """

    data: Any
    source_executor_id: str


@dataclass(frozen=True)
class RequestInfoEvent(_FrameworkEvent):
    """A question that waits for an answer from outside, delivered after its commit.

    Answer it with `run.send_response(event.request_id, answer)` or
    `workflow.send_responses({event.request_id: answer})`.

    Attributes:
        request_id: Identifies the question; pass it with the answer.
        source_executor_id: The executor that asks.
        request_type: The type of the question.
        data: The question.
        response_type: The type of the answer.
        deadline: When the question's default answers it: ISO 8601, UTC; None where it has no
            deadline.
    """

    request_id: str
    source_executor_id: str
    request_type: type
    data: Any
    response_type: Any = field(default=Any, compare=False)
    deadline: str | None = None

    @property
    def request_data(self) -> Any:
        """The question: another name for `data`."""
        return self.data


@dataclass(frozen=True)
class RequestClosedEvent(_FrameworkEvent):
    """A question was closed without an answer from outside, delivered after its commit.

    Attributes:
        request_id: The question.
        source_executor_id: The executor that asked.
        outcome: "defaulted" if its deadline has passed, "cancelled" if it was cancelled,
            "intercepted" if an executor of the outer workflow answered it.
        data: Unused.
    """

    request_id: str
    source_executor_id: str
    outcome: str
    data: Any = None


@dataclass(frozen=True)
class ExecutorEvent(_FrameworkEvent):
    """Base of live events about one executor.

    Attributes:
        executor_id: The executor.
        data: Unused.
    """

    executor_id: str
    data: Any = None


@dataclass(frozen=True)
class ExecutorInvokedEvent(ExecutorEvent):
    """A handler is about to run."""


@dataclass(frozen=True)
class ExecutorCompletedEvent(ExecutorEvent):
    """A handler has returned."""


@dataclass(frozen=True)
class ExecutorFailedEvent(ExecutorEvent):
    """A handler has raised.

    Attributes:
        details: What it raised.
    """

    details: WorkflowErrorDetails = field(default_factory=lambda: WorkflowErrorDetails("", ""))


class SuperStepStartInfo(msgspec.Struct, frozen=True):
    """What a superstep starts with.

    Attributes:
        executor_ids: Executors that have messages to handle.
        has_external_messages: Whether answers from outside are among the messages.
        recorded: By executor, how many of its calls an earlier attempt at this superstep had
            finished before a crash or a failure; they are not repeated.
    """

    executor_ids: tuple[str, ...]
    has_external_messages: bool = False
    recorded: dict[str, int] = {}


class SuperStepCompletionInfo(msgspec.Struct, frozen=True):
    """The result of a superstep.

    Attributes:
        executor_ids: Executors that ran.
        has_pending_messages: Whether messages are in flight for the next superstep.
        has_pending_requests: Whether questions wait for answers.
        checkpoint: The checkpoint that was committed, None without storage.
    """

    executor_ids: tuple[str, ...]
    has_pending_messages: bool
    has_pending_requests: bool
    checkpoint: CheckpointInfo | None


@dataclass(frozen=True)
class SuperStepStartedEvent(_FrameworkEvent):
    """A superstep begins.

    Attributes:
        step_number: Its number in the lineage, from 1.
        start_info: What it starts with.
        data: Unused.
    """

    step_number: int
    start_info: SuperStepStartInfo
    data: Any = None


@dataclass(frozen=True)
class SuperStepCompletedEvent(_FrameworkEvent):
    """A superstep is committed.

    Attributes:
        step_number: Its number in the lineage, from 1.
        completion_info: Its result and its checkpoint.
        data: Unused.
    """

    step_number: int
    completion_info: SuperStepCompletionInfo
    data: Any = None


_new = object.__new__


class Note(msgspec.Struct, gc=False):
    """The fields of a frequent event, which is created only when it is read.

    Most of them are never read. `event()` fills the fields in directly: `__init__` of a frozen
    dataclass takes more than twice as long. Results keep many notes, so the garbage collector does
    not track them.
    """

    def event(self) -> WorkflowEvent:
        """Return the event."""
        raise NotImplementedError


class SuperStepStarted(Note):
    """A superstep begins."""

    step_number: int
    executor_ids: tuple[str, ...]
    has_answers: bool
    recorded: dict[str, int] | None = None

    def event(self) -> WorkflowEvent:
        event = _new(SuperStepStartedEvent)
        fields = event.__dict__
        fields["step_number"] = self.step_number
        fields["start_info"] = SuperStepStartInfo(
            self.executor_ids, self.has_answers, self.recorded or {}
        )
        fields["data"] = None
        return event


class SuperStepCompleted(Note):
    """A superstep is committed."""

    step_number: int
    executor_ids: tuple[str, ...]
    has_messages: bool
    has_requests: bool
    checkpoint: CheckpointInfo | None

    def event(self) -> WorkflowEvent:
        event = _new(SuperStepCompletedEvent)
        fields = event.__dict__
        fields["step_number"] = self.step_number
        fields["completion_info"] = SuperStepCompletionInfo(
            self.executor_ids, self.has_messages, self.has_requests, self.checkpoint
        )
        fields["data"] = None
        return event


class ExecutorInvoked(Note):
    """A call starts. One note, and one event, can serve all calls of an executor."""

    executor_id: str
    _made: WorkflowEvent | None = None

    def event(self) -> WorkflowEvent:
        if self._made is None:
            self._made = ExecutorInvokedEvent(self.executor_id)
        return self._made


class ExecutorCompleted(Note):
    """A call has succeeded. One note, and one event, can serve all calls of an executor."""

    executor_id: str
    _made: WorkflowEvent | None = None

    def event(self) -> WorkflowEvent:
        if self._made is None:
            self._made = ExecutorCompletedEvent(self.executor_id)
        return self._made


_OWN = "subclass WorkflowEvent for an event of your own"
_RESERVED: dict[type[WorkflowEvent], str] = {
    WorkflowStartedEvent: _OWN,
    WorkflowStatusEvent: _OWN,
    WorkflowFailedEvent: "raise an exception",
    WorkflowOutputEvent: "use ctx.yield_output(...)",
    RequestInfoEvent: "use ctx.request_info(...), or send a RequestInfoMessage",
    RequestClosedEvent: _OWN,
    ExecutorInvokedEvent: _OWN,
    ExecutorCompletedEvent: _OWN,
    ExecutorFailedEvent: "raise an exception",
    SuperStepStartedEvent: _OWN,
    SuperStepCompletedEvent: _OWN,
}
"""Events that only the library may send, and what a handler should do instead."""

RESERVED_EVENTS = tuple(_RESERVED)


def refused_event(event: WorkflowEvent, executor_id: str) -> WorkflowWarningEvent:
    """Return the warning that replaces a reserved event of a handler.

    Args:
        event: The event, an instance of one of `RESERVED_EVENTS`.
        executor_id: The handler's executor.
    """
    kind, instead = next(item for item in _RESERVED.items() if isinstance(event, item[0]))
    return WorkflowWarningEvent(
        f"executor {executor_id!r} passed a {type(event).__name__} to ctx.add_event, which was "
        f"dropped: only the library sends events of type {kind.__name__}; {instead}"
    )


WorkflowLifecycleEvent: TypeAlias = WorkflowStartedEvent | WorkflowStatusEvent | WorkflowFailedEvent
"""Events about the run as a whole."""
