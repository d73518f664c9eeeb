"""`Setting`: what a run works with for as long as it is open."""

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
    """Takes notes of the events that happen in every superstep."""

    @property
    def note(self) -> Callable[[Note], None]:
        """Take one."""


class Notes(Protocol):
    """Tells who takes notes of the events that happen in every superstep."""

    @property
    def sink(self) -> Sink:
        """Who takes them now."""


class Stream(Notes, Reader, Protocol):
    """Takes a run's events."""

    def emit(self, event: WorkflowEvent) -> None:
        """Take one."""


@dataclass(frozen=True, slots=True)
class Setting(CallSetting):
    """What a run works with; what happens to the run does not change it.

    Attributes:
        workflow_id: The workflow that it runs.
        max_iterations: The limit of supersteps since the last input.
        levels: The graph and those of sub-workflows.
        executors: The executors of them all.
        store: Its hold on the storage, None without one.
        replay: The lineage that it repeats, None where it does not.
        backend: Runs the handlers.
        notes: Takes the events that happen in every superstep.
        observation: Tells an observer of the run; None where nobody wants to know.
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
