"""`HandlerSpec` and `ResponseSpec`: one handler, as the engine calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from supersteps.define.context import WorkflowContext


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler as the engine calls it.

    Attributes:
        name: The method's or function's name.
        function: The function itself.
        message_type: Annotation of the messages it accepts.
        sends: Message types it may send.
        yields: Output types it may yield.
        is_async: Whether it is a coroutine function; others run in a thread.
        takes_context: Whether it has a parameter for the context (functions need not).
        takes_self: Whether it is a method.
    """

    name: str
    function: Callable[..., Any]
    message_type: Any
    sends: Sequence[Any]
    yields: Sequence[Any]
    is_async: bool
    takes_context: bool = True
    takes_self: bool = True

    def call(self, executor: object, message: Any, ctx: WorkflowContext[Any, Any]) -> Any:
        """Call the handler; await the result of an async one."""
        if self.takes_self:
            return self.function(executor, message, ctx)
        return self.function(message, ctx) if self.takes_context else self.function(message)


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response handler as the engine calls it.

    Attributes:
        name: The method's name.
        function: The function itself.
        request_type: Annotation of the questions whose answers it accepts.
        response_type: Annotation of the answers.
        sends: Message types it may send.
        yields: Output types it may yield.
        is_async: Whether it is a coroutine function; others run in a thread.
    """

    name: str
    function: Callable[..., Any]
    request_type: Any
    response_type: Any
    sends: Sequence[Any]
    yields: Sequence[Any]
    is_async: bool

    def call(
        self, executor: object, question: Any, answer: Any, ctx: WorkflowContext[Any, Any]
    ) -> Any:
        """Call the response handler; await the result of an async one."""
        return self.function(executor, question, answer, ctx)
