"""`Phase`, `Life`: what the handle of a run is at, and what may follow."""

from __future__ import annotations

from enum import Enum

from supersteps.errors import RequestError, WorkflowRuntimeError


class Phase(Enum):
    """What the handle of a run is at; docs/ARCHITECTURE.md draws how one follows the other."""

    READY = "nothing is under way; more is begun as soon as somebody asks for it"
    WORKING = "a unit of work is under way"
    DRAINING = "a unit of work is under way, and is the last until somebody asks anew"
    DRAINED = "nothing is begun until somebody asks anew"
    SETTLED = "there is nothing to do, and it was said how the run stands"
    STOPPING = (
        "work is cancelled, or the handle rewinds or ends the run: nothing is begun meanwhile"
    )
    FAILED = "the run has failed; whoever asks gets the error"
    CLOSED = "the handle was closed"
    CANCELLED = "the run was cancelled through this handle"


# Looking a member up in its enum takes Python 3.11 as long as calling a function: not in each unit.
READY, WORKING, DRAINING, DRAINED = Phase.READY, Phase.WORKING, Phase.DRAINING, Phase.DRAINED
SETTLED, STOPPING, FAILED = Phase.SETTLED, Phase.STOPPING, Phase.FAILED
CLOSED, CANCELLED = Phase.CLOSED, Phase.CANCELLED


class Life:
    """The life of a handle: its phase, and what went wrong.

    Whether the run is opened is not a phase: a handle may be drained or closed before that.

    Attributes:
        phase: What the handle is at. Only whoever begins, drains, stops or ends the work changes
            it, so it is known who has stopped the work.
        failure: What the run failed of; it goes with FAILED.
        refusal: Why an answer was refused; raised once.
        is_lost: Whether the run failed because somebody else has it.
    """

    __slots__ = ("failure", "is_lost", "phase", "refusal")

    def __init__(self) -> None:
        self.phase = READY
        self.failure: BaseException | None = None
        self.refusal: WorkflowRuntimeError | RequestError | None = None
        self.is_lost = False

    @property
    def has_ended(self) -> bool:
        """Whether the handle is of no more use."""
        return self.phase is CLOSED or self.phase is CANCELLED

    @property
    def is_drained(self) -> bool:
        """Whether nothing more is to be begun until somebody asks anew."""
        return self.phase is DRAINING or self.phase is DRAINED

    @property
    def is_at_work(self) -> bool:
        """Whether work is under way, and nothing has gone wrong."""
        is_wanted = self.phase is WORKING or self.phase is DRAINING
        return is_wanted and self.failure is None and self.refusal is None

    def begin(self) -> None:
        """Begin a unit of work."""
        self.phase = WORKING

    def end_unit(self) -> None:
        """Learn that the unit of work has ended; whoever stops it says himself what comes next."""
        if self.phase is not STOPPING:
            self.rest()

    def rest(self) -> None:
        """Be at what remains when nothing is under way any more."""
        if self.failure is not None:
            self.phase = FAILED
        elif self.phase is DRAINING:
            self.phase = DRAINED
        elif self.phase in (WORKING, STOPPING, FAILED):
            self.phase = READY

    def drain(self) -> None:
        """Begin nothing more until somebody asks anew."""
        if self.phase is WORKING:
            self.phase = DRAINING
        elif self.phase in (READY, SETTLED):
            self.phase = DRAINED

    def go_on(self) -> None:
        """Be asked anew: what was drained may go on."""
        if self.phase is DRAINED:
            self.phase = READY
        elif self.phase is DRAINING:
            self.phase = WORKING

    def settle(self) -> None:
        """Have nothing to do, and have said so."""
        self.phase = SETTLED

    def expect_more(self) -> None:
        """Have something to do again: an answer has come."""
        if self.phase is SETTLED:
            self.phase = READY

    def rewind(self) -> None:
        """Begin anew from an earlier checkpoint."""
        self.failure = self.refusal = None
        self.is_lost = False
        self.phase = READY

    def fail(self, error: BaseException) -> None:
        """Keep what the run failed of, unless it has failed already."""
        if self.failure is None:
            self.failure = error

    def raise_trouble(self) -> None:
        """Raise what ended the run or, once, why an answer was refused."""
        refusal, self.refusal = self.refusal, None
        trouble = self.failure if self.failure is not None else refusal
        if trouble is not None:
            raise trouble
