"""`WorkflowContext`: a handler's access to its run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Never, TypeAlias, get_args, get_origin

from supersteps.define.times import as_moment, moment_at, moment_from_now
from supersteps.errors import WorkflowRuntimeError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from typing_extensions import TypeVar

    from supersteps.define.call_port import CallPort
    from supersteps.events import WorkflowEvent

    T = TypeVar("T")
    OutT = TypeVar("OutT", default=Never, contravariant=True)
    WOutT = TypeVar("WOutT", default=Never, contravariant=True)
else:
    # Defaults of type variables matter to type checkers only; at run time `__class_getitem__`
    # applies them, so that Python 3.11 needs no extra package.
    from typing import TypeVar

    T = TypeVar("T")
    OutT = TypeVar("OutT")
    WOutT = TypeVar("WOutT")


class Ready(Generic[T]):
    """A result that is ready: `await` it in an async handler, call `.result()` in a sync one."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self._value
        yield  # the function must be a generator, although it never suspends

    def result(self) -> T:
        """Return the result."""
        return self._value

    def __repr__(self) -> str:
        return f"Ready({self._value!r})"


class _Unhurried(Ready[None]):
    """Ready at once; awaiting it waits for a stream's consumer that is too slow."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(None)
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


_DONE: Ready[None] = Ready(None)

MISSING: Any = object()
"""Means that no default was passed."""

SHARED_SCOPE = "shared"
"""Scope name of the state that all executors share, for `read_state` and `queue_state_update`."""


class WorkflowContext(Generic[OutT, WOutT]):
    """A handler's access to its run: messages, outputs, state, questions and events.

    Annotate what the handler does, so that the graph can be checked when it is built:
    `WorkflowContext[A]` sends messages of type A, `WorkflowContext[A, B]` also yields outputs of
    type B, `WorkflowContext` alone does neither. Use unions for several types and `Never` for none.

    Everything takes effect at the call; awaiting is optional and exists for symmetry. So plain
    functions can be handlers too, and read state with `ctx.get_state().result()`:

        @handler
        async def approve(self, order: Order, ctx: WorkflowContext[Invoice]) -> None:
            await ctx.set_shared_state("order", order.id)
            await ctx.send_message(Invoice(order))
    """

    __slots__ = ("_call",)

    def __init__(self, call: CallPort) -> None:
        self._call = call

    def __class_getitem__(cls, parameters: Any) -> Any:
        given = parameters if isinstance(parameters, tuple) else (parameters,)
        if not 1 <= len(given) <= 2:
            raise TypeError(
                f"WorkflowContext takes one or two types (messages, outputs), not {len(given)}"
            )
        # Generic's own method, which is untyped.
        return super().__class_getitem__((*given, Never)[:2])  # type: ignore[misc]

    # -------------------------------------------------------------------------- the call's identity

    @property
    def executor_id(self) -> str:
        """Id of the executor that handles the message."""
        return self._call.executor_id

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._call.run_id

    @property
    def workflow_id(self) -> str:
        """Name of the workflow."""
        return self._call.workflow_id

    @property
    def step_number(self) -> int:
        """Number of the superstep in its lineage, from 1; 0 in hooks of the first checkpoint."""
        return self._call.step_number

    @property
    def idempotency_key(self) -> str:
        """A UUID of this piece of work: run, branch, superstep, executor, message.

        Pass it to a service that accepts such a key, for example as Stripe's `idempotency_key`. All
        attempts at the same work have the same key: after a crash, after a restart and under a
        failure policy. Different work has a different key, also in a fork, after a restore, and in
        a run that was started again under the same id. If a handler makes several requests, append
        a name for each.
        """
        return self._call.idempotency_key

    @property
    def attempt(self) -> int:
        """Number of the attempt at this call: above 1 only if a failure policy repeats it."""
        return self._call.attempt

    @property
    def is_replaying(self) -> bool:
        """True while `Workflow.replay` runs the handler for debugging: skip side effects then."""
        return self._call.is_replaying

    @property
    def source_executor_ids(self) -> list[str]:
        """Ids of the executors that sent the message; several for a fan-in."""
        return list(self._call.source_ids)

    def get_source_executor_id(self) -> str:
        """Return the id of the executor that sent the message.

        Raises:
            RuntimeError: Several sent it (a fan-in): use `source_executor_ids`.
        """
        if len(self._call.source_ids) != 1:
            raise WorkflowRuntimeError(
                f"executor {self.executor_id!r} handles a message from "
                f"{len(self._call.source_ids)} executors ({', '.join(self._call.source_ids)}); use "
                "ctx.source_executor_ids"
            )
        return self._call.source_ids[0]

    # -------------------------------------------------------------------------- messages and events

    def send_message(self, message: OutT, target_id: str | None = None) -> Ready[None]:
        """Send a message along the executor's edges; it is delivered in the next superstep.

        Args:
            message: Any value; the receiver gets a copy of its present value.
            target_id: Deliver to this executor only, which an edge must connect.

        Raises:
            UnknownTargetError: There is no edge to `target_id`.
            CheckpointEncodeError: The message cannot be saved.
        """
        self._call.send(message, target_id)
        return _DONE

    def yield_output(self, output: WOutT) -> Ready[None]:
        """Yield an output of the workflow, which is delivered once the superstep is committed.

        Raises:
            CheckpointEncodeError: The output cannot be saved.
        """
        self._call.output(output)
        return _DONE

    def add_event(self, event: WorkflowEvent) -> Ready[None]:
        """Send an event to the stream's consumer at once.

        Use it for progress. The event is not saved and may repeat after a crash. Subclass
        `WorkflowEvent` for your own events; the library's own (outputs, questions, statuses,
        failures, executors, supersteps) are dropped with a warning event, because consumers rely on
        them.

        Await it if there are many events: while 1,000 of them are undelivered, the handler then
        waits for the consumer. A plain handler, which runs in a thread, always waits. There is no
        waiting if the consumer has left the stream, only wants the result, or drains the run.
        """
        wait = self._call.emit(event)
        return _DONE if wait is None else _Unhurried(wait)

    # ------------------------------------------------------------------------- questions and times

    def request_info(
        self,
        request_data: Any,
        response_type: Any,
        *,
        request_id: str | None = None,
        deadline: datetime | timedelta | float | None = None,
        default: Any = MISSING,
    ) -> Ready[str]:
        """Ask a question; the executor's `@response_handler` gets the answer in a later superstep.

        The run stops with the question until it is answered, which may take weeks: no process has
        to wait. Set a deadline and a default if the run must continue without an answer.

        Args:
            request_data: The question, with what a person needs to answer it.
            response_type: Type of the answer.
            request_id: Id of the question; a new one when None.
            deadline: When the question expires: a time with a time zone, or a time span
                (seconds) from now.
            default: The answer if none was given by the deadline.

        Returns:
            The question's id.

        Raises:
            UnanswerableRequestError: The executor has no response handler for this question and
                answer.
            CheckpointEncodeError: The question or the default cannot be saved.
            ValueError: One of deadline and default is missing, or the deadline has no time zone.
        """
        if deadline is not None and default is MISSING:
            raise ValueError(
                "request_info has a deadline but no default: pass default=, the answer if none is "
                "given by the deadline (default=None if that is an answer)"
            )
        if deadline is None and default is not MISSING:
            raise ValueError(
                "request_info has a default but no deadline: pass deadline=, when the default "
                "becomes the answer, or leave out default="
            )
        from supersteps.checkpoint.sections.question import Terms  # imports msgspec and the codec

        due = None if deadline is None else as_moment(deadline, "deadline")
        terms = Terms(response_type, request_id, due, default)
        return Ready(self._call.request_info(request_data, terms))

    def schedule(
        self,
        message: OutT,
        *,
        at: datetime | None = None,
        delay: timedelta | float | None = None,
        target_id: str | None = None,
    ) -> Ready[None]:
        """Send a message along the executor's edges at a later time; give either `at` or `delay`.

        Use it for reminders, retries and timeouts, and instead of a long `sleep`. The message is
        durable: it is delivered once per branch, also after a restart. The run stays in progress
        until then.

        Args:
            message: Any value; the receiver gets a copy of its present value.
            at: The time, with a time zone.
            delay: The time from now, as a timedelta or in seconds.
            target_id: Deliver to this executor only, which an edge must connect, unless it is the
                executor itself.

        Raises:
            UnknownTargetError: There is no edge to `target_id`.
            CheckpointEncodeError: The message cannot be saved.
            ValueError: Not exactly one of `at` and `delay` is given, or it is not a valid time.
        """
        if (at is None) == (delay is None):
            given = "neither" if at is None else "both"
            raise ValueError(
                f"schedule takes either at= (a time) or delay= (from now), got {given}"
            )
        due = moment_at(at, "at") if at is not None else moment_from_now(delay, "delay")
        self._call.schedule(message, due, target_id)
        return _DONE

    async def sleep_until(self, when: datetime) -> None:
        """Wait until a time, which has a time zone; return at once if it has passed.

        The wake-up time is durable: a restarted process waits only for the rest. The superstep
        cannot end meanwhile, so use `schedule` for waits of more than a few seconds.
        """
        await self._call.sleep(moment_at(when, "when"))

    async def sleep(self, delay: timedelta | float) -> None:
        """Wait for a timedelta or a number of seconds; see `sleep_until` for restarts."""
        await self._call.sleep(moment_from_now(delay, "delay"))

    # ---------------------------------------------------------------------------------------- state

    def get_state(self) -> Ready[dict[str, Any] | None]:
        """Return the executor's own state, None if it was never set."""
        return Ready(self._call.read_own())

    def set_state(self, state: dict[str, Any]) -> Ready[None]:
        """Replace the executor's own state.

        Args:
            state: Values by name.

        Raises:
            TypeError: It is not a dict with string keys.
            CheckpointEncodeError: A value cannot be saved.
        """
        self._call.replace_own(state)
        return _DONE

    def get_shared_state(self, key: str, default: Any = MISSING) -> Ready[Any]:
        """Return a shared key's value: of the last barrier, or as this executor wrote it since.

        Args:
            key: The key.
            default: Returned when the key is missing.

        Raises:
            KeyError: The key is missing and no default was given.
        """
        return Ready(self._call.read(SHARED_SCOPE, key, default))

    def set_shared_state(self, key: str, value: Any) -> Ready[None]:
        """Set a shared key; other executors see it in the next superstep.

        With a reducer for the key (`WorkflowBuilder.with_reducer`) the value is an update, which
        the reducer combines with the present value. Without one, it is a `StateConflictError` if
        two executors write the key in one superstep.

        Raises:
            CheckpointEncodeError: The value cannot be saved.
        """
        self._call.write(SHARED_SCOPE, key, value)
        return _DONE

    def append_shared_state(self, key: str, item: Any) -> Ready[None]:
        """Append to a shared list, at a cost that does not depend on its length.

        Prefer it to setting a longer list. Several executors may append in one superstep; the order
        follows the graph and the messages. A missing key starts as an empty list.

        Raises:
            TypeError: The key's value is not a list, or the key has a reducer.
            CheckpointEncodeError: The item cannot be saved.
        """
        self._call.append(key, item)
        return _DONE

    def delete_shared_state(self, key: str) -> Ready[None]:
        """Remove a shared key; does nothing if it is missing."""
        self._call.delete(SHARED_SCOPE, key)
        return _DONE

    def read_state(self, key: str, scope: str | None = None, default: Any = None) -> Ready[Any]:
        """Return a key's value in a scope.

        Args:
            key: The key.
            scope: A scope's name; None is the executor's own, "shared" the one that
                `get_shared_state` reads.
            default: Returned when the key is missing.
        """
        return Ready(self._call.read(scope, key, default))

    def queue_state_update(self, key: str, value: Any, scope: str | None = None) -> Ready[None]:
        """Set a key in a scope; see `read_state` for scopes and `set_shared_state` for conflicts.

        Raises:
            CheckpointEncodeError: The value cannot be saved.
        """
        self._call.write(scope, key, value)
        return _DONE

    def delete_state(self, key: str, scope: str | None = None) -> Ready[None]:
        """Remove a key from a scope; does nothing if it is missing."""
        self._call.delete(scope, key)
        return _DONE


ContextTypes: TypeAlias = tuple[Sequence[Any], Sequence[Any]]
"""The message types and the output types that a context annotation allows."""


def context_types(annotation: Any) -> ContextTypes | None:
    """Return what a context annotation allows; None if it is not a context annotation.

    Unions are returned as their members, `Never` as nothing.
    """
    if annotation is WorkflowContext:
        return (), ()
    if get_origin(annotation) is not WorkflowContext:
        return None
    sends, yields = get_args(annotation)
    return _members(sends), _members(yields)


def _members(annotation: Any) -> Sequence[Any]:
    from types import NoneType, UnionType
    from typing import NoReturn, Union

    if annotation is Never or annotation is NoReturn:
        return ()
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (NoneType if annotation is None else annotation,)
