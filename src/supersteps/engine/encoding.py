"""Between the engine's state and a checkpoint's parts: changes are encoded, loaded records taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from supersteps._typing import display_name
from supersteps.checkpoint.record import (
    FAN_IN,
    MESSAGES,
    OUTPUTS,
    REQUESTS,
    SHARED,
    Changes,
    CheckpointRecord,
    ListPart,
    Part,
)
from supersteps.checkpoint.stored import StoredMessage, StoredRequest, decode_messages
from supersteps.engine.state import Message, Request, State
from supersteps.engine.superstep import Merged
from supersteps.engine.values import Sealed, SealedList, Sealer
from supersteps.graph import GraphDescription

_encoder = msgspec.json.Encoder()


def encode_changes(merged: Merged, state: State, opened: Iterable[Request], closed: Iterable[str]) -> Changes:
    """Return what a superstep changed as parts.

    Args:
        merged: The outcome of the merge.
        state: The state before it.
        opened: Questions that the superstep asked.
        closed: Ids of questions whose answers it consumed.
    """
    changes = Changes()
    puts = changes.puts
    if merged.messages or state.messages:
        puts[MESSAGES] = encode_messages(merged.messages)
    for (scope, key), value in merged.writes.items():
        if value is None:
            changes.deletes.append((*scope, key))
        elif isinstance(value, SealedList):
            changes.deletes.append((*scope, key))
            changes.appends[*scope, key] = value.encoded_elements()
        else:
            puts[*scope, key] = value.encode()
    for key, items in merged.appends.items():
        changes.appends[SHARED, key] = [item.encode() for item in items]
    for group_id, buffers in merged.fan_in.items():
        if buffers:
            puts[FAN_IN, group_id] = encode_buffers(buffers)
        else:
            changes.deletes.append((FAN_IN, group_id))
    for request in opened:
        puts[REQUESTS, request.request_id] = encode_request(request)
    changes.deletes += [(REQUESTS, request_id) for request_id in closed]
    if merged.outputs:
        changes.appends[OUTPUTS] = [value.encode() for _source, value in merged.outputs]
    return changes


def encode_messages(messages: Iterable[Message]) -> bytes:
    """Return messages in flight as their part."""
    return _encoder.encode(
        [StoredMessage(msgspec.Raw(m.payload.encode()), m.source_ids, m.target_ids) for m in messages]
    )


def encode_buffers(buffers: Mapping[str, list[Sealed]]) -> bytes:
    """Return what waits in a fan-in as its part."""
    return _encoder.encode({source: [msgspec.Raw(v.encode()) for v in waiting] for source, waiting in buffers.items()})


def encode_request(request: Request) -> bytes:
    """Return a waiting question as its part."""
    return _encoder.encode(
        StoredRequest(
            request_id=request.request_id,
            source_executor_id=request.source_executor_id,
            request_executor_id=request.request_executor_id,
            iteration=request.iteration,
            timestamp=request.timestamp,
            response_type=display_name(request.response_type),
            data=msgspec.Raw(request.data.encode()),
        )
    )


def encode_graph(description: GraphDescription) -> bytes:
    """Return a graph's description as its part."""
    return _encoder.encode(description)


def decode_graph(part: Part | None) -> GraphDescription | None:
    """Return the graph's description that a checkpoint holds, None when it holds none."""
    return None if part is None else msgspec.json.decode(_json(part), type=GraphDescription)


def decode_state(record: CheckpointRecord, sealer: Sealer) -> State:
    """Return the state that a checkpoint holds; values are decoded when somebody reads them."""
    state = State()
    for key, part in record.parts.items():
        match key:
            case ("shared_state" | "executor_states" | "scopes", *_):
                state.scopes.setdefault(key[:-1], {})[key[-1]] = sealer.load(part)
            case ("fan_in", group_id):
                raw = msgspec.json.decode(_json(part), type=dict[str, list[msgspec.Raw]])
                state.fan_in[group_id] = {s: [sealer.load(bytes(v)) for v in waiting] for s, waiting in raw.items()}
            case ("requests", request_id):
                state.requests[request_id] = _decode_request(_json(part), sealer)
            case _:
                pass  # outputs and the graph are read where they are wanted
    state.messages = [
        Message(sealer.load(bytes(stored.data)), stored.source_ids, stored.target_ids)
        for stored in decode_messages(record.parts.get(MESSAGES))
    ]
    return state


def decode_outputs(part: Part | None, sealer: Sealer) -> list[Any]:
    """Return every output that a checkpoint's lineage has yielded, from its outputs part."""
    if part is None:
        return []
    items = part if isinstance(part, ListPart) else msgspec.json.decode(part, type=list[msgspec.Raw])
    return [sealer.load(bytes(item)).open() for item in items]


def _decode_request(data: bytes, sealer: Sealer) -> Request:
    stored = msgspec.json.decode(data, type=StoredRequest)
    return Request(
        request_id=stored.request_id,
        source_executor_id=stored.source_executor_id,
        request_executor_id=stored.request_executor_id,
        iteration=stored.iteration,
        timestamp=stored.timestamp,
        response_type=Any,
        data=sealer.load(bytes(stored.data)),
    )


def _json(part: Part) -> bytes:
    return part.to_json() if isinstance(part, ListPart) else part
