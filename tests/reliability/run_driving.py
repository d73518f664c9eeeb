"""The part of the run machine that drives runs through handles, fresh ones and such as have lost
their run.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from supersteps import (
    ManagedStorage,
    RunFencedError,
    StreamingRun,
    SuperStepCompletedEvent,
    Workflow,
    WorkflowOutputEvent,
)
from tests.reliability.run_history import History, Mismatch
from tests.reliability.run_requests import Requests


@dataclass
class Handle:
    """A handle of a run, and what it may know.

    Attributes:
        run: The handle.
        history: Of its run.
        base: The checkpoint that it continues from; empty before it is opened.
        seen: The run's position when the handle looked; an empty head before that.
        made: Outputs that it has committed.
        told: Outputs that it has announced.
    """

    run: StreamingRun
    history: History
    base: str = ""
    seen: tuple[str, bool, str] = ("", False, "")
    made: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    @property
    def is_stale(self) -> bool:
        head, was_cancelled, newest = self.seen
        now, is_cancelled, commit = self.history.position
        return (head, newest) != (now, commit) or (is_cancelled and not was_cancelled)


@dataclass
class Client:
    """A process, as far as a test can have one in its own: a storage object, a workflow, handles
    by run.
    """

    storage: ManagedStorage
    workflow: Workflow
    handles: dict[str, Handle] = field(default_factory=dict)


class Driving(Requests):
    """What a trial does through handles."""

    async def drive(
        self, client: Client, handle: Handle, steps: int, leaving: random.Random | None = None
    ) -> None:
        """Iterate a handle for some supersteps, or leave at any event; it must have done what it
        could.
        """
        history, is_new = handle.history, not handle.seen[0]
        client.handles[history.run_id] = handle
        if not is_new and handle.is_stale:
            await self._drive_stale(client, handle)
            return
        left, ended = steps, False
        is_waiting = self._waits(handle)
        if is_waiting and not is_new:
            return
        try:
            async for event in handle.run:
                if isinstance(event, WorkflowOutputEvent):
                    handle.told.append(event.data)
                elif isinstance(event, SuperStepCompletedEvent):
                    info = event.completion_info.checkpoint
                    assert info is not None
                    await self.sync(history, handle)
                    if info.checkpoint_id != history.head:
                        raise Mismatch(
                            f"{info.checkpoint_id} was acknowledged, the head is {history.head}"
                        )
                    left -= 1
                    is_waiting = self._waits(handle)
                if left <= 0 or is_waiting or (leaving is not None and leaving.random() < 0.2):
                    break
            else:
                ended = True
        finally:
            await self._settle()
        await self.sync(history, handle)
        if handle.told != handle.made[: len(handle.told)]:
            raise Mismatch(
                f"the outputs {handle.told} were announced, {handle.made} were committed"
            )
        if ended:
            if handle.told != handle.made:
                raise Mismatch(f"of the outputs {handle.made} only {handle.told} were announced")
            if history.states[handle.base].has_work(history.inbox_at(handle.base), self.clock()):
                raise Mismatch("the run does not go on")

    def _waits(self, handle: Handle) -> bool:
        """Return whether iterating would wait for a timer, by the real clock, for years."""
        state = handle.history.states.get(handle.base, handle.history.root)
        return bool(state.timers) and not state.has_work(
            handle.history.inbox_at(handle.base), self.clock()
        )

    async def _drive_stale(self, client: Client, handle: Handle) -> None:
        """Iterate a handle that has lost its run: it must not change anything."""
        history = handle.history
        client.handles.pop(history.run_id)
        state = history.states.get(handle.base)
        if state is not None and state.timers and not state.messages:
            return  # it may wait
        self.told[-1] += " (stale)"
        before = history.head
        try:
            async for _ in handle.run:
                pass
        except RunFencedError:
            pass
        else:
            if state is not None and state.messages:
                raise Mismatch("a handle that has lost its run goes on")
        await self._settle()
        await self.sync(history)
        if history.head != before:
            raise Mismatch("a handle that has lost its run has moved it")

    async def _settle(self) -> None:
        """Let background work finish."""
        while others := asyncio.all_tasks() - {task for task in self.patrons if task is not None}:
            done, pending = await asyncio.wait(others, timeout=2)
            if pending and not done:
                raise Mismatch(f"this does not end: {pending}")
