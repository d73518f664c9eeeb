"""`Story`: the events of a run as lines of text and a status line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from supersteps.cli.amounts import listed
from supersteps.cli.words import count
from supersteps.events import (
    ExecutorCompletedEvent,
    ExecutorFailedEvent,
    ExecutorInvokedEvent,
    RequestClosedEvent,
    RequestInfoEvent,
    SuperStepCompletedEvent,
    SuperStepStartedEvent,
    WorkflowErrorDetails,
    WorkflowErrorEvent,
    WorkflowEvent,
    WorkflowOutputEvent,
    WorkflowStartedEvent,
    WorkflowWarningEvent,
)

_LONG_SECONDS = 1.0
_MOST_NAMES = 6


def duration(seconds: float) -> str:
    """Return a duration as text: "3 ms", "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 0.0995:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# ---------------------------------------------------------------------------------------- the story


@dataclass(frozen=True)
class Line:
    """A finished line of output.

    Attributes:
        text: The text.
        step: The superstep it reports, None if it reports something else.
    """

    text: str
    step: int | None = None


class Story:
    """Collects the events of a run and turns them into text.

    Args:
        origin: Text after the run's id in the first line.
        clock: Returns seconds.
        attempts: Maximum attempts of a call, by executor id.

    Attributes:
        run_id: The run, empty until it is known.
        step: The current superstep, or the last one.
        steps: How many supersteps were committed.
        has_started: Whether a superstep has started.
        is_in_step: Whether a superstep is running.
        outputs: Number of outputs so far.
        questions: Ids of the waiting questions.
        running: Executors whose handlers are running, with their start times.
        failures: Handlers that failed in the current superstep.
    """

    def __init__(
        self,
        origin: str = "",
        clock: Callable[[], float] = time.monotonic,
        attempts: Mapping[str, int] | None = None,
    ) -> None:
        self.run_id = ""
        self.step = 0
        self.steps = 0
        self.has_started = False
        self.outputs = 0
        self.questions: set[str] = set()
        self.running: dict[str, float] = {}
        self.failures: list[WorkflowErrorDetails] = []
        self._origin = origin
        self._attempts = attempts or {}
        self._finished: set[str] = set()
        self._failed_lines: list[str] = []
        self._clock = clock
        self._began = clock()
        self._is_told = False
        self._step_began = self._began
        self.is_in_step = False
        # A handler that blocks the event loop delays the events of its superstep until it returns.
        # So a superstep is timed from the end of the previous one, unless the run waited in
        # between.
        self._is_contiguous = True
        self._step_outputs = 0
        self._step_questions = 0
        self._takers: Mapping[type[WorkflowEvent], Callable[[Any], list[Line]]] = {
            WorkflowStartedEvent: self._started,
            SuperStepStartedEvent: self._step_started,
            ExecutorInvokedEvent: self._invoked,
            ExecutorCompletedEvent: self._completed,
            ExecutorFailedEvent: self._failed,
            WorkflowOutputEvent: self._output,
            RequestInfoEvent: self._asked,
            RequestClosedEvent: self._closed,
            SuperStepCompletedEvent: self._step_completed,
            WorkflowWarningEvent: lambda event: [Line(f"warning: {one_line(event.data)}")],
            WorkflowErrorEvent: lambda event: [
                Line(f"error: {type(event.data).__name__}: {one_line(event.data)}")
            ],
        }

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def take(self, event: WorkflowEvent) -> list[Line]:
        """Record an event; return the lines that it finishes."""
        taker = self._takers.get(type(event))
        return [] if taker is None else taker(event)

    def status(self, width: int = 80) -> str:
        """Return the current state on one line of at most `width` columns."""
        now = self._clock()
        parts = []
        if self.is_in_step:
            parts.append(f"superstep {self.step}")
            parts.append(
                listed(
                    (self._with_time(i, now - began) for i, began in [*self.running.items()]),
                    _MOST_NAMES,
                )
            )
            if not self.running:
                parts[-1] = "saving"
        elif self.steps:
            parts.append(f"{count(self.steps, 'superstep')} done")
            parts.append("waiting for a timer" if now - self._step_began > _LONG_SECONDS else "")
        else:
            parts.append("loading")
        if self.outputs:
            parts.append(count(self.outputs, "output"))
        if self.questions:
            parts.append(f"{count(len(self.questions), 'question')} open")
        text = " · ".join([part for part in parts if part] + [duration(now - self._began)])
        return text if len(text) <= width else text[: max(width - 1, 0)] + "…"

    def _with_time(self, executor_id: str, seconds: float) -> str:
        return f"{executor_id} ({duration(seconds)})" if seconds > _LONG_SECONDS else executor_id

    def _started(self, event: WorkflowStartedEvent) -> list[Line]:
        self.run_id = event.run_id or self.run_id
        return []

    def _introduction(self) -> list[Line]:
        """Return the first line, once the run has been created or loaded."""
        if self._is_told:
            return []
        self._is_told = True
        return [Line(f"run {self.run_id}{self._origin}")]

    def _step_started(self, event: SuperStepStartedEvent) -> list[Line]:
        self.step = event.step_number
        self.has_started = self.is_in_step = True
        if not self._is_contiguous:
            self._step_began = self._clock()
        self._step_outputs = self._step_questions = 0
        self.running.clear()
        self._forget_calls()
        return self._introduction()

    def _invoked(self, event: ExecutorInvokedEvent) -> list[Line]:
        self.running[event.executor_id] = self._clock()
        return []

    def _completed(self, event: ExecutorCompletedEvent) -> list[Line]:
        self.running.pop(event.executor_id, None)
        self._finished.add(event.executor_id)
        return []

    def _failed(self, event: ExecutorFailedEvent) -> list[Line]:
        self.running.pop(event.executor_id, None)
        self.failures.append(event.details)
        self._failed_lines.append(self._failure(event.details))
        return []

    def _failure(self, details: WorkflowErrorDetails) -> str:
        """Return the report of a failed call on one line."""
        extra = details.extra or {}
        name, attempt, again = (
            details.executor_id or "",
            extra.get("attempt"),
            extra.get("retry_at"),
        )
        most = f" of {self._attempts[name]}" if name in self._attempts else ""
        if again is not None:
            wait = (datetime.fromisoformat(again) - datetime.now(UTC)).total_seconds()
            due = f"again in {duration(wait)}" if wait > 0 else "again at once"
            return f"{name} failed (attempt {attempt}{most}), {due}: {_reason(details)}"
        tried = (
            f" (attempt {attempt}{most})"
            if attempt is not None and max(attempt, self._attempts.get(name, 1)) > 1
            else ""
        )
        return f"{name} failed{tried}: {_reason(details)}; the run continues"

    def _forget_calls(self) -> None:
        self.failures.clear()
        self._finished.clear()
        self._failed_lines.clear()

    def _output(self, _event: WorkflowOutputEvent) -> list[Line]:
        self.outputs += 1
        self._step_outputs += 1
        return []

    def _asked(self, event: RequestInfoEvent) -> list[Line]:
        if event.request_id not in self.questions:
            self.questions.add(event.request_id)
            self._step_questions += 1
        return self._introduction()

    def _closed(self, event: RequestClosedEvent) -> list[Line]:
        self.questions.discard(event.request_id)
        source = event.source_executor_id
        why = {
            "defaulted": "its deadline passed, so its default is the answer",
            "intercepted": "an executor of the workflow answered it",
        }.get(event.outcome, "it was cancelled")
        return [Line(f"question {event.request_id} of {source} is closed: {why}")]

    def _step_completed(self, event: SuperStepCompletedEvent) -> list[Line]:
        now = self._clock()
        seconds = now - self._step_began
        info = event.completion_info
        self.step = event.step_number
        self.steps += 1
        self.is_in_step = False
        self._step_began = now
        self._is_contiguous = info.has_pending_messages
        self.running.clear()
        if not info.has_pending_requests:
            self.questions.clear()
        lost = {details.executor_id for details in self.failures} - self._finished
        worked = [name for name in info.executor_ids if name not in lost]
        ran = listed(worked, _MOST_NAMES) or "no executor"  # the answer could not be used
        facts = [f"superstep {self.step}: {ran}  ({duration(seconds)})"]
        if self._step_outputs:
            facts.append(count(self._step_outputs, "output"))
        if self._step_questions:
            facts.append(count(self._step_questions, "question"))
        failed = [f"superstep {self.step}: {text}" for text in self._failed_lines]
        is_nothing_done = (
            bool(failed) and not worked and not self._step_outputs and not self._step_questions
        )
        if is_nothing_done:  # then the failures are the whole report
            failed[-1] += f"  ({duration(seconds)})"
        self._forget_calls()
        self._step_outputs = self._step_questions = 0
        done = [] if is_nothing_done else [Line("  ".join(facts), self.step)]
        return [*map(Line, failed), *done]


def _reason(details: WorkflowErrorDetails) -> str:
    return f"{details.error_type}: {one_line(details.message)}"


def one_line(value: Any) -> str:
    """Return a text on one line."""
    return " ".join(str(value).split())
