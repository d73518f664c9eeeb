"""`WorkflowContext`: what a handler sees of the run."""

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
    # Defaults of type variables are a matter for the type checker; at run time `__class_getitem__`
    # supplies them, so that Python 3.11 needs no extra package.
    from typing import TypeVar

    T = TypeVar("T")
    OutT = TypeVar("OutT")
    WOutT = TypeVar("WOutT")


class Ready(Generic[T]):
    """A result that is there already: `await` it in an async handler, call `.result()` in a sync one."""

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
    """Nothing, but whoever awaits it waits for a consumer that does not keep up."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(None)
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()


_DONE: Ready[None] = Ready(None)

MISSING: Any = object()
"""Stands for "no default given"."""

SHARED_SCOPE = "shared"
"""Scope name of the state that all executors share, for `read_state` and `queue_state_update`."""


class WorkflowContext(Generic[OutT, WOutT]):
    """A handler's view of its run: messages, outputs, state and events.

    `WorkflowContext` neither sends nor yields, `WorkflowContext[A]` sends messages of type A,
    `WorkflowContext[A, B]` also yields outputs of type B; unions are welcome, `Never` stands for
    "none".

    Everything takes effect at the call; awaiting is for symmetry. So handlers that are plain
    functions can use it too, and read with `ctx.get_state().result()`.
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
        return super().__class_getitem__((*given, Never)[:2])  # type: ignore[misc]  # Generic's own, untyped

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
        """Number of the superstep in its lineage, from 1 (0 while hooks run for the first checkpoint)."""
        return self._call.step_number

    @property
    def idempotency_key(self) -> str:
        """A UUID that names this piece of work: run, branch, superstep, executor, message.

        Pass it to a service that takes such a key, for example as Stripe's `idempotency_key`. Every
        attempt at the same work has the same key, after a crash, after a restart and under a
        failure policy; other work has another one, also in a fork, after a restore, and in a run
        that was started anew under the same id. For several requests in one handler, append what
        each is for.
        """
        return self._call.idempotency_key

    @property
    def attempt(self) -> int:
        """Number of the attempt at this call: 1 unless a failure policy has the call repeated."""
        return self._call.attempt

    @property
    def is_replaying(self) -> bool:
        """True while `Workflow.replay` runs the handler again for debugging; leave out side effects then."""
        return self._call.is_replaying

    @property
    def source_executor_ids(self) -> list[str]:
        """Ids of the executors that sent the message; several after a fan-in."""
        return list(self._call.source_ids)

    def get_source_executor_id(self) -> str:
        """Return the id of the one executor that sent the message.

        Raises:
            RuntimeError: The message comes from several; see `source_executor_ids`.
        """
        if len(self._call.source_ids) != 1:
            raise WorkflowRuntimeError(
                f"the message that executor {self.executor_id!r} handles comes from "
                f"{len(self._call.source_ids)} executors ({', '.join(self._call.source_ids)}); use "
                "ctx.source_executor_ids"
            )
        return self._call.source_ids[0]

    # -------------------------------------------------------------------------- messages and events

    def send_message(self, message: OutT, target_id: str | None = None) -> Ready[None]:
        """Send a message along the executor's edges; it is delivered in the next superstep.

        Args:
            message: Any value; the receiver gets a copy of it as it is now.
            target_id: Deliver to this executor only; an edge must lead there.

        Raises:
            UnknownTargetError: No edge leads to `target_id`.
            CheckpointEncodeError: The message cannot be saved.
        """
        self._call.send(message, target_id)
        return _DONE

    def yield_output(self, output: WOutT) -> Ready[None]:
        """Yield an output of the workflow; it is announced once the superstep is committed.

        Raises:
            CheckpointEncodeError: The output cannot be saved.
        """
        self._call.output(output)
        return _DONE

    def add_event(self, event: WorkflowEvent) -> Ready[None]:
        """Pass an event to whoever watches the stream, at once; it is not saved and may repeat after a crash.

        Subclass `WorkflowEvent` for events of your own. Those by which the library tells of a run
        (outputs, questions, statuses, failures, executors, supersteps) are dropped, and a warning
        event says so: consumers rely on them.

        Await it where there are many events: while 1,000 of them are undelivered, the handler then
        waits for the stream's consumer. A plain handler, which runs in a thread, waits by itself.
        Nobody waits for a consumer that has left the stream, that only wants the result, or that
        drains the run.
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
        """Ask the outside world; the answer comes to the executor's `@response_handler`, in a later superstep.

        Args:
            request_data: The question: what the person needs to answer.
            response_type: Type of the answer.
            request_id: Names the question; made up when None.
            deadline: Until when the answer may come: a time with a time zone, or a time span
                (seconds) from now.
            default: What counts as the answer when nobody has answered by the deadline.

        Returns:
            The question's id.

        Raises:
            UnanswerableRequestError: The executor has no response handler for such a question and
                answer.
            CheckpointEncodeError: The question or the default cannot be saved.
            ValueError: One of deadline and default is missing, or the deadline has no time zone.
        """
        if deadline is not None and default is MISSING:
            raise ValueError(
                "request_info has a deadline but no default: say what the answer is when nobody "
                "has answered by then (default=None if that is an answer)"
            )
        if deadline is None and default is not MISSING:
            raise ValueError(
                "request_info has a default but no deadline: say with deadline= from when on the "
                "default counts as the answer, or leave it out"
            )
        due = None if deadline is None else as_moment(deadline, "deadline")
        return Ready(self._call.request_info(request_data, response_type, request_id, due, default))

    def schedule(
        self,
        message: OutT,
        *,
        at: datetime | None = None,
        delay: timedelta | float | None = None,
        target_id: str | None = None,
    ) -> Ready[None]:
        """Send a message along the executor's edges at a later time; give either `at` or `delay`.

        The message is durable: it is delivered once per branch, also after a restart. The run stays
        in progress until then.

        Args:
            message: Any value; the receiver gets a copy of it as it is now.
            at: When, with a time zone.
            delay: How long from now, as a timedelta or in seconds.
            target_id: Deliver to this executor only; an edge must lead there, unless it is the
                executor itself.

        Raises:
            UnknownTargetError: No edge leads to `target_id`.
            CheckpointEncodeError: The message cannot be saved.
            ValueError: Not exactly one of `at` and `delay` is given, or it is no time to come back
                at.
        """
        if (at is None) == (delay is None):
            given = "neither" if at is None else "both"
            raise ValueError(
                f"schedule takes either at= (a time) or delay= (from now), it got {given}"
            )
        due = moment_at(at, "at") if at is not None else moment_from_now(delay, "delay")
        self._call.schedule(message, due, target_id)
        return _DONE

    async def sleep_until(self, when: datetime) -> None:
        """Wait until a time, given with a time zone; one in the past is no wait.

        The wake-up time is durable: a restarted process waits for the rest only. The superstep is
        held up meanwhile, so prefer `schedule` for long waits.
        """
        await self._call.sleep(moment_at(when, "when"))

    async def sleep(self, delay: timedelta | float) -> None:
        """Wait for a timedelta or a number of seconds; see `sleep_until` for what a restart does."""
        await self._call.sleep(moment_from_now(delay, "delay"))

    # ---------------------------------------------------------------------------------------- state

    def get_state(self) -> Ready[dict[str, Any] | None]:
        """Return the executor's own state, None when it was never set."""
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
        """Return a shared key's value: as of the last barrier, or as this executor wrote it since.

        Args:
            key: The key.
            default: Returned when the key is missing.

        Raises:
            KeyError: The key is missing and no default was given.
        """
        return Ready(self._call.read(SHARED_SCOPE, key, default))

    def set_shared_state(self, key: str, value: Any) -> Ready[None]:
        """Set a shared key; other executors see it in the next superstep.

        With a reducer for the key (`WorkflowBuilder.with_reducer`) the value is an update that the
        reducer folds in. Without one, two executors that write one key in one superstep are a
        `StateConflictError`.

        Raises:
            CheckpointEncodeError: The value cannot be saved.
        """
        self._call.write(SHARED_SCOPE, key, value)
        return _DONE

    def append_shared_state(self, key: str, item: Any) -> Ready[None]:
        """Append to a shared list; costs what is appended, however long the list has become.

        Several executors may append in one superstep; the order is that of the graph and the
        messages. A missing key begins as an empty list.

        Raises:
            TypeError: The key holds something else than a list, or has a reducer.
            CheckpointEncodeError: The item cannot be saved.
        """
        self._call.append(key, item)
        return _DONE

    def delete_shared_state(self, key: str) -> Ready[None]:
        """Remove a shared key; a missing one is no error."""
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
        """Remove a key from a scope; a missing one is no error."""
        self._call.delete(scope, key)
        return _DONE


ContextTypes: TypeAlias = tuple[Sequence[Any], Sequence[Any]]
"""The message types and the output types that a context annotation allows."""


def context_types(annotation: Any) -> ContextTypes | None:
    """Return what a context annotation allows to send and to yield; None when it is no context annotation.

    Unions come as their members, `Never` as nothing.
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
