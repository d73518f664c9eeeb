"""`Worker`: takes runs from the queue of a storage and drives them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from supersteps._error_texts import described
from supersteps.checkpoint.owner import mark_claiming, this_process
from supersteps.checkpoint.queue_entry import DEFAULT_QUEUE
from supersteps.errors import (
    CheckpointError,
    ConcurrentRunError,
    RunBusyError,
    RunFencedError,
    RunNotFoundError,
    StorageError,
    WorkflowRuntimeError,
)
from supersteps.ids import new_id
from supersteps.run.script import signals_go_to
from supersteps.run.workers.claimed_run import ClaimedRun
from supersteps.run.workflow import Workflow
from supersteps.storage.claims import Claim
from supersteps.storage.plain.adapter import as_durable
from supersteps.storage.ports import CheckpointStorage, name_of
from supersteps.storage.queue import WorkQueue, queue_of
from supersteps.storage.records import RunRecord

LOG = logging.getLogger("supersteps.worker")

LOOK_EVERY_SECONDS = 2.0
"""At the latest after so many a worker looks for runs, in case nothing told it of a change."""

RECOVER_EVERY_SECONDS = 2.0
"""How often it looks for runs whose owner is gone."""

NAME_EVERY_SECONDS = 30.0
"""How often it looks for runs that no worker like it can drive."""

_PAUSE_SECONDS = 0.004
"""Between two looks, at least: in a busy storage something changes all the time."""

_AGAIN_AFTER_ERROR_SECONDS = 1.0
"""After a failure of the storage."""

_BLOCKED_SECONDS = 0.05
"""Before the next claim, at least, where runs are due and none could be taken."""

_AGAIN_SECONDS, _BUSY_AGAIN_SECONDS = 30.0, 1.0
"""After how long a run that could not be opened is ready again; the second where its executors
were only in use."""


class Worker:
    """Takes runs of some workflows from a storage, drives them, and gives them back when they rest.

    It takes what was submitted (`workflow.submit`), what is due or answered, and runs whose owner
    is gone. Start as many workers as you like, in as many processes: each run has one owner.

        async with Worker(storage, [workflow]) as worker:
            await worker.run()

    A run that waits, for an answer or for a timer, takes up no place. What a worker does is logged
    (`logging.getLogger("supersteps.worker")`).

    Attributes:
        storage: Where runs come from.
        workflows: What it can run, by workflow id.
        name: What its leases are named after.
    """

    def __init__(
        self,
        storage: CheckpointStorage,
        workflows: Iterable[Workflow],
        *,
        concurrency: int = 50,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        limits: Mapping[str, int] | None = None,
        key_limit: int | None = None,
        adopt: bool = True,
        drain_seconds: float | None = None,
    ) -> None:
        """Nothing is taken before `run`.

        Args:
            storage: A storage with a queue, such as `SqliteCheckpointStorage`.
            workflows: What it runs. Workflows whose executors have checkpoint hooks should be given
                factories (`register_executor`): an instance serves one run at a time.
            concurrency: How many runs it drives at once.
            queues: The queues that it serves; they take turns.
            limits: How many runs of a workflow, by its id, all workers together may drive at once.
            key_limit: How many runs with the same `concurrency_key` they may.
            adopt: Whether it takes up runs too that were started by hand and whose process died.
            drain_seconds: How long `drain` waits for supersteps to end, before it cancels them;
                without end when None.

        Raises:
            ValueError: Two workflows have one id, or a number makes no sense.
            StorageError: The storage has no queue.
        """
        self.storage: WorkQueue = queue_of(as_durable(storage))
        self.workflows: dict[str, Workflow] = {}
        for workflow in workflows:
            if self.workflows.setdefault(workflow.workflow_id, workflow) is not workflow:
                raise ValueError(
                    f"two of the worker's workflows are named {workflow.workflow_id!r}; give one "
                    "of them another name: WorkflowBuilder(name=...)"
                )
        if not self.workflows or not queues or isinstance(queues, str):
            raise ValueError("a worker needs a list of workflows and one of queues, none empty")
        if concurrency < 1:
            raise ValueError(f"concurrency is how many runs to drive at once, not {concurrency!r}")
        self.name = new_id()
        self._concurrency = concurrency
        self._drain_seconds = drain_seconds
        self._queues = list(dict.fromkeys(queues))
        self._claim = Claim(
            owner=this_process(self.name),
            workflow_ids=tuple(self.workflows),
            workflow_limits=dict(limits or {}),
            key_limit=key_limit,
            adopts=adopt,
        )
        self._setups = {name: workflow._setup for name, workflow in self.workflows.items()}
        self._runs: dict[str, ClaimedRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._is_running = False
        self._named: set[str] = set()
        self._recovers_at = self._names_at = self._claims_at = self._looks_at = 0.0  # monotonic

    @property
    def held(self) -> list[str]:
        """Ids of the runs that it drives at this moment."""
        return list(self._runs)

    # -------------------------------------------------------------------------------------- running

    async def run(self, *, handle_signals: bool = True) -> None:
        """Take and drive runs until `drain` is called or a signal asks the process to end.

        SIGTERM and SIGINT drain: supersteps under way end and are committed, and the runs are given
        back, so that another worker goes on with them at once. A second signal does what it would
        have done without this method: it cuts short what is under way. Finished calls are in the
        journal and are not made again.

        Args:
            handle_signals: Whether to react to signals, where this is the main thread.

        Raises:
            StorageError: The storage cannot be read. A failure that comes later is logged, and the
                worker tries again.
        """
        if self._is_running:
            raise WorkflowRuntimeError("this worker runs already; make another one")
        self._is_running = True
        mark_claiming(self.name, True)
        LOG.info("worker %s takes runs of %s", self.name, ", ".join(self.workflows))
        try:
            if handle_signals:
                with signals_go_to(lambda _signal: self._stopping.set()):
                    await self._work()
            else:
                await self._work()
        finally:
            await self._cut()
            mark_claiming(self.name, False)
            self._is_running = False
            LOG.info("worker %s has ended", self.name)

    def drain(self) -> None:
        """Take no more runs, let supersteps under way end, and have `run` return."""
        self._stopping.set()

    async def aclose(self) -> None:
        """Cancel what is under way and give the runs back."""
        self._stopping.set()
        await self._cut()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _work(self) -> None:
        mark = await self.storage.wait_for_change(None, 0)
        while not self._stopping.is_set():
            if len(self._runs) >= self._concurrency:
                self._freed.clear()
                await self._until(self._freed.wait())
                continue
            try:
                seconds = await self._take_runs()
                if seconds:
                    changed = await self._until(self.storage.wait_for_change(mark, seconds))
                    mark = mark if changed is None else changed
            except StorageError as error:
                LOG.warning("worker %s tries again in a moment: %s", self.name, error)
                await self._until(asyncio.sleep(_AGAIN_AFTER_ERROR_SECONDS))
        await self._finish()

    async def _until(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for something, or until the worker is to stop; None in that case."""
        waiting = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    # ------------------------------------------------------------------------------------- claiming

    async def _take_runs(self) -> float:
        """Take runs, if any are due; return for how long to wait for a change then, at most."""
        await asyncio.sleep(max(0.0, self._looks_at + _PAUSE_SECONDS - time.monotonic()))
        now = self._looks_at = time.monotonic()
        await self._name_strangers(now)
        due = await self.storage.next_ready_at(self._claim.workflow_ids, self._queues)
        if self._stopping.is_set():
            return 0.0  # drained in one of these moments: it takes no more runs
        in_seconds = LOOK_EVERY_SECONDS if due is None else due - time.time()
        in_seconds = max(in_seconds, self._claims_at - now)
        recovers = now >= self._recovers_at
        if in_seconds > 0 and not recovers:
            return min(in_seconds, LOOK_EVERY_SECONDS)
        if await self._take(now, recovers=recovers):
            return 0.0
        self._claims_at = now + _BLOCKED_SECONDS if in_seconds <= 0 else 0.0
        return _BLOCKED_SECONDS if in_seconds <= 0 else min(in_seconds, LOOK_EVERY_SECONDS)

    async def _take(self, now: float, *, recovers: bool) -> int:
        """Take runs; return how many."""
        claim = replace(
            self._claim,
            queues=tuple(self._queues),
            limit=self._concurrency - len(self._runs),
            recovers=recovers,
        )
        claimed = await self.storage.claim_runs(claim)
        self._queues.append(self._queues.pop(0))
        if recovers:
            self._recovers_at = now + RECOVER_EVERY_SECONDS
        for problem in claimed.problems:
            self._say_once(problem)
        for run in claimed.poisoned:
            LOG.error("run %s was parked as failed: %s", run.run_id, run.error)
        for run in claimed.runs:
            self._begin(run, now + claim.lease_seconds)
        return len(claimed.runs)

    async def _name_strangers(self, now: float) -> None:
        """Warn of runs in these queues that this worker cannot drive: they wait for another one."""
        if now < self._names_at:
            return
        self._names_at = now + NAME_EVERY_SECONDS
        waiting = set(await self.storage.queued_workflows(self._queues))
        for name in sorted(waiting - self.workflows.keys()):
            self._say_once(
                f"runs of workflow {name!r} wait in {name_of(self.storage)}, and this worker does "
                f"not have it (it has {', '.join(self.workflows)}): they wait for a worker that has"
            )

    def _say_once(self, text: str) -> None:
        if text not in self._named:
            self._named.add(text)
            LOG.warning("%s", text)

    # -------------------------------------------------------------------------------------- driving

    def _begin(self, run: RunRecord, until: float) -> None:
        claimed = ClaimedRun(self._setups[run.workflow_id], self.storage, run, until)
        self._runs[run.run_id] = claimed
        task = asyncio.create_task(self._drive(claimed), name=f"supersteps:worker:{run.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, claimed: ClaimedRun) -> None:
        run_id = claimed.run.run_id
        LOG.debug("run %s is taken under epoch %d", run_id, claimed.run.epoch)
        try:
            try:
                await claimed.drive()
                ready_at = claimed.wakes_at if claimed.is_at_rest else time.time()
            except asyncio.CancelledError:
                ready_at = time.time()
            except (RunFencedError, RunBusyError, RunNotFoundError) as error:
                LOG.warning("run %s was lost, and is left to its new owner: %s", run_id, error)
                return
            except Exception as error:
                ready_at = self._after_failure(claimed, error)
            await self._give_back(claimed, ready_at)
        finally:
            del self._runs[run_id]
            self._freed.set()

    def _after_failure(self, claimed: ClaimedRun, error: Exception) -> float:
        """Tell of a failure; return when the run is ready again, unless it counts as failed."""
        run_id = claimed.run.run_id
        if claimed.is_opened:
            LOG.warning("run %s has failed: %s", run_id, described(error))
            # Where not even that could be recorded, it is tried again.
            return time.time() + _AGAIN_SECONDS
        if isinstance(error, ConcurrentRunError):
            return time.time() + _BUSY_AGAIN_SECONDS
        self._say_once(f"run {run_id} could not be opened, and stays as it is: {described(error)}")
        return time.time() + _AGAIN_SECONDS

    async def _give_back(self, claimed: ClaimedRun, ready_at: float | None) -> None:
        run = claimed.run
        try:
            await claimed.close()
            await self.storage.put_back(
                run.run_id, run.epoch, ready_at, incarnation=run.incarnation
            )
        except (RunFencedError, RunNotFoundError):
            LOG.debug("run %s has a new owner", run.run_id)  # it was at rest: nothing is lost
        except CheckpointError as error:
            LOG.warning(
                "run %s could not be given back, and is taken up again when its lease ends: %s",
                run.run_id,
                error,
            )

    # ------------------------------------------------------------------------------------- stopping

    async def _finish(self) -> None:
        """Drain all runs; cancel what takes too long, or when a second signal comes."""
        if not self._tasks:
            return
        LOG.info("worker %s drains %d runs", self.name, len(self._runs))
        drains = [asyncio.ensure_future(run.drain()) for run in self._runs.values()]
        try:
            await asyncio.wait({*self._tasks, *drains}, timeout=self._drain_seconds)
        finally:
            for task in drains:
                task.cancel()
            await asyncio.gather(*drains, return_exceptions=True)

    async def _cut(self) -> None:
        """Cancel what is under way; each task gives its run back."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
