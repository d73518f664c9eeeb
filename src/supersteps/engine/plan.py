"""`plan`: who handles what in a superstep. Pure: no I/O, no clocks.

It depends only on the graph, the state and what has come from outside, so local, distributed and
resumed runs agree. Executors are in the order in which they were added to the graph, and the
messages of one executor in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from supersteps.checkpoint.sections.answered import Outcome
from supersteps.checkpoint.sections.message import Reply
from supersteps.checkpoint.sections.question import Request
from supersteps.checkpoint.values import Sealed
from supersteps.checkpoint.work import Work
from supersteps.engine.levels import Levels
from supersteps.engine.state import State
from supersteps.paths import path_of


class PlannedCall(msgspec.Struct, frozen=True, gc=False):
    """A message that an executor is to handle.

    Attributes:
        key: Names the call among the executor's calls in this superstep, also after a crash: the
            number of a message in flight, or "timer:" or "answer:" with an id.
        payload: The message.
        source_ids: Who sent it.
        attempt: Which attempt this is, from 1.
        work: Its piece of work, if an earlier attempt has started that.
        taker: The place, among the executor's handlers, of the one that routing has found; None if
            it is searched at the call.
    """

    key: str
    payload: Sealed
    source_ids: tuple[str, ...]
    attempt: int = 1
    work: Work | None = None
    taker: int | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An entry of the inbox that the superstep is to consume.

    Attributes:
        number: Its place in the inbox.
        request_id: The request.
        value: The answer, None if there is none.
        outcome: How the question ends; None if it does not, because the answer cannot be used.
        refusal: Why it cannot be used.
    """

    number: int
    request_id: str
    value: Sealed | None
    outcome: Outcome | None = "answered"
    refusal: str | None = None


class Plan(msgspec.Struct, frozen=True, gc=False):
    """A superstep before it runs.

    Attributes:
        calls: What each executor handles, by path, in the order of the merge.
        answers: Entries of the inbox that the superstep consumes.
        replies: Ids of sub-workflows' questions that executors around them have answered.
        timers: Ids of the timers that are due.
    """

    calls: Mapping[str, Sequence[PlannedCall]]
    answers: Sequence[Answer] = ()
    replies: Sequence[str] = ()
    timers: Sequence[str] = ()


def plan(
    levels: Levels,
    state: State,
    answers: Sequence[Answer],
    due: Sequence[str] = (),
    defaults: Mapping[str, Sealed] | None = None,
) -> Plan:
    """Return who handles what in the next superstep.

    Args:
        levels: The graph and those of its sub-workflows.
        state: The state at the barrier.
        answers: Entries of the inbox, in the order of their acceptance.
        due: Ids of the timers that are due.
        defaults: Default answers to sub-workflows' questions whose deadlines have passed.
    """
    replies = {**(defaults or {}), **state.replies} if defaults else state.replies
    calls: dict[str, list[PlannedCall]] = {}
    for message in state.messages:
        for target in message.target_ids:
            queue = calls.get(target)
            if queue is None:
                queue = calls[target] = []
            queue.append(
                PlannedCall(
                    str(len(queue)), message.payload, message.source_ids, 1, None, message.taker
                )
            )
    for timer_id in due:
        timer = state.timers[timer_id]
        message = timer.message
        for target in message.target_ids:
            if levels.fan_in(target) is not None:
                continue  # no call: the merge lets it wait there
            call = PlannedCall(
                f"{TIMER}{timer_id}", message.payload, message.source_ids, timer.attempt, timer.work
            )
            calls.setdefault(target, []).append(call)
    for request_id, value in replies.items():
        _add_reply(calls, state.intercepted[request_id], value)
    for answer in answers:
        if answer.value is not None and answer.outcome is not None:
            _add_reply(calls, state.requests[answer.request_id], answer.value)
    if len(calls) > 1:
        calls = dict(sorted(calls.items(), key=lambda item: levels.position(item[0])))
    return Plan(calls, answers, tuple(replies), tuple(due))


def moving(planned: Plan, state: State) -> set[str]:
    """Return the paths of the workflows that a superstep moves, the root as an empty one.

    The first superstep of a sub-workflow's run moves the workflow around it as well, as a call of
    an executor would. So sub-workflows that keep sending messages to each other do not escape the
    limit of that workflow.
    """
    paths = {path_of(address) for address in planned.calls} if state.sub_runs else {""}
    frontier = [*paths]
    while frontier:
        path = frontier.pop()
        if path and not state.sub_runs[path].steps and (outer := path_of(path)) not in paths:
            paths.add(outer)
            frontier.append(outer)
    return paths


def _add_reply(calls: dict[str, list[PlannedCall]], request: Request, value: Sealed) -> None:
    payload = Reply(
        value.codec,
        request_id=request.request_id,
        question=request.data,
        answer=value,
        direct=request.direct,
    )
    call = PlannedCall(f"{ANSWER}{request.request_id}", payload, (request.request_executor_id,))
    calls.setdefault(request.source_executor_id, []).append(call)


TIMER, ANSWER = "timer:", "answer:"
"""Prefixes of the keys of calls for timers and for answers."""


def due_timers(state: State, now: str, begun: Collection[str] = ()) -> list[str]:
    """Return the ids of the timers that are due, the earliest first.

    Args:
        state: The state at the barrier.
        now: The present.
        begun: Keys of calls that an earlier attempt at the superstep has made or begun. Their
            timers were due then, and are due now, even if the clock has been set back since.
    """
    return [timer.timer_id for timer in state.timers.due(now, _named(TIMER, begun))]


def late_questions(state: State, now: str, begun: Collection[str] = ()) -> list[Request]:
    """Return the questions of sub-workflows whose deadline has passed, the earliest first.

    Args:
        state: The state at the barrier.
        now: The present.
        begun: Keys of calls that an earlier attempt at the superstep has made or begun. Where one
            of them took the default, the deadline had passed, even if the clock was set back since.
    """
    return state.intercepted.due(now, _named(ANSWER, begun))


def _named(kind: str, begun: Collection[str]) -> Collection[str]:
    """Return the ids of what calls of a kind handle, by the keys of calls."""
    return {key.removeprefix(kind) for key in begun if key.startswith(kind)} if begun else ()
