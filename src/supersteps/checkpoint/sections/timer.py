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
    ReplyPart,
    StoredMessage,
    describe_message,
    load_message,
    load_payload,
    misfits_of,
    renamed_message,
    reply_part,
    stored_from_described,
    stored_message,
)
from supersteps.checkpoint.sections.section import Names, PresentGraph, Section, ValueReader
from supersteps.checkpoint.stored import decode_stored, raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.checkpoint.work import Work

TIMERS = "timers"

_encoder = msgspec.json.Encoder()


class Delayed(msgspec.Struct, frozen=True, gc=False):
    """A message for later that a handler sent, before the merge.

    Attributes:
        payload: The message.
        target_id: The only receiver the sender wants, None for all that the edges choose.
        due: When it is delivered: ISO 8601, UTC.
        attempt: Which attempt to handle it that will be. It is more than 1 for a call that is
            repeated; then the receiver is the sender itself.
        source_ids: Who sent it in the first place, if that is another executor.
        work: Of a call that is repeated: which piece of work it does.
    """

    payload: Sealed
    target_id: str | None
    due: str
    attempt: int = 1
    source_ids: tuple[str, ...] = ()
    work: Work | None = None

    def to_record(self) -> DelayedRecord:
        """Return what the journal keeps of the message."""
        return DelayedRecord(
            raw(self.payload.encode()),
            reply_part(self.payload),
            self.target_id,
            self.due,
            self.attempt,
            self.source_ids,
            self.work,
        )


class DelayedRecord(msgspec.Struct, omit_defaults=True):
    """A message for later as the journal keeps it; the fields are those of `Delayed`."""

    data: msgspec.Raw
    reply: ReplyPart | None
    target_id: str | None
    due: str
    attempt: int = 1
    source_ids: tuple[str, ...] = ()
    work: Work | None = None

    def load(self, sealer: Sealer) -> Delayed:
        """Return the message."""
        return Delayed(
            load_payload(self.data, self.reply, sealer),
            self.target_id,
            self.due,
            self.attempt,
            self.source_ids,
            self.work,
        )


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
