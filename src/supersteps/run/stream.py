"""`EventStream`: events on their way to a consumer or into a result."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Any, Protocol

from supersteps.engine.event_loops import LoopEvent, has_ended, is_gone
from supersteps.engine.setting import Sink
from supersteps.errors import StreamBusyError
from supersteps.events import Note, WorkflowEvent, WorkflowStatusEvent
from supersteps.run.result import ResultCollector
from supersteps.states import WorkflowRunState

UNDELIVERED = 1_000
"""Number of undelivered events from which on `await ctx.add_event` waits."""


class Source(Protocol):
    """A run, as the source of its events."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    async def next_event(self) -> WorkflowEvent:
        """Return the next event, doing the work that leads to it."""

    def consumer_left(self) -> None:
        """Learn that the consumer has left before the end."""


class EventStream:
    """Keeps events until the consumer takes them, and knows the consumer.

    Attributes:
        events: Undelivered events.
        collector: Takes events instead, while a caller waits only for the result.
        sink: Takes the events of every superstep.
        state: The run's state that was last reported.
        delivered_some: Whether events were delivered, which no result will contain.
        is_closed: Whether events are dropped, because the run's handle is closed.
        is_hurried: Whether handlers must not wait for the consumer, because the consumer may itself
            wait for the superstep's end.
    """

    def __init__(self, source: Source) -> None:
        """Begin.

        Args:
            source: The run.
        """
        self.events: deque[WorkflowEvent] = deque()
        self.sink: Sink = self
        self.collector: ResultCollector | None = None
        self.delivered_some = False
        self.is_closed = False
        self.is_hurried = False
        self._space: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._source = source
        self._waiter: asyncio.Future[None] | None = None
        self._consumer: weakref.ref[EventIterator] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the consumer
        self._hold: object | None = None  # of the collector
        self._freed = LoopEvent()
        self._task: weakref.ref[asyncio.Task[Any]] | None = None  # of the consumer
        self.state = WorkflowRunState.STARTED

    # ------------------------------------------------------------------------------- the giving end

    def emit(self, event: WorkflowEvent) -> None:
        """Take an event."""
        if self.is_closed:
            return  # sent by a thread after the end
        if self.collector is not None:
            self.collector.add(event)
            return
        self.events.append(event)
        self.wake()

    def note(self, note: Note) -> None:
        """Take an event of every superstep; a collector takes them itself."""
        if self.is_closed:
            return
        self.events.append(note.event())
        if self._waiter is not None:
            self.wake()

    def emit_state(self, state: WorkflowRunState) -> None:
        """Report a state, if it differs from the last reported one."""
        if state is not self.state:
            self.state = state
            self.emit(WorkflowStatusEvent(state))

    def wake(self) -> None:
        """Wake the consumer: there is an event, or something else has changed."""
        if self._waiter is not None and not self._waiter.done():
            try:
                self._waiter.set_result(None)
            except RuntimeError:  # its event loop is closed, so no task waits there
                self._waiter = None

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for the next event."""
        return self._waiter is not None and not self._waiter.done()

    def begin_anew(self) -> None:
        """Drop undelivered events, because the run was restored."""
        self.events.clear()
        if self.collector is not None:
            self.collector = self.sink = self.collector.fresh()
        self.delivered_some = True
        self.state = WorkflowRunState.STARTED
        self.make_room()

    # -------------------------------------------------------------------------------- back-pressure

    @property
    def is_full(self) -> bool:
        """Whether a handler should wait for the consumer.

        Handlers do not wait for one that has left, or that only wants the result.
        """
        return (
            len(self.events) >= UNDELIVERED
            and self.collector is None
            and self.has_consumer
            and not self.is_hurried
            and not self.is_closed
        )

    async def room(self) -> None:
        """Wait until the consumer has taken half of the events, or has left."""
        while self.is_full:
            if self._space is None:
                self._space = asyncio.get_running_loop(), asyncio.Event()
            await self._space[1].wait()

    def make_room(self) -> None:
        """Wake the handlers that wait."""
        if self._space is not None:
            (loop, space), self._space = self._space, None
            with suppress(RuntimeError):  # the loop is closed, and its tasks are gone
                loop.call_soon_threadsafe(space.set)  # the consumer may end in any thread

    def hurry(self) -> None:
        """Let handlers no longer wait, until there is a new consumer."""
        self.is_hurried = True
        self.make_room()

    # ------------------------------------------------------------------------------- the taking end

    def take(self) -> WorkflowEvent:
        """Return the next event, which must exist."""
        self.delivered_some = True
        event = self.events.popleft()
        if self._space is not None and len(self.events) <= UNDELIVERED // 2:
            self.make_room()
        return event

    async def wait(self) -> None:
        """Wait until `wake`.

        Raises:
            StreamBusyError: Another task waits already.
        """
        self.check_alone()
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None

    def check_alone(self) -> None:
        """Refuse a second task that waits.

        Raises:
            StreamBusyError: Another task waits already.
        """
        if self._waiter is not None and not is_gone(self._waiter):
            raise StreamBusyError(
                f"two tasks wait for the next event of run {self._run_id!r}; events can go to one "
                "only"
            )

    def collect(self, collector: ResultCollector) -> object:
        """Send all events to a collector; return a key to release it."""
        self.check_free()
        self._note_task()
        self.collector = self.sink = collector
        while self.events:
            collector.add(self.events.popleft())
        self.make_room()
        self._hold = hold = object()
        return hold

    def release(self, hold: object) -> None:
        """Send no more events to a collector; one of an ended event loop may be released late."""
        if self._hold is hold:
            self.collector = self._hold = None
            self.sink = self
            self._freed.set()

    def iterate(self) -> EventIterator:
        """Return an iterator, which becomes the consumer.

        Raises:
            StreamBusyError: There is another consumer.
        """
        iterator = EventIterator(self._source, self)
        self.claim(iterator)
        self.is_hurried = False
        return iterator

    @property
    def has_consumer(self) -> bool:
        """Whether an iterator is the consumer."""
        return self._consumer is not None and self._consumer() is not None

    @property
    def is_taken(self) -> bool:
        """Whether events have a consumer or a collector."""
        return self.collector is not None or self.has_consumer

    async def freed(self) -> None:
        """Wait until the events have no consumer.

        Raises:
            StreamBusyError: The calling task itself consumes them.
        """
        while self.is_taken:
            self.check_not_own()
            self._freed.clear()
            await self._freed.wait()

    def check_not_own(self) -> None:
        """Refuse to let a task wait for what it must do itself.

        Raises:
            StreamBusyError: The present task consumes the events.
        """
        task = None if self._task is None else self._task()
        if self.is_taken and task is not None and task is asyncio.current_task():
            raise StreamBusyError(
                f"this task consumes the events of run {self._run_id!r} itself, so it cannot wait "
                "for the run: answer with run.send_response(...) inside the loop, or leave "
                "the loop first. Nothing was changed."
            )

    def _note_task(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        self._task = None if task is None else weakref.ref(task)

    def check_free(self) -> None:
        """Refuse a second consumer.

        Raises:
            StreamBusyError: There is a consumer.
        """
        if self.is_taken and self._loop is not None and has_ended(self._loop):
            self._consumer = self._waiter = self._loop = None  # its event loop is closed
            self.release(self._hold)
        if self.is_taken:
            raise StreamBusyError(
                f"run {self._run_id!r} already has a consumer; events can go to one only. Wait "
                "until it has ended, or break out of its loop first."
            )

    def claim(self, iterator: EventIterator) -> None:
        """Make an iterator the consumer.

        Raises:
            StreamBusyError: There is another consumer.
        """
        if self._consumer is not iterator.reference or self._consumer is None:
            self.check_free()
            self._note_task()
            self._consumer = iterator.reference = weakref.ref(iterator, self._forget_consumer)

    def _forget_consumer(self, consumer: weakref.ref[EventIterator]) -> None:
        if self._consumer is consumer:
            self._consumer = None
            self._freed.set()
            self._source.consumer_left()

    def pause(self, consumer: weakref.ref[EventIterator]) -> None:
        """Free the stream: the consumer's task was cancelled and may never return."""
        self._forget_consumer(consumer)

    def end(self, consumer: weakref.ref[EventIterator]) -> None:
        """Free the stream: the consumer has reached the end."""
        iterator = consumer()
        if iterator is not None:
            iterator.source = None
            self._consumer = None
            self._freed.set()

    @property
    def _run_id(self) -> str:
        return self._source.run_id


class EventIterator:
    """One consumer's iteration.

    A new consumer is possible once this object is deleted or exhausted.

    Attributes:
        source: The run, None at the end.
        reference: Identifies it in the stream.
    """

    def __init__(self, source: Source, stream: EventStream) -> None:
        self.source: Source | None = source
        self.reference: weakref.ref[EventIterator] | None = None
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[WorkflowEvent]:
        return self

    def __anext__(self) -> Awaitable[WorkflowEvent]:
        if self.source is not None:
            self._stream.claim(self)
        # Not a coroutine function: the traceback of an error would keep its frame alive, and so
        # the consumer.
        return _next_event(self.source, self._stream, self.reference or weakref.ref(self))


async def _next_event(
    source: Source | None, stream: EventStream, consumer: weakref.ref[EventIterator]
) -> WorkflowEvent:
    if source is None:
        raise StopAsyncIteration
    if stream.events:
        return stream.take()
    stream.check_alone()  # outside: a handler may raise StreamBusyError, too
    try:
        return await source.next_event()
    except asyncio.CancelledError:
        stream.pause(consumer)
        raise
    except BaseException:
        stream.end(consumer)
        raise
