"""A checkpoint's parts, decoded for people to look at, and encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import (
    ANSWERED,
    EXECUTORS,
    FAN_IN,
    INTERCEPTED,
    OUTPUTS,
    REPLIES,
    REQUESTS,
    SCOPES,
    SHARED,
    SUB_SCOPES,
    SUB_STATE,
    SUB_WORKFLOWS,
    ListPart,
    Part,
    PartKey,
)
from supersteps.checkpoint.sections.section import ValueReader
from supersteps.checkpoint.sections.table import SECTIONS
from supersteps.checkpoint.stored import (
    Outcome,
    StoredAnswer,
    StoredRequest,
    StoredSubWorkflow,
    as_json,
    decode_json,
    decode_stored,
    raw,
)


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
        request_executor_id: The `RequestInfoExecutor` that it went through; the asker where it asked directly.
        response_schema: JSON Schema of the answer; None where its type has none, then only the workflow can answer.
        deadline: When the default answers for whoever has not: ISO 8601, UTC.
        default: The answer at the deadline.
        direct: Whether a `@response_handler` takes the answer; else it comes as a `RequestResponse` message.
        node: For a question that an executor around the sub-workflow answers: the sub-workflow's node.
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


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A question that has ended.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asked.
        iteration: The superstep that took the answer.
        timestamp: When: ISO 8601, UTC.
        outcome: "answered", "defaulted" (the deadline passed), "cancelled" (it was taken back) or
            "intercepted" (an executor around the sub-workflow that asked answered first).
        data: The answer.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    outcome: Outcome
    data: Any = None


@dataclass(frozen=True, slots=True)
class SubWorkflowState:
    """A run of a sub-workflow inside a run; its executors' own states are among the run's `executor_states`.

    Attributes:
        workflow_id: The sub-workflow's name.
        node: The executor that stands for it.
        started: The superstep in which it was given its input.
        steps: Supersteps in which it has moved since its last input.
        shared_state: Its shared keys and values.
        scopes: Keys and values of its named scopes.
    """

    workflow_id: str
    node: str
    started: int
    steps: int = 0
    shared_state: dict[str, Any] = field(default_factory=dict)
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)


class Content(Protocol):
    """What a checkpoint holds, decoded; see `WorkflowCheckpoint`."""

    messages: dict[str, list[dict[str, Any]]]
    shared_state: dict[str, Any]
    executor_states: dict[str, dict[str, Any]]
    scopes: dict[str, dict[str, Any]]
    fan_in: dict[str, dict[str, list[Any]]]
    pending_requests: dict[str, PendingRequest]
    outputs: list[Any]
    answered: list[AnsweredRequest]
    timers: dict[str, dict[str, Any]]
    sub_workflows: dict[str, SubWorkflowState]
    intercepted_requests: dict[str, PendingRequest]
    replies: dict[str, Any]


NAMES = tuple(Content.__annotations__)
"""What a checkpoint holds, by name."""

_LISTS = ("outputs", "answered")


def elements(part: Part) -> list[bytes]:
    """Return a list part's elements; one that came as a whole JSON array is taken apart."""
    return list(
        part
        if isinstance(part, ListPart)
        else map(bytes, decode_stored(part, list[msgspec.Raw], "a list"))
    )


# ----------------------------------------------------------------------------------------- decoding


def empty(name: str) -> Any:
    """Return what a section is that holds nothing."""
    return [] if name in _LISTS else {}


def decode_parts(parts: Mapping[PartKey, Part], codec: Codec, where: str) -> dict[str, Any]:
    """Return a checkpoint's content, decoded as far as the types are known."""
    return _Reader(codec, where).read(parts)


class _Reader:
    """Decodes parts; values of types that are not known come as `RawValue`."""

    def __init__(self, codec: Codec, where: str) -> None:
        self._codec = codec
        self._where = where
        self._values = ValueReader(codec, where)

    def read(self, parts: Mapping[PartKey, Part]) -> dict[str, Any]:
        found: dict[str, Any] = {name: empty(name) for name in NAMES}
        for key, part in parts.items():
            match key:
                case ("shared_state", name):
                    found[SHARED][name] = self._value(part, f"shared_state[{name!r}]")
                case ("executor_states" | "scopes" as section, scope, name):
                    entries = found[section].setdefault(scope, {})
                    if name:  # the empty name only says that the scope exists
                        entries[name] = self._value(part, f"{section}[{scope!r}][{name!r}]")
                case ("fan_in", group):
                    found[FAN_IN][group] = self._value(part, f"fan_in[{group!r}]")
                case ("requests", request_id):
                    found["pending_requests"][request_id] = self._request(part)
                case ("intercepted", request_id):
                    found["intercepted_requests"][request_id] = self._request(part)
                case ("replies", request_id):
                    found[REPLIES][request_id] = self._value(part, f"replies[{request_id!r}]")
                case ("outputs",):
                    found["outputs"] = [
                        self._value(v, f"outputs[{i}]") for i, v in enumerate(elements(part))
                    ]
                case ("answered",):
                    found["answered"] = [self._answer(item) for item in elements(part)]
                case _ if known := SECTIONS.get(key[0]):
                    known.describe(found[known.content], key, part, self._values)
                case _:
                    pass
        found[SUB_WORKFLOWS] = self._sub_workflows(parts)
        return found

    def _value(self, part: Part, at: str) -> Any:
        return self._codec.decode(as_json(part), f"{self._where}, {at}", raw=True)

    def _raw(self, data: msgspec.Raw, at: str) -> Any:
        return self._value(bytes(data), at)

    def _request(self, part: Part) -> PendingRequest:
        stored = decode_stored(part, StoredRequest, f"{self._where}: a request")
        at = f"request {stored.request_id!r}"
        return PendingRequest(
            request_id=stored.request_id,
            source_executor_id=stored.source_executor_id,
            iteration=stored.iteration,
            timestamp=stored.timestamp,
            response_type=stored.response_type,
            data=self._raw(stored.data, at),
            request_executor_id=stored.request_executor_id,
            response_schema=decode_json(stored.response_schema, f"{at}: its schema"),
            deadline=stored.deadline,
            default=self._raw(stored.default, f"default of {at}"),
            direct=stored.direct,
            node=stored.node,
        )

    def _answer(self, item: bytes) -> AnsweredRequest:
        stored = decode_stored(item, StoredAnswer, f"{self._where}: an answered request")
        return AnsweredRequest(
            stored.request_id,
            stored.source_executor_id,
            stored.iteration,
            stored.timestamp,
            stored.outcome,
            self._raw(stored.data, f"answer to {stored.request_id!r}"),
        )

    def _sub_workflows(self, parts: Mapping[PartKey, Part]) -> dict[str, SubWorkflowState]:
        found: dict[str, SubWorkflowState] = {}
        for key, part in parts.items():
            if key[0] == SUB_WORKFLOWS:
                stored = decode_stored(
                    part, StoredSubWorkflow, f"{self._where}: a sub-workflow's run"
                )
                found[key[1]] = SubWorkflowState(
                    stored.workflow_id, stored.node, stored.started, stored.steps
                )
        for key, part in parts.items():
            match key:
                case ("sub_state", path, name) if path in found:
                    found[path].shared_state[name] = self._value(
                        part, f"sub_state[{path!r}][{name!r}]"
                    )
                case ("sub_scopes", path, scope, name) if path in found:
                    entries = found[path].scopes.setdefault(scope, {})
                    if name:
                        entries[name] = self._value(
                            part, f"sub_scopes[{path!r}][{scope!r}][{name!r}]"
                        )
                case _:
                    pass
        return found


# ----------------------------------------------------------------------------------------- encoding


def encode_parts(checkpoint: Content, codec: Codec) -> dict[PartKey, Part]:
    """Return the parts of a checkpoint that was made or changed by hand."""
    return dict(_encoded(checkpoint, codec))


def _encoded(checkpoint: Content, codec: Codec) -> Iterator[tuple[PartKey, Part]]:
    encode = msgspec.json.encode
    yield from SECTIONS["messages"].encode(checkpoint.messages, codec)
    for name, value in checkpoint.shared_state.items():
        yield (SHARED, name), codec.encode(value, f"shared_state[{name!r}]")
    for section, scopes in ((EXECUTORS, checkpoint.executor_states), (SCOPES, checkpoint.scopes)):
        yield from _encoded_scopes((section,), scopes, codec)
    for group, buffer in checkpoint.fan_in.items():
        yield (FAN_IN, group), codec.encode(buffer, f"fan_in[{group!r}]")
    for section, requests in (
        (REQUESTS, checkpoint.pending_requests),
        (INTERCEPTED, checkpoint.intercepted_requests),
    ):
        for request_id, request in requests.items():
            yield (section, request_id), encode(_stored_request(request_id, request, codec))
    for request_id, value in checkpoint.replies.items():
        yield (REPLIES, request_id), codec.encode(value, f"replies[{request_id!r}]")
    yield from SECTIONS["timers"].encode(checkpoint.timers, codec)
    for path, sub in checkpoint.sub_workflows.items():
        yield (
            (SUB_WORKFLOWS, path),
            encode(StoredSubWorkflow(sub.workflow_id, sub.node, sub.started, sub.steps)),
        )
        for name, value in sub.shared_state.items():
            yield (SUB_STATE, path, name), codec.encode(value, f"sub_state[{path!r}][{name!r}]")
        yield from _encoded_scopes((SUB_SCOPES, path), sub.scopes, codec)
    if checkpoint.answered:
        yield (
            ANSWERED,
            ListPart(encode(_stored_answer(item, codec)) for item in checkpoint.answered),
        )
    if checkpoint.outputs:
        yield (
            OUTPUTS,
            ListPart(codec.encode(v, f"outputs[{i}]") for i, v in enumerate(checkpoint.outputs)),
        )


def _encoded_scopes(
    place: PartKey, scopes: Mapping[str, Mapping[str, Any]], codec: Codec
) -> Iterator[tuple[PartKey, Part]]:
    for scope, entries in scopes.items():
        if not entries:
            yield (*place, scope, ""), b"null"
        for name, value in entries.items():
            yield (*place, scope, name), codec.encode(value, f"{place[0]}[{scope!r}][{name!r}]")


def _stored_request(request_id: str, request: PendingRequest, codec: Codec) -> StoredRequest:
    at = f"request {request_id!r}"
    return StoredRequest(
        request_id,
        request.source_executor_id,
        request.request_executor_id,
        request.iteration,
        request.timestamp,
        request.response_type,
        raw(codec.encode(request.data, at)),
        raw(msgspec.json.encode(request.response_schema)),
        request.deadline,
        raw(codec.encode(request.default, f"default of {at}")),
        request.direct,
        request.node,
    )


def _stored_answer(answer: AnsweredRequest, codec: Codec) -> bytes:
    return msgspec.json.encode(
        StoredAnswer(
            answer.request_id,
            answer.source_executor_id,
            answer.iteration,
            answer.timestamp,
            answer.outcome,
            raw(codec.encode(answer.data, f"answer to {answer.request_id!r}")),
        )
    )
