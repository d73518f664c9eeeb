"""`Merged`: the changes of a superstep; `apply` adds them to the state."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supersteps.checkpoint.parts import Scope
from supersteps.checkpoint.sections.answered import Closed
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.sections.sub_run import SubRun
from supersteps.checkpoint.sections.timer import Timer
from supersteps.checkpoint.values import Sealed, SealedList, Sealer
from supersteps.engine.levels import Levels
from supersteps.engine.state import State
from supersteps.paths import path_of


class Merged(msgspec.Struct, gc=False):
    """The changes of a superstep, before they are committed.

    Attributes:
        messages: Messages in flight for the next superstep.
        writes: Final values of changed keys; None for deleted ones.
        appends: Items to append to shared lists.
        fan_in: New content of the fan-ins that changed.
        opened: New questions to the outside world.
        intercepted: New questions of sub-workflows for executors of the outer workflow.
        closed: Questions that were closed.
        replies: Answers from executors of the outer workflow, by request id.
        released: Ids of intercepted questions whose answers were delivered.
        timers: New timers.
        fired: Ids of timers whose messages were delivered.
        sub_runs: Runs of sub-workflows that started or advanced, by path.
        ended: Paths of those that have ended.
        outputs: Outputs, with the executor that yielded them.
        undelivered: A sentence for each undelivered message.
    """

    messages: list[Message] = []
    writes: dict[tuple[Scope, str], Sealed | None] = {}
    appends: dict[tuple[Scope, str], list[Sealed]] = {}
    fan_in: dict[str, dict[str, list[Sealed]]] = {}
    opened: list[Request] = []
    intercepted: list[Request] = []
    closed: list[Closed] = []
    replies: dict[str, Sealed] = {}
    released: Sequence[str] = ()
    timers: list[Timer] = []
    fired: Sequence[str] = ()
    sub_runs: dict[str, SubRun] = {}
    ended: list[str] = []
    outputs: list[tuple[str, Sealed]] = []
    undelivered: list[str] = []


def apply(merged: Merged, state: State, levels: Levels, sealer: Sealer) -> None:
    """Change the state in place.

    Afterwards it equals the state loaded from the committed checkpoint.
    """
    state.messages = merged.messages
    if merged.writes or merged.appends:
        _apply_keys(merged, state, sealer)
    for group_id, buffers in merged.fan_in.items():
        if buffers:
            state.fan_in[group_id] = buffers
        else:
            state.fan_in.pop(group_id, None)
    if merged.closed or merged.released or merged.opened or merged.intercepted or merged.replies:
        _apply_questions(merged, state)
    if merged.fired or merged.timers:
        _apply_timers(merged, state)
    if merged.sub_runs or merged.ended:
        _apply_sub_runs(merged, state, levels)


def _apply_timers(merged: Merged, state: State) -> None:
    for timer_id in merged.fired:
        for target in state.timers.pop(timer_id).message.target_ids:
            state.holds[path_of(target)] -= 1
    for timer in merged.timers:
        state.timers[timer.timer_id] = timer
        for target in timer.message.target_ids:
            state.holds[path_of(target)] += 1


def _apply_sub_runs(merged: Merged, state: State, levels: Levels) -> None:
    for path, sub in merged.sub_runs.items():
        if path not in state.sub_runs:
            state.holds[path_of(path)] += 1
        state.sub_runs[path] = sub
    for path in merged.ended:
        if path in state.sub_runs:
            state.holds[path_of(path)] -= 1
        state.drop(path)
        levels.forget(path)


def _apply_keys(merged: Merged, state: State, sealer: Sealer) -> None:
    for (scope, key), value in merged.writes.items():
        if value is not None:
            state.set(scope, key, value)
        else:
            state.delete(scope, key)
    for (scope, key), items in merged.appends.items():
        before = state.scopes.get(scope, {}).get(key)
        longer = before if isinstance(before, SealedList) else sealer.seal_list((), "")
        state.set(scope, key, longer.extended(items))


def _apply_questions(merged: Merged, state: State) -> None:
    for closed in merged.closed:
        del state.requests[closed.request.request_id]
        state.holds[path_of(closed.request.source_executor_id)] -= 1
    for request_id in merged.released:
        state.replies.pop(request_id, None)
        state.holds[path_of(state.intercepted.pop(request_id).source_executor_id)] -= 1
    for request in merged.opened:
        state.requests[request.request_id] = request
        state.holds[path_of(request.source_executor_id)] += 1
    for request in merged.intercepted:
        state.intercepted[request.request_id] = request
        state.holds[path_of(request.source_executor_id)] += 1
    state.replies.update(merged.replies)
