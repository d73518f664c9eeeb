"""`encode_changes`: what a superstep changes, as encoded parts."""

from __future__ import annotations

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.sections.answered import ANSWERED, encode_closed
from supersteps.checkpoint.sections.fan_in import FAN_IN, encode_buffers
from supersteps.checkpoint.sections.message import MESSAGES, encode_messages
from supersteps.checkpoint.sections.outputs import OUTPUTS, encode_outputs
from supersteps.checkpoint.sections.question import (
    INTERCEPTED,
    REPLIES,
    REQUESTS,
    encode_request,
)
from supersteps.checkpoint.sections.state import SUB_WORKFLOWS
from supersteps.checkpoint.sections.sub_run import encode_sub_run
from supersteps.checkpoint.sections.timer import TIMERS, encode_timer
from supersteps.checkpoint.values import SealedList
from supersteps.engine.answers import response_schema
from supersteps.engine.levels import Levels
from supersteps.engine.merged import Merged
from supersteps.engine.state import State


def encode_changes(
    merged: Merged, state: State, levels: Levels, *, step: int = 0, now: str = ""
) -> Changes:
    """Return what a superstep changes as encoded parts.

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
        changes.appends[OUTPUTS] = encode_outputs(merged.outputs)
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
