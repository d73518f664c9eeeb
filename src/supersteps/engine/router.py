"""`Router`: where messages, outputs, failures and questions go.

A message to the node of a sub-workflow goes directly to the start executor inside it and starts a
run there. What the sub-workflow yields goes directly along the edges of its node. So a sub-workflow
costs no supersteps of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from supersteps.checkpoint.sections.answered import Closed
from supersteps.checkpoint.sections.message import Message
from supersteps.checkpoint.sections.question import Ask, Request
from supersteps.checkpoint.sections.sub_run import SubRun
from supersteps.checkpoint.values import Sealed, Sealer
from supersteps.define.edges import FanInEdgeGroup
from supersteps.define.executor import Executor
from supersteps.define.request_info import RequestInfoExecutor
from supersteps.define.subworkflow import WorkflowExecutor, takes_input
from supersteps.engine.answers import check_reply
from supersteps.engine.effects import Send
from supersteps.engine.levels import Level, Levels
from supersteps.engine.merged import Merged
from supersteps.engine.state import State
from supersteps.requests import (
    RequestInfoMessage,
    RequestResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
)
from supersteps.typing import display_name, twin_of


class Router(msgspec.Struct, eq=False):
    """The routing of one superstep.

    Attributes:
        levels: The graph and those of its sub-workflows.
        state: The state at the barrier before.
        sealer: Seals what fan-ins make.
        step: The superstep.
        merged: Takes what comes of it: messages, outputs, fan-ins, replies, runs of sub-workflows
            that start, and a sentence for each undelivered message.
    """

    levels: Levels
    state: State
    sealer: Sealer
    step: int
    merged: Merged
    _counts: dict[str, int] = {}
    _passed_on: set[str] = set()

    # ------------------------------------------------------------------------------------- messages

    def route(self, level: Level, source: str, send: Send) -> None:
        """Send a message along every edge that accepts it; record it if none does.

        Args:
            level: The level.
            source: Who sends it, by its id there.
            send: The message, and to whom.
        """
        payload, target_id = send.payload, send.target_id
        way = None if level.prefix else level.graph.ways.get(source)
        if way is not None and (target_id is None or target_id == way.target_ids[0]):
            if way.find is not None:
                spec = way.find(payload.peek())
                is_taken = spec is not None
                taker = way.specs.index(spec) if spec is not None else None
            else:
                taker, is_taken = None, way.executor.can_handle(payload.peek())
            if is_taken:
                message = Message(payload, way.source_ids, way.target_ids, taker)
                self.merged.messages.append(message)
                return
        targets, fan_ins = self._choose(level, source, payload, target_id)
        for group in fan_ins:
            self._buffer(level, group, source, payload)
        if targets:
            self.merged.messages.append(Message(payload, (level.prefix + source,), tuple(targets)))

    def aside(
        self, level: Level, source: str, payload: Sealed, target_id: str | None
    ) -> Message | None:
        """Route a message that is for later; return None if it has no receiver.

        Fan-ins are among its receivers.
        """
        targets, fan_ins = self._choose(level, source, payload, target_id)
        targets += [level.prefix + group.id for group in fan_ins]
        return Message(payload, (level.prefix + source,), tuple(targets)) if targets else None

    def fill_fan_ins(self, message: Message) -> None:
        """Let a message that was for later wait in the fan-ins among its receivers."""
        for target in message.target_ids:
            group = self.levels.fan_in(target)
            if group is not None:
                level = self.levels.of(target)
                self._buffer(level, group, level.local(message.source_ids[0]), message.payload)

    def _choose(
        self, level: Level, source: str, payload: Sealed, target_id: str | None
    ) -> tuple[list[str], list[FanInEdgeGroup]]:
        """Return the executors and the fan-ins that get a message; note it if there are none."""
        targets: list[str] = []
        fan_ins: list[FanInEdgeGroup] = []
        accepted = is_shown = False
        for group in level.graph.outgoing[source]:
            if isinstance(group, FanInEdgeGroup):
                target = group.target_ids[0]
                if target_id in (None, target) and self._takes(level, target, [payload.peek()]):
                    fan_ins.append(group)
                    accepted = True
            elif group.is_plain:
                for target in group.target_ids:
                    if target_id is None or target == target_id:
                        accepted |= self._deliver(level, target, payload, targets)
            else:
                message = payload.peek()
                takes = partial(self._takes, level, message=message)
                is_shown = True
                for target in group.choose(message, target_id, takes):
                    accepted |= self._deliver(level, target, payload, targets)
        if (
            target_id == source and not accepted
        ):  # only schedule() lets an executor address itself without an edge
            accepted = self._deliver(level, source, payload, targets)
        if not accepted:
            self._note_undelivered(level, source, payload)
        if is_shown:
            payload.forget_peek()  # user code has seen the copy and may have changed it
        return targets, fan_ins

    def _takes(self, level: Level, target: str, message: Any) -> bool:
        """Return whether an executor, or its sub-workflow, handles a message."""
        executor = level.graph.nodes[target].executor
        if not isinstance(executor, WorkflowExecutor):
            return executor.can_handle(message)
        if _is_answer(executor, message):
            return self._asked(level, target, message) is not None
        return takes_input(executor, message)

    def _deliver(self, level: Level, target: str, payload: Sealed, targets: list[str]) -> bool:
        """Add the executor that gets a message; return whether there is one."""
        executor = level.graph.nodes[target].executor
        if isinstance(executor, WorkflowExecutor):
            return self._enter(level, target, executor, payload, targets)
        if not executor.can_handle(payload.peek()):
            return False
        targets.append(level.prefix + target)
        return True

    def _note_undelivered(self, level: Level, source: str, payload: Sealed) -> None:
        groups = level.graph.outgoing[source]
        kind = display_name(type(payload.peek()))
        why = (
            f"none of its edges ({', '.join(group.id for group in groups)}) accepts it: "
            "conditions, selections and handled types all said no"
            if groups
            else "it has no outgoing edges"
        )
        if groups:
            why += twin_of(type(payload.peek()), level.graph.annotations)
        if isinstance(level.graph.nodes[source].executor, WorkflowExecutor) and not groups:
            why += "; allow_direct_output=True makes what a sub-workflow yields outputs of the run"
        address = level.prefix + source
        self.merged.undelivered.append(
            f"executor {address!r} sent a message of type {kind} that goes nowhere: {why}"
        )

    def enter(self, level: Level, target: str, payload: Sealed) -> tuple[str, ...]:
        """Return where a message from outside goes.

        That is an executor, or the start executor inside a sub-workflow.
        """
        targets: list[str] = []
        self._deliver(level, target, payload, targets)
        return tuple(targets)

    def route_failure(self, level: Level, source: str, failure: Sealed) -> None:
        """Send a failure to the executors at the end of the error edges."""
        targets: list[str] = []
        for target in level.graph.error_targets.get(source, ()):
            self._deliver(level, target, failure, targets)
        self.merged.messages.append(Message(failure, (level.prefix + source,), tuple(targets)))

    def emit(self, level: Level, source: str, output: Sealed) -> None:
        """Pass an output on: to the run, or as a message of the sub-workflow's node."""
        if level.parent is None:
            self.merged.outputs.append((level.prefix + source, output))
        elif level.stand_in.__supersteps__.allow_direct_output:
            self.emit(level.parent, level.node, output)
        else:
            self.route(level.parent, level.node, Send(output, None))

    # -------------------------------------------------------------------------------------- fan-ins

    def _buffer(self, level: Level, group: FanInEdgeGroup, source: str, payload: Sealed) -> None:
        """Let a message wait in a fan-in."""
        name = level.prefix + group.id
        buffers = self.merged.fan_in.get(name)
        if buffers is None:
            before = self.state.fan_in.get(name, {})
            buffers = self.merged.fan_in[name] = {
                sender: list(waiting) for sender, waiting in before.items()
            }
        buffers.setdefault(source, []).append(payload)

    def release_fan_ins(self) -> None:
        """Deliver a list where every source of a fan-in has sent something.

        Each list takes the oldest message of each source.

        A list may fill further fan-ins, so those that come up meanwhile are checked as well.
        """
        done: set[str] = set()
        while names := [name for name in self.merged.fan_in if name not in done]:
            for name in names:
                done.add(name)
                self._release(name, self.merged.fan_in[name])

    def _release(self, name: str, buffers: dict[str, list[Sealed]]) -> None:
        level = self.levels.of(name)
        group = level.graph.fan_ins[level.local(name)]
        target = group.target_ids[0]
        while all(buffers.get(source) for source in group.source_ids):
            waited = [buffers[source].pop(0) for source in group.source_ids]
            items = [payload.open() for payload in waited]
            payload = self.sealer.seal(items, "the list that fan-in {} makes", name)
            targets: list[str] = []
            if self._deliver(level, target, payload, targets):
                sources = tuple(level.prefix + source for source in group.source_ids)
                self.merged.messages.append(Message(payload, sources, tuple(targets)))
                continue
            # An earlier version of the library, or of the graph, may have let anything wait here.
            fits = [self._takes(level, target, [item]) for item in items]
            if not all(fits):
                for source, waiting, is_fit in zip(group.source_ids, waited, fits, strict=True):
                    if is_fit:
                        buffers[source].insert(0, waiting)
                items = [item for item, is_fit in zip(items, fits, strict=True) if not is_fit]
            kinds = ", ".join(display_name(type(item)) for item in items)
            self.merged.undelivered.append(
                f"{name} made a list of ({kinds}) that {level.prefix + target!r} has no handler for"
            )
        for source in [source for source, waiting in buffers.items() if not waiting]:
            del buffers[source]

    # -------------------------------------------------------------------------------- sub-workflows

    def _enter(
        self,
        level: Level,
        node: str,
        executor: WorkflowExecutor,
        payload: Sealed,
        targets: list[str],
    ) -> bool:
        """Start a run of a sub-workflow with a message, or take it as an answer to its question."""
        value = payload.peek()
        if _is_answer(executor, value):
            return self._reply(level, node, value)
        if not takes_input(executor, value):
            return False
        inner = executor.__supersteps__.start
        inner_level = self.begin(level, node, executor)
        if isinstance(inner, WorkflowExecutor):
            return self._enter(inner_level, inner.id, inner, payload, targets)
        targets.append(inner_level.prefix + inner.id)
        return True

    def begin(self, level: Level, node: str, executor: WorkflowExecutor) -> Level:
        """Start a run of a sub-workflow and return its level."""
        name = f"{level.prefix}{node}#{self.step}"
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        path = f"{name}.{count}" if count else name
        workflow_id = executor.__supersteps__.workflow.workflow_id
        self.merged.sub_runs[path] = SubRun(workflow_id, level.prefix + node, self.step)
        return self.levels.at(path)

    # ------------------------------------------------------------------------------------ questions

    def offer(self, level: Level, request: Request) -> Request:
        """Offer a sub-workflow's question to the executors around it, the nearest first.

        Returns:
            The question; with `node` set when it was sent to one of them, and no other one is to
            be asked. Where an edge leads from the node to a `RequestInfoExecutor` as well, it goes
            further out all the same, and the first answer counts.
        """
        question = request.data.open()
        while level.parent is not None:
            for payload in self._offers(level, request, question):
                targets = tuple(self._interceptors(level, payload))
                if not targets:
                    continue
                sealed = self.sealer.seal(
                    payload, "request {!r} of a sub-workflow", request.request_id
                )
                node = level.parent.prefix + level.node
                self.merged.messages.append(Message(sealed, (node,), targets))
                if request.direct or not self._is_ported(level, question):
                    return replace(request, node=node)
                break
            level = level.parent
        return request

    def _is_ported(self, level: Level, question: Any) -> bool:
        """Return whether an edge leads a sub-workflow's question to a `RequestInfoExecutor`."""
        assert level.parent is not None
        outer = level.parent

        def takes(target: str) -> bool:
            executor = outer.graph.nodes[target].executor
            return isinstance(executor, RequestInfoExecutor) and executor.can_handle(question)

        return any(
            group.choose(question, None, takes)
            for group in outer.graph.outgoing[level.node]
            if not isinstance(group, FanInEdgeGroup)
        )

    def _offers(self, level: Level, request: Request, question: Any) -> Iterator[Any]:
        """Yield the messages as which a question can be offered outside the sub-workflow."""
        if isinstance(question, RequestInfoMessage) and not request.direct:
            question.source_executor_id = level.node
            yield question
        yield SubWorkflowRequestMessage(
            request.request_id, question, level.node, request.source_executor_id
        )

    def _interceptors(self, level: Level, payload: Any) -> Iterator[str]:
        """Yield executors behind a sub-workflow's node whose handlers name a question's type."""
        assert level.parent is not None
        outer = level.parent

        def takes(target: str) -> bool:
            return _takes_questions(outer.graph.nodes[target].executor, payload)

        for group in outer.graph.outgoing[level.node]:
            if not isinstance(group, FanInEdgeGroup):
                yield from (outer.prefix + t for t in group.choose(payload, None, takes))

    def pass_on(self, level: Level, asked_through: str, ask: Ask) -> tuple[bool, Request | None]:
        """Look whether an executor around a sub-workflow has passed its question on.

        Args:
            level: The level around the sub-workflow.
            asked_through: The `RequestInfoExecutor` that got it, by path.
            ask: What it asked.

        Returns:
            Whether it is one that was passed on, rather than one that an executor asks in its own
            name; and that question as the sub-workflow's own, which no executor around can answer
            any longer, or None where it has an answer or was asked outside before.
        """
        request = self._find(ask.request_id)
        if request is None:
            return False, None
        question = ask.data.open()
        node = getattr(question, "source_executor_id", None)
        if (
            type(question) is not type(request.data.open())
            or node is None
            or node not in level.graph.reachable[level.local(asked_through)]
            or not self._is_inside(level, node, request)
        ):
            return False, None
        if request.node is None or self._is_settled(request.request_id):
            return True, None
        self._passed_on.add(request.request_id)
        return True, replace(
            request, iteration=self.step, timestamp=ask.timestamp, data=ask.data, node=None
        )

    def _find(self, request_id: str) -> Request | None:
        """Return a question that waits for its answer, from inside the run or from outside."""
        request = self.state.intercepted.get(request_id)
        return self.state.requests.get(request_id) if request is None else request

    def _is_inside(self, level: Level, node: str, request: Request) -> bool:
        """Return whether a question comes from a sub-workflow's node at a level."""
        inner = self.levels.of(request.source_executor_id)
        while inner.parent is not None:
            if inner.parent is level and inner.node == node:
                return True
            inner = inner.parent
        return False

    def _is_settled(self, request_id: str) -> bool:
        """Return whether a question has an answer from inside the run, or was passed on."""
        return (
            request_id in self.merged.replies
            or request_id in self.state.replies
            or request_id in self._passed_on
        )

    def _asked(
        self,
        level: Level,
        node: str,
        value: RequestResponse[Any, Any] | SubWorkflowResponseMessage[Any],
    ) -> Request | None:
        """Return the question of a sub-workflow that a message answers; None if none waits."""
        request = self._find(value.request_id)
        if request is None or not self._is_inside(level, node, request):
            return None
        is_closed = any(closed.request is request for closed in self.merged.closed)
        return None if is_closed or self._is_settled(request.request_id) else request

    def _reply(
        self,
        level: Level,
        node: str,
        value: RequestResponse[Any, Any] | SubWorkflowResponseMessage[Any],
    ) -> bool:
        """Take a message to a sub-workflow's node as the answer to its question.

        Returns:
            Whether it is one.
        """
        request = self._asked(level, node, value)
        if request is None:
            return False
        check_reply(self.levels, request, value.data)
        answer = self.sealer.seal(value.data, "the answer to {!r}", request.request_id)
        self.merged.replies[request.request_id] = answer
        if request.node is None:  # it was also asked outside, where it has no answer yet
            self.merged.closed.append(Closed(request, "intercepted", answer))
            self.merged.intercepted.append(replace(request, node=level.prefix + node))
        return True


def _is_answer(executor: WorkflowExecutor, message: Any) -> bool:
    """Return whether a message to a sub-workflow is an answer, and so no input, even if late."""
    if not executor.__supersteps__.may_ask:
        return False
    return isinstance(message, RequestResponse | SubWorkflowResponseMessage)


def _takes_questions(executor: Executor, payload: Any) -> bool:
    """Return whether an executor's handler names such a question's type."""
    if isinstance(executor, RequestInfoExecutor | WorkflowExecutor):
        # It would only pass the question on; unhandled ones go to the outside world anyway.
        return False
    spec = executor.__supersteps__.find(payload)
    return spec is not None and spec.message_type not in (Any, object)
