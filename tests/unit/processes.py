"""A backend that makes every call in a child process, and a workflow to be driven through it."""

import asyncio
import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal, Never, cast

from supersteps import (
    Executor,
    FailurePolicy,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowEvent,
    WorkflowExecutor,
    handler,
    response_handler,
)
from supersteps.backends import (
    CallData,
    CallHost,
    CallSite,
    Effects,
    PlannedCall,
    SiteState,
    StateReader,
    StateSnapshot,
    UserCodeError,
    effects_of,
)
from supersteps.checkpoint.parts import Scope
from supersteps.storage.ports import CheckpointStorage

Reading = Literal["when asked", "sent along"]


class ProcessBackend:
    """Sends each call to one child process, through a pipe, and waits for what it did.

    Attributes:
        calls: What was called, in order: kind, executor, attempt.
        readings: How often the child has asked for state.
    """

    def __init__(self, make_workflow: Callable[[], Workflow], reading: Reading) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.readings = 0
        self._reading = reading
        self._make_workflow = make_workflow
        self._alone = asyncio.Lock()
        self._begin()

    def _begin(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self._make_workflow), daemon=True
        )
        self.process.start()
        theirs.close()

    def close(self) -> None:
        """End the child process."""
        self.process.terminate()
        self.process.join()
        self._pipe.close()

    async def invoke(self, planned: PlannedCall, site: CallSite) -> Effects:
        return await self._make(CallData.of_handler(planned, site), site)

    async def checkpoint(self, site: CallSite, effects: Effects) -> None:
        made = await self._make(CallData.of_hook("checkpoint", site, effects.key), site)
        effects.writes += made.writes

    async def restore(self, site: CallSite) -> None:
        await self._make(CallData.of_hook("restore", site), site)

    async def _make(self, call: CallData, site: CallSite) -> Effects:
        self.calls.append((call.kind, call.address, call.attempt))
        async with self._alone:
            loop = asyncio.get_running_loop()
            try:
                record = await loop.run_in_executor(None, self._converse, call, site, loop)
            except asyncio.CancelledError:  # such as that of a timeout: nothing else can stop it
                self.close()
                self._begin()
                raise
        return effects_of(record, site)

    def _converse(self, call: CallData, site: CallSite, loop: asyncio.AbstractEventLoop) -> bytes:
        """Have the child make a call, and give it what it asks for meanwhile."""
        state, pipe = SiteState(site), self._pipe
        along = state.snapshot().to_bytes() if self._reading == "sent along" else None
        pipe.send((call.to_bytes(), along))
        while True:
            word, *details = pipe.recv()
            if word == "done":
                return cast(bytes, details[0])
            if word == "raised":
                raise UserCodeError(details[0])
            if word == "event":
                loop.call_soon_threadsafe(site.run.emit, details[0])
            elif word == "sleep":
                assert site.sleeper is not None
                nap = site.sleeper.sleep(*details)
                pipe.send(asyncio.run_coroutine_threadsafe(nap, loop).result())
            else:
                self.readings += 1
                pipe.send(state.keys(*details) if word == "keys" else state.value(*details))


class _Child:
    """The child's end of the pipe: where the state is read, and who keeps the time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def _ask(self, *question: Any) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()

    def keys(self, scope: Scope) -> list[str]:
        return cast(list[str], self._ask("keys", scope))

    def value(self, scope: Scope, key: str) -> bytes | None:
        return cast(bytes | None, self._ask("value", scope, key))

    async def sleep(self, executor_id: str, key: str, number: int, due: str) -> None:
        self._ask("sleep", executor_id, key, number, due)

    def emit(self, event: WorkflowEvent) -> None:
        self._pipe.send(("event", event))


def _serve(pipe: Connection, make_workflow: Callable[[], Workflow]) -> None:
    asyncio.run(_make_calls(pipe, CallHost(make_workflow())))


async def _make_calls(pipe: Connection, host: CallHost) -> None:
    child = _Child(pipe)
    while True:
        data, along = pipe.recv()
        state: StateReader = child if along is None else StateSnapshot.from_bytes(along)
        call = CallData.from_bytes(data)
        try:
            record = await host.make(call, state, emit=child.emit, sleeper=child)
        except UserCodeError as raised:
            pipe.send(("raised", raised.error))
        else:
            pipe.send(("done", record))


# ------------------------------------------------------------------------------------ the workflow


class Made(WorkflowEvent):
    """Says where a call was made, and under which idempotency key."""

    def __init__(self, name: str, attempt: int, key: str) -> None:
        super().__init__((name, attempt, key, os.getpid()))


class Reader(Executor):
    """Reads and writes state of all kinds, and sends what it has found."""

    @handler
    async def read(self, text: str, ctx: WorkflowContext[str]) -> None:
        own = await ctx.get_state() or {}
        await ctx.set_state({"seen": [*own.get("seen", []), text]})
        total = await ctx.get_shared_state("total", default=0)
        await ctx.set_shared_state("total", len(text))
        await ctx.append_shared_state("log", f"{text}, {total} before")
        ctx.queue_state_update("last", text, scope="notes")
        await ctx.send_message(text if len(own) else text + "!")


class Flaky(Executor):
    """Fails at its first attempt, by a wrong key."""

    @handler
    async def fail(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.add_event(Made("flaky", ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 1:
            await ctx.get_shared_state("a key that nobody has set")
        await ctx.sleep(0.01)
        last = await ctx.read_state("last", scope="notes")
        await ctx.send_message(f"{text} ({last})")


class Counting(Executor):
    """Keeps an attribute of its own, with checkpoint hooks."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.texts: list[str] = []

    @handler
    def count(self, text: str, ctx: WorkflowContext[str]) -> None:
        self.texts.append(text)
        ctx.send_message(f"{len(self.texts)}: {text}")

    async def on_checkpointing(self, ctx: WorkflowContext[Any, Any]) -> None:
        ctx.queue_state_update("texts", self.texts)

    async def on_checkpoint_restored(self, ctx: WorkflowContext[Any, Any]) -> None:
        self.texts = await ctx.read_state("texts") or []


class Asking(Executor):
    """Has everything done twice, then asks a person."""

    @handler
    async def ask(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        if "again" in text:
            await ctx.request_info(text, bool, request_id="is-it-good")
        else:
            await ctx.send_message("again")

    @response_handler
    async def answered(self, text: str, good: bool, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(f"{text} is {'good' if good else 'bad'}")


class Inner(Executor):
    """The only executor of a sub-workflow."""

    @handler
    async def pass_on(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.set_shared_state("inside", text)
        await ctx.yield_output(f"<{text}>")


def make_workflow(
    storage: CheckpointStorage | None = None, backend: ProcessBackend | None = None
) -> Workflow:
    """Return the workflow; the child process has it without the two."""
    inner = WorkflowBuilder(name="inner").set_start_executor(Inner("pass")).build()
    reader, flaky, counting = Reader("reader"), Flaky("flaky"), Counting("counting")
    sub, asking = WorkflowExecutor(inner, "sub"), Asking("asking")
    builder = WorkflowBuilder(name="elsewhere").set_start_executor(reader)
    builder.add_edge(reader, flaky).add_edge(flaky, counting).add_edge(counting, sub)
    builder.add_edge(sub, asking).add_edge(asking, reader)
    builder.with_failure_policy(flaky, FailurePolicy(max_attempts=2, backoff=0.01, jitter=0))
    if storage is not None:
        builder.with_checkpointing(storage)
    if backend is not None:
        builder.with_backend(backend)
    return builder.build()
