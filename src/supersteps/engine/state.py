"""The state of a run at a barrier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from supersteps.checkpoint.parts import Part, PartKey, Scope
from supersteps.checkpoint.schedule import Schedule
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.sections.sub_run import SubRun, owner_of
from supersteps.checkpoint.sections.table import section_of
from supersteps.checkpoint.sections.timer import Timer
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.paths import path_of


def _questions() -> Schedule[Request]:
    return Schedule(lambda request: request.deadline)


def _timers() -> Schedule[Timer]:
    return Schedule(lambda timer: timer.due)


@dataclass(slots=True)
class State:
    """The complete state of a run at a barrier.

    Attributes:
        scopes: Keys and values by scope.
        messages: Messages in flight, in the order in which they will be handled.
        fan_in: Messages that wait in fan-ins: by group, by source, oldest first.
        requests: Questions that wait for answers, by id.
        intercepted: Questions of sub-workflows for executors of the outer workflow, by id.
        replies: Such answers in flight, by request id.
        timers: Messages that are delivered at a given time, by id.
        sub_runs: Runs of sub-workflows, by path.
        holds: Number of things other than messages that keep a sub-workflow's run active
            (questions, timers, inner sub-workflows), by its path.
    """

    scopes: dict[Scope, dict[str, Sealed]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    fan_in: dict[str, dict[str, list[Sealed]]] = field(default_factory=dict)
    requests: Schedule[Request] = field(default_factory=_questions)
    intercepted: Schedule[Request] = field(default_factory=_questions)
    replies: dict[str, Sealed] = field(default_factory=dict)
    timers: Schedule[Timer] = field(default_factory=_timers)
    sub_runs: dict[str, SubRun] = field(default_factory=dict)
    holds: Counter[str] = field(default_factory=Counter)
    _scopes_of: dict[str, dict[Scope, None]] = field(default_factory=dict)

    @classmethod
    def load(cls, parts: Mapping[PartKey, Part], sealer: Sealer) -> State:
        """Return the state of a checkpoint; values are decoded when they are read."""
        state = cls()
        for key, part in parts.items():
            # Outputs, answered questions and the graph are read where they are needed.
            if (section := section_of(key)) is not None:
                section.load(state, key, part, sealer)
        state.count_holds()
        return state

    def set(self, scope: Scope, key: str, value: Sealed) -> None:
        """Set the value of a key."""
        keys = self.scopes.get(scope)
        if keys is None:
            keys = self.scopes[scope] = {}
            if owner := owner_of(scope):
                self._scopes_of.setdefault(owner, {})[scope] = None
        keys[key] = value

    def delete(self, scope: Scope, key: str) -> None:
        """Delete a key, if it exists."""
        if scope in self.scopes:
            self.scopes[scope].pop(key, None)

    def scopes_of(self, path: str) -> Iterable[Scope]:
        """Return the scopes of a sub-workflow's run and of its executors."""
        return self._scopes_of.get(path, ())

    def drop(self, path: str) -> None:
        """Delete the state of a sub-workflow's run."""
        for scope in self._scopes_of.pop(path, ()):
            self.scopes.pop(scope, None)
        self.sub_runs.pop(path, None)
        self.holds.pop(path, None)

    def count_holds(self) -> None:
        """Count, after loading, what keeps runs of sub-workflows active."""
        self.holds.clear()
        for request in (*self.requests.values(), *self.intercepted.values()):
            self.holds[path_of(request.source_executor_id)] += 1
        for timer in self.timers.values():
            for target in timer.message.target_ids:
                self.holds[path_of(target)] += 1
        for path in self.sub_runs:
            self.holds[path_of(path)] += 1
