"""A checkpoint's parts, decoded for people to look at, and encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from supersteps.checkpoint.codec.codec import Codec
from supersteps.checkpoint.parts import (
    EXECUTORS,
    FAN_IN,
    OUTPUTS,
    SCOPES,
    SHARED,
    SUB_SCOPES,
    SUB_STATE,
    SUB_WORKFLOWS,
    ListPart,
    Part,
    PartKey,
)
from supersteps.checkpoint.sections.answered import AnsweredRequest
from supersteps.checkpoint.sections.question import PendingRequest
from supersteps.checkpoint.sections.section import ValueReader
from supersteps.checkpoint.sections.table import SECTIONS
from supersteps.checkpoint.stored import (
    StoredSubWorkflow,
    as_json,
    decode_stored,
    elements,
)


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
                case ("outputs",):
                    found["outputs"] = [
                        self._value(v, f"outputs[{i}]") for i, v in enumerate(elements(part))
                    ]
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
    yield from SECTIONS["requests"].encode(checkpoint.pending_requests, codec)
    yield from SECTIONS["intercepted"].encode(checkpoint.intercepted_requests, codec)
    yield from SECTIONS["replies"].encode(checkpoint.replies, codec)
    yield from SECTIONS["timers"].encode(checkpoint.timers, codec)
    for path, sub in checkpoint.sub_workflows.items():
        yield (
            (SUB_WORKFLOWS, path),
            encode(StoredSubWorkflow(sub.workflow_id, sub.node, sub.started, sub.steps)),
        )
        for name, value in sub.shared_state.items():
            yield (SUB_STATE, path, name), codec.encode(value, f"sub_state[{path!r}][{name!r}]")
        yield from _encoded_scopes((SUB_SCOPES, path), sub.scopes, codec)
    yield from SECTIONS["answered"].encode(checkpoint.answered, codec)
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
