"""`WorkflowCheckpoint`: a committed state as users see it, decoded when they look."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import msgspec

from supersteps._ids import new_id
from supersteps.checkpoint.codec import Codec
from supersteps.checkpoint.diff import CheckpointDiff, diff_parts, document
from supersteps.checkpoint.record import (
    EXECUTORS,
    FAN_IN,
    FORMAT_VERSION,
    MESSAGES,
    OUTPUTS,
    REQUESTS,
    SCOPES,
    SHARED,
    CheckpointHeader,
    CheckpointInfo,
    CheckpointRecord,
    ListPart,
    Part,
    PartKey,
    utc_now,
)


class StoredMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message in flight as it is stored.

    Attributes:
        data: The message, encoded.
        source_ids: Executors that sent it (several after a fan-in).
        target_ids: Executors to which it goes in the next superstep.
    """

    data: msgspec.Raw
    source_ids: tuple[str, ...]
    target_ids: tuple[str, ...]


class StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question that waits for its answer, as it is stored.

    Attributes:
        request_id: Its id.
        source_executor_id: The executor that asks and gets the answer.
        request_executor_id: The `RequestInfoExecutor` it went through.
        iteration: The superstep that asked.
        timestamp: When it was asked: ISO 8601, UTC.
        response_type: The type of the answer, for people to read.
        data: The question, encoded.
    """

    request_id: str
    source_executor_id: str
    request_executor_id: str
    iteration: int
    timestamp: str
    response_type: str
    data: msgspec.Raw


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
        request_executor_id: The `RequestInfoExecutor` that it went through.
    """

    request_id: str
    source_executor_id: str
    iteration: int
    timestamp: str
    response_type: str
    data: Any
    request_executor_id: str = ""


Compare = Callable[[CheckpointHeader, CheckpointHeader], tuple[Mapping[PartKey, Part], Mapping[PartKey, Part]]]
"""Gives the parts of two checkpoints of one storage; what both have stands under one and the same object in both."""

_LAZY = frozenset({"messages", "shared_state", "executor_states", "scopes", "fan_in", "pending_requests", "outputs"})


@dataclass(eq=False)
class WorkflowCheckpoint:
    """The state of a run at a barrier.

    A loaded checkpoint decodes its content when it is first looked at. Values of types that are not known to the
    storage come as read-only `RawValue`s. Changing a loaded checkpoint changes nothing that is stored.

    Attributes:
        checkpoint_id: Its id.
        workflow_id: The workflow's name.
        timestamp: ISO 8601, UTC; strictly increasing within a run.
        messages: Messages in flight by sender: a dict with data, source_id, source_ids and target_ids for each.
        shared_state: Shared keys and values.
        executor_states: Each executor's own keys and values.
        iteration_count: Supersteps done; 0 is the checkpoint that holds the raw input.
        max_iterations: The limit in force when it was written.
        metadata: The user's remarks about the run.
        version: Version of the stored format.
        run_id: The run it belongs to, empty for one saved by hand.
        parent: Id of the checkpoint it follows.
        sequence: Position in the order of the run's commits.
        branch: Number of the run's branch.
        status: A `WorkflowRunState` value.
        scopes: Keys and values of named scopes.
        fan_in: What waits in fan-ins: by group, by source, a list of messages.
        pending_requests: Questions that wait for answers, by request id.
        outputs: Every output of the lineage so far.
    """

    checkpoint_id: str = field(default_factory=new_id)
    workflow_id: str = ""
    timestamp: str = field(default_factory=utc_now)
    messages: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    shared_state: dict[str, Any] = field(default_factory=dict)
    executor_states: dict[str, dict[str, Any]] = field(default_factory=dict)
    iteration_count: int = 0
    max_iterations: int = 100
    metadata: dict[str, Any] = field(default_factory=dict)
    version: str = FORMAT_VERSION
    run_id: str = ""
    parent: str | None = None
    sequence: int = 0
    branch: int = 0
    status: str = "IN_PROGRESS"
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)
    fan_in: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    pending_requests: dict[str, PendingRequest] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)

    @classmethod
    def from_record(
        cls,
        header: CheckpointHeader,
        load_parts: Callable[[], Mapping[PartKey, Part]],
        codec: Codec,
        compare: Compare | None = None,
    ) -> WorkflowCheckpoint:
        """Return a checkpoint that reads and decodes its content when it is first looked at.

        Args:
            header: The small facts.
            load_parts: Gives the encoded parts; called once at most.
            codec: Decodes them; types it does not know come as `RawValue`.
            compare: Gives the parts of two checkpoints for `diff`, without reading what they have in common.
        """
        self = cls.__new__(cls)
        self.checkpoint_id = header.checkpoint_id
        self.workflow_id = header.workflow_id
        self.timestamp = header.timestamp
        self.iteration_count = header.iteration_count
        self.max_iterations = header.max_iterations
        self.metadata = copy.deepcopy(header.metadata)  # the header may be the storage's own
        self.version = header.version
        self.run_id = header.run_id
        self.parent = header.parent_id
        self.sequence = header.sequence
        self.branch = header.branch
        self.status = header.status
        self.__dict__["_source"] = (header, load_parts, codec)
        self.__dict__["_compare"] = compare
        return self

    def __getattr__(self, name: str) -> Any:
        # Reached only while a loaded checkpoint's content has not been decoded: then the attribute is not there yet.
        if name not in _LAZY or "_source" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        _header, load_parts, codec = self.__dict__["_source"]
        for key, value in _decode_parts(load_parts(), codec, f"checkpoint {self.checkpoint_id!r}").items():
            self.__dict__.setdefault(key, value)
        return self.__dict__[name]

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint's handle."""
        return CheckpointInfo(self.run_id, self.checkpoint_id, self.iteration_count, self.parent)

    def to_header(self) -> CheckpointHeader:
        """Return the checkpoint's small facts, without looking at its content."""
        source = self.__dict__.get("_source")
        return CheckpointHeader(
            checkpoint_id=self.checkpoint_id,
            run_id=self.run_id,
            workflow_id=self.workflow_id,
            parent_id=self.parent,
            sequence=self.sequence,
            branch=self.branch,
            iteration_count=self.iteration_count,
            max_iterations=self.max_iterations,
            steps_since_input=source[0].steps_since_input if source is not None else 0,
            timestamp=self.timestamp,
            status=self.status,
            metadata=copy.deepcopy(self.metadata),
            version=self.version,
        )

    def to_record(self, codec: Codec) -> CheckpointRecord:
        """Return the checkpoint encoded.

        Raises:
            CheckpointEncodeError: It holds a value that cannot make the trip.
        """
        header = self.to_header()
        source = self.__dict__.get("_source")
        if source is not None and not _LAZY & self.__dict__.keys():  # never looked at, so unchanged
            return CheckpointRecord(header, dict(source[1]()))
        parts = _encode_parts(self, codec)
        return CheckpointRecord(header, parts if source is None else _unless_changed(source, parts, codec))

    def document(self) -> dict[str, Any]:
        """Return the content as one JSON-ready document: sections, names, typed JSON values; what `diff` is about."""
        return document(self._parts())

    def diff(self, other: WorkflowCheckpoint) -> CheckpointDiff:
        """Return what to do to this checkpoint's content to get the other's; of any runs.

        Parts that are stored alike are not decoded, and, where the storage finds them by hash, not even read.
        """
        compare = self._untouched_compare()
        if compare is not None and compare == other._untouched_compare():
            before, after = compare(self.__dict__["_source"][0], other.__dict__["_source"][0])
        else:
            before, after = self._parts(), other._parts()
        return CheckpointDiff(self.checkpoint_id, other.checkpoint_id, diff_parts(before, after))

    def _untouched_compare(self) -> Compare | None:
        """Return the storage's way to compare this checkpoint, as long as nobody can have changed it here."""
        return None if _LAZY & self.__dict__.keys() else self.__dict__.get("_compare")

    def _parts(self) -> Mapping[PartKey, Part]:
        return self.to_record(self._codec()).parts

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as JSON-ready builtins; `from_dict` takes them back, also after a trip through JSON."""
        record = self.to_record(self._codec())
        content: dict[str, Any] = msgspec.to_builtins(record.header)
        content["parts"] = [
            [list(key), msgspec.json.decode(part.to_json() if isinstance(part, ListPart) else part)]
            for key, part in record.parts.items()
        ]
        return content

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkflowCheckpoint:
        """Return the checkpoint that `to_dict` described.

        Raises:
            ValueError: The data is not of that shape.
        """
        content = dict(data)
        parts: dict[PartKey, Part] = {tuple(key): msgspec.json.encode(value) for key, value in content.pop("parts", ())}
        if OUTPUTS in parts:
            parts[OUTPUTS] = ListPart(_elements(parts[OUTPUTS]))
        return cls.from_record(msgspec.convert(content, CheckpointHeader), lambda: parts, Codec())

    def _codec(self) -> Codec:
        source = self.__dict__.get("_source")
        return source[2] if source is not None else Codec()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkflowCheckpoint):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))

    def __hash__(self) -> int:
        return hash(self.checkpoint_id)

    def __repr__(self) -> str:
        return (
            f"WorkflowCheckpoint(checkpoint_id={self.checkpoint_id!r}, workflow_id={self.workflow_id!r}, "
            f"iteration_count={self.iteration_count}, status={self.status!r}, timestamp={self.timestamp!r})"
        )

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


def decode_messages(part: Part | None) -> list[StoredMessage]:
    """Return the messages in flight of a checkpoint, their data still encoded."""
    if part is None:
        return []
    return msgspec.json.decode(part.to_json() if isinstance(part, ListPart) else part, type=list[StoredMessage])


def _decode_parts(parts: Mapping[PartKey, Part], codec: Codec, where: str) -> dict[str, Any]:
    """Return a checkpoint's content, decoded as far as the types are known."""
    content: dict[str, Any] = {name: {} for name in _LAZY - {"outputs"}} | {"outputs": []}

    def value(data: bytes, at: str) -> Any:
        return codec.decode(data, f"{where}, {at}", raw=True)

    for key, part in parts.items():
        data = part.to_json() if isinstance(part, ListPart) else part
        match key:
            case ("shared_state", name):
                content[SHARED][name] = value(data, f"shared_state[{name!r}]")
            case ("executor_states" | "scopes" as section, scope, name):
                entries = content[section].setdefault(scope, {})
                if name:  # the empty name only says that the scope exists
                    entries[name] = value(data, f"{section}[{scope!r}][{name!r}]")
            case ("messages",):
                for message in decode_messages(part):
                    source = message.source_ids[0] if message.source_ids else ""
                    content["messages"].setdefault(source, []).append(
                        {
                            "data": value(bytes(message.data), f"message from {source!r}"),
                            "source_id": source,
                            "source_ids": list(message.source_ids),
                            "target_ids": list(message.target_ids),
                        }
                    )
            case ("fan_in", group):
                content[FAN_IN][group] = value(data, f"fan_in[{group!r}]")
            case ("requests", request_id):
                stored = msgspec.json.decode(data, type=StoredRequest)
                content["pending_requests"][request_id] = PendingRequest(
                    request_id=stored.request_id,
                    source_executor_id=stored.source_executor_id,
                    iteration=stored.iteration,
                    timestamp=stored.timestamp,
                    response_type=stored.response_type,
                    data=value(bytes(stored.data), f"request {request_id!r}"),
                    request_executor_id=stored.request_executor_id,
                )
            case ("outputs",):
                content["outputs"] = [value(item, f"outputs[{i}]") for i, item in enumerate(_elements(part))]
    return content


def _elements(part: Part) -> list[bytes]:
    """Return a list part's elements; one that came as a whole JSON array is taken apart."""
    return list(part if isinstance(part, ListPart) else ListPart.from_json(part))


def _encode_parts(checkpoint: WorkflowCheckpoint, codec: Codec) -> dict[PartKey, Part]:
    """Return the parts of a checkpoint that was made or changed by hand."""
    parts: dict[PartKey, Part] = {}
    messages = [
        StoredMessage(
            msgspec.Raw(codec.encode(message.get("data"), f"messages[{source!r}]")),
            tuple(message.get("source_ids") or (source,)),
            tuple(message.get("target_ids") or ([message["target_id"]] if message.get("target_id") else ())),
        )
        for source, sent in checkpoint.messages.items()
        for message in sent
    ]
    parts[MESSAGES] = msgspec.json.encode(messages)
    for name, value in checkpoint.shared_state.items():
        parts[SHARED, name] = codec.encode(value, f"shared_state[{name!r}]")
    for section, scopes in ((EXECUTORS, checkpoint.executor_states), (SCOPES, checkpoint.scopes)):
        for scope, entries in scopes.items():
            if not entries:
                parts[section, scope, ""] = b"null"
            for name, value in entries.items():
                parts[section, scope, name] = codec.encode(value, f"{section}[{scope!r}][{name!r}]")
    for group, buffer in checkpoint.fan_in.items():
        parts[FAN_IN, group] = codec.encode(buffer, f"fan_in[{group!r}]")
    for request_id, request in checkpoint.pending_requests.items():
        parts[REQUESTS, request_id] = msgspec.json.encode(
            StoredRequest(
                request_id,
                request.source_executor_id,
                request.request_executor_id,
                request.iteration,
                request.timestamp,
                request.response_type,
                msgspec.Raw(codec.encode(request.data, f"request {request_id!r}")),
            )
        )
    if checkpoint.outputs:
        parts[OUTPUTS] = ListPart(codec.encode(v, f"outputs[{i}]") for i, v in enumerate(checkpoint.outputs))
    return parts


def _unless_changed(
    source: tuple[CheckpointHeader, Callable[[], Mapping[PartKey, Part]], Codec],
    parts: dict[PartKey, Part],
    codec: Codec,
) -> dict[PartKey, Part]:
    """Return the parts of a loaded checkpoint that somebody has looked at, the stored ones where nothing was changed.

    What is decoded for people leaves out what only the engine needs: the order of messages of different senders, lists
    that grow element by element, the graph. A part that comes from what was stored as it does from what is here now is
    unchanged.
    """
    header, load_parts, own_codec = source
    stored = load_parts()
    from_stored = _encode_parts(WorkflowCheckpoint.from_record(header, lambda: stored, own_codec), codec)
    kept = {k: part for k, part in stored.items() if k not in from_stored or from_stored[k] == parts.get(k)}
    order = dict.fromkeys((*(key for key in stored if key in kept or key in parts), *parts))
    return {key: kept[key] if key in kept else parts[key] for key in order}
