"""`Service`: operations on a store that need no workflow code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.diff import CheckpointDiff
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CheckpointNotFoundError, RequestError
from supersteps.service import actions
from supersteps.service.details import draw, load, show_checkpoint, show_run
from supersteps.service.errors import ServiceError
from supersteps.service.follower import LOOK_EVERY_SECONDS, follow
from supersteps.service.history import read_log
from supersteps.service.questions import Question, list_questions
from supersteps.service.reads import UNREADABLE
from supersteps.service.references import References, choose_question
from supersteps.service.summaries import holders_of, summarize
from supersteps.service.views import (
    CheckpointDetails,
    Holder,
    Log,
    LogEntry,
    Pruned,
    RunDetails,
    RunSummary,
)
from supersteps.states import ENDED, WorkflowRunState
from supersteps.storage import answers, transfer
from supersteps.storage.listings import ANY_RUN, RunFilter
from supersteps.storage.ports import ManagedStorage, has_backup, name_of
from supersteps.storage.queue import has_queue, queue_of
from supersteps.storage.records import Damage, RunRecord
from supersteps.storage.retention import RetentionPolicy
from supersteps.viz.picture import Picture


class Service:
    """Operations on the runs in a store, for user interfaces and scripts.

    Runs, checkpoints and questions are named by references: see the module `references`. Methods
    that change something work while other processes use the store.

    Args:
        storage: The store.
    """

    def __init__(self, storage: ManagedStorage) -> None:
        self.storage = storage

    # -------------------------------------------------------------------------------------- finding

    async def find_run(self, reference: str) -> RunRecord:
        """Return the run that a reference names.

        Raises:
            ServiceError: It matches none, or several.
        """
        return await References(self.storage).run(reference)

    async def find_checkpoint(self, reference: str) -> CheckpointHeader:
        """Return the header of the checkpoint that a reference names; a run means its head.

        Raises:
            ServiceError: It matches none, or several.
            CorruptCheckpointError: The checkpoint is damaged.
        """
        return (await load(self.storage, await self._checkpoint(reference))).header

    async def find_question(self, reference: str) -> Question:
        """Return the waiting question that a reference names.

        Raises:
            ServiceError: It matches none, or several.
        """
        return choose_question(reference, await list_questions(self.storage))

    # -------------------------------------------------------------------------------------- looking

    async def list_runs(self, wanted: RunFilter = ANY_RUN) -> list[RunSummary]:
        """Return the runs that a filter admits, the newest first."""
        return [await summarize(self.storage, run) for run in await self.storage.find_runs(wanted)]

    async def with_answers(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """Return runs with `answered` and `queue` filled in for those that wait."""
        found = []
        for run in runs:
            if run.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
                given = {entry.request_id for entry in await self.storage.read_inbox(run.run_id)}
                answered = tuple(name for name in run.requests if name in given)
                run = msgspec.structs.replace(run, answered=answered)
            if run.owner is None and run.status not in ENDED and has_queue(self.storage):
                entry = await self.storage.queue_entry(run.run_id)
                if entry is not None and (entry.ready_at is not None or entry.is_claimed):
                    run = msgspec.structs.replace(run, queue=entry.queue)
            found.append(run)
        return found

    async def list_holders(self) -> list[Holder]:
        """Return the processes that drive runs, those with most runs first.

        Raises:
            StorageError: The store cannot tell.
        """
        return holders_of(await queue_of(self.storage).held_runs(), time.time())

    async def show_run(self, reference: str) -> RunDetails:
        """Return a run in detail.

        The content of a damaged head is left out; its entry in `latest` reports the damage.

        Raises:
            ServiceError: The reference matches none, or several.
        """
        return await show_run(self.storage, await self.find_run(reference))

    async def show_checkpoint(self, reference: str) -> CheckpointDetails:
        """Return a checkpoint in detail.

        Raises:
            ServiceError: The reference matches none, or several.
            CorruptCheckpointError: It is damaged; the message names the nearest intact one before
                it.
        """
        return await show_checkpoint(self.storage, await self._checkpoint(reference))

    async def log(
        self, reference: str, *, limit: int | None = None, with_forks: bool = True
    ) -> Log:
        """Return the history of a run on all branches, and of its forks.

        Args:
            reference: The run.
            limit: The maximum number of checkpoints; the newest are returned.
            with_forks: Whether to include forks.

        Returns:
            The history; a damaged checkpoint is an entry with the status "DAMAGED" and the problem
            as its error.

        Raises:
            ServiceError: The reference matches none, or several; or the limit is negative.
        """
        return await read_log(self.storage, await self.find_run(reference), limit, with_forks)

    async def diff(self, before: str, after: str) -> CheckpointDiff:
        """Return the differences between two checkpoints, which may belong to different runs.

        Args:
            before: The first checkpoint.
            after: The second checkpoint.

        Raises:
            ServiceError: A reference matches none, or several.
            CorruptCheckpointError: One of them is damaged.
        """
        loaded = [await self._load(reference) for reference in (before, after)]
        return await asyncio.to_thread(loaded[0].diff, loaded[1])

    async def list_questions(
        self, reference: str | None = None, *, workflow_id: str | None = None
    ) -> list[Question]:
        """Return the waiting questions, oldest first: all, or those of a run or workflow.

        Answered questions are left out, even if no superstep has consumed the answer yet.

        Args:
            reference: Only questions of this run.
            workflow_id: Only questions of this workflow's runs.

        Raises:
            ServiceError: The reference matches none, or several.
            CorruptCheckpointError: The head of that run is damaged.
        """
        run = None if reference is None else await self.find_run(reference)
        return await list_questions(self.storage, run, workflow_id)

    async def picture(self, reference: str) -> Picture:
        """Return the graph with a checkpoint's state: what ran, failed, asks and waits.

        Raises:
            ServiceError: The reference matches none, or several; or the checkpoint has no stored
                graph, since no run saved it.
            CorruptCheckpointError: It is damaged.
        """
        return await draw(self.storage, await self._checkpoint(reference))

    async def follow(
        self, reference: str, *, every: float = LOOK_EVERY_SECONDS
    ) -> AsyncIterator[LogEntry]:
        """Yield a run's head, then each new checkpoint of its lineage, until the run has ended.

        Any process may drive the run. After a restore, the new branch is followed. The iteration
        ends when the run is done, failed, cancelled or only waits for answers. A failure or
        cancellation after the last checkpoint has no checkpoint: the head is yielded again, with
        that status.

        Args:
            reference: The run.
            every: Seconds between two reads of the run's record.

        Raises:
            ServiceError: The reference matches none, or several; or the run was deleted in the
                meantime.
        """
        async with contextlib.aclosing(
            follow(self.storage, await self.find_run(reference), every=every)
        ) as entries:
            async for entry in entries:
                yield entry

    async def _checkpoint(self, reference: str) -> str:
        return await References(self.storage).checkpoint(reference)

    async def _load(self, reference: str) -> WorkflowCheckpoint:
        identifier = await self._checkpoint(reference)
        loaded = await self.storage.load_checkpoint(identifier)
        if loaded is None:
            raise CheckpointNotFoundError(f"checkpoint {identifier!r} was deleted in the meantime")
        return loaded

    # --------------------------------------------------------------------------------------- acting

    async def answer(self, reference: str, value: Any) -> Question:
        """Answer a question in plain JSON, durably; the run uses the answer when it is resumed.

        Args:
            reference: The question.
            value: The answer, as `json.loads` would return it.

        Returns:
            The question.

        Raises:
            ServiceError: The reference matches none, or several.
            RequestError: The answer was refused; nothing was changed.
        """
        return await actions.answer(self.storage, reference, value)

    async def why_not(self, request_id: str, reference: str | None = None) -> RequestError | None:
        """Return why a question is not waiting: answered, cancelled, ...; None if it is unknown.

        Args:
            request_id: The full id of the question.
            reference: The run that asked, if known; otherwise the newest runs are searched.

        Raises:
            ServiceError: The reference matches none, or several.
        """
        run = None if reference is None else await self.find_run(reference)
        return await actions.why_not(self.storage, request_id, run)

    async def restore(self, reference: str) -> RunSummary:
        """Move a run's head to one of its checkpoints, on a new branch, without running anything.

        Returns:
            The run afterwards, with the status of the checkpoint.

        Raises:
            ServiceError: The reference matches none, or several, or a checkpoint that belongs to no
                run.
            CorruptCheckpointError: The checkpoint is damaged; nothing was changed.
            RunBusyError: A process is driving the run.
        """
        run = await actions.restore(self.storage, await self._checkpoint(reference))
        return await summarize(self.storage, run)

    async def cancel(self, reference: str) -> RunSummary:
        """Cancel a run; one that is done stays done.

        Returns:
            The run afterwards.

        Raises:
            ServiceError: The reference matches none, or several.
            RunBusyError: A process is driving it.
        """
        run = await self.find_run(reference)
        await answers.cancel_run(self.storage, run.run_id)
        return await summarize(self.storage, await self.storage.get_run(run.run_id) or run)

    async def prune(
        self, reference: str | None, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[Pruned]:
        """Delete the checkpoints that a policy does not keep, of one run or of all.

        Args:
            reference: The run; None for all.
            policy: What to keep.
            dry_run: Delete nothing, only report what would be deleted.

        Returns:
            What was deleted from each run, including runs without deletions.

        Raises:
            ServiceError: The reference matches none, or several.
        """
        run = None if reference is None else await self.find_run(reference)
        return await actions.prune(self.storage, run, policy, dry_run)

    async def verify(self, reference: str | None = None) -> list[Damage]:
        """Read everything stored, of one run or of all, and return the damages.

        Raises:
            ServiceError: The reference matches none, or several.
        """
        if reference is None:
            return await self.storage.verify()
        try:
            run_id = (await self.find_run(reference)).run_id
        except UNREADABLE:  # its record is damaged, which verify reports
            run_id = reference
        return await self.storage.verify(run_id)

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a consistent copy of the whole store; return its size in bytes.

        Args:
            target: A file for a database, a folder for a store of files.

        Raises:
            ServiceError: This kind of store cannot be backed up.
            StorageError: It cannot be written there.
        """
        if not has_backup(self.storage):
            raise ServiceError(
                f"{name_of(self.storage)} cannot be backed up as a whole: use the tools of its "
                "database, or export its runs one by one"
            )
        return await self.storage.backup(target)

    async def export(self, reference: str, path: str | os.PathLike[str]) -> int:
        """Write a run to a file for `import_run` of any store; return its number of checkpoints.

        Raises:
            ServiceError: The reference matches none, or several.
            CorruptCheckpointError: Something of the run is damaged.
            StorageError: The file cannot be written, or the run changes too fast to be read.
        """
        return await transfer.export_run(
            self.storage, (await self.find_run(reference)).run_id, path
        )

    async def import_run(
        self, path: str | os.PathLike[str], *, run_id: str | None = None
    ) -> RunSummary:
        """Import a run from a file.

        Args:
            path: A file that `export` wrote.
            run_id: Its id in this store; the exported id if None.

        Raises:
            RunExistsError: The store already has a run with this id.
            CorruptCheckpointError: The file is damaged or is not an exported run; nothing was
                written.
            StorageError: The file cannot be read, or the storage failed.
        """
        return await summarize(
            self.storage, await transfer.import_run(self.storage, path, run_id=run_id)
        )
