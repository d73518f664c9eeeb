"""The pure half of the engine: `plan` says who handles what, `merge` says what becomes of it. No I/O, no clocks.

Both depend on nothing but the graph, the state and the effects, so local, distributed and resumed runs agree. Order:
executors as they were added to the graph, within one its messages as they were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from supersteps._typing import display_name
from supersteps.checkpoint.record import EXECUTORS
from supersteps.edges import FanInEdgeGroup
from supersteps.engine.effects import Ask, Effects, Send
from supersteps.engine.state import SHARED_STATE, Message, Scope, State, updated
from supersteps.engine.values import Sealed, SealedList, Sealer
from supersteps.errors import StateConflictError
from supersteps.graph import Graph
from supersteps.requests import RequestResponse


class AnswerPayload(Sealed):
    """An answer on its way to the executor that asked: put together when it is opened."""

    __slots__ = ("_answer", "_question", "_request_id")

    def __init__(self, request_id: str, question: Sealed, answer: Sealed) -> None:
        super().__init__(answer._codec, None, None)
        self._request_id = request_id
        self._question = question
        self._answer = answer

    def open(self) -> Any:
        return RequestResponse(self._answer.open(), self._question.open(), self._request_id)


class PlannedCall(msgspec.Struct, frozen=True):
    """A message that an executor is to handle.

    Attributes:
        ordinal: Which of the executor's calls in this superstep it is.
        payload: The message.
        source_ids: Who sent it.
    """

    ordinal: int
    payload: Sealed
    source_ids: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """An accepted answer that the superstep is to consume.

    Attributes:
        number: Its place in the inbox.
        request_id: The request.
        value: The answer.
    """

    number: int
    request_id: str
    value: Sealed


class Plan(msgspec.Struct, frozen=True):
    """A superstep before it runs.

    Attributes:
        calls: What each executor handles, in the order of the merge.
        answers: Answers that the superstep consumes.
    """

    calls: Mapping[str, Sequence[PlannedCall]]
    answers: Sequence[Answer]

    @property
    def needs_journal(self) -> bool:
        """Whether a call can finish while others have not; a lone call's record is the commit itself."""
        return len(self.calls) > 1 or any(len(queue) > 1 for queue in self.calls.values())


def plan(graph: Graph, state: State, answers: Sequence[Answer]) -> Plan:
    """Return who handles what in the next superstep.

    Messages in flight come first, then answers in the order of their acceptance: an answer that arrives between a
    crash and the resume gets the last place, so the records of calls that finished before still fit.
    """
    calls: dict[str, list[PlannedCall]] = {}
    for message in state.messages:
        for target in message.target_ids:
            queue = calls.setdefault(target, [])
            queue.append(PlannedCall(len(queue), message.payload, message.source_ids))
    for answer in answers:
        request = state.requests[answer.request_id]
        queue = calls.setdefault(request.source_executor_id, [])
        payload = AnswerPayload(answer.request_id, request.data, answer.value)
        queue.append(PlannedCall(len(queue), payload, (request.request_executor_id,)))
    if len(calls) > 1:
        nodes = graph.nodes
        calls = dict(sorted(calls.items(), key=lambda item: nodes[item[0]].position))
    return Plan(calls, answers)


class Merged(msgspec.Struct):
    """A superstep after it ran: what changes, not yet committed.

    Attributes:
        messages: Messages in flight for the next superstep.
        writes: Final values of changed keys; None for deleted ones.
        appends: Items to append to shared lists.
        fan_in: New content of the fan-ins that changed.
        asks: New questions, with the executor they went through.
        outputs: Outputs, with the executor that yielded them.
        undelivered: A sentence for each message that went nowhere.
    """

    messages: list[Message] = []
    writes: dict[tuple[Scope, str], Sealed | None] = {}
    appends: dict[str, list[Sealed]] = {}
    fan_in: dict[str, dict[str, list[Sealed]]] = {}
    asks: list[tuple[str, Ask]] = []
    outputs: list[tuple[str, Sealed]] = []
    undelivered: list[str] = []


def merge(graph: Graph, state: State, results: Sequence[Effects], sealer: Sealer) -> Merged:
    """Return what a superstep changes.

    Args:
        graph: The workflow's structure.
        state: The state at the barrier before the superstep; not changed.
        results: What every call did, in the order of the plan.
        sealer: Seals values that reducers and fan-ins make.

    Raises:
        StateConflictError: Two executors wrote one shared key that has no reducer.
        ReducerError: A reducer raised.
        RoutingError: A condition or selection function raised.
    """
    merged = Merged()
    for effects in results:
        if effects.outputs:
            merged.outputs += [(effects.executor_id, output) for output in effects.outputs]
        for ask in effects.asks:
            merged.asks.append((effects.executor_id, ask))
    if any(effects.writes for effects in results):
        _merge_writes(graph, state, results, sealer, merged)
    for effects in results:
        for send in effects.sends:
            _route(graph, state, merged, effects.executor_id, send)
    if merged.fan_in:
        _release_fan_ins(graph, merged, sealer)
    return merged


# ------------------------------------------------------------------------------------------ routing


def _route(graph: Graph, state: State, merged: Merged, source: str, send: Send) -> None:
    """Give a message to every edge that accepts it; note it if none does."""
    payload = send.payload
    nodes = graph.nodes
    targets: list[str] = []
    accepted = False
    groups = graph.outgoing[source]
    for group in groups:
        if isinstance(group, FanInEdgeGroup):
            if send.target_id is None or send.target_id in group.target_ids:
                _buffer(state, merged, group, source, payload)
                accepted = True
            continue
        for target in group.choose(payload.peek(), send.target_id):
            if nodes[target].executor.can_handle(payload.peek()):
                targets.append(target)
    if targets:
        merged.messages.append(Message(payload, (source,), tuple(targets)))
    elif not accepted:
        kind = display_name(type(payload.peek()))
        why = (
            f"none of its edges ({', '.join(group.id for group in groups)}) accepts it: conditions, selections and "
            "handled types all said no"
            if groups
            else "it has no outgoing edges"
        )
        merged.undelivered.append(f"executor {source!r} sent a message of type {kind} that goes nowhere: {why}")
    if len(groups) != 1 or groups[0].names != _PLAIN:
        payload.forget_peek()  # user code has seen the copy and may have changed it


_PLAIN = (None,)


def _buffer(state: State, merged: Merged, group: FanInEdgeGroup, source: str, payload: Sealed) -> None:
    """Let a message wait in a fan-in."""
    buffers = merged.fan_in.get(group.id)
    if buffers is None:
        before = state.fan_in.get(group.id, {})
        buffers = merged.fan_in[group.id] = {name: list(waiting) for name, waiting in before.items()}
    buffers.setdefault(source, []).append(payload)


def _release_fan_ins(graph: Graph, merged: Merged, sealer: Sealer) -> None:
    """Deliver a list wherever every source has sent something; each list takes the oldest message of each."""
    for group_id, buffers in merged.fan_in.items():
        group = graph.fan_ins[group_id]
        target = group.target_ids[0]
        while all(buffers.get(source) for source in group.source_ids):
            items = [buffers[source].pop(0).open() for source in group.source_ids]
            payload = sealer.seal(items, "the list that fan-in {} makes", group_id)
            if graph.nodes[target].executor.can_handle(items):
                merged.messages.append(Message(payload, group.source_ids, (target,)))
            else:
                kinds = ", ".join(display_name(type(item)) for item in items)
                merged.undelivered.append(f"{group_id} made a list of ({kinds}) that {target!r} has no handler for")
        for source in [source for source, waiting in buffers.items() if not waiting]:
            del buffers[source]


# ------------------------------------------------------------------------------------------- writes


def _merge_writes(graph: Graph, state: State, results: Sequence[Effects], sealer: Sealer, merged: Merged) -> None:
    """Join all writes; updates of a key are folded or appended in the order of the plan."""
    writes = merged.writes
    writers: dict[tuple[Scope, str], str] = {}
    updates: dict[str, list[Sealed]] = {}
    updaters: dict[str, set[str]] = {}
    for effects in results:
        for write in effects.writes:
            place = (write.scope, write.key)
            if write.is_update and write.value is not None:
                updates.setdefault(write.key, []).append(write.value)
                updaters.setdefault(write.key, set()).add(effects.executor_id)
                continue
            if write.scope[0] != EXECUTORS:
                first = writers.setdefault(place, effects.executor_id)
                if first != effects.executor_id:
                    raise _conflict(graph, write.scope, write.key, first, effects.executor_id)
                if write.scope == SHARED_STATE and write.key in updates:
                    others = updaters[write.key] - {effects.executor_id}
                    if others:
                        raise _conflict(graph, write.scope, write.key, min(others), effects.executor_id)
                    updates.pop(write.key)  # setting or deleting wipes what the same executor updated before
            writes[place] = write.value
    for key, values in updates.items():
        place = (SHARED_STATE, key)
        writer = writers.get(place)
        if writer is not None and updaters[key] != {writer}:
            raise _conflict(graph, SHARED_STATE, key, writer, min(updaters[key] - {writer}))
        base = writes[place] if place in writes else state.scopes.get(SHARED_STATE, {}).get(key)
        reducer = graph.reducers.get(key)
        if reducer is None and (base is None or isinstance(base, SealedList)) and place not in writes:
            merged.appends[key] = values
            continue
        value = updated(key, reducer, base, values)
        where = "shared_state key {!r} after its updates"
        writes[place] = sealer.seal(value, where, key) if reducer else sealer.seal_list(value, where, key)


def _conflict(graph: Graph, scope: Scope, key: str, first: str, second: str) -> StateConflictError:
    what = f"shared state {key!r}" if scope == SHARED_STATE else f"key {key!r} of scope {scope[1]!r}"
    if scope != SHARED_STATE:
        remedy = "Write different keys"
    elif key in graph.reducers:
        remedy = "Its reducer joins updates, but not an update and a deletion: delete it in another superstep"
    else:
        remedy = f"Give the key a reducer (WorkflowBuilder.with_reducer({key!r}, ...)), write different keys"
    return StateConflictError(
        f"executors {first!r} and {second!r} both wrote {what} in one superstep, and one of the writes would be lost. "
        f"{remedy}, or let one executor run after the other. Nothing of this superstep was committed."
    )
