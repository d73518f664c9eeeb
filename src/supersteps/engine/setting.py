"""`Setting`: the fixed surroundings of an open run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from supersteps.engine.backends import Backend
from supersteps.engine.call import CallSetting, Reader
from supersteps.engine.executors import Executors
from supersteps.engine.levels import Levels
from supersteps.engine.observer import Observation
from supersteps.engine.run_store import RunStore
from supersteps.engine.time_travel.replay import Replay
from supersteps.events import Note, WorkflowEvent


class Sink(Protocol):
    """Takes the events of every superstep."""

    @property
    def note(self) -> Callable[[Note], None]:
        """Take an event."""


class Notes(Protocol):
    """Returns the present taker of the events of every superstep."""

    @property
    def sink(self) -> Sink:
        """The present taker."""


class Stream(Notes, Reader, Protocol):
    """Takes a run's events."""

    def emit(self, event: WorkflowEvent) -> None:
        """Take an event."""


@dataclass(frozen=True, slots=True)
class Setting(CallSetting):
    """The surroundings of a run, which do not change while it is open.

    Attributes:
        workflow_id: The workflow's name.
        max_iterations: The limit of supersteps since the last input.
        levels: The graph and those of sub-workflows.
        executors: The executors of them all.
        store: Its hold on the storage, None without one.
        replay: The lineage to replay, None if it is not a replay.
        backend: Runs the handlers.
        notes: Takes the events of every superstep.
        observation: Reports the run to an observer; None without one.
    """

    workflow_id: str
    max_iterations: int
    levels: Levels
    executors: Executors
    store: RunStore | None
    replay: Replay | None
    backend: Backend
    notes: Notes
    observation: Observation | None = None
