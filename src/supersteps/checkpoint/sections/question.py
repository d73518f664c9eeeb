"""Questions that wait for answers, and answers from inside the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import as_text
from supersteps.checkpoint.schedule import Schedule
from supersteps.checkpoint.sections.section import Names, PresentGraph, Section, ValueReader
from supersteps.checkpoint.stored import NULL, decode_json, decode_stored, raw
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.typing import display_name

REQUESTS = "requests"
INTERCEPTED = "intercepted"
REPLIES = "replies"

_encoder = msgspec.json.Encoder()


# ------------------------------------------------------------------------------------------ shapes


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What `ctx.request_info` was given besides the question.

    Attributes:
        response_type: Annotation of the answer.
        request_id: Id of the question; None for a new one.
        due: When the question expires, in UTC.
        default: The answer then.
    """

    response_type: Any
    request_id: str | None
    due: datetime | None
    default: Any

    def ask(
        self, request_id: str, source: str, data: Sealed, timestamp: str, default: Sealed | None
    ) -> Ask:
        """Return the question with these terms.

        Args:
            request_id: Its id.
            source: The executor that asks, by path.
            data: The question.
            timestamp: The present.
            default: The answer at the deadline.
        """
        return Ask(
            request_id=request_id,
            source_executor_id=source,
            data=data,
            timestamp=timestamp,
            response_name=display_name(self.response_type),
            response_type=self.response_type,
            deadline=None if self.due is None else as_text(self.due),
            default=default,
        )


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A question that a handler asked, before the merge.

    Attributes:
        request_id: Its id.
        source_executor_id: Who gets the answer.
        data: The question.
        timestamp: When it was asked: ISO 8601, UTC.
        response_name: Spelled type of the answer, None if the asker's handler says it.
        response_type: The type itself, None if it comes from the journal.
        deadline: When the default answers: ISO 8601, UTC.
        default: The answer at the deadline.
    """

    request_id: str
    source_executor_id: str
    data: Sealed
    timestamp: str
    response_name: str | None = None
    response_type: Any = None
    deadline: str | None = None
    default: Sealed | None = None

    def to_record(self) -> AskRecord:
        """Return what the journal keeps of the question."""
        return AskRecord(
            self.request_id,
            self.source_executor_id,
            raw(self.data.encode()),
            self.timestamp,
            self.response_name,
            self.deadline,
            _raw_or_null(self.default),
            self.default is not None,
        )


class AskRecord(msgspec.Struct, omit_defaults=True):
    """A question that a handler asked as the journal keeps it; the fields are those of `Ask`."""

    request_id: str
    source_executor_id: str
    data: msgspec.Raw
    timestamp: str
    response_name: str | None = None
    deadline: str | None = None
    default: msgspec.Raw = msgspec.Raw(b"null")
    has_default: bool = False

    def load(self, sealer: Sealer) -> Ask:
        """Return the question."""
        return Ask(
            self.request_id,
            self.source_executor_id,
            sealer.load(bytes(self.data)),
            self.timestamp,
            self.response_name,
            None,
            self.deadline,
            sealer.load(bytes(self.default)) if self.has_default else None,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A question that waits for its answer.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asks and gets the answer.
        request_executor_id: The executor through which it went out; the asker if it asked directly.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: Annotation of the answer, None if only its name is known.
        response_name: The same for people to read.
        data: The question.
        deadline: When the default answers: ISO 8601, UTC.
        default: The answer at the deadline.
        direct: Whether a `@response_handler` takes the answer; otherwise it comes as a
            `RequestResponse` message.
        node: For a question that an executor around the sub-workflow answers: the sub-workflow's
            node.
    """

    request_id: str
    source_executor_id: str
    request_executor_id: str
    iteration: int
    timestamp: str
    response_type: Any
    response_name: str
    data: Sealed
    deadline: str | None = None
    default: Sealed | None = None
    direct: bool = False
    node: str | None = None


class StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question as it is stored.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asks and gets the answer.
        request_executor_id: The executor through which it went out.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: The type of the answer, for people to read.
        data: The question, encoded.
        response_schema: JSON Schema of the answer, None if its type has none.
        deadline: When the default answers: ISO 8601, UTC.
        default: The answer at the deadline, encoded.
        direct: Whether a `@response_handler` takes the answer.
        node: See `Request`.
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


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A question that waits for its answer.

    Attributes:
        request_id: Its id; answers name it.
        source_executor_id: The executor that asks.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: The type of the answer, for people to read.
        data: The question.
        request_executor_id: The `RequestInfoExecutor` that it went through; the asker if it asked
            directly.
        response_schema: JSON Schema of the answer; None if its type has none, then only the
            workflow can answer.
        deadline: When the default answers: ISO 8601, UTC.
        default: The answer at the deadline.
        direct: Whether a `@response_handler` takes the answer; otherwise it comes as a
            `RequestResponse` message.
        node: For a question that an executor around the sub-workflow answers: the sub-workflow's
            node.
        run_id: The run, where requests of several are listed.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    response_type: str
    data: Any
    request_executor_id: str = ""
    response_schema: dict[str, Any] | None = None
    deadline: str | None = None
    default: Any = None
    direct: bool = False
    node: str | None = None
    run_id: str = ""

    @property
    def age(self) -> timedelta:
        """How long it has been waiting."""
        return datetime.now(UTC) - datetime.fromisoformat(self.timestamp)


# -------------------------------------------------------------------------------- asked and waiting


def opened(ask: Ask, asked_through: str, response_type: Any, step: int) -> Request:
    """Return the question that waits after a handler's call has asked it.

    Args:
        ask: What the call asked.
        asked_through: The executor whose call asked, by path.
        response_type: Annotation of the answer.
        step: The superstep.
    """
    return Request(
        request_id=ask.request_id,
        source_executor_id=ask.source_executor_id,
        request_executor_id=asked_through,
        iteration=step,
        timestamp=ask.timestamp,
        response_type=response_type,
        response_name=ask.response_name or display_name(response_type),
        data=ask.data,
        deadline=ask.deadline,
        default=ask.default,
        direct=ask.response_name is not None,
    )


# ------------------------------------------------------------------------------ run time and stored


def encode_request(request: Request, schema: dict[str, Any] | None) -> bytes:
    """Return a waiting question as its part.

    Args:
        request: The question.
        schema: JSON Schema of the answer, None if its type has none.
    """
    return _encoder.encode(
        StoredRequest(
            request_id=request.request_id,
            source_executor_id=request.source_executor_id,
            request_executor_id=request.request_executor_id,
            iteration=request.iteration,
            timestamp=request.timestamp,
            response_type=request.response_name,
            data=msgspec.Raw(request.data.encode()),
            response_schema=raw(_encoder.encode(schema)),
            deadline=request.deadline,
            default=_raw_or_null(request.default),
            direct=request.direct,
            node=request.node,
        )
    )


def read_request(part: Part, what: str = "a request") -> StoredRequest:
    """Return a stored question, its values still encoded; `what` is for error messages.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    return decode_stored(part, StoredRequest, what)


def load_request(part: Part, sealer: Sealer) -> Request:
    """Return a waiting question from its part."""
    stored = read_request(part)
    return Request(
        request_id=stored.request_id,
        source_executor_id=stored.source_executor_id,
        request_executor_id=stored.request_executor_id,
        iteration=stored.iteration,
        timestamp=stored.timestamp,
        response_type=None,
        response_name=stored.response_type,
        data=sealer.load(bytes(stored.data)),
        deadline=stored.deadline,
        default=sealer.load(bytes(stored.default)) if stored.deadline is not None else None,
        direct=stored.direct,
        node=stored.node,
    )


def with_schema(part: Part, schema: dict[str, Any] | None) -> Part:
    """Return the part of a question with another schema of the answer."""
    stored, encoded = read_request(part), _encoder.encode(schema)
    if bytes(stored.response_schema) == encoded:
        return part
    return _encoder.encode(msgspec.structs.replace(stored, response_schema=msgspec.Raw(encoded)))


def _raw_or_null(value: Sealed | None) -> msgspec.Raw:
    return raw(b"null" if value is None else value.encode())


# -------------------------------------------------------------------------------------- for people


def describe_request(part: Part, reader: ValueReader) -> PendingRequest:
    """Return a question as people see it."""
    stored = read_request(part, f"{reader.where}: a request")
    at = f"request {stored.request_id!r}"
    return PendingRequest(
        request_id=stored.request_id,
        source_executor_id=stored.source_executor_id,
        iteration=stored.iteration,
        timestamp=stored.timestamp,
        response_type=stored.response_type,
        data=reader.read(stored.data, at),
        request_executor_id=stored.request_executor_id,
        response_schema=decode_json(bytes(stored.response_schema), f"{at}: its schema"),
        deadline=stored.deadline,
        default=reader.read(stored.default, f"default of {at}"),
        direct=stored.direct,
        node=stored.node,
    )


def _stored_from_described(request_id: str, shown: PendingRequest, codec: Codec) -> StoredRequest:
    at = f"request {request_id!r}"
    return StoredRequest(
        request_id,
        shown.source_executor_id,
        shown.request_executor_id,
        shown.iteration,
        shown.timestamp,
        shown.response_type,
        raw(codec.encode(shown.data, at)),
        raw(_encoder.encode(shown.response_schema)),
        shown.deadline,
        raw(codec.encode(shown.default, f"default of {at}")),
        shown.direct,
        shown.node,
    )


# ------------------------------------------------------------------------------------ the sections


class _State(Protocol):
    requests: Schedule[Request]
    intercepted: Schedule[Request]
    replies: dict[str, Sealed]


class _Questions(Section):
    """Waiting questions, by request id."""

    def describe(
        self, shown: dict[str, PendingRequest], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        shown[key[1]] = describe_request(part, reader)

    def encode(
        self, shown: Mapping[str, PendingRequest], codec: Codec
    ) -> Iterator[tuple[PartKey, Part]]:
        for request_id, request in shown.items():
            stored = _stored_from_described(request_id, request, codec)
            yield (self.name, request_id), _encoder.encode(stored)

    def rename_part(self, key: PartKey, part: Part, names: Names) -> Part:
        asked = read_request(part)
        return _encoder.encode(
            msgspec.structs.replace(
                asked,
                source_executor_id=names.address(asked.source_executor_id),
                request_executor_id=names.address(asked.request_executor_id),
                node=None if asked.node is None else names.address(asked.node),
            )
        )

    def misfits(self, key: PartKey, part: Part, graph: PresentGraph) -> Iterator[str]:
        asked = read_request(part)
        named = (asked.source_executor_id, asked.request_executor_id, asked.node)
        for address in dict.fromkeys(named):
            if address is not None and not graph.has_executor(address):
                yield (
                    f"request {asked.request_id!r} waits and its executor {address!r} does not "
                    "exist: rename= it, or keep it until the request is answered"
                )


class Requests(_Questions):
    """Questions to the outside world."""

    name = REQUESTS
    title = "Open questions"
    brief = "questions"
    content = "pending_requests"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.requests[key[1]] = load_request(part, sealer)


class Intercepted(_Questions):
    """Questions of sub-workflows that executors around them answer."""

    name = INTERCEPTED
    title = "Questions answered inside the workflow"
    brief = "inner questions"
    content = "intercepted_requests"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.intercepted[key[1]] = load_request(part, sealer)


class Replies(Section):
    """Answers to intercepted questions on their way in, by request id."""

    name = REPLIES
    title = "Answers in transit"
    brief = "replies"
    content = "replies"

    def load(self, state: _State, key: PartKey, part: Part, sealer: Sealer) -> None:
        state.replies[key[1]] = sealer.load(part)

    def describe(
        self, shown: dict[str, Any], key: PartKey, part: Part, reader: ValueReader
    ) -> None:
        shown[key[1]] = reader.read(part, f"replies[{key[1]!r}]")

    def encode(self, shown: Mapping[str, Any], codec: Codec) -> Iterator[tuple[PartKey, Part]]:
        for request_id, value in shown.items():
            yield (REPLIES, request_id), codec.encode(value, f"replies[{request_id!r}]")
