"""What a run's events say: `Story` turns them into lines and a status, for whoever shows them."""

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
    """Return a span of time as people say it: "3 ms", "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
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
    """Something that is over and can scroll by.

    Attributes:
        text: What to say.
        step: The superstep that it tells of, None where it tells of something else.
    """

    text: str
    step: int | None = None


class Story:
    """What the events of a run have told so far.

    Args:
        origin: What to say behind the run's id, when it is told.
        clock: Gives seconds.
        attempts: How often a call of an executor is made at most, by the executor's id.

    Attributes:
        run_id: The run, empty while it is not known.
        step: The superstep under way, or the last one.
        steps: How many supersteps were committed.
        has_begun: Whether a superstep has begun.
        is_in_step: Whether one is under way.
        outputs: How many outputs there were.
        questions: Ids of the questions that wait.
        at_work: Executors whose handlers run, with the time at which they began.
        failures: Handlers that failed in the superstep under way.
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
        self.has_begun = False
        self.outputs = 0
        self.questions: set[str] = set()
        self.at_work: dict[str, float] = {}
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
        # A handler that blocks the event loop keeps the news of its superstep back until it is
        # over, so a superstep counts from the end of the one before, unless there was something to
        # wait for in between.
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
        """Seconds since the beginning."""
        return self._clock() - self._began

    def take(self, event: WorkflowEvent) -> list[Line]:
        """Learn of an event; return what is over now and can be told."""
        taker = self._takers.get(type(event))
        return [] if taker is None else taker(event)

    def status(self, width: int = 80) -> str:
        """Return what goes on at this moment, on one line that is no wider than that."""
        now = self._clock()
        parts = []
        if self.is_in_step:
            parts.append(f"superstep {self.step}")
            parts.append(
                listed(
                    (self._with_time(i, now - began) for i, began in [*self.at_work.items()]),
                    _MOST_NAMES,
                )
            )
            if not self.at_work:
                parts[-1] = "saving"
        elif self.steps:
            parts.append(f"{count(self.steps, 'superstep')} done")
            parts.append(
                "waiting for a time to come" if now - self._step_began > _LONG_SECONDS else ""
            )
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
        """Return which run it is, once it is certain that there is one: it has been created or loaded."""
        if self._is_told:
            return []
        self._is_told = True
        return [Line(f"run {self.run_id}{self._origin}")]

    def _step_started(self, event: SuperStepStartedEvent) -> list[Line]:
        self.step = event.step_number
        self.has_begun = self.is_in_step = True
        if not self._is_contiguous:
            self._step_began = self._clock()
        self._step_outputs = self._step_questions = 0
        self.at_work.clear()
        self._forget_calls()
        return self._introduction()

    def _invoked(self, event: ExecutorInvokedEvent) -> list[Line]:
        self.at_work[event.executor_id] = self._clock()
        return []

    def _completed(self, event: ExecutorCompletedEvent) -> list[Line]:
        self.at_work.pop(event.executor_id, None)
        self._finished.add(event.executor_id)
        return []

    def _failed(self, event: ExecutorFailedEvent) -> list[Line]:
        self.at_work.pop(event.executor_id, None)
        self.failures.append(event.details)
        self._failed_lines.append(self._failure(event.details))
        return []

    def _failure(self, details: WorkflowErrorDetails) -> str:
        """Return what becomes of a call that has failed, on one line."""
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
        return f"{name} failed{tried}: {_reason(details)}; the run goes on"

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
            "defaulted": "its deadline passed, so the default counts",
            "intercepted": "an executor of the workflow answered it",
        }.get(event.outcome, "it was taken back")
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
        self.at_work.clear()
        if not info.has_pending_requests:
            self.questions.clear()
        lost = {details.executor_id for details in self.failures} - self._finished
        worked = [name for name in info.executor_ids if name not in lost]
        ran = listed(worked, _MOST_NAMES) or "no executor"  # an answer that could not be used
        facts = [f"superstep {self.step}: {ran}  ({duration(seconds)})"]
        if self._step_outputs:
            facts.append(count(self._step_outputs, "output"))
        if self._step_questions:
            facts.append(count(self._step_questions, "question"))
        failed = [f"superstep {self.step}: {text}" for text in self._failed_lines]
        is_nothing_done = (
            bool(failed) and not worked and not self._step_outputs and not self._step_questions
        )
        if is_nothing_done:  # then the failures are all there is to tell of it
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
