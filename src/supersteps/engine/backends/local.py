"""Runs handlers in this process: async ones on the event loop, plain ones in threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from supersteps._typing import display_name
from supersteps.context import WorkflowContext
from supersteps.engine.call import Call, CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.superstep import PlannedCall
from supersteps.errors import UnhandledMessageError
from supersteps.events import WorkflowEvent
from supersteps.executor import Executor, HandlerSpec

MAX_THREADS = 64
"""Plain handlers that can run at once in a process; they mostly wait, so there are more than processors."""


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Not the loop's default pool: a few slow handlers there would hold up the saves of every storage that uses it.
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="supersteps-handler")


class LocalBackend:
    """The default backend."""

    async def invoke(self, executor: Executor, planned: PlannedCall, site: CallSite) -> Effects:
        message = planned.payload.open()
        spec = executor.find_handler(message)
        if spec is None:
            raise UnhandledMessageError(
                f"executor {executor.id!r} of run {site.run_id!r} has no handler for {display_name(type(message))}; it "
                f"handles {', '.join(map(display_name, executor.input_types))}"
            )
        call = Call(site, planned.ordinal, planned.source_ids)
        try:
            if spec.is_async:
                await spec.call(executor, message, WorkflowContext(call))
            else:
                await _call_in_thread(spec, executor, message, call, site)
        finally:
            call.close()
        return call.effects

    async def checkpoint(self, executor: Executor, site: CallSite, effects: Effects) -> None:
        call = Call(site, effects.ordinal, (), effects)
        try:
            await executor.on_checkpointing(WorkflowContext(call))
        finally:
            call.close()


async def _call_in_thread(spec: HandlerSpec, executor: Executor, message: Any, call: Call, site: CallSite) -> None:
    loop = asyncio.get_running_loop()
    home = threading.get_ident()
    emit = site.emit

    def emit_from_thread(event: WorkflowEvent) -> None:
        if threading.get_ident() == home:
            emit(event)
        else:
            loop.call_soon_threadsafe(emit, event)

    call.emit_with(emit_from_thread)
    context = contextvars.copy_context()
    work: Callable[[], Any] = functools.partial(context.run, spec.call, executor, message, WorkflowContext(call))
    result = await loop.run_in_executor(_threads(), work)
    if inspect.isawaitable(result):  # a plain function that hands back a coroutine, such as a partial of an async one
        await result
