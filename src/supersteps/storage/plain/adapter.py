"""`PlainStorageAdapter`: makes a plain storage usable as a durable one.

What the five methods cannot do is done in this process, by the same rules: runs, leases and heads,
journals and inboxes. A new process reads the runs from the checkpoints that it finds. `missing`
lists what is lost that way.
"""

from __future__ import annotations

from collections.abc import Sequence

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import CheckpointHeader, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.storage import rules
from supersteps.storage.answers import Answering
from supersteps.storage.listings import RunFilter
from supersteps.storage.plain import upkeep as plain_upkeep
from supersteps.storage.plain.calls import METHODS
from supersteps.storage.plain.state import PlainState, private
from supersteps.storage.ports import (
    AsyncClosing,
    Capabilities,
    CheckpointStorage,
    DurableStorage,
    ManagedStorage,
    capabilities_of,
    is_durable,
)
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy, plan_pruning


def as_durable(storage: CheckpointStorage) -> DurableStorage:
    """Return a storage with all methods that the engine needs.

    Args:
        storage: Any object with the five methods of `CheckpointStorage`.

    Returns:
        The storage itself if it is durable, otherwise an adapter around it. A durable storage also
        gets an adapter if a subclass or the instance has its own `save_checkpoint`, so that it is
        called for every checkpoint.

    Raises:
        TypeError: It lacks one of the five methods, or is a class.
    """
    if isinstance(storage, type):
        raise TypeError(
            f"{storage.__name__} is a class; a checkpoint storage is an instance: "
            f"write {storage.__name__}(...)"
        )
    lacking = [name for name in METHODS if not callable(getattr(storage, name, None))]
    if lacking:
        raise TypeError(
            f"{type(storage).__name__} is not a checkpoint storage: it has no "
            f"{' and no '.join(lacking)}. See supersteps.storage.ports.CheckpointStorage for the "
            "five required methods."
        )
    if is_durable(storage) and not _overrides_save(storage):
        return storage
    return PlainStorageAdapter(storage)


def _overrides_save(storage: object) -> bool:
    """Return whether `save_checkpoint` was overridden below the class that defines `commit`."""
    if "save_checkpoint" in getattr(storage, "__dict__", {}):
        return True
    for cls in type(storage).__mro__:
        if "commit" in vars(cls):
            return False
        if "save_checkpoint" in vars(cls):
            return True
    return False


class PlainStorageAdapter(PlainState, Answering, AsyncClosing, ManagedStorage):
    """Drives a plain `CheckpointStorage` as a `DurableStorage`.

    All adapters of one storage object share its runs. For each method, see the port:
    `ManagedStorage`.

    Args:
        storage: The storage.
        clock: Returns the present time for leases, in Unix seconds.

    Attributes:
        storage: The storage.
        codec: The storage's own codec if it has one.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the storage can do with this adapter; it has no address for another process.

        Another process that opened the storage would not find what this process keeps.
        """
        name = type(self.storage).__name__
        return Capabilities(
            is_permanent=capabilities_of(self.storage).is_permanent,
            can_manage=True,
            missing=(
                f"{name} has no fence: two processes can advance one run, and the work of one is "
                "lost.",
                f"{name} has no journal: after a crash, calls that had finished in the unfinished "
                "superstep run again.",
                f"{name} has no inbox: answers that no superstep has consumed are lost with the "
                "process.",
                f"{name} has no head: a restore without a superstep after it is lost with the "
                "process.",
                f"{name} saves whole checkpoints: the cost of a superstep grows with the state.",
                f"{name} has no checksums: verify() finds unreadable data, but not changed data.",
                "Whether a saved checkpoint survives a power cut depends on "
                f"{name}.save_checkpoint.",
            ),
        )

    async def aclose(self) -> None:
        """Close the storage, if it has `aclose`."""
        close = getattr(self.storage, "aclose", None)
        if close is not None:
            await close()
        self.note_closed()

    # ---------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        return await self._calls.save_checkpoint(checkpoint)

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        """Return a checkpoint, None if there is none with this id."""
        return await self._calls.load_checkpoint(checkpoint_id)

    async def list_checkpoint_ids(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[str]:
        return [
            checkpoint.checkpoint_id
            for checkpoint in await self.list_checkpoints(workflow_id, run_id)
        ]

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        checkpoint = await self._calls.load_checkpoint(checkpoint_id)
        if checkpoint is None:
            return False
        async with self._runs.held(checkpoint.run_id) as run:
            siblings = (
                await self.list_checkpoints(run_id=checkpoint.run_id) if checkpoint.run_id else []
            )
            if run.record is not None and run.record.head == checkpoint_id:
                await self._leave_head(run, run.record, checkpoint, siblings)
            parents = rules.new_parents(plain_upkeep.headers_of(siblings), {checkpoint_id})
            for moved in plain_upkeep.with_parents(siblings, parents):
                await self._save(moved)
            return await self._calls.delete_checkpoint(checkpoint_id)

    # ----------------------------------------------------------------------------- runs and commits

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return [run for run in await self._all_runs() if request_id in run.requests]

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        checkpoints = {c.checkpoint_id: c for c in await self._calls.list_checkpoints()}
        lineage: list[CheckpointInfo] = []
        next_id: str | None = checkpoint_id
        while next_id is not None and len(lineage) < limit and next_id in checkpoints:
            lineage.append(checkpoints[next_id].info)
            next_id = checkpoints[next_id].parent
        return lineage[::-1]

    async def commit(self, commit: Commit) -> int | None:
        """Save the checkpoint of a commit, then make it the run's head.

        Returns the number of the run's newest answer.

        Raises:
            RunExistsError: The commit creates a run that exists.
            RunNotFoundError: The run was deleted in the meantime.
            RunFencedError: The epoch or the head differs from the commit's; nothing was written.
            CheckpointSaveError: The storage failed.
        """
        header = commit.header
        async with self._runs.held(header.run_id) as run:
            before = run.record
            if before is None and (
                header.parent_id or await self._calls.load_checkpoint(header.checkpoint_id)
            ):
                before = await self._adopt(run, header.run_id)
            after = rules.apply_commit(before, commit, self._clock())
            if after is None:
                return None
            parts = dict(await self._head_parts(run, before)) if before is not None else {}
            commit.changes.apply(parts)
            await self._save(WorkflowCheckpoint.from_record(header, lambda: parts, self.codec))
            run.settle(private(after), parts if after.lease else None)
            return run.inbox[-1].number if run.inbox else 0

    async def acquire(
        self,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        *,
        incarnation: str | None = None,
        seen: Seen | None = None,
    ) -> RunRecord:
        async with self._runs.held(run_id) as run:
            record = await self._refresh(run, run_id)
            if record is None:
                raise rules.no_such_run(run_id)
            rules.check_incarnation(record, incarnation)
            now = self._clock()
            run.record = rules.limit_lease(record, now)
            run.record = rules.take_run(run.record, owner, now, lease_seconds, seen)
            return private(run.record)

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        async with self._runs.held(run_id) as run:
            record = run.fence(run_id, epoch, incarnation)
            run.record = rules.renew_lease(record, self._clock(), lease_seconds)

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        async with self._runs.held(run_id) as run:
            run.record = rules.release_run(run.fence(run_id, epoch, incarnation), status, error)

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        async with self._runs.held(run_id) as run:
            record = run.fence(run_id, epoch, incarnation)
            target = await self.load_record(checkpoint_id)
            if target is None or target.header.run_id != run_id:
                raise rules.no_such_checkpoint(checkpoint_id, run_id)
            return private(self._move_head(run, record, target))

    async def delete_run(self, run_id: str) -> bool:
        async with self._runs.held(run_id) as run:
            checkpoints = await self.list_checkpoints(run_id=run_id) if run_id else []
            run.settle(None, None)
            for checkpoint in reversed(
                checkpoints
            ):  # the newest first: after a crash, the rest is still a run
                await self._calls.delete_checkpoint(checkpoint.checkpoint_id)
            return bool(checkpoints)

    # -------------------------------------------------------------------------------- looking after

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        """See the port. Reads every checkpoint."""
        last = None if wanted.before is None else await self.get_run(wanted.before)
        return rules.page_of_runs(await self._all_runs(), wanted, last)

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        return plain_upkeep.headers_of(await self.list_checkpoints(run_id=run_id)) if run_id else []

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        """Delete the checkpoints that a policy removes; return their ids, oldest first.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointSaveError: The storage failed; nothing was removed.
        """
        async with self._runs.held(run_id) as run:
            record = await self._refresh(run, run_id)
            if record is None:
                raise rules.no_such_run(run_id)
            checkpoints = await self.list_checkpoints(run_id=run_id)
            pruning = plan_pruning(record, plain_upkeep.headers_of(checkpoints), policy)
            if not dry_run:
                for moved in plain_upkeep.with_parents(checkpoints, pruning.parents):
                    await self._save(moved)
                for checkpoint_id in reversed(
                    pruning.gone
                ):  # the newest first: no checkpoint follows a deleted one
                    await self._calls.delete_checkpoint(checkpoint_id)
            return pruning.gone

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        """Load every checkpoint (of one run, or of all) and return those that cannot be read."""
        return await plain_upkeep.verify(
            self._calls, type(self.storage).__name__, self.codec, run_id
        )

    async def vacuum(self) -> None:
        """Call the storage's own method, if it has one."""
        vacuum = getattr(self.storage, "vacuum", None)
        if vacuum is not None:
            await vacuum()

    # ---------------------------------------------------------------------------- journal and inbox

    async def append_journal(
        self,
        run_id: str,
        epoch: int,
        head: str,
        records: Sequence[bytes],
        *,
        incarnation: str | None = None,
    ) -> None:
        async with self._runs.held(run_id) as run:
            rules.check_head(run.fence(run_id, epoch, incarnation), head)
            run.journal = [*run.journal, *records]

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        async with self._runs.held(run_id) as run:
            record = run.found(incarnation)
            return list(run.journal) if record is not None and record.head == head else []

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        async with self._runs.held(run_id) as run:
            run.fence(run_id, epoch, incarnation)
            run.journal = []

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        async with self._runs.held(run_id) as run:
            record = run.record or await self._adopt(run, run_id)
            if record is None:
                raise rules.no_such_run(run_id)
            rules.check_incarnation(record, incarnation)
            entries = rules.accept_answers(record, run.inbox, answers)
            run.inbox = [*run.inbox, *entries]
            return entries

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        async with self._runs.held(run_id) as run:
            record = run.found(incarnation)
            return [] if record is None else rules.unread_entries(record, run.inbox)
