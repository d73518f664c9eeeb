"""`Execution` runs the calls of one superstep: executors side by side, an executor's messages one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from supersteps.engine.backends import Backend
from supersteps.engine.call import CallSite
from supersteps.engine.effects import Effects
from supersteps.engine.journal import Journal
from supersteps.engine.superstep import Plan, PlannedCall
from supersteps.errors import WorkflowRuntimeError
from supersteps.events import (
    ExecutorCompletedEvent,
    ExecutorFailedEvent,
    ExecutorInvokedEvent,
    WorkflowErrorDetails,
    WorkflowEvent,
)
from supersteps.executor import Executor


class Execution:
    """The calls of one superstep."""

    def __init__(
        self,
        planned: Plan,
        executors: Mapping[str, Executor],
        backend: Backend,
        *,
        site: Callable[[str], CallSite],
        emit: Callable[[WorkflowEvent], None],
        replayed: Mapping[tuple[str, int], Effects],
        journal: Journal | None,
    ) -> None:
        """Prepare.

        Args:
            planned: Who handles what.
            executors: The run's executors.
            backend: Runs the handlers.
            site: Gives what an executor's calls need to know of the run.
            emit: Takes live events.
            replayed: Effects of calls that finished in an earlier attempt; they are not run again.
            journal: Takes records of finished calls; None when there is nothing to record.
        """
        self._planned = planned
        self._executors = executors
        self._backend = backend
        self._site = site
        self._emit = emit
        self._replayed = replayed
        self._journal = journal
        self._results: dict[str, list[Effects]] = {executor_id: [] for executor_id in planned.calls}
        self._left = sum(map(len, planned.calls.values())) - len(replayed)

    async def run(self) -> list[Effects]:
        """Run every call and return what they did, in the order of the plan.

        Raises:
            Exception: What the first failing handler (in the order of the plan) raised, after its siblings finished
                and every finished call's record is durable.
        """
        try:
            if len(self._planned.calls) == 1:
                ((executor_id, queue),) = self._planned.calls.items()
                outcomes = [await self._guarded(executor_id, queue)]
            else:
                outcomes = await self._side_by_side()
        except BaseException:
            if self._journal is not None:
                await self._journal.abandon()
            raise
        failures = [outcome for outcome in outcomes if outcome is not None]
        if self._journal is not None:
            await (self._journal.flush() if failures else self._journal.settle())
        if failures:
            first = failures[0]
            for other in failures[1:]:
                first.add_note(f"in the same superstep, also failed: {type(other).__name__}: {other}")
            raise first
        return [effects for results in self._results.values() for effects in results]

    async def _side_by_side(self) -> list[Exception | None]:
        tasks = [
            asyncio.create_task(self._guarded(executor_id, queue), name=f"supersteps:{executor_id}")
            for executor_id, queue in self._planned.calls.items()
        ]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            # Cancelled from outside, or a handler ended with SystemExit or the like: nobody may work on unseen.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _guarded(self, executor_id: str, queue: Sequence[PlannedCall]) -> Exception | None:
        """Run an executor's calls; hand back what one raised, so that the siblings go on."""
        try:
            await self._run_executor(executor_id, queue)
        except Exception as error:  # reported by run(), once the siblings have finished
            return error
        return None

    async def _run_executor(self, executor_id: str, queue: Sequence[PlannedCall]) -> None:
        executor = self._executors[executor_id]
        site = self._site(executor_id)
        results = self._results[executor_id]
        hooked = executor.has_hooks
        for planned in queue:
            effects = self._replayed.get((executor_id, planned.ordinal))
            if effects is None:
                effects = await self._run_call(executor, planned, site)
                site.view.accept(effects.writes)
                if hooked and planned is queue[-1]:
                    await self._run_hook(executor, site, effects)
                self._left -= 1
                self._record(executor_id, effects, is_unit=hooked, is_last=planned is queue[-1])
            else:
                site.view.accept(effects.writes)
            results.append(effects)

    async def _run_call(self, executor: Executor, planned: PlannedCall, site: CallSite) -> Effects:
        self._emit(ExecutorInvokedEvent(executor.id))
        try:
            effects = await self._backend.invoke(executor, planned, site)
        except Exception as error:
            self._failed(error, site)
            raise
        except asyncio.CancelledError as error:
            self._check_cancelled(error, site)
            raise
        self._emit(ExecutorCompletedEvent(executor.id))
        return effects

    async def _run_hook(self, executor: Executor, site: CallSite, effects: Effects) -> None:
        before = len(effects.writes)
        try:
            await self._backend.checkpoint(executor, site, effects)
        except Exception as error:
            self._failed(error, site)
            raise
        except asyncio.CancelledError as error:
            self._check_cancelled(error, site)
            raise
        site.view.accept(effects.writes[before:])

    def _check_cancelled(self, error: asyncio.CancelledError, site: CallSite) -> None:
        """Tell a handler that raises CancelledError, as by awaiting a cancelled task, from a cancelled superstep."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        failure = WorkflowRuntimeError(
            f"executor {site.executor_id!r} of run {site.run_id!r} raised CancelledError, though nobody cancelled the "
            "run: something it awaited was cancelled. Catch it where it arises."
        )
        self._failed(failure, site)
        raise failure from error

    def _failed(self, error: Exception, site: CallSite) -> None:
        error.add_note(f"(executor {site.executor_id!r}, superstep {site.step_number} of run {site.run_id!r})")
        extra = {"run_id": site.run_id, "superstep": site.step_number}
        details = WorkflowErrorDetails.from_exception(error, executor_id=site.executor_id, extra=extra)
        self._emit(ExecutorFailedEvent(site.executor_id, details=details))

    def _record(self, executor_id: str, effects: Effects, *, is_unit: bool, is_last: bool) -> None:
        """Put a finished call into the journal, unless it is the last of the superstep: then the commit records it.

        Calls of an executor with hooks are recorded together once its hook has run: its attributes are in no earlier
        record, so a resume could not bring them back.
        """
        if self._journal is None or self._left == 0:
            return
        if not is_unit:
            self._journal.record(effects.to_record())
        elif is_last:
            for finished in (*self._results[executor_id], effects):
                self._journal.record(finished.to_record())
