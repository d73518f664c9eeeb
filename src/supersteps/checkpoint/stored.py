"""The shapes in which a checkpoint's structured parts are stored; values inside them stay encoded."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from supersteps.checkpoint.parts import ListPart, Part
from supersteps.errors import CorruptCheckpointError

T = TypeVar("T")

NULL = msgspec.Raw(b"null")


def raw(data: bytes) -> msgspec.Raw:
    """Return encoded data for embedding; null always as the one object that counts as a field's default."""
    return NULL if data == b"null" else msgspec.Raw(data)


class StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question that waits for its answer, as it is stored.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asks and gets the answer.
        request_executor_id: The `RequestInfoExecutor` it went through; the asker where it asked directly.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: The type of the answer, for people to read.
        data: The question, encoded.
        response_schema: JSON Schema of the answer, None where its type has none.
        deadline: When the default answers for whoever has not: ISO 8601, UTC.
        default: The answer at the deadline, encoded.
        direct: Whether a `@response_handler` takes the answer; else it comes as a `RequestResponse` message.
        node: For a question that an executor around the sub-workflow answers: the sub-workflow's node.
    """

    request_id: str
    source_executor_id: str
    request_executor_id: str
    iteration: int
    timestamp: str
    response_type: str
    data: msgspec.Raw
    response_schema: msgspec.Raw = NULL
    deadline: str | None = None
    default: msgspec.Raw = NULL
    direct: bool = False
    node: str | None = None


Outcome = Literal["answered", "defaulted", "cancelled", "intercepted"]


class StoredAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a question ended, as it is stored.

    Attributes:
        request_id: The request.
        source_executor_id: The executor that asked.
        iteration: The superstep that took the answer.
        timestamp: When: ISO 8601, UTC.
        outcome: Whether somebody answered, the deadline passed, the question was taken back, or an
            executor around the sub-workflow that asked it answered first.
        data: The answer, encoded.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    outcome: Outcome = "answered"
    data: msgspec.Raw = NULL


class StoredSubWorkflow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of a sub-workflow inside this run, as it is stored.

    Attributes:
        workflow_id: The sub-workflow's name.
        node: The executor that stands for it.
        started: The superstep in which it was given its input.
        steps: Supersteps in which it has moved since its last input.
    """

    workflow_id: str
    node: str
    started: int
    steps: int = 0


def decode_stored(part: Part, kind: type[T], what: str) -> T:
    """Return stored JSON as a value of a type.

    Args:
        part: The JSON.
        kind: The type.
        what: What it is, for the message.

    Raises:
        CorruptCheckpointError: It is not JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(as_json(part), type=kind)
    except (
        ValueError,
        RecursionError,
    ) as error:  # msgspec's own errors and those of Unicode are ValueErrors
        raise CorruptCheckpointError(
            f"{what} is stored as something that is no such thing ({error}); go on from another checkpoint"
        ) from error


def decode_json(part: Part, what: str = "a part of the checkpoint") -> Any:
    """Return stored JSON as builtins; raises like `decode_stored`."""
    return decode_stored(part, Any, what)


def as_json(part: Part) -> bytes:
    """Return a part as one JSON text."""
    return part.to_json() if isinstance(part, ListPart) else part
