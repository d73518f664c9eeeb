"""`Execution` runs the calls of one superstep: executors side by side, each with its calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from supersteps._error_texts import annotate, described, message_of, traceback_of
from supersteps.define.executor import Executor
from supersteps.define.policies import ExecutorFailure, FailurePolicy
from supersteps.engine import watcher
from supersteps.engine.backends import Backend
from supersteps.engine.bounded import map_bounded
from supersteps.engine.call import CallSite, Sleeper, as_text
from supersteps.engine.effects import Delayed, Effects
from supersteps.engine.equipment import Notes
from supersteps.engine.event_loops import LoopEvent, end_all
from supersteps.engine.executors import Executors
from supersteps.engine.inside import Inside, present
from supersteps.engine.journal import Journal, Note, Recorded
from supersteps.engine.plan import Plan, PlannedCall
from supersteps.engine.user_code import UserCodeError, inner
from supersteps.engine.view import View
from supersteps.errors import (
    CheckpointError,
    HandlerError,
    HandlerTimeoutError,
    InterruptedCallError,
)
from supersteps.events import (
    ExecutorCompleted,
    ExecutorFailedEvent,
    ExecutorInvoked,
    WorkflowErrorDetails,
    WorkflowEvent,
)

_LONGEST_WAIT = 3600.0
"""Seconds after which a sleeper looks at the clock again: it may have been set, or the machine may have slept."""


class Execution(msgspec.Struct, eq=False):
    """The calls of one superstep.

    Attributes:
        planned: Who handles what.
        executors: The run's executors.
        backend: Runs the handlers.
        site: Gives what an executor's calls need to know of the run.
        emit: Takes live events.
        notes: Takes those that happen in every superstep.
        recorded: What an earlier attempt has left in the journal; finished calls are not run again.
        journal: Takes records of finished calls; None without storage.
        restore: Lets an executor with hooks take its attributes back from what it sees.
        asleep: Is set while nothing goes on but handlers' sleep that can be cut short.
        outer: The work, of this run or of another, from which it was begun.
        is_stopped: Whether it is cancelled: no call begins, and none that ends counts.
    """

    planned: Plan
    executors: Executors
    backend: Backend
    site: Callable[[str, Sleeper], CallSite]
    emit: Callable[[WorkflowEvent], None]
    notes: Notes
    recorded: Recorded
    journal: Journal | None
    restore: Callable[[str, View], Awaitable[None]]
    asleep: LoopEvent
    outer: Inside | None = None
    is_stopped: bool = False
    _left: int = 0
    _units: dict[str, list[Effects]] = {}
    _ended: set[str] = set()
    _sleeping: dict[str, int] = {}
    _unrepeatable: dict[str, int] = {}
    _at_once: dict[str, int] | None = None
    _broken: CheckpointError | None = None

    def _count(self) -> int:
        """Return how many calls are to be run."""
        if not self.recorded.finished:
            return sum(map(len, self.planned.calls.values()))
        places = (
            (executor_id, call.key)
            for executor_id, queue in self.planned.calls.items()
            for call in queue
        )
        return sum(place not in self.recorded.finished for place in places)

    async def run(self) -> list[Effects]:
        """Run every call and return what they did, in the order of the plan.

        Raises:
            UserCodeError: What the first failing handler (in the order of the plan) raised, after
                its siblings finished and every finished call's record is durable.
            CheckpointError: A finished call could not be recorded.
        """
        if self.journal is not None:
            self._left = self._count()
        self.outer = present.get()
        if isinstance(self.outer, Execution) and self.outer.notes is self.notes:
            # The run's last superstep is over, though it was not taken back: setting a context
            # variable twice in each superstep would cost too much.
            self.outer = self.outer.outer
        present.set(self)
        try:
            outcomes = await self._run_executors()
        except GeneratorExit:  # the event loop was closed: nothing can be waited for
            raise
        except BaseException:
            if self.journal is not None:
                await self.journal.abandon()
            raise
        finally:
            if self._sleeping:
                self.asleep.clear()
        results: list[Effects] = []
        failures: list[Exception] = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                failures.append(outcome)
            else:
                results += outcome
        if self.journal is not None:
            if failures:
                await self.journal.flush()
            elif self.journal.is_used:
                await self.journal.settle()
        if failures:
            first = failures[0]
            for other in failures[1:]:
                text = f"in the same superstep, also failed: {described(inner(other))}"
                annotate(inner(first), text)
            raise first
        return results

    async def _run_executors(self) -> Sequence[list[Effects] | Exception]:
        """Return what each executor's calls did or what one raised, in the order of the plan."""
        calls = self.planned.calls
        if len(calls) == 1:
            ((executor_id, queue),) = calls.items()
            return (await self._guarded(executor_id, queue),)
        tasks = [
            asyncio.create_task(self._guarded(executor_id, queue), name=f"supersteps:{executor_id}")
            for executor_id, queue in calls.items()
        ]
        try:
            return await asyncio.gather(*tasks)
        except GeneratorExit:  # the event loop was closed, and these end with it
            raise
        except BaseException:
            # Cancelled from outside, or a handler ended with SystemExit or the like: nobody may work on unseen.
            await end_all(tasks)
            raise

    async def _guarded(
        self, executor_id: str, queue: Sequence[PlannedCall]
    ) -> list[Effects] | Exception:
        """Run an executor's calls; hand back what one raised, so that the siblings go on."""
        try:
            return await self._run_executor(executor_id, queue)
        except Exception as error:  # reported by run(), once the siblings have finished
            return error
        finally:
            self._ended.add(executor_id)
            if self._sleeping:
                self._look_asleep()

    async def _run_executor(self, executor_id: str, queue: Sequence[PlannedCall]) -> list[Effects]:
        executor = self.executors[executor_id]
        site = self.site(executor_id, self)
        results: list[Effects] = []
        graph = site.level.graph
        policy = graph.policies.get(site.executor_id)
        finished = self.recorded.finished
        has_hooks = executor.__supersteps__.has_hooks
        # Where a failed call is not the end, its attributes are taken back to those after the call before it.
        keeps_each = has_hooks and (
            policy is not None or bool(graph.error_targets.get(site.executor_id))
        )
        if graph.concurrency and len(queue) > 1:
            limit = graph.concurrency.get(site.executor_id, 1)
            if limit > 1:
                return await self._run_side_by_side(executor, queue, site, policy, limit)
        if finished:  # what ran before ran first, whatever has come due since
            queue = sorted(queue, key=lambda planned: (executor_id, planned.key) not in finished)
        watcher.watch(site)
        try:
            for planned in queue:
                effects = finished.get((executor_id, planned.key)) if finished else None
                if effects is None:
                    effects = await self._run_call(executor, planned, site, policy)
                    site.view.accept(effects.writes)
                    is_hook_due = has_hooks and (keeps_each or planned is queue[-1])
                    if is_hook_due:
                        await self._run_hook(executor, site, effects)
                    self._left -= 1
                    if self.journal is not None and self._left:  # else the commit records it
                        self._record(
                            executor_id, effects, is_unit=has_hooks, is_complete=is_hook_due
                        )
                else:
                    site.view.accept(effects.writes)
                results.append(effects)
        finally:
            watcher.unwatch(site, None)
            if watcher.untold:
                watcher.tell(site)
        return results

    async def _run_side_by_side(
        self,
        executor: Executor,
        queue: Sequence[PlannedCall],
        site: CallSite,
        policy: FailurePolicy | None,
        limit: int,
    ) -> list[Effects]:
        """Run an executor's calls at most `limit` at a time, each with its own view of state."""
        finished = self.recorded.finished
        done = {planned.key: finished.get((site.address, planned.key)) for planned in queue}
        left = [planned for planned in queue if done[planned.key] is None]
        if self._at_once is None:
            self._at_once = {}
        watcher.watch(site)
        try:
            made = await map_bounded(
                lambda planned: self._call_apart(executor, planned, site, policy),
                left,
                limit,
                f"supersteps:{site.address}",
            )
        finally:
            watcher.unwatch(site, None)
            if watcher.untold:
                watcher.tell(site)
        done.update((planned.key, effects) for planned, effects in zip(left, made, strict=True))
        results = [effects for effects in done.values() if effects is not None]
        for effects in results:
            effects.is_apart = True
        return results

    async def _call_apart(
        self, executor: Executor, planned: PlannedCall, site: CallSite, policy: FailurePolicy | None
    ) -> Effects:
        """Run one of several calls that run side by side, and have it recorded."""
        at_once, address = self._at_once, site.address
        assert at_once is not None
        own = msgspec.structs.replace(site, view=site.view.fresh())
        at_once[address] = at_once.get(address, 0) + 1
        try:
            effects = await self._run_call(executor, planned, own, policy)
        finally:
            at_once[address] -= 1
            site.has_told = site.has_told or own.has_told
            if self._sleeping:
                self._look_asleep()
        self._left -= 1
        if self.journal is not None and self._left:  # else the commit records it
            self.journal.record(effects.to_record())
        return effects

    async def _run_call(
        self, executor: Executor, planned: PlannedCall, site: CallSite, policy: FailurePolicy | None
    ) -> Effects:
        if self.is_stopped:
            raise asyncio.CancelledError
        self.notes.sink.note(ExecutorInvoked(site.address))
        if policy is not None and policy.at_most_once:
            interrupted = await self._begin_once(planned, site)
            if interrupted is not None:
                return self._settle_failure(interrupted, planned, site, None, is_interrupted=True)
        try:
            if policy is None or policy.timeout is None:
                effects = await self.backend.invoke(executor, planned, site)
            else:
                effects = await self._invoke_within(policy.timeout, executor, planned, site)
        except Exception as error:
            if self._broken is not None:  # whatever the handler made of it
                raise self._broken from None
            if self.is_stopped:
                raise asyncio.CancelledError from error
            effects = self._settle_failure(error, planned, site, policy)
            if executor.__supersteps__.has_hooks:
                await self.restore(site.address, site.view)
            return effects
        finally:
            if policy is not None and policy.at_most_once:
                self._unrepeatable[site.address] -= 1
        if self.is_stopped:  # the handler has caught its cancellation
            raise asyncio.CancelledError
        self.notes.sink.note(ExecutorCompleted(site.address))
        return effects

    async def _begin_once(
        self, planned: PlannedCall, site: CallSite
    ) -> InterruptedCallError | None:
        """Note that a call begins which must not run twice; return an error if it had begun before.

        Raises:
            CheckpointError: The note could not be saved, so nothing has begun.
        """
        place = (site.address, planned.key)
        if place in self.recorded.started:
            return InterruptedCallError(
                f"a call of executor {site.address!r} in superstep {site.step_number} of run "
                f"{site.run_id!r} had begun before and did not finish; it may have had its effect, "
                "or not, and its policy says at_most_once. Find out which; then resume with "
                "add_error_edge() for the executor, or without at_most_once to run it again."
            )
        if self.journal is not None:
            await self.journal.note(Note("started", *place))
        self.recorded.started.add(place)  # without storage this handle remembers it
        self._unrepeatable[site.address] = self._unrepeatable.get(site.address, 0) + 1
        return None

    async def _invoke_within(
        self, seconds: float, executor: Executor, planned: PlannedCall, site: CallSite
    ) -> Effects:
        """Run a call for at most so many seconds.

        Raises:
            HandlerTimeoutError: It took longer.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                effects = await self.backend.invoke(executor, planned, site)
                if not limit.expired():  # else the handler has caught its cancellation
                    return effects
                raise TimeoutError
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HandlerTimeoutError(
                f"executor {site.address!r} took longer than the {seconds} s that its failure "
                f"policy allows (attempt {planned.attempt} in superstep {site.step_number} of run "
                f"{site.run_id!r})"
            ) from error

    def _settle_failure(
        self,
        raised: Exception,
        planned: PlannedCall,
        site: CallSite,
        policy: FailurePolicy | None,
        *,
        is_interrupted: bool = False,
    ) -> Effects:
        """Return what a failed call comes to under its executor's policy, or raise the error.

        Either the call is tried again later, with the same message, or the failure goes along the error edges.
        """
        error = inner(raised)
        effects = Effects(site.address, planned.key)
        if policy is not None and policy.retries(error, planned.attempt):
            wait = policy.delay(planned.attempt, site.work(planned.key).key(site.run_id, ""))
            due = as_text(datetime.now(UTC) + timedelta(seconds=wait))
            self._failed(raised, site, attempt=planned.attempt, retry_at=due)
            again = Delayed(
                planned.payload,
                None,
                due,
                planned.attempt + 1,
                planned.source_ids,
                planned.work or site.work(planned.key),
            )
            effects.delayed.append(again)
        elif site.level.graph.error_targets.get(site.executor_id):
            self._failed(raised, site, attempt=planned.attempt)
            is_stand_in = isinstance(error, HandlerError) and error.__cause__ is not None
            failure = ExecutorFailure(
                executor_id=site.executor_id,
                message=planned.payload.open(),
                error_type=type(error.__cause__ if is_stand_in else error).__name__,
                error_message=message_of(error),
                attempts=planned.attempt,
                traceback=traceback_of(error),
                interrupted=is_interrupted,
            )
            effects.failures.append(
                site.sealer.seal(failure, "the failure of executor {!r}", site.address)
            )
        else:
            self._failed(raised, site)
            raise raised
        return effects

    # -------------------------------------------------------------------------------------- sleeping

    async def sleep(self, executor_id: str, key: str, number: int, due: str) -> None:
        """Let a handler wait; the time is in the journal before the wait begins, so a repetition waits for the rest."""
        noted = self.recorded.sleeps.get((executor_id, key, number))
        if noted is None and self.journal is not None:
            try:
                await self.journal.note(Note("sleep", executor_id, key, number, due))
            except CheckpointError as error:
                self._broken = error  # the handler may make something else of it
                raise
        self._sleeping[executor_id] = self._sleeping.get(executor_id, 0) + 1
        self._look_asleep()
        try:
            await sleep_until(noted or due)
        finally:
            self._sleeping[executor_id] -= 1
            self._look_asleep()

    def _look_asleep(self) -> None:
        """Tell whether nothing goes on but sleep; one that must not run twice cannot be cut short."""
        busy = self.planned.calls.keys() - self._ended
        at_once = self._at_once or {}
        can_be_cut = all(
            self._sleeping.get(address, 0) >= max(1, at_once.get(address, 1))
            and not self._unrepeatable.get(address)
            for address in busy
        )
        (self.asleep.set if busy and can_be_cut else self.asleep.clear)()

    @property
    def is_recorded(self) -> bool:
        """Whether every finished call's record is durable."""
        return self.journal is None or self.journal.is_quiet

    async def flush(self) -> None:
        """Wait until every finished call's record is durable."""
        if self.journal is not None:
            await self.journal.flush()

    async def _run_hook(self, executor: Executor, site: CallSite, effects: Effects) -> None:
        before = len(effects.writes)
        try:
            await self.backend.checkpoint(executor, site, effects)
        except Exception as error:
            self._failed(error, site)
            raise
        site.view.accept(effects.writes[before:])

    def _failed(self, raised: Exception, site: CallSite, **extra: Any) -> None:
        error = inner(raised)
        where = f"(executor {site.address!r}, superstep {site.step_number} of run {site.run_id!r})"
        annotate(error, where)
        if isinstance(raised, UserCodeError):
            raised.where = where
        facts = {"run_id": site.run_id, "superstep": site.step_number, **extra}
        details = WorkflowErrorDetails.from_exception(error, executor_id=site.address, extra=facts)
        self.emit(ExecutorFailedEvent(site.address, details=details))

    def _record(
        self, executor_id: str, effects: Effects, *, is_unit: bool, is_complete: bool
    ) -> None:
        """Put a finished call into the journal.

        Calls of an executor with hooks are recorded together once its hook has run: its attributes are in no earlier
        record, so a resume could not bring them back.
        """
        assert self.journal is not None
        if not is_unit:
            self.journal.record(effects.to_record())
            return
        unit = self._units.setdefault(executor_id, [])
        unit.append(effects)
        if is_complete:
            for finished in unit:
                self.journal.record(finished.to_record())
            unit.clear()


async def sleep_until(due: str) -> None:
    """Wait until a time given as ISO 8601, UTC."""
    moment = datetime.fromisoformat(due)
    left = _seconds_until(moment)
    while left > 0:
        await asyncio.sleep(min(left, _LONGEST_WAIT))
        left = _seconds_until(moment)


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()
