"""Calls of users' code, whose errors are kept apart from the library's.

Errors of the engine and of storages end a run in other ways than errors of handlers, and their
types do not distinguish them: a handler may itself start runs, answer questions, and get a
`RunFencedError`. So errors of handlers, hooks and factories pass through the engine inside a
`UserCodeError`, which only the run's handle opens.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Context, ContextVar
from inspect import isawaitable
from types import CoroutineType, coroutine
from typing import Any, Protocol, Self

from supersteps._error_texts import described
from supersteps._user_functions import own_context
from supersteps.errors import HandlerError


class UserCodeError(Exception):
    """An error of users' code, on its way through the engine.

    Attributes:
        error: The error to raise to the consumer.
        where: The executor and superstep, for an error that does not support notes.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
        self.where = ""


def inner(error: Exception) -> Exception:
    """Return the error that the consumer gets."""
    return error.error if isinstance(error, UserCodeError) else error


async def call_user(who: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's function, async or plain, in its own context.

    Args:
        who: The function's name in errors.
        function: The function to call.
        arguments: Its arguments.

    Raises:
        UserCodeError: The function raised.
    """
    context = own_context()
    try:
        result = context.run(function, *arguments)
    except BaseException as error:
        if is_foreign(error):
            raise
        raise UserCodeError(as_error(error, who)) from None
    while isawaitable(result):
        result = await drive(result, context, who)
    return result


async def drive(awaitable: Awaitable[Any], context: Context, who: object) -> Any:
    """Return the result of a coroutine or another awaitable, which runs in a context.

    Raises:
        UserCodeError: It raised.
    """
    work = awaitable if isinstance(awaitable, CoroutineType) else _awaited(awaitable)
    try:
        pending = context.run(work.send, None)
    except StopIteration as end:
        return end.value
    except BaseException as error:
        if is_foreign(error):
            raise
        raise UserCodeError(as_error(error, who)) from None
    return await resume(work, pending, context, who)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@coroutine
def resume(work: Any, pending: Any, context: Context, who: object) -> Generator[Any, Any, Any]:
    """Continue a coroutine in its context, in the present task, until it has ended.

    What is thrown in here comes from outside; its effect is up to the coroutine.

    Args:
        work: The coroutine.
        pending: The future for which it waits.
        context: Its context.
        who: The code's name in errors.

    Raises:
        UserCodeError: The coroutine raised.
    """
    while True:
        step = work.send
        try:
            given = yield pending
        except GeneratorExit:
            with suppress(RuntimeError):  # it continues although it was closed
                context.run(work.close)
            raise
        except BaseException as thrown:
            step, given = work.throw, thrown
        try:
            pending = context.run(step, given)
        except StopIteration as end:
            return end.value
        except BaseException as error:
            if is_foreign(error):
                raise
            raise UserCodeError(as_error(error, who)) from None
        finally:
            del given, step  # an exception that refers to this frame would keep it alive


# ------------------------------------------------------------------------------------- whose it is


def is_foreign(error: BaseException) -> bool:
    """Return whether an exception came to users' code from outside, to end it or the program.

    That is the case for the cancellation of the task, and for exceptions of signals: Ctrl-C, and a
    signal handler that calls `sys.exit`. Call it in the thread in which the exception was raised.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return isinstance(error, SystemExit) and _is_of_signal(error)


def _is_of_signal(error: SystemExit) -> bool:
    """Return whether a function that handles signals raised an exception: it interrupts others."""
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = {getattr(handler, "__code__", None) for handler in handlers} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def as_error(error: BaseException, who: object) -> Exception:
    """Return the error to raise to the consumer for an error of users' code.

    Args:
        error: The error.
        who: The code's name.

    Returns:
        The exception itself. If raising it to the consumer would end loops or the program, or look
        like a cancellation, a `HandlerError` with the exception as its cause.
    """
    is_control = isinstance(error, StopIteration | StopAsyncIteration)
    if isinstance(error, Exception) and not is_control:
        return error
    if isinstance(error, asyncio.CancelledError):
        what = (
            "raised CancelledError, although the run was not cancelled: something that it awaited "
            "was cancelled. Catch it where it occurs."
        )
    elif is_control:
        what = (
            f"let a {described(error)} escape, which would end a loop of its caller. Catch it "
            "where it occurs, or pass a default to next() and anext()."
        )
    elif isinstance(error, SystemExit):
        what = (
            f"raised {described(error)}. A handler does not end the program: raise an error that "
            "says why."
        )
    else:
        what = f"raised {described(error)}"
    made = HandlerError(f"{who} {what}")
    made.__cause__ = error
    return made


# --------------------------------------------------------------------------------- where code runs


class Inside(Protocol):
    """A section of a run's work in which it calls users' code.

    It is recorded in the context of that code, which tasks and threads that are started there
    inherit: they are part of the work, so they must not wait for the run.

    Attributes:
        outer: The section, of this run or another, from which it was started.
    """

    outer: Inside | None


present: ContextVar[Inside | None] = ContextVar("supersteps_inside", default=None)
"""The innermost section of work to which the present code belongs."""


def is_inside(stretch: Inside) -> bool:
    """Return whether the present code belongs to a section of work, or was started from it."""
    here = present.get()
    while here is not None and here is not stretch:
        here = here.outer
    return here is not None


class Stretch:
    """A section of work: a context manager that can be entered again after it was left."""

    def __init__(self) -> None:
        self.outer: Inside | None = None
        self._is_going_on = False

    def __enter__(self) -> Self:
        self.outer = present.get()
        self._is_going_on = True
        present.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        present.set(self.outer)
        self.outer = None
        self._is_going_on = False

    @property
    def is_here(self) -> bool:
        """Whether it is active and the present code belongs to it."""
        return self._is_going_on and is_inside(self)
