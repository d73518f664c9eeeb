"""Events: handlers pass on their own; those of the library cannot be made up."""

import inspect
import re
from typing import Any, Never

import pytest

import supersteps
from supersteps import (
    Executor,
    ExecutorCompletedEvent,
    ExecutorEvent,
    ExecutorFailedEvent,
    ExecutorInvokedEvent,
    InMemoryCheckpointStorage,
    RequestClosedEvent,
    RequestInfoEvent,
    SuperStepCompletedEvent,
    SuperStepCompletionInfo,
    SuperStepStartedEvent,
    SuperStepStartInfo,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowErrorDetails,
    WorkflowErrorEvent,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowOutputEvent,
    WorkflowRunState,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
    WorkflowWarningEvent,
    handler,
)
from tests.unit.support import built


class MyOutput(WorkflowOutputEvent):
    """A subclass is taken for the library's by whoever asks with isinstance()."""


class Progress(WorkflowEvent):
    pass


class ExecutorProgress(ExecutorEvent):
    pass


FORGED: list[tuple[WorkflowEvent, str]] = [
    (WorkflowStartedEvent(run_id="other"), "WorkflowStartedEvent"),
    (WorkflowStatusEvent(WorkflowRunState.FAILED), "WorkflowStatusEvent"),
    (WorkflowFailedEvent(WorkflowErrorDetails("E", "made up")), "raise an exception"),
    (WorkflowOutputEvent("made up", "x"), r"use ctx.yield_output"),
    (MyOutput("made up", "x"), "MyOutput .* events of type WorkflowOutputEvent"),
    (RequestInfoEvent("r", "x", str, "?"), "use ctx.request_info"),
    (RequestClosedEvent("r", "x", "cancelled"), "RequestClosedEvent"),
    (ExecutorInvokedEvent("other"), "ExecutorInvokedEvent"),
    (ExecutorCompletedEvent("other"), "ExecutorCompletedEvent"),
    (ExecutorFailedEvent("other"), "raise an exception"),
    (SuperStepStartedEvent(99, SuperStepStartInfo(())), "SuperStepStartedEvent"),
    (
        SuperStepCompletedEvent(99, SuperStepCompletionInfo((), False, False, None)),
        "SuperStepCompletedEvent",
    ),
]
FREE: list[WorkflowEvent] = [
    WorkflowEvent("mine"),
    Progress(3),
    ExecutorProgress("x"),
    WorkflowWarningEvent("look at this"),
    WorkflowErrorEvent(ValueError("caught")),
]


class Sender(Executor):
    """Passes events on, in an async handler or a plain one."""

    def __init__(self, *events: WorkflowEvent) -> None:
        super().__init__("x")
        self.events = events

    @handler
    async def one(self, number: int, ctx: WorkflowContext[Never, Any]) -> None:
        for event in self.events:
            await ctx.add_event(event)

    @handler
    def other(self, text: str, ctx: WorkflowContext[Never, Any]) -> None:
        for event in self.events:
            ctx.add_event(event)


@pytest.mark.parametrize("message", [1, "plain"])
@pytest.mark.parametrize(("event", "said"), FORGED, ids=lambda value: type(value).__name__)
async def test_the_librarys_events_cannot_be_made_up(
    event: WorkflowEvent, said: str, message: Any
) -> None:
    storage = InMemoryCheckpointStorage()
    run = built(WorkflowBuilder(), Sender(event)).run_stream(message, checkpoint_storage=storage)
    seen = [got async for got in run]

    assert event not in seen
    (warning,) = [got for got in seen if isinstance(got, WorkflowWarningEvent)]
    assert re.search(said, warning.data)
    result = await built(WorkflowBuilder(), Sender(event)).run(message)
    assert (result.get_outputs(), result.get_request_info_events()) == ([], [])
    assert result.get_final_state() == WorkflowRunState.IDLE


@pytest.mark.parametrize("message", [1, "plain"])
async def test_other_events_are_free(message: Any) -> None:
    run = built(WorkflowBuilder(), Sender(*FREE)).run_stream(message)
    seen = [got async for got in run]

    assert [got for got in seen if got in FREE] == FREE


def test_every_event_of_the_library_is_either_free_or_not() -> None:
    bases = (WorkflowEvent, ExecutorEvent)
    known = {type(event) for event in (*FREE, *(event for event, _ in FORGED))}
    for name, member in inspect.getmembers(supersteps, inspect.isclass):
        if issubclass(member, WorkflowEvent) and member not in bases:
            assert member in known, f"say above whether handlers may pass on a {name}"
