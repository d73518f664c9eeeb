"""`WorkflowRunState`: where a run stands, and what follows from it.

A run's state is stored as plain text (the field `status` of runs and checkpoints), also by other
versions of this library. So ask about it with `==` and `in`, which work for text as well as for
members: `run.status in ENDED`. The words that people read for it are in `service/states.py`.
"""

from __future__ import annotations

from enum import StrEnum


class WorkflowRunState(StrEnum):
    """The state of a run."""

    STARTED = "STARTED"
    """Started; no handler has run yet."""
    IN_PROGRESS = "IN_PROGRESS"
    """Messages are in flight."""
    IN_PROGRESS_PENDING_REQUESTS = "IN_PROGRESS_PENDING_REQUESTS"
    """Messages are in flight, and questions wait for answers."""
    IDLE = "IDLE"
    """The run is complete."""
    IDLE_WITH_PENDING_REQUESTS = "IDLE_WITH_PENDING_REQUESTS"
    """The run waits for an answer."""
    FAILED = "FAILED"
    """A superstep failed; the run can be resumed from its last checkpoint."""
    CANCELLED = "CANCELLED"
    """The run was cancelled; it can be resumed from its last checkpoint all the same."""


IN_PROGRESS: frozenset[str] = frozenset(
    {WorkflowRunState.IN_PROGRESS, WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS}
)
"""There is work to do now or at a known time: resuming the run advances it."""

ASKING: frozenset[str] = frozenset(
    {WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS, WorkflowRunState.IDLE_WITH_PENDING_REQUESTS}
)
"""Questions wait for answers, whether or not there is other work."""

SETTLED: frozenset[str] = frozenset(
    {WorkflowRunState.IDLE, WorkflowRunState.IDLE_WITH_PENDING_REQUESTS}
)
"""Nothing is left to do for now: the run is done, or only waits for answers."""

ENDED: frozenset[str] = frozenset({WorkflowRunState.IDLE, WorkflowRunState.CANCELLED})
"""Done or cancelled: resuming the run is not expected, and cancelling it changes nothing."""


def state_at_barrier(*, goes_on: bool, is_waiting: bool) -> WorkflowRunState:
    """Return the state of a run whose superstep is committed.

    Args:
        goes_on: Whether it has something to do, now or later, without anyone's answer.
        is_waiting: Whether it waits for answers.
    """
    if is_waiting:
        return (
            WorkflowRunState.IN_PROGRESS_PENDING_REQUESTS
            if goes_on
            else WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
        )
    return WorkflowRunState.IN_PROGRESS if goes_on else WorkflowRunState.IDLE
