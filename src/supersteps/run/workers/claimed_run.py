"""`ClaimedRun`: a run that a worker has taken, on its way to rest."""

from __future__ import annotations

import asyncio
from datetime import datetime

from supersteps.errors import CheckpointNotFoundError
from supersteps.run.handle import StreamingRun
from supersteps.run.origins import RunOrigin
from supersteps.run.result import UnheardEvents
from supersteps.run.setup import RunSetup
from supersteps.run.work import Opened, RunWork
from supersteps.storage.ports import name_of
from supersteps.storage.queue import WorkQueue
from supersteps.storage.records import RunRecord


class ClaimedOrigin(RunOrigin):
    """A run that was claimed: its epoch and lease are this process's already."""

    def __init__(self, setup: RunSetup, storage: WorkQueue, run: RunRecord, until: float) -> None:
        super().__init__(setup, run.run_id)
        self._storage = storage
        self._run = run
        self._until = until

    async def open(self, work: RunWork) -> Opened:
        """Load the head, under the epoch of the claim."""
        run = self._run
        record = await self._storage.load_record(run.head)
        if record is None:
            raise CheckpointNotFoundError(
                f"the head {run.head!r} of run {run.run_id!r} is missing in "
                f"{name_of(self._storage)}"
            )
        fitted = self._setup.fit(self._storage, record)
        opened = self._equip(work, self._storage)
        assert opened.store is not None
        opened.store.take_over(run, self._until)
        await opened.runner.load(record, run, fitted)
        return opened


class ClaimedRun:
    """Drives a claimed run until it rests, and says when it wants to go on.

    Args:
        setup: Of the run's workflow.
        storage: Where it was claimed.
        run: Its record, as the claim gave it.
        until: Until when the lease is this process's for certain, by `time.monotonic`.
    """

    def __init__(self, setup: RunSetup, storage: WorkQueue, run: RunRecord, until: float) -> None:
        self.run = run
        self.handle = StreamingRun(ClaimedOrigin(setup, storage, run, until))
        self.handle._work.waits_for_timers = False

    async def drive(self) -> None:
        """Drive the run until it is done, waits for something, or is drained.

        Raises:
            Exception: What ended the run.
        """
        await self.handle.drive_to_rest(UnheardEvents())

    @property
    def is_opened(self) -> bool:
        """Whether the run was opened: what goes wrong before that is not the run's fault."""
        return self.handle._work.runner is not None

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to do for the run now."""
        runner = self.handle._work.runner
        return runner is not None and not (runner.flows or runner.has_work)

    @property
    def wakes_at(self) -> float | None:
        """When something in the run is due by itself, in Unix seconds."""
        runner = self.handle._work.runner
        moment = None if runner is None else runner.wakes_at
        return None if moment is None else datetime.fromisoformat(moment).timestamp()

    async def drain(self) -> None:
        """Let the superstep under way end and be committed."""
        await self.handle.drain()

    async def close(self) -> None:
        """Let go of the run in this process; work in flight is cancelled."""
        await asyncio.shield(self.handle.aclose())
