"""Timers: messages that are delivered at a given time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.schedule import Schedule
from supersteps.checkpoint.sections.message import (
    Message,
    StoredMessage,
    describe_message,
    load_message,
    misfits_of,
    renamed_message,
    stored_from_described,
    stored_message,
)
from supersteps.checkpoint.sections.section import Names, PresentGraph, Section, ValueReader
from supersteps.checkpoint.stored import decode_stored
from supersteps.checkpoint.values import Sealer
from supersteps.checkpoint.work import Work

TIMERS = "timers"

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Timer:
    """A message that is delivered at a given time.

    Attributes:
        timer_id: Its id: the superstep that set it, and a number.
        due: When: ISO 8601, UTC.
        message: The message.
        attempt: Which attempt to handle it this will be, from 1.
        work: Of a call that is tried again: which piece of work it does.
    """

    timer_id: str
    due: str
    message: Message
    attempt: int = 1
    work: Work | None = None


class StoredTimer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A timer as it is stored; the fields are those of `Timer`."""

    due: str
    message: StoredMessage
    attempt: int = 1
    work: Work | None = None


def encode_timer(timer: Timer) -> bytes:
    """Return a timer as its part."""
    return _encoder.encode(
        StoredTimer(timer.due, stored_message(timer.message), timer.attempt, timer.work)
    )


def read_timer(part: Part, what: str = "a timer") -> StoredTimer:
    """Return a stored timer, its message still encoded; `what` is for error messages.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    return decode_stored(part, StoredTimer, what)


def with_message(timer: StoredTimer, message: StoredMessage) -> bytes:
    """Return the part of a timer whose message has been changed."""
    return _encoder.encode(msgspec.structs.replace(timer, message=message))


class _State(Protocol):
    timers: Schedule[Timer]


class Timers(Section):
    """Messages that are delivered later, by id."""

    name = TIMERS
    title = "Timers"
    brief = "timers"
    content = "timers"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        stored = read_timer(part, f"the timer {key[1]!r}")
        message = load_message(stored.message, sealer)
        state.timers[key[1]] = Timer(key[1], stored.due, message, stored.attempt, stored.work)

    def describe(
        self, shown: dict[str, Any], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        timer = read_timer(part, f"{reader.where}: a timer")
        message = describe_message(timer.message, reader)
        described = {"due": timer.due, "attempt": timer.attempt, **message}
        if timer.work is not None:
            described["work"] = msgspec.to_builtins(timer.work)
        shown[key[1]] = described

    def encode(
        self, shown: Mapping[str, Mapping[str, Any]], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        for timer_id, timer in shown.items():
            message = stored_from_described(timer, timer.get("source_id", ""), codec)
            work = msgspec.convert(timer.get("work"), Work | None)
            stored = StoredTimer(timer["due"], message, timer.get("attempt", 1), work)
            yield (TIMERS, timer_id), _encoder.encode(stored)

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        timer = read_timer(part)
        return with_message(timer, renamed_message(timer.message, names))

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        yield from misfits_of(read_timer(part).message, "a timer", graph)
