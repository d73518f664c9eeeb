"""`WorkflowRunResult`: the events and outputs of a run that was driven."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from supersteps.errors import WorkflowRuntimeError
from supersteps.events import (
    Note,
    RequestInfoEvent,
    WorkflowEvent,
    WorkflowFailedEvent,
    WorkflowOutputEvent,
    WorkflowStartedEvent,
    WorkflowStatusEvent,
)
from supersteps.states import WorkflowRunState

EVENT_LIMIT = 10_000
"""Number of newest events that a result keeps besides outputs, requests and status changes."""


class WorkflowRunResult(list[WorkflowEvent]):
    """The result of a run: a list of its events, with its outputs and its state.

    Read outputs with `get_outputs()`, and questions with `get_request_info_events()`. The list has
    every output and request, and the newest 10,000 other events; the status changes are in
    `status_timeline()`.

    Attributes:
        run_id: The run.
    """

    def __init__(
        self,
        events: Iterable[WorkflowEvent] = (),
        status_events: Sequence[WorkflowStatusEvent] = (),
        *,
        run_id: str = "",
        outputs: Sequence[Any] | None = None,
        final_state: WorkflowRunState | None = None,
    ) -> None:
        """Runs create their results.

        Args:
            events: The events.
            status_events: The status changes.
            run_id: The run.
            outputs: Every output of the lineage; by default those among the events.
            final_state: The run's state, if the status changes were delivered elsewhere.
        """
        super().__init__(events)
        self.run_id = run_id
        self._status_events = list(status_events)
        self._final_state = status_events[-1].state if status_events else final_state
        self._outputs = None if outputs is None else list(outputs)

    def get_outputs(self) -> list[Any]:
        """Return every output of the run's lineage, including those from before a resume."""
        if self._outputs is not None:
            return list(self._outputs)
        return [event.data for event in self if isinstance(event, WorkflowOutputEvent)]

    def get_request_info_events(self) -> list[RequestInfoEvent]:
        """Return the questions that were asked, or asked again after a resume."""
        return [event for event in self if isinstance(event, RequestInfoEvent)]

    def get_final_state(self) -> WorkflowRunState:
        """Return the state of the run.

        Raises:
            RuntimeError: The result has no status change, since it was not created by a run.
        """
        if self._final_state is None:
            raise WorkflowRuntimeError(
                "this result has no status events, so its final state is unknown"
            )
        return self._final_state

    def status_timeline(self) -> list[WorkflowStatusEvent]:
        """Return the status changes, in order."""
        return list(self._status_events)


_KEPT = (WorkflowStatusEvent, WorkflowFailedEvent, WorkflowOutputEvent, RequestInfoEvent)
_LEFT_OUT = WorkflowStartedEvent


class ResultCollector:
    """Collects events for a result, within its limits.

    Attributes:
        note: Takes an event of every superstep; its object is created only if it is among the
            newest in the end.
    """

    def __init__(self, *, include_status_events: bool = False) -> None:
        self._include_status = include_status_events
        self._kept: list[WorkflowEvent] = []  # without a limit
        self._status: list[WorkflowStatusEvent] = []
        self._newest: deque[WorkflowEvent | Note]  # including those above
        self.note: Callable[[Note], None]
        self._most = 2 * EVENT_LIMIT
        self._begin(())

    def add(self, event: WorkflowEvent) -> None:
        """Add an event."""
        if isinstance(event, WorkflowStatusEvent):
            self._status.append(event)
            if not self._include_status:
                return
        if isinstance(event, _KEPT):
            self._kept.append(event)
            if EVENT_LIMIT + len(self._kept) > self._most:
                self._most *= 2
                self._begin(self._newest)
        if not isinstance(event, _LEFT_OUT):
            self._newest.append(event)

    def _begin(self, events: Iterable[WorkflowEvent | Note]) -> None:
        self._newest = deque(events, maxlen=self._most)
        self.note = self._newest.append

    def result(
        self, run_id: str, outputs: Sequence[Any] | None, state: WorkflowRunState
    ) -> WorkflowRunResult:
        """Return the collected events, in order."""
        events: list[WorkflowEvent] = []
        room, before = EVENT_LIMIT, len(self._kept)
        for item in reversed(self._newest):
            if isinstance(item, Note):
                if room:
                    room -= 1
                    events.append(item.event())
            elif isinstance(item, _KEPT):
                before -= 1
                events.append(item)
            elif room:
                room -= 1
                events.append(item)
        events += reversed(self._kept[:before])
        events.reverse()
        return WorkflowRunResult(
            events, self._status, run_id=run_id, outputs=outputs, final_state=state
        )

    def fresh(self) -> ResultCollector:
        """Return an empty collector of the same kind."""
        return ResultCollector(include_status_events=self._include_status)

    def new_outputs(self) -> list[Any]:
        """Return the outputs among the events."""
        return [event.data for event in self._kept if isinstance(event, WorkflowOutputEvent)]


class UnheardEvents(ResultCollector):
    """Drops the events of a run that the caller does not need."""

    def add(self, event: WorkflowEvent) -> None:
        """Drop an event."""

    def _begin(self, events: Iterable[WorkflowEvent | Note]) -> None:
        self._newest = deque(maxlen=0)
        self.note = self._newest.append

    def fresh(self) -> UnheardEvents:
        """Return the same: it holds nothing."""
        return self
