"""Questions that have ended, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.sections.section import Section, ValueReader
from supersteps.checkpoint.stored import NULL, decode_stored, elements, raw
from supersteps.checkpoint.values import Sealed

ANSWERED: PartKey = ("answered",)

Outcome: TypeAlias = Literal["answered", "defaulted", "cancelled", "intercepted"]
"""How a question ended: it was answered, its deadline passed, it was cancelled, or an executor
around the sub-workflow that asked answered first."""

_encoder = msgspec.json.Encoder()


class Closed(msgspec.Struct, frozen=True, gc=False):
    """A question that has ended in a superstep.

    Attributes:
        request: The question.
        outcome: How it ended.
        value: The answer, None if there is none.
    """

    request: Request
    outcome: Outcome
    value: Sealed | None


class StoredAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a question ended, as it is stored.

    Attributes:
        request_id: The request.
        source_executor_id: The executor that asked.
        iteration: The superstep that took the answer.
        timestamp: When: ISO 8601, UTC.
        outcome: How it ended.
        data: The answer, encoded.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    outcome: Outcome = "answered"
    data: msgspec.Raw = NULL


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A question that has ended.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asked.
        iteration: The superstep that took the answer.
        timestamp: When: ISO 8601, UTC.
        outcome: "answered", "defaulted" (the deadline passed), "cancelled" or "intercepted" (an
            executor around the sub-workflow that asked answered first).
        data: The answer.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    outcome: Outcome
    data: Any = None


def encode_closed(closed: Closed, step: int, now: str) -> bytes:
    """Return a question that has ended as an element of its list.

    Args:
        closed: The question.
        step: The superstep that took the answer.
        now: The present.
    """
    request = closed.request
    value = raw(b"null" if closed.value is None else closed.value.encode())
    return _encoder.encode(
        StoredAnswer(
            request.request_id, request.source_executor_id, step, now, closed.outcome, value
        )
    )


def read_answers(part: Part | None, after: int = 0) -> list[StoredAnswer]:
    """Return the questions that have ended, without the first `after` ones."""
    if part is None:
        return []
    return [_read(element, "an answered request") for element in elements(part)[after:]]


def find_answer(part: Part | None, request_id: str) -> StoredAnswer | None:
    """Return how a question ended the last time, None if it has not."""
    if part is None:
        return None
    for element in reversed(elements(part)):
        ended = _read(element, "an answered request")
        if ended.request_id == request_id:
            return ended
    return None


def _read(element: bytes, what: str) -> StoredAnswer:
    return decode_stored(element, StoredAnswer, what)


class Answered(Section):
    """Every question of the lineage that has ended: a list that grows."""

    name = "answered"
    depth = 0
    title = "Ended questions"
    brief = "ended"
    content = "answered"
    is_list = True

    def describe(
        self, shown: list[AnsweredRequest], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        for element in elements(part):
            stored = _read(element, f"{reader.where}: an answered request")
            answer = reader.read(stored.data, f"answer to {stored.request_id!r}")
            shown.append(
                AnsweredRequest(
                    stored.request_id,
                    stored.source_executor_id,
                    stored.iteration,
                    stored.timestamp,
                    stored.outcome,
                    answer,
                )
            )

    def encode(
        self, shown: Sequence[AnsweredRequest], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        if shown:
            yield ANSWERED, ListPart(_encoded(answer, codec) for answer in shown)


def _encoded(answer: AnsweredRequest, codec: Codec) -> bytes:
    return _encoder.encode(
        StoredAnswer(
            answer.request_id,
            answer.source_executor_id,
            answer.iteration,
            answer.timestamp,
            answer.outcome,
            raw(codec.encode(answer.data, f"answer to {answer.request_id!r}")),
        )
    )
