"""`Phase` and `Life`: the state of a run's handle, and its transitions."""

from __future__ import annotations

from enum import Enum

from supersteps.errors import RequestError, WorkflowRuntimeError


class Phase(Enum):
    """The state of a run's handle; docs/ARCHITECTURE.md has a diagram."""

    READY = "no work is running; the next request starts some"
    WORKING = "a unit of work is running"
    DRAINING = "a unit of work is running, which is the last one until the next request"
    DRAINED = "no work is started until the next request"
    SETTLED = "there is no work, and the run's state was reported"
    STOPPING = "work is being cancelled, or the run restored or ended: no work is started meanwhile"
    FAILED = "the run has failed; the next request raises the error"
    CLOSED = "the handle was closed"
    CANCELLED = "the run was cancelled through this handle"


# Looking up a member of an enum takes Python 3.11 as long as calling a function.
READY, WORKING, DRAINING, DRAINED = Phase.READY, Phase.WORKING, Phase.DRAINING, Phase.DRAINED
SETTLED, STOPPING, FAILED = Phase.SETTLED, Phase.STOPPING, Phase.FAILED
CLOSED, CANCELLED = Phase.CLOSED, Phase.CANCELLED


class Life:
    """The life of a handle: its phase and its errors.

    Whether the run is opened is not a phase: a handle may be drained or closed before that.

    Attributes:
        phase: The handle's state. Only code that starts, drains, stops or ends the work changes
            it, so it is known what has stopped the work.
        failure: The error of the run, in the phase FAILED.
        refusal: Why an answer was refused; raised once.
        is_lost: Whether the run failed because another owner has it.
    """

    __slots__ = ("failure", "is_lost", "phase", "refusal")

    def __init__(self) -> None:
        self.phase = READY
        self.failure: BaseException | None = None
        self.refusal: WorkflowRuntimeError | RequestError | None = None
        self.is_lost = False

    @property
    def has_ended(self) -> bool:
        """Whether the handle can no longer be used."""
        return self.phase is CLOSED or self.phase is CANCELLED

    @property
    def is_drained(self) -> bool:
        """Whether no work must be started until the next request."""
        return self.phase is DRAINING or self.phase is DRAINED

    @property
    def is_at_work(self) -> bool:
        """Whether work is running without an error."""
        is_wanted = self.phase is WORKING or self.phase is DRAINING
        return is_wanted and self.failure is None and self.refusal is None

    def begin(self) -> None:
        """Start a unit of work."""
        self.phase = WORKING

    def end_unit(self) -> None:
        """Record that the unit of work has ended; code that stops it sets the next phase itself."""
        if self.phase is not STOPPING:
            self.rest()

    def rest(self) -> None:
        """Enter the phase that follows when no work is running."""
        if self.failure is not None:
            self.phase = FAILED
        elif self.phase is DRAINING:
            self.phase = DRAINED
        elif self.phase in (WORKING, STOPPING, FAILED):
            self.phase = READY

    def drain(self) -> None:
        """Start no more work until the next request."""
        if self.phase is WORKING:
            self.phase = DRAINING
        elif self.phase in (READY, SETTLED):
            self.phase = DRAINED

    def go_on(self) -> None:
        """Accept a new request: drained work may continue."""
        if self.phase is DRAINED:
            self.phase = READY
        elif self.phase is DRAINING:
            self.phase = WORKING

    def settle(self) -> None:
        """Record that there is no work, and that this was reported."""
        self.phase = SETTLED

    def expect_more(self) -> None:
        """Record that there is work again: an answer has come."""
        if self.phase is SETTLED:
            self.phase = READY

    def rewind(self) -> None:
        """Start again from an earlier checkpoint."""
        self.failure = self.refusal = None
        self.is_lost = False
        self.phase = READY

    def fail(self, error: BaseException) -> None:
        """Set the error of the run, unless it has already failed."""
        if self.failure is None:
            self.failure = error

    def raise_trouble(self) -> None:
        """Raise the error of the run or, once, of a refused answer."""
        refusal, self.refusal = self.refusal, None
        trouble = self.failure if self.failure is not None else refusal
        if trouble is not None:
            raise trouble
