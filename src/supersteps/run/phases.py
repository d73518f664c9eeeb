"""`Phase`: what the handle of a run is at."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What the handle of a run is at; `RunDriver` draws how one follows the other."""

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

    @property
    def has_ended(self) -> bool:
        """Whether the handle is of no more use."""
        return self is CLOSED or self is CANCELLED


# Looking a member up in its enum takes Python 3.11 as long as calling a function: not in each unit.
READY, WORKING, DRAINING, DRAINED = Phase.READY, Phase.WORKING, Phase.DRAINING, Phase.DRAINED
SETTLED, STOPPING, FAILED = Phase.SETTLED, Phase.STOPPING, Phase.FAILED
CLOSED, CANCELLED = Phase.CLOSED, Phase.CANCELLED
