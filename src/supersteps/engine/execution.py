"""`Execution`: runs the calls of one superstep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from supersteps._error_texts import annotate, described
from supersteps.engine import watcher
from supersteps.engine.alarm import sleep_until
from supersteps.engine.call import CallSite, Sleeper
from supersteps.engine.effects import Effects
from supersteps.engine.event_loops import LoopEvent, end_all, map_bounded
from supersteps.engine.executors import Post
from supersteps.engine.failures import interrupted, settle_failure, tell_failure, timed_out
from supersteps.engine.journal import Journal, Note, Recorded
from supersteps.engine.plan import Plan, PlannedCall
from supersteps.engine.setting import Setting
from supersteps.engine.user_code import Inside, inner, present
from supersteps.engine.view import View
from supersteps.errors import CheckpointError, InterruptedCallError


class Execution(msgspec.Struct, eq=False):
    """The calls of one superstep.

    Attributes:
        planned: Who handles what.
        setting: What the run works with.
        site: Gives what an executor's calls need to know.
        recorded: What an earlier attempt has left in the journal; finished calls are not run again.
        journal: Takes records of finished calls; None without storage.
        restore: Lets an executor with hooks take its attributes back from what it sees.
        asleep: Set while handlers only sleep and can be interrupted.
        is_stopped: Whether it is cancelled: no call is started, and none that ends counts.
        outer: The work, of this run or of another, from which it was started.
    """

    planned: Plan
    setting: Setting
    site: Callable[[Post, Sleeper], CallSite]
    recorded: Recorded
    journal: Journal | None
    restore: Callable[[str, View], Awaitable[None]]
    asleep: LoopEvent
    is_stopped: bool = False
    outer: Inside | None = None
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
        journal, calls = self.journal, self.planned.calls
        if journal is not None:
            self._left = self._count()
        self._enter()
        outcomes: Sequence[list[Effects] | Exception]
        try:
            if len(calls) == 1:  # the usual case: no task is needed
                ((executor_id, queue),) = calls.items()
                outcomes = (await self._guarded(executor_id, queue),)
            else:
                outcomes = await self._run_executors()
        except GeneratorExit:  # the event loop was closed: nothing can be waited for
            raise
        except BaseException:
            if journal is not None:
                await journal.abandon()
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
        if journal is not None and journal.is_used:
            await (journal.flush() if failures else journal.settle())
        if failures:
            raise _joined(failures)
        return results

    def _enter(self) -> None:
        """Have the code that is called from here known as part of this run's work."""
        self.outer = present.get()
        if isinstance(self.outer, Execution) and self.outer.setting is self.setting:
            # The run's last superstep is over, though the variable still names it: to set it twice
            # in each superstep would cost too much.
            self.outer = self.outer.outer
        present.set(self)

    async def _run_executors(self) -> Sequence[list[Effects] | Exception]:
        """Return what each executor's calls did or what one raised, in the order of the plan."""
        tasks = [
            asyncio.create_task(self._guarded(executor_id, queue), name=f"supersteps:{executor_id}")
            for executor_id, queue in self.planned.calls.items()
        ]
        try:
            return await asyncio.gather(*tasks)
        except GeneratorExit:  # the event loop was closed, and these end with it
            raise
        except BaseException:
            # Cancelled from outside, or a handler ended with SystemExit or the like: no call may
            # continue unobserved.
            await end_all(tasks)
            raise

    async def _guarded(
        self, executor_id: str, queue: Sequence[PlannedCall]
    ) -> list[Effects] | Exception:
        """Run an executor's calls; return the error of one, so that the siblings continue."""
        try:
            return await self._run_executor(executor_id, queue)
        except Exception as error:  # reported by run(), once the siblings have finished
            return error
        finally:
            self._ended.add(executor_id)
            if self._sleeping:
                self._look_asleep()

    async def _run_executor(self, executor_id: str, queue: Sequence[PlannedCall]) -> list[Effects]:
        post = self.setting.executors[executor_id]
        site = self.site(post, self)
        finished = self.recorded.finished
        if post.limit > 1 and len(queue) > 1:
            return await self._run_side_by_side(queue, site)
        if finished:  # what ran before ran first, whatever has come due since
            queue = sorted(queue, key=lambda planned: (executor_id, planned.key) not in finished)
        results: list[Effects] = []
        watcher.watch(site)
        try:
            for planned in queue:
                effects = finished.get((executor_id, planned.key)) if finished else None
                if effects is None:
                    effects = await self._run_call(planned, site)
                    site.view.accept(effects.writes)
                    is_hook_due = post.has_hooks and (post.keeps_each or planned is queue[-1])
                    if is_hook_due:
                        await self._run_hook(site, effects)
                    self._left -= 1
                    if self.journal is not None and self._left:  # else the commit records it
                        self._record(effects, is_unit=post.has_hooks, is_complete=is_hook_due)
                else:
                    site.view.accept(effects.writes)
                results.append(effects)
        finally:
            watcher.unwatch(site, None)
            if watcher.untold:
                watcher.tell(site)
        return results

    async def _run_side_by_side(
        self, queue: Sequence[PlannedCall], site: CallSite
    ) -> list[Effects]:
        """Run an executor's calls several at a time, each with its own view of state."""
        finished, post = self.recorded.finished, site.post
        done = {planned.key: finished.get((post.address, planned.key)) for planned in queue}
        left = [planned for planned in queue if done[planned.key] is None]
        if self._at_once is None:
            self._at_once = {}
        watcher.watch(site)
        try:
            made = await map_bounded(
                lambda planned: self._call_apart(planned, site),
                left,
                post.limit,
                f"supersteps:{post.address}",
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

    async def _call_apart(self, planned: PlannedCall, site: CallSite) -> Effects:
        """Run one of several concurrent calls, and record it."""
        at_once, address = self._at_once, site.post.address
        assert at_once is not None
        own = msgspec.structs.replace(site, view=site.view.fresh())
        at_once[address] = at_once.get(address, 0) + 1
        try:
            effects = await self._run_call(planned, own)
        finally:
            at_once[address] -= 1
            site.has_told = site.has_told or own.has_told
            if self._sleeping:
                self._look_asleep()
        self._left -= 1
        if self.journal is not None and self._left:  # else the commit records it
            self.journal.record(effects.to_record())
        return effects

    async def _run_call(self, planned: PlannedCall, site: CallSite) -> Effects:
        if self.is_stopped:
            raise asyncio.CancelledError
        setting, post = self.setting, site.post
        policy = post.policy
        setting.notes.sink.note(post.invoked)
        if policy is not None and policy.at_most_once:
            error = await self._begin_once(planned, site)
            if error is not None:
                return settle_failure(error, planned, site, is_interrupted=True)
        try:
            if policy is None or policy.timeout is None:
                effects = await setting.backend.invoke(planned, site)
            else:
                effects = await self._invoke_within(policy.timeout, planned, site)
        except Exception as error:
            if self._broken is not None:  # whatever the handler made of it
                raise self._broken from None
            if self.is_stopped:
                raise asyncio.CancelledError from error
            effects = settle_failure(error, planned, site)
            if post.has_hooks:
                await self.restore(post.address, site.view)
            return effects
        finally:
            if policy is not None and policy.at_most_once:
                self._unrepeatable[post.address] -= 1
        if self.is_stopped:  # the handler has caught its cancellation
            raise asyncio.CancelledError
        setting.notes.sink.note(post.completed)
        return effects

    async def _begin_once(
        self, planned: PlannedCall, site: CallSite
    ) -> InterruptedCallError | None:
        """Record the start of an at-most-once call; return an error if it had started before.

        Raises:
            CheckpointError: The record could not be saved, so the call was not started.
        """
        address = site.post.address
        place = (address, planned.key)
        if place in self.recorded.started:
            return interrupted(site)
        if self.journal is not None:
            await self.journal.note(Note("started", *place))
        self.recorded.started.add(place)  # without storage this handle remembers it
        self._unrepeatable[address] = self._unrepeatable.get(address, 0) + 1
        return None

    async def _invoke_within(self, seconds: float, planned: PlannedCall, site: CallSite) -> Effects:
        """Run a call for at most so many seconds.

        Raises:
            HandlerTimeoutError: It took longer.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                effects = await self.setting.backend.invoke(planned, site)
                if not limit.expired():  # else the handler has caught its cancellation
                    return effects
                raise TimeoutError
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise timed_out(seconds, planned, site) from error

    async def _run_hook(self, site: CallSite, effects: Effects) -> None:
        before = len(effects.writes)
        try:
            await self.setting.backend.checkpoint(site, effects)
        except Exception as error:
            tell_failure(error, site)
            raise
        site.view.accept(effects.writes[before:])

    def _record(self, effects: Effects, *, is_unit: bool, is_complete: bool) -> None:
        """Put a finished call into the journal.

        Calls of an executor with hooks are recorded together once its hook has run: its attributes
        are in no earlier record, so a resume could not bring them back.
        """
        assert self.journal is not None
        if not is_unit:
            self.journal.record(effects.to_record())
            return
        unit = self._units.setdefault(effects.executor_id, [])
        unit.append(effects)
        if is_complete:
            for finished in unit:
                self.journal.record(finished.to_record())
            unit.clear()

    # ------------------------------------------------------------------------------------- sleeping

    async def sleep(self, executor_id: str, key: str, number: int, due: str) -> None:
        """Let a handler wait.

        The time is in the journal before the wait starts, so a repetition waits for the rest.
        """
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
        """Return whether handlers only sleep and can be interrupted.

        That of a call that must not run twice cannot.
        """
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


def _joined(failures: Sequence[Exception]) -> Exception:
    """Return the first failure, with a note of each other one."""
    first = failures[0]
    for other in failures[1:]:
        text = f"in the same superstep, also failed: {described(inner(other))}"
        annotate(inner(first), text)
    return first
