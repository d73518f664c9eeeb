"""`Observer`: gets reports of what runs do, for tracing and metrics."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from supersteps._thread_warnings import report
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.engine.backends import Backend
from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.plan import PlannedCall
from supersteps.engine.user_code import UserCodeError
from supersteps.errors import ObserverWarning
from supersteps.states import WorkflowRunState


class ObservedRun(msgspec.Struct, frozen=True):
    """The run that a call of an observer is about.

    Attributes:
        run_id: The run.
        workflow_id: The workflow's name.
    """

    run_id: str
    workflow_id: str


class Observer:
    """Gets reports of what runs do; subclass it and override the methods that you need.

    Use it for tracing and metrics of all runs of a workflow; to show one run to a person, use the
    events of its stream. Methods are called in the task, and in the context (`contextvars`), of the
    work that they report: a span that `call_started` makes the current one is the parent of the
    handler's spans. They should return soon, because the run waits for them. Exceptions that they
    raise become warnings and do not affect the run.
    """

    def run_opened(self, run: ObservedRun) -> None:
        """A handle starts or loads a run, or continues one."""

    def run_closed(
        self, run: ObservedRun, state: WorkflowRunState, error: BaseException | None
    ) -> None:
        """A handle has no more work for a run, for now or forever.

        Args:
            run: The run.
            state: The run's state; in progress if its consumer has left it.
            error: The error that ended the work, if any.
        """

    def superstep_started(self, run: ObservedRun, step_number: int, calls: int) -> None:
        """A superstep starts.

        Args:
            run: The run.
            step_number: The superstep.
            calls: Number of messages, answers and timers to handle; recorded calls of an earlier
                attempt are not repeated.
        """

    def superstep_ended(
        self, run: ObservedRun, step_number: int, error: BaseException | None
    ) -> None:
        """A superstep is committed, or has failed with an error."""

    def call_started(
        self, run: ObservedRun, step_number: int, executor_id: str, attempt: int
    ) -> None:
        """A handler is about to be called.

        Args:
            run: The run.
            step_number: The superstep.
            executor_id: The executor, by path.
            attempt: Number of the attempt at the call, from 1.
        """

    def call_ended(
        self,
        run: ObservedRun,
        step_number: int,
        executor_id: str,
        attempt: int,
        error: BaseException | None,
    ) -> None:
        """A handler has returned, or raised an error, or was cancelled (`CancelledError`)."""

    def committed(
        self, run: ObservedRun, checkpoint: CheckpointInfo, size: int, seconds: float
    ) -> None:
        """A checkpoint is durable.

        Args:
            run: The run.
            checkpoint: The checkpoint.
            size: Size of the superstep's encoded changes, in bytes.
            seconds: Time that the storage needed.
        """

    def lease_lost(self, run: ObservedRun, error: BaseException) -> None:
        """Another owner has taken over the run, so nothing was written."""


class Observation:
    """Reports one run to an observer, and keeps the observer's errors from the run."""

    def __init__(self, observer: Observer, run_id: str, workflow_id: str) -> None:
        self._observer = observer
        self._run = ObservedRun(run_id, workflow_id)
        self._is_open = False
        self._failed: set[str] = set()

    def _tell(self, method: Callable[..., None], *details: Any) -> None:
        try:
            method(self._run, *details)
        except Exception as error:
            self._warn(method, error)

    def _warn(self, method: Callable[..., None], error: Exception) -> None:
        """Warn about an error, the first time that a method raises in this run."""
        name = getattr(method, "__name__", repr(method))
        if name in self._failed:
            return
        self._failed.add(name)
        text = (
            f"run {self._run.run_id!r}: {name} of observer {type(self._observer).__name__} raised "
            f"{type(error).__name__}: {error}. The run continues; fix the observer."
        )
        try:
            warnings.warn(text, ObserverWarning, stacklevel=4)
        except ObserverWarning as raised:  # a warning filter has turned it into an error
            report(raised)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Report that the run is being opened, and that it is closed again if that fails."""
        self._open()
        try:
            yield
        except BaseException as error:
            self.rest(WorkflowRunState.FAILED, error)
            raise

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._tell(self._observer.run_opened)

    def rest(self, state: WorkflowRunState, error: BaseException | None = None) -> None:
        """Report that the run is at rest."""
        if self._is_open:
            self._is_open = False
            self._tell(self._observer.run_closed, state, _shown(error))

    async def superstep(self, work: Awaitable[None], number: int, calls: int) -> None:
        """Do the work of a superstep, and report it."""
        self._open()
        self._tell(self._observer.superstep_started, number, calls)
        try:
            await work
        except BaseException as error:
            self._tell(self._observer.superstep_ended, number, _shown(error))
            raise
        self._tell(self._observer.superstep_ended, number, None)

    def committed(self, checkpoint: CheckpointInfo, size: int, seconds: float) -> None:
        """Report a commit."""
        self._tell(self._observer.committed, checkpoint, size, seconds)

    def lost(self, error: BaseException) -> None:
        """Report that another owner has the run."""
        self._tell(self._observer.lease_lost, error)

    async def call(self, work: Awaitable[Effects], planned: PlannedCall, site: CallSite) -> Effects:
        """Make a call, and report it."""
        place = site.step_number, site.post.address, planned.attempt
        self._tell(self._observer.call_started, *place)
        try:
            effects = await work
        except BaseException as error:
            self._tell(self._observer.call_ended, *place, _shown(error))
            raise
        self._tell(self._observer.call_ended, *place, None)
        return effects


def _shown(error: BaseException | None) -> BaseException | None:
    """Return an error as the run's consumer gets it."""
    return error.error if isinstance(error, UserCodeError) else error


class ObservedBackend:
    """Reports the calls of a backend to an observer."""

    def __init__(self, backend: Backend, observation: Observation) -> None:
        self._backend = backend
        self._observation = observation

    async def invoke(self, planned: PlannedCall, site: CallSite) -> Effects:
        work = self._backend.invoke(planned, site)
        return await self._observation.call(work, planned, site)

    async def checkpoint(self, site: CallSite, effects: Effects) -> None:
        await self._backend.checkpoint(site, effects)

    async def restore(self, site: CallSite) -> None:
        await self._backend.restore(site)
