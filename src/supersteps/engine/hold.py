"""`RunHold`: one handle's hold on one run: its epoch and its lease."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import msgspec

from supersteps._process_fork import restart_in_child
from supersteps.checkpoint.owner import Owner, mark_advancing, this_process
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.engine import heartbeat
from supersteps.engine.event_loops import LoopEvent, LoopLock
from supersteps.errors import RunFencedError, RunNotFoundError
from supersteps.ids import new_id
from supersteps.states import WorkflowRunState
from supersteps.storage.ports import DurableStorage
from supersteps.storage.records import LEASE_SECONDS, RunRecord, Seen


class RunHold:
    """Takes one run for one handle, keeps it and gives it up.

    Attributes:
        storage: Where the run lives.
        run_id: The run.
        handle: Identity of this hold within the process.
        head: Header of the checkpoint that this handle continues from; None before the first
            commit.
    """

    def __init__(self, storage: DurableStorage, run_id: str) -> None:
        self.storage = storage
        self.run_id = run_id
        self.handle = new_id()
        self.head: CheckpointHeader | None = None
        self._me: Owner | None = None
        self._epoch = 0
        self._sequence = -1
        self._branch = 0
        self._incarnation = new_id()  # of a new run; loading another one replaces it
        self._stored_head: str | None = None
        self._stored_commit = ""
        self._is_cancelled = False
        self._last_timestamp = ""
        self._lease_until = 0.0
        self._newest_answer: int | None = None
        self._ownership = LoopLock()
        self._writes: set[object] = set()
        self._quiet: LoopEvent | None = None  # made for those who wait until no write is running
        restart_in_child(self)

    def restart(self) -> None:
        """Become another handle, without the run: in a forked child, the parent still has it."""
        if self._lease_until:
            self._epoch = -1  # no commit of the superstep that was going on counts here
        self.handle = new_id()
        self._me = None
        self._lease_until = 0.0
        self._newest_answer = None
        self._writes.clear()

    # -------------------------------------------------------------------------------- what is known

    @property
    def base(self) -> CheckpointHeader:
        """Header of the checkpoint that this handle continues from; there must be one."""
        assert self.head is not None
        return self.head

    @property
    def epoch(self) -> int:
        """The fencing epoch under which this handle last owned the run."""
        return self._epoch

    @property
    def branch(self) -> int:
        """Number of the branch that the next commit belongs to."""
        return self._branch

    @property
    def incarnation(self) -> str:
        """Tells the run from others with the same id."""
        return self._incarnation

    def _adopt(self, run: RunRecord) -> None:
        self._incarnation = run.incarnation
        self._epoch = run.epoch
        self._sequence = run.sequence
        self._stored_head = run.head
        self._stored_commit = run.commit_id
        self._is_cancelled = run.status == WorkflowRunState.CANCELLED
        self._last_timestamp = max(self._last_timestamp, run.updated_at)

    def _settle(self, run: RunRecord) -> None:
        self._adopt(run)
        self._branch = run.branch

    @property
    def is_at_head(self) -> bool:
        """Whether this handle continues from the run's head, as far as it knows."""
        return self.head is not None and self.head.checkpoint_id == self._stored_head

    @property
    def newest_answer(self) -> int | None:
        """Number of the newest entry in the run's inbox as of this handle's last commit.

        0 if there was none; None if it is unknown, because the storage does not return it or the
        run has not been held without a break since.
        """
        return self._newest_answer

    async def look_up(self) -> RunRecord | None:
        """Return the run's record, None if there is no such run."""
        return await self.storage.get_run(self.run_id)

    def _owner(self) -> Owner:
        if self._me is None:
            self._me = this_process(self.handle)
        return self._me

    # ------------------------------------------------------------------------------------ the lease

    async def own(self) -> bool:
        """Make sure that this handle owns the run: acquire or renew the lease if needed.

        Returns:
            Whether the lease had to be acquired. Then another owner may have had the run since
            this handle read the journal.

        Raises:
            RunBusyError: Another live owner advances the run.
            RunFencedError: The run has moved on since this handle looked.
        """
        if self.is_held:
            return False
        async with (
            self._ownership.here()
        ):  # two tasks of one handle must not take the run from each other
            if self.is_held:
                return False
            with self._writing():
                await self._take()
            return True

    async def own_where_it_stands(self) -> None:
        """Make sure that this handle owns the run, whatever its head is.

        That is enough to end the run, but not to continue it.

        Raises:
            RunBusyError: Another live owner advances the run.
            RunFencedError: The run has moved on since this handle looked.
        """
        async with self._ownership.here():
            if time.monotonic() >= self._lease_until:
                with self._writing():
                    await self._take(moves_head=False)

    async def _take(self, *, moves_head: bool = True) -> None:
        self._newest_answer = None
        seen = Seen(self._stored_head, self._stored_commit, self._is_cancelled)
        deadline = time.monotonic() + LEASE_SECONDS
        try:
            run = await self.storage.acquire(
                self.run_id,
                self._owner(),
                LEASE_SECONDS,
                incarnation=self._incarnation,
                seen=seen,
            )
            if moves_head and run.head != self.base.checkpoint_id:
                run = await self.storage.move_head(
                    self.run_id,
                    run.epoch,
                    self.base.checkpoint_id,
                    incarnation=self._incarnation,
                )
        except GeneratorExit:  # the event loop was closed: nothing can be waited for
            raise
        except BaseException:
            await self._give_back()
            raise
        # Its branch too: another handle may have left this head and returned to it, on a new one.
        self._settle(run)
        self._lease_until = deadline

    async def _give_back(self) -> None:
        """Release the lease after an attempt that failed or was cancelled.

        Such an attempt may have acquired the lease without knowing it.
        """
        with suppress(Exception):  # the lease expires by itself
            run = await self.storage.get_run(self.run_id)
            if run is not None and run.lease is not None and run.lease.owner == self._owner():
                await self.storage.release(self.run_id, run.epoch, incarnation=run.incarnation)

    async def become_head(self) -> None:
        """Make the checkpoint that this handle continues from the run's head, if it is not.

        Raises:
            RunBusyError: Another live owner advances the run.
        """
        if not self.is_at_head:
            await self.own()
            await self.release()

    def take_over(self, run: RunRecord, until: float) -> None:
        """Hold a run that was claimed for this handle: it has its epoch and its lease already.

        Args:
            run: The run's record, as the claim gave it.
            until: Until when the lease is this handle's for certain, by `time.monotonic`.
        """
        assert run.lease is not None
        self._me = run.lease.owner
        self.handle = self._me.handle
        self._lease_until = until

    def at_work(self) -> AbstractContextManager[None]:
        """Mark the handle as working on supersteps, until the block ends.

        While it is not marked, other handles in this process may take the run over.
        """
        return _AtWork(self)

    @property
    def is_held(self) -> bool:
        """Whether the lease cannot have expired since it was acquired or last renewed."""
        return time.monotonic() < self._lease_until

    async def renew(self) -> None:
        """Renew the lease if the last sign of life is long ago; called from the heartbeat's thread.

        Raises:
            RunFencedError: The run was taken over.
        """
        now = time.monotonic()
        if 0 < self._lease_until < now + LEASE_SECONDS - heartbeat.BEAT_SECONDS:
            await self.storage.renew(
                self.run_id, self._epoch, LEASE_SECONDS, incarnation=self._incarnation
            )
            if self._lease_until:  # not given up meanwhile
                self._lease_until = now + LEASE_SECONDS

    async def release(self, *, status: str | None = None, error: str | None = None) -> None:
        """Release the run, if it is held, and store how the work ended."""
        if not self._lease_until:
            return
        self._lease_until = 0.0
        self._newest_answer = None
        try:
            with self._writing():
                await self.storage.release(
                    self.run_id,
                    self._epoch,
                    status=status,
                    error=error,
                    incarnation=self._incarnation,
                )
        except (RunFencedError, RunNotFoundError):
            if status is not None:
                raise
            # another owner has the run: there is nothing to release

    # ------------------------------------------------------------------------------------- stopping

    @property
    def is_writing(self) -> bool:
        """Whether a write is in progress, which must not be cancelled.

        This handle has to learn its outcome.
        """
        return bool(self._writes)

    async def written(self) -> None:
        """Wait until no write is running."""
        while self._writes:
            quiet = self._quiet = self._quiet or LoopEvent()
            quiet.clear()
            await quiet.wait()

    def forget_writes(self) -> None:
        """Forget running writes: their event loop ended before they did."""
        self._writes.clear()
        if self._quiet is not None:
            self._quiet.set()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Record a running write."""
        write = object()
        self._writes.add(write)
        try:
            yield
        finally:
            self._end_write(write)

    def _end_write(self, write: object) -> None:
        self._writes.discard(write)
        if self._quiet is not None and not self._writes:
            self._quiet.set()


class _AtWork(msgspec.Struct):
    """A handle in a superstep, or in several that follow each other at once."""

    hold: RunHold

    def __enter__(self) -> None:
        mark_advancing(self.hold.handle, True)
        heartbeat.watch(self.hold)

    def __exit__(self, *_: object) -> None:
        mark_advancing(self.hold.handle, False)
        heartbeat.unwatch(self.hold)
