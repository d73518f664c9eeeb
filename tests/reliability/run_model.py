"""Small graphs, and what a run of one must hold after each superstep: a simulation without the
library.

One number travels through the stages of a graph, again and again for some laps. So whatever has a
name of its own on a branch, such as a question, is named by the executor and the number.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

BEGUN = datetime(2100, 1, 1, tzinfo=UTC)
"""When runs begin, by the clock of the lab: so late that no real clock gets there."""

FAN_IN = "fan_in:"
"""A timer's message to a fan-in names it so."""

DEFAULT = 5
"""The answer that counts when a deadline has passed."""


def moment(seconds: float) -> str:
    """Return a time as it is stored."""
    return (BEGUN + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


class Unit(NamedTuple):
    """An executor.

    Attributes:
        name: Its id.
        kind: "plain", "ask", "timer", "sub", "join", "yield" or "end".
        wait: Seconds after the beginning: when the timer is due, or the question's deadline passes
            (None: never).
        inner: What is in the sub-workflow.
    """

    name: str
    kind: str
    wait: float | None = None
    inner: tuple[Unit, ...] = ()


class Stage(NamedTuple):
    """What the number passes: a single unit, a fan-out and fan-in, or a switch.

    Attributes:
        kind: "one", "both" or "either".
        head: Where the number comes in.
        units: What stands behind the head.
        join: Where what the units sent comes together.
    """

    kind: str
    head: Unit
    units: tuple[Unit, ...] = ()
    join: Unit | None = None

    @property
    def tails(self) -> tuple[Unit, ...]:
        return (self.join,) if self.join else self.units or (self.head,)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.head, *self.units, *((self.join,) if self.join else ())))


class Shape(NamedTuple):
    """A graph: its stages and how often the number goes through them."""

    stages: tuple[Stage, ...]
    laps: int


END = Unit("end", "end")
YIELD = Unit("out", "yield")
"""The last one in each sub-workflow."""


def draw_shape(dice: random.Random) -> Shape:
    """Return a random graph."""
    stages = []
    for number in range(dice.choice([1, 1, 2, 2, 3])):
        kind = dice.choice(["one", "one", "both", "both", "either"])
        if kind == "one":
            stages.append(Stage(kind, _unit(dice, f"s{number}")))
            continue
        units = tuple(_unit(dice, f"s{number}{letter}") for letter in "ab")
        join = Unit(f"s{number}j", "join") if kind == "both" else None
        stages.append(Stage(kind, Unit(f"s{number}", "plain"), units, join))
    return Shape(tuple(stages), dice.choice([1, 1, 2]))


def _unit(dice: random.Random, name: str, *, inside: bool = False) -> Unit:
    kind = dice.choice(
        ["plain", "ask", "ask", "timer"] if inside else ["plain", "ask", "ask", "timer", "sub"]
    )
    if kind == "ask":
        return Unit(name, kind, dice.choice([None, None, None, 300.0]))
    if kind == "timer":
        return Unit(name, kind, dice.choice([0.0, 0.0, 50.0, 500.0]))
    if kind == "sub":
        inner = tuple(
            _unit(dice, f"{name}{letter}", inside=True) for letter in "xy"[: dice.choice([1, 2])]
        )
        return Unit(name, kind, None, inner)
    return Unit(name, kind)


class Ask(NamedTuple):
    """A question that waits: who asked it, about which number, until when."""

    address: str
    number: int
    deadline: str | None


class Timer(NamedTuple):
    """A message for later: when, to whom, what, from whom."""

    due: str
    targets: tuple[str, ...]
    value: int
    source: str


class Entry(NamedTuple):
    """How a question ends: "answered", "cancelled" or "defaulted"."""

    request_id: str
    outcome: str
    value: int | None


@dataclass
class State:
    """What a checkpoint holds."""

    step: int = 0
    messages: list[tuple[tuple[str, ...], Any]] = field(default_factory=list)
    waiting: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # in fan-ins
    shared: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    asks: dict[str, Ask] = field(default_factory=dict)
    ended: list[Entry] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    subs: dict[str, str] = field(default_factory=dict)

    def due(self, now: str) -> list[Timer]:
        return sorted(
            (timer for timer in self.timers if timer.due <= now), key=lambda timer: timer.due
        )

    def late(self, now: str) -> list[str]:
        return [
            key
            for key, ask in self.asks.items()
            if ask.deadline is not None and ask.deadline <= now
        ]

    def has_work(self, inbox: list[Entry], now: str) -> bool:
        return bool(self.messages or inbox or self.due(now) or self.late(now))

    def edited(self, changes: dict[str, int]) -> State:
        """Return a copy with other values in the shared state."""
        copied = copy.deepcopy(self)
        copied.shared.update({path.partition(".")[2]: value for path, value in changes.items()})
        return copied

    @property
    def status(self) -> str:
        if self.messages or self.timers:
            return "IN_PROGRESS_PENDING_REQUESTS" if self.asks else "IN_PROGRESS"
        return "IDLE_WITH_PENDING_REQUESTS" if self.asks else "IDLE"


class Simulation:
    """What supersteps of a graph do.

    Args:
        shape: The graph.
    """

    def __init__(self, shape: Shape) -> None:
        self._units: dict[str, Unit] = {"end": END}
        self._next: dict[str, tuple[str, ...]] = {}
        self._joins: dict[str, Stage] = {}
        self._switches: dict[str, Stage] = {}
        self._laps = shape.laps
        heads = [stage.head.name for stage in shape.stages] + ["end"]
        for stage, after in zip(shape.stages, heads[1:], strict=True):
            self._units.update({unit.name: unit for unit in stage})
            for tail in stage.tails:
                self._next[tail.name] = (after,)
            if stage.units:
                self._next[stage.head.name] = tuple(unit.name for unit in stage.units)
            if stage.kind == "either":
                self._switches[stage.head.name] = stage
            elif stage.join is not None:
                self._joins.update({unit.name: stage for unit in stage.units})
        self._first = heads[0]
        self._next["end"] = (self._first,)
        # As the graph is built: by the order in which executors are first named.
        self._order = {name: place for place, name in enumerate(order_of(shape))}

    def begin(self, number: int) -> State:
        """Return the first checkpoint: it holds the input."""
        state = State()
        self._send(state, "", number, [self._first])
        return state

    def step(self, before: State, entries: list[Entry], now: str) -> State:
        """Return the next checkpoint.

        Args:
            before: The one before.
            entries: What the superstep takes from the inbox.
            now: The time.
        """
        after = copy.deepcopy(before)
        after.step += 1
        due, after.messages = before.due(now), []
        after.timers = [timer for timer in before.timers if timer not in due]
        calls: dict[
            str, list[tuple[int | None, Any]]
        ] = {}  # of an answer: the number it was asked about
        for targets, value in [*before.messages, *((timer.targets, timer.value) for timer in due)]:
            for target in targets:
                if not target.startswith(FAN_IN):
                    calls.setdefault(target, []).append((None, value))
        for timer in due:
            if timer.targets[0].startswith(FAN_IN):
                self._buffer(after, timer.source, timer.value)
        for entry in entries:
            ask = after.asks.pop(entry.request_id)
            after.ended.append(entry)
            if entry.outcome != "cancelled":
                calls.setdefault(ask.address, []).append((ask.number, entry.value))
        for address in sorted(calls, key=self._place):
            for asked, value in calls[address]:
                self._call(after, address, asked, value)
        for stage in dict.fromkeys(self._joins.values()):
            self._release(after, stage)
        self._end_subs(after)
        return after

    def _place(self, address: str) -> tuple[int, str]:
        node, _, inner = address.partition("/")
        return self._order[node.partition("#")[0]], inner

    def _call(self, state: State, address: str, asked: int | None, value: Any) -> None:
        outer, _, inner = address.rpartition("/")
        unit = self._units[address] if not outer else self._inner(outer, inner)
        state.counts[address] = state.counts.get(address, 0) + 1
        if not outer:
            state.shared.setdefault("log", []).append(f"{unit.name}:{value}")
        if unit.kind == "ask" and asked is None:
            deadline = None if unit.wait is None else moment(unit.wait)
            state.asks[f"{unit.name}:{value}"] = Ask(address, value, deadline)
        elif unit.kind == "timer":
            if address in self._joins:
                stage = self._joins[address]
                assert stage.join is not None
                targets: tuple[str, ...] = (
                    f"{FAN_IN}{'+'.join(part.name for part in stage.units)}->{stage.join.name}",
                )
            else:
                targets = self._targets(state, address, value + 1)
            state.timers.append(Timer(moment(unit.wait or 0.0), targets, value + 1, address))
        elif unit.kind == "end":
            state.outputs.append(value)
            if state.counts["end"] % self._laps:
                self._send(state, "end", value + 1, None)
        elif unit.kind == "join":
            self._send(state, address, sum(value), None)
        elif unit.kind == "yield":
            self._send(state, address, value, None)
        elif asked is not None:
            self._send(state, address, asked + value, None)
        else:
            if not outer:
                state.shared["sum"] = state.shared.get("sum", 0) + value
            self._send(state, address, value + 1, None)

    def _inner(self, path: str, name: str) -> Unit:
        return next(
            unit
            for unit in (*self._units[path.partition("#")[0]].inner, YIELD)
            if unit.name == name
        )

    def _send(self, state: State, address: str, value: int, targets: list[str] | None) -> None:
        found = (
            self._enter(state, targets)
            if targets is not None
            else self._targets(state, address, value)
        )
        if found:
            state.messages.append((found, value))

    def _targets(self, state: State, address: str, value: int) -> tuple[str, ...]:
        """Return who gets what an executor sends; what waits in a fan-in is noted."""
        outer, _, inner = address.rpartition("/")
        if outer:
            units = [unit.name for unit in self._units[outer.partition("#")[0]].inner]
            if inner == YIELD.name:
                return self._targets(state, outer.partition("#")[0], value)
            if inner != units[-1]:
                return (f"{outer}/{units[units.index(inner) + 1]}",)
            return (f"{outer}/{YIELD.name}",)
        if address in self._joins:
            self._buffer(state, address, value)
            return ()
        if address in self._switches:
            return self._enter(state, [self._next[address][0 if value % 2 == 0 else 1]])
        return self._enter(state, list(self._next[address]))

    def _buffer(self, state: State, source: str, value: int) -> None:
        """Let what an executor sent wait in its fan-in."""
        state.waiting.setdefault(self._joins[source].head.name, {}).setdefault(source, []).append(
            value
        )

    def _enter(self, state: State, names: list[str]) -> tuple[str, ...]:
        found = []
        for name in names:
            unit = self._units[name]
            if unit.kind == "sub":
                path = f"{name}#{state.step}"
                state.subs[path] = name
                name = f"{path}/{unit.inner[0].name}"
            found.append(name)
        return tuple(found)

    def _release(self, state: State, stage: Stage) -> None:
        buffers = state.waiting.get(stage.head.name, {})
        assert stage.join is not None
        while all(buffers.get(unit.name) for unit in stage.units):
            state.messages.append(
                ((stage.join.name,), [buffers[unit.name].pop(0) for unit in stage.units])
            )
        left = {name: values for name, values in buffers.items() if values}
        state.waiting.pop(stage.head.name, None)
        if left:
            state.waiting[stage.head.name] = left

    def _end_subs(self, state: State) -> None:
        busy = {target for targets, _ in state.messages for target in targets}
        busy |= {target for timer in state.timers for target in timer.targets}
        busy |= {ask.address for ask in state.asks.values()}
        for path in [*state.subs]:
            if not any(address.startswith(f"{path}/") for address in busy):
                del state.subs[path]
                state.counts = {
                    key: n for key, n in state.counts.items() if not key.startswith(f"{path}/")
                }


def order_of(shape: Shape) -> list[str]:
    """Return the names of a graph's executors in the order in which they are added to it."""
    return [unit.name for stage in shape.stages for unit in stage] + ["end"]
