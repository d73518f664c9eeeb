"""`LocalBackend`: calls handlers in this process."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from supersteps._process_fork import in_child
from supersteps._user_functions import DECIMALS, discard, is_unfinished, renew_decimals
from supersteps.checkpoint.sections.message import Reply
from supersteps.checkpoint.values import Sealed
from supersteps.define.context import WorkflowContext
from supersteps.define.executor import Executor
from supersteps.engine.call import Call, CallSite, Reader
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.engine.user_code import (
    UserCodeError,
    as_error,
    call_user,
    drive,
    is_foreign,
    resume,
)
from supersteps.errors import IgnoredResultWarning, UnhandledMessageError
from supersteps.events import WorkflowEvent, WorkflowWarningEvent
from supersteps.typing import display_name

MAX_THREADS = 64
"""Plain handlers that can run at once in a process.

They mostly wait, so there are more of them than processors.
"""

EVENTS_AHEAD = 200
"""How many events a handler in a thread gives before it looks whether the consumer keeps up."""


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Not the loop's default pool: a few slow handlers there would hold up the saves of every
    # storage that uses it.
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="supersteps-handler")


in_child(_threads.cache_clear)  # a forked child has the pool without its threads


class LocalBackend:
    """The default backend."""

    async def invoke(self, planned: PlannedCall, site: CallSite) -> Effects:
        post, sources = site.post, planned.source_ids
        executor, level = post.executor, post.level
        if level.prefix:
            sources = tuple(map(level.local, sources))
        call = Call(site, Effects(post.address, planned.key), sources, planned.attempt)
        if planned.attempt > 1:
            call.work = planned.work
        ctx: WorkflowContext[Any, Any] = WorkflowContext(call)
        spec: Any
        arguments: tuple[Any, ...]
        if planned.taker is not None:
            spec = executor.__supersteps__.specs[planned.taker]
            arguments = (planned.payload.open(),)
        else:
            spec, arguments = _choose(executor, planned.payload, call)
        context = copy_context()
        if DECIMALS in context:
            renew_decimals(context)
        try:
            if not spec.is_async:
                plain = functools.partial(spec.call, executor, *arguments, ctx)
                result = await _call_in_thread(functools.partial(context.run, plain), call, site)
            elif type(work := spec.call(executor, *arguments, ctx)) is not CoroutineType:
                result = work
            else:
                try:
                    pending = context.run(work.send, None)
                except StopIteration as end:
                    result = end.value
                except BaseException as error:
                    if is_foreign(error):
                        raise
                    raise UserCodeError(as_error(error, site)) from None
                else:
                    result = await resume(work, pending, context, site)
            if result is not None:
                while inspect.isawaitable(result):  # such as that of a partial of an async function
                    result = await drive(result, context, site)
                _check_result(result, spec, executor, site)
        finally:
            call.close()
        return call.effects

    async def checkpoint(self, site: CallSite, effects: Effects) -> None:
        await _run_hook("on_checkpointing", Call(site, effects, state_only=True))

    async def restore(self, site: CallSite) -> None:
        effects = Effects(site.post.address, "")
        call = Call(site, effects, state_only=True, read_only=True)
        await _run_hook("on_checkpoint_restored", call)


async def _run_hook(hook: str, call: Call) -> None:
    """Run a checkpoint hook.

    Raises:
        UserCodeError: It raised.
        TypeError: It returned a value: that would be saved nowhere.
    """
    executor = call.site.post.executor
    try:
        function = getattr(executor, hook)
        result = await call_user(f"{hook} of {call.site}", function, WorkflowContext(call))
    finally:
        call.close()
    if result is not None:
        discard(result)
        raise TypeError(
            f"{hook} of executor {executor.id!r} returned a {display_name(type(result))}, which "
            "goes nowhere: hooks write with ctx.queue_state_update(key, value), read with "
            "ctx.read_state(key), and return None"
        )


def _choose(executor: Executor, payload: Sealed, call: Call) -> tuple[Any, tuple[Any, ...]]:
    """Return the handler of a message, and what it gets beside the context.

    Raises:
        UnhandledMessageError: There is none.
    """
    if isinstance(payload, Reply) and payload.direct:
        question, answer = payload.question.open(), payload.answer.open()
        taker = executor.__supersteps__.find_response(question, answer)
        if taker is not None:
            return taker, (question, answer)
        what = f"a {display_name(type(answer))} that answers a {display_name(type(question))}"
    else:
        message = payload.open()
        spec = executor.__supersteps__.find(message)
        if spec is not None:
            return spec, (message,)
        what = display_name(type(message))
    raise UnhandledMessageError(
        f"executor {call.effects.executor_id!r} of run {call.run_id!r} has no handler for {what}; "
        f"it handles {', '.join(map(display_name, executor.input_types))}"
    )


def _check_result(result: Any, spec: Any, executor: Executor, site: CallSite) -> None:
    """Warn of a value that a handler returned: once for each executor in a superstep.

    Raises:
        TypeError: It returned a generator, over which nothing iterates.
    """
    if result is None or (site.has_told and not is_unfinished(result)):
        return
    owner = f"{type(executor).__qualname__}." if getattr(spec, "takes_self", True) else ""
    text = (
        f"handler {owner}{spec.name} of executor {site.post.address!r} returned a "
        f"{display_name(type(result))}, which goes nowhere: send it with ctx.send_message(...) or "
        "yield it with ctx.yield_output(...)"
    )
    if is_unfinished(result):
        discard(result)
        raise TypeError(text)
    site.has_told = True
    site.run.emit(WorkflowWarningEvent(text))
    warnings.warn(text, IgnoredResultWarning, stacklevel=2)  # last: a filter may make it an error


async def _call_in_thread(handle: Callable[[], Any], call: Call, site: CallSite) -> Any:
    """Return what a plain handler returns.

    Raises:
        UserCodeError: The handler raised.
    """
    loop = asyncio.get_running_loop()
    home = threading.get_ident()
    emit, reader = site.run.emit, site.run.reader
    count = 0

    def emit_from_thread(event: WorkflowEvent) -> None:
        nonlocal count
        if threading.get_ident() == home:
            emit(event)
            return
        loop.call_soon_threadsafe(emit, event)
        count += 1
        if reader is not None and count % EVENTS_AHEAD == 0:
            _wait_for(reader, loop)

    call.emit_live = emit_from_thread
    result, error = await loop.run_in_executor(_threads(), _outcome, handle)
    if error is not None:
        raise UserCodeError(as_error(error, site))
    return result


def _outcome(handle: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return a function's result, or what it raised, which not every future could hold."""
    try:
        return handle(), None
    except BaseException as error:
        return None, error


def _wait_for(reader: Reader, loop: asyncio.AbstractEventLoop) -> None:
    """Block this thread until the loop has taken its events and the consumer keeps up.

    It also returns when the loop has stopped.
    """
    room = asyncio.run_coroutine_threadsafe(reader.room(), loop)
    while True:
        try:
            return room.result(1.0)
        except TimeoutError:
            if not loop.is_running():
                room.cancel()
                return
        except CancelledError:  # everything on the loop is, as at the end of the program
            return
