"""`merge`: what a superstep changes. Pure: no I/O, no clocks.

The order depends on the graph and the messages, never on which handler finished first.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supersteps.checkpoint.sections.answered import Closed
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Ask, Request
from supersteps.checkpoint.sections.sub_run import SubRun, owner_of
from supersteps.checkpoint.sections.timer import Delayed, Timer
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.engine.answers import open_request
from supersteps.engine.effects import Effects
from supersteps.engine.levels import Level, Levels
from supersteps.engine.merged import Merged
from supersteps.engine.plan import Plan, moving
from supersteps.engine.router import Router
from supersteps.engine.state import State
from supersteps.engine.writes import WriteMerge
from supersteps.errors import WorkflowRuntimeError
from supersteps.paths import PATH_MARK, path_of


def merge(
    levels: Levels,
    state: State,
    planned: Plan,
    results: Sequence[Effects],
    sealer: Sealer,
    step: int,
) -> Merged:
    """Return what a superstep changes.

    Args:
        levels: The graph and those of its sub-workflows.
        state: The state at the barrier before the superstep; not changed.
        planned: The superstep's plan.
        results: The effects of every call, in the order of the plan.
        sealer: Freezes values of reducers and fan-ins.
        step: The superstep's number.

    Raises:
        StateConflictError: Two executors wrote one shared key that has no reducer.
        ReducerError: A reducer raised.
        RoutingError: A condition or selection function raised.
        UnanswerableRequestError: An executor has no handler for the answer to its question.
    """
    merged = Merged(released=planned.replies, fired=planned.timers)
    router = Router(levels, state, sealer, step, merged)
    _Merge(levels, state, sealer, step, router, merged).run(planned, results)
    return merged


def enter(
    levels: Levels, state: State, payload: Sealed, source_ids: tuple[str, ...], merged: Merged
) -> Message:
    """Return the message that carries the run's input.

    If the start executor is a sub-workflow's node, a run of the sub-workflow starts.

    Args:
        levels: The graph and those of its sub-workflows.
        state: The state of a run that has not started.
        payload: The input.
        source_ids: Who sent it.
        merged: Takes the run of the sub-workflow.
    """
    router = Router(levels, state, Sealer(payload.codec, encoding=False), 0, merged)
    targets = router.enter(levels.root, levels.root.graph.start_id, payload)
    return Message(payload, source_ids, targets)


class _Merge(msgspec.Struct, eq=False):
    _levels: Levels
    _state: State
    _sealer: Sealer
    _step: int
    _router: Router
    _merged: Merged
    _asking: _Asking | None = None

    def run(self, planned: Plan, results: Sequence[Effects]) -> None:
        router, merged = self._router, self._merged
        writers = [effects for effects in results if effects.writes]
        if writers:
            joined = WriteMerge(self._levels, self._state, self._sealer)
            joined.run(writers)
            merged.writes, merged.appends = joined.writes, joined.appends
        if planned.answers:
            merged.closed = self._close(planned)
        for timer_id in planned.timers:
            router.fill_fan_ins(self._state.timers[timer_id].message)
        for effects in results:
            self._route(self._levels.of(effects.executor_id), effects)
        if self._asking is not None:
            merged.released = [*merged.released, *self._asking.passed_on]
        if merged.fan_in:
            router.release_fan_ins()
        if self._state.sub_runs or merged.sub_runs:
            self._move_sub_runs(merged, planned)

    def _close(self, planned: Plan) -> list[Closed]:
        requests = self._state.requests
        return [
            Closed(requests[answer.request_id], answer.outcome, answer.value)
            for answer in planned.answers
            if answer.outcome is not None
        ]

    # -------------------------------------------------------------------------------------- routing

    def _route(self, level: Level, effects: Effects) -> None:
        router = self._router
        source = level.local(effects.executor_id) if level.prefix else effects.executor_id
        for output in effects.outputs:
            router.emit(level, source, output)
        for send in effects.sends:
            router.route(level, source, send)
        for failure in effects.failures:
            router.route_failure(level, source, failure)
        for ask in effects.asks:
            self._ask(self._merged, level, effects.executor_id, ask)
        for delayed in effects.delayed:
            self._delay(self._merged, level, effects.executor_id, delayed)

    def _delay(self, merged: Merged, level: Level, address: str, delayed: Delayed) -> None:
        """Start a timer.

        Its message is routed now, so that its receivers do not depend on when it is due.
        """
        if delayed.attempt > 1:
            message = Message(delayed.payload, delayed.source_ids, (address,))
        else:
            routed = self._router.aside(
                level, level.local(address), delayed.payload, delayed.target_id
            )
            if routed is None:
                return
            message = routed
        timer_id = f"{self._step}.{len(merged.timers)}"
        merged.timers.append(Timer(timer_id, delayed.due, message, delayed.attempt, delayed.work))

    # -------------------------------------------------------------------------------------- asking

    def _ask(self, merged: Merged, level: Level, asked_through: str, ask: Ask) -> None:
        asking = self._asking
        if asking is None:
            asking = self._asking = _Asking(merged)
        is_passed_on, request = self._router.pass_on(level, asked_through, ask)
        if request is not None:
            asking.pass_on(request)
        elif is_passed_on:
            return
        else:
            request = open_request(self._levels, asked_through, ask, self._step)
        request = self._router.offer(level, request)
        asking.refuse_twin(self._state, request)
        (merged.opened if request.node is None else merged.intercepted).append(request)

    # -------------------------------------------------------------------------------- sub-workflows

    def _move_sub_runs(self, merged: Merged, planned: Plan) -> None:
        """Count supersteps of the sub-workflows that took part, and find those that ended."""
        moved = moving(planned, self._state) - {""}
        answered = {path_of(closed.request.source_executor_id) for closed in merged.closed}
        answered.update(
            path_of(self._state.intercepted[key].source_executor_id) for key in planned.replies
        )
        fired = (self._state.timers[key].message.target_ids for key in planned.timers)
        answered.update(path_of(target) for targets in fired for target in targets)
        for path in moved:
            before = self._state.sub_runs[path]
            steps = 1 if path in answered else before.steps + 1
            merged.sub_runs[path] = SubRun(before.workflow_id, before.node, before.started, steps)
        merged.ended = self._find_ended(merged)
        for path in merged.ended:
            merged.sub_runs.pop(path, None)
        if merged.ended:
            self._leave(merged)

    def _find_ended(self, merged: Merged) -> list[str]:
        """Return the paths of sub-workflows' runs that have ended, innermost first.

        Nothing can happen in them any longer.
        """
        busy = {path_of(target) for message in merged.messages for target in message.target_ids}
        holds = self._held(merged)
        ended: list[str] = []
        layers: dict[int, set[str]] = {}
        for path in {*merged.sub_runs, *holds} - {""}:
            layers.setdefault(path.count(PATH_MARK), set()).add(path)
        for depth in range(max(layers, default=-1), -1, -1):
            for path in sorted(layers.get(depth, ())):
                if path in busy or holds.get(path, self._state.holds[path]) > 0:
                    continue
                ended.append(path)
                outer = path_of(path)
                if outer:
                    holds[outer] = holds.get(outer, self._state.holds[outer]) - 1
                    layers.setdefault(depth - 1, set()).add(outer)
        return ended

    def _held(self, merged: Merged) -> dict[str, int]:
        """Return the numbers of things that keep sub-workflows' runs active after the superstep.

        Only runs whose number has changed are included.
        """
        state = self._state
        changed = [
            (path_of(r.source_executor_id), 1) for r in (*merged.opened, *merged.intercepted)
        ]
        changed += [(path_of(closed.request.source_executor_id), -1) for closed in merged.closed]
        changed += [
            (path_of(state.intercepted[key].source_executor_id), -1) for key in merged.released
        ]
        changed += [(path_of(t), 1) for timer in merged.timers for t in timer.message.target_ids]
        changed += [
            (path_of(t), -1) for key in merged.fired for t in state.timers[key].message.target_ids
        ]
        changed += [(path_of(path), 1) for path in merged.sub_runs if path not in state.sub_runs]
        holds: dict[str, int] = {}
        for path, change in changed:
            holds[path] = holds.get(path, state.holds[path]) + change
        return holds

    def _leave(self, merged: Merged) -> None:
        """Delete the state of sub-workflows' runs that have ended; report undelivered messages."""
        ended = {*merged.ended}
        for place in [place for place in merged.writes if owner_of(place[0]) in ended]:
            del merged.writes[place]
        for place in [place for place in merged.appends if owner_of(place[0]) in ended]:
            del merged.appends[place]
        for path in merged.ended:
            for scope in self._state.scopes_of(path):
                merged.writes.update({(scope, key): None for key in self._state.scopes[scope]})
        for name in [*self._state.fan_in, *merged.fan_in]:
            path = path_of(name)
            if path in ended:
                if merged.fan_in.get(name, self._state.fan_in.get(name)):
                    merged.undelivered.append(
                        f"sub-workflow {path!r} ended while messages wait in {name!r}"
                    )
                merged.fan_in[name] = {}


class _Asking:
    """The ids of a superstep's questions, created for the first one.

    Attributes:
        passed_on: Ids of those that an executor of the outer workflow has passed on.
    """

    def __init__(self, merged: Merged) -> None:
        self.passed_on: list[str] = []
        self._merged = merged
        # Whether an executor of the outer workflow has the question, and its id.
        self._asked: set[tuple[bool, str]] = set()
        self._ended = {(True, request_id) for request_id in merged.released}
        self._seen = (0, 0, 0)

    def pass_on(self, request: Request) -> None:
        """Record a question that is passed on to the outside."""
        self.passed_on.append(request.request_id)
        self._ended.add((True, request.request_id))

    def refuse_twin(self, state: State, request: Request) -> None:
        """Refuse a question with the id of a waiting one.

        An answer could not distinguish them.
        """
        self._catch_up()
        is_inside = request.node is not None
        name = (is_inside, request.request_id)
        waiting = state.intercepted if is_inside else state.requests
        waits = request.request_id in waiting and name not in self._ended
        if waits or name in self._asked:
            raise WorkflowRuntimeError(
                f"executor {request.source_executor_id!r} asks request {request.request_id!r}, but "
                "a request with this id already waits for its answer. Use a different id for each "
                "question (a new RequestInfoMessage has one). Nothing of this superstep was "
                "committed."
            )

    def _catch_up(self) -> None:
        """Record what was asked and closed since the last question."""
        merged, (opened, inside, closed) = self._merged, self._seen
        self._asked.update((False, request.request_id) for request in merged.opened[opened:])
        self._asked.update((True, request.request_id) for request in merged.intercepted[inside:])
        self._ended.update((False, c.request.request_id) for c in merged.closed[closed:])
        self._seen = len(merged.opened), len(merged.intercepted), len(merged.closed)
