"""`Announcer`: tells the consumer of a run what is committed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.answers import response_type
from supersteps.engine.levels import Levels
from supersteps.engine.merged import Merged
from supersteps.engine.plan import Plan
from supersteps.engine.setting import Notes
from supersteps.engine.state import State
from supersteps.errors import UndeliveredMessageWarning
from supersteps.events import (
    RequestClosedEvent,
    RequestInfoEvent,
    SuperStepCompleted,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowWarningEvent,
)
from supersteps.secrets import redact


class Announcer:
    """Tells of committed supersteps."""

    def __init__(
        self, levels: Levels, run_id: str, emit: Callable[[WorkflowEvent], None], notes: Notes
    ) -> None:
        self._levels = levels
        self._run_id = run_id
        self._emit = emit
        self._notes = notes

    def announce(
        self,
        merged: Merged,
        planned: Plan,
        ran: tuple[str, ...],
        state: State,
        step: int,
        info: CheckpointInfo | None,
    ) -> None:
        """Tell of a superstep.

        Args:
            merged: What it changed.
            planned: Its plan.
            ran: Its executors.
            state: The state after it.
            step: Its number.
            info: Its checkpoint, None without storage.
        """
        emit = self._emit
        for source, value in merged.outputs:
            emit(WorkflowOutputEvent(value.open(), source))
        if planned.answers or merged.closed or merged.opened:
            self._announce_questions(merged, planned, state)
        for text in merged.undelivered:
            emit(WorkflowWarningEvent(text))
        has_more, waits = bool(merged.messages), bool(state.requests)
        self._notes.sink.note(SuperStepCompleted(step, ran, has_more, waits, info))
        for text in merged.undelivered:  # last: a filter may turn it into an error
            said = redact(f"run {self._run_id!r}, superstep {step}: {text}")
            warnings.warn(said, UndeliveredMessageWarning, stacklevel=2)

    def _announce_questions(self, merged: Merged, planned: Plan, state: State) -> None:
        emit = self._emit
        for closed in merged.closed:
            if closed.outcome != "answered":
                emit(
                    RequestClosedEvent(
                        closed.request.request_id, closed.request.source_executor_id, closed.outcome
                    )
                )
        for request in merged.opened:
            emit(self.request_event(request))
        for answer in planned.answers:
            if answer.outcome is None and answer.request_id not in state.requests:
                text = f"the answer to request {answer.request_id!r} was not used: {answer.refusal}"
                emit(WorkflowWarningEvent(text))
            elif answer.outcome is None:
                emit(
                    WorkflowWarningEvent(
                        f"the answer to request {answer.request_id!r} could not be used: "
                        f"{answer.refusal}. The request waits again."
                    )
                )
                emit(self.request_event(state.requests[answer.request_id]))

    def request_event(self, request: Request) -> RequestInfoEvent:
        """Return the event of a question that waits."""
        data = request.data.open()
        wanted = response_type(self._levels, request)
        return RequestInfoEvent(
            request.request_id,
            request.source_executor_id,
            type(data),
            data,
            wanted,
            deadline=request.deadline,
        )

    def leftovers(self, state: State) -> list[str]:
        """Return a sentence for each fan-in and intercepted question that is still waiting.

        Call it when nothing else of the run is left to do.
        """
        unanswered = [
            f"request {request.request_id!r} of {request.source_executor_id!r} was given to an "
            f"executor around its sub-workflow, behind {request.node!r}, which has not answered it"
            for request in state.intercepted.values()
        ]
        return unanswered + [
            f"{group_id} ended with messages from {', '.join(map(repr, buffers))} that wait for "
            f"{', '.join(repr(s) for s in self._sources(group_id) if s not in buffers)}"
            for group_id, buffers in state.fan_in.items()
        ]

    def _sources(self, fan_in: str) -> Sequence[str]:
        level = self._levels.of(fan_in)
        return level.graph.fan_ins[level.local(fan_in)].source_ids
