"""Between the engine's state and a checkpoint's parts: changes are encoded, loaded records taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import FAN_IN, OUTPUTS, SUB_WORKFLOWS, ListPart, Part, PartKey
from supersteps.checkpoint.sections.answered import ANSWERED, encode_closed
from supersteps.checkpoint.sections.message import MESSAGES, encode_messages
from supersteps.checkpoint.sections.question import (
    INTERCEPTED,
    REPLIES,
    REQUESTS,
    encode_request,
)
from supersteps.checkpoint.sections.table import SECTIONS
from supersteps.checkpoint.sections.timer import TIMERS, encode_timer
from supersteps.checkpoint.stored import (
    StoredSubWorkflow,
    decode_stored,
)
from supersteps.checkpoint.values import Sealed, SealedList, Sealer
from supersteps.define.description import GraphDescription
from supersteps.engine.answers import response_schema
from supersteps.engine.levels import Levels
from supersteps.engine.merged import Merged
from supersteps.engine.state import State, SubRun

_encoder = msgspec.json.Encoder()


# ----------------------------------------------------------------------------------------- encoding


def encode_changes(
    merged: Merged, state: State, levels: Levels, *, step: int = 0, now: str = ""
) -> Changes:
    """Return what a superstep changed as parts.

    Args:
        merged: The outcome of the merge.
        state: The state before it.
        levels: The graph and those of its sub-workflows.
        step: The superstep's number.
        now: The present, for the answers that it consumed.
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
    for (scope, key), items in merged.appends.items():
        changes.appends[*scope, key] = [item.encode() for item in items]
    for group_id, buffers in merged.fan_in.items():
        if buffers:
            puts[FAN_IN, group_id] = encode_buffers(buffers)
        else:
            changes.deletes.append((FAN_IN, group_id))
    if merged.closed or merged.released or merged.opened or merged.intercepted or merged.replies:
        _encode_questions(changes, merged, levels, step, now)
    if merged.fired or merged.timers:
        changes.deletes += [(TIMERS, timer_id) for timer_id in merged.fired]
        puts.update(((TIMERS, timer.timer_id), encode_timer(timer)) for timer in merged.timers)
    if merged.ended or merged.sub_runs:
        changes.deletes += [
            (SUB_WORKFLOWS, path) for path in merged.ended if path in state.sub_runs
        ]
        puts.update(
            ((SUB_WORKFLOWS, path), encode_sub_run(sub)) for path, sub in merged.sub_runs.items()
        )
    if merged.outputs:
        changes.appends[OUTPUTS] = [value.encode() for _source, value in merged.outputs]
    return changes


def _encode_questions(
    changes: Changes, merged: Merged, levels: Levels, step: int, now: str
) -> None:
    puts = changes.puts
    changes.deletes += [(REQUESTS, closed.request.request_id) for closed in merged.closed]
    for released in merged.released:
        changes.deletes += [(INTERCEPTED, released), (REPLIES, released)]
    for request in merged.opened:
        puts[REQUESTS, request.request_id] = encode_request(
            request, response_schema(levels, request)
        )
    for request in merged.intercepted:
        puts[INTERCEPTED, request.request_id] = encode_request(
            request, response_schema(levels, request)
        )
    for request_id, value in merged.replies.items():
        puts[REPLIES, request_id] = value.encode()
    if merged.closed:
        changes.appends[ANSWERED] = [encode_closed(closed, step, now) for closed in merged.closed]


def encode_sub_run(sub: SubRun) -> bytes:
    """Return the run of a sub-workflow as its part."""
    return _encoder.encode(StoredSubWorkflow(sub.workflow_id, sub.node, sub.started, sub.steps))


def encode_buffers(buffers: Mapping[str, list[Sealed]]) -> bytes:
    """Return what waits in a fan-in as its part."""
    return _encoder.encode(
        {source: [msgspec.Raw(v.encode()) for v in waiting] for source, waiting in buffers.items()}
    )


def encode_graph(description: GraphDescription) -> bytes:
    """Return a graph's description as its part."""
    return _encoder.encode(description)


# ----------------------------------------------------------------------------------------- decoding


def decode_graph(part: Part | None) -> GraphDescription | None:
    """Return the graph's description that a checkpoint holds, None when it holds none."""
    return None if part is None else decode_stored(part, GraphDescription, "the graph")


def decode_state(parts: Mapping[PartKey, Part], sealer: Sealer) -> State:
    """Return the state that a checkpoint holds; values are decoded when somebody reads them."""
    state = State()
    for key, part in parts.items():
        match key:
            case ("shared_state" | "executor_states" | "scopes" | "sub_state" | "sub_scopes", *_):
                state.set(key[:-1], key[-1], sealer.load(part))
            case ("fan_in", group_id):
                stored = decode_stored(
                    part, dict[str, list[msgspec.Raw]], f"the fan-in {group_id!r}"
                )
                state.fan_in[group_id] = {
                    s: [sealer.load(bytes(v)) for v in waiting] for s, waiting in stored.items()
                }
            case ("sub_workflows", path):
                sub = decode_stored(part, StoredSubWorkflow, f"the sub-workflow's run {path!r}")
                state.sub_runs[path] = SubRun(sub.workflow_id, sub.node, sub.started, sub.steps)
            case _ if section := SECTIONS.get(key[0]):
                section.load(state, key, part, sealer)
            case _:
                pass  # outputs, answered questions and the graph are read where they are wanted
    state.count_holds()
    return state


def decode_outputs(part: Part | None, sealer: Sealer) -> list[Any]:
    """Return every output that a checkpoint's lineage has yielded, from its outputs part."""
    if part is None:
        return []
    items = (
        part
        if isinstance(part, ListPart)
        else decode_stored(part, list[msgspec.Raw], "the list of outputs")
    )
    return [sealer.load(bytes(item)).open() for item in items]
