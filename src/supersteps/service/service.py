"""`Service`: everything that a command line or a web page wants done with a store, without the workflow's code."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.diff import CheckpointDiff
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CheckpointNotFoundError, RequestError
from supersteps.service import actions
from supersteps.service.details import draw, list_questions, load, show_checkpoint, show_run
from supersteps.service.errors import ServiceError
from supersteps.service.follow import LOOK_EVERY_SECONDS, follow
from supersteps.service.history import read_log
from supersteps.service.reads import UNREADABLE
from supersteps.service.references import References, choose_question
from supersteps.service.summaries import summarize
from supersteps.service.views import (
    CheckpointDetails,
    Log,
    LogEntry,
    Pruned,
    Question,
    RunDetails,
    RunSummary,
)
from supersteps.states import WorkflowRunState
from supersteps.storage import answers, transfer
from supersteps.storage.listings import ANY_RUN, RunFilter
from supersteps.storage.ports import ManagedStorage, has_backup, name_of
from supersteps.storage.records import Damage, RunRecord
from supersteps.storage.retention import RetentionPolicy
from supersteps.viz.picture import Picture


class Service:
    """What can be done with the runs in a store.

    Wherever a run, a checkpoint or a question is wanted, a reference does: see `references`.

    Args:
        storage: The store.
    """

    def __init__(self, storage: ManagedStorage) -> None:
        self.storage = storage

    # -------------------------------------------------------------------------------------- finding

    async def find_run(self, reference: str) -> RunRecord:
        """Return the run that a reference means.

        Raises:
            ServiceError: It means none, or several.
        """
        return await References(self.storage).run(reference)

    async def find_checkpoint(self, reference: str) -> CheckpointHeader:
        """Return the header of the checkpoint that a reference means; a run means its head.

        Raises:
            ServiceError: It means none, or several.
            CorruptCheckpointError: The checkpoint is damaged.
        """
        return (await load(self.storage, await self._checkpoint(reference))).header

    async def find_question(self, reference: str) -> Question:
        """Return the question that a reference means, among those that wait.

        Raises:
            ServiceError: It means none, or several.
        """
        return choose_question(reference, await list_questions(self.storage))

    # -------------------------------------------------------------------------------------- looking

    async def list_runs(self, wanted: RunFilter = ANY_RUN) -> list[RunSummary]:
        """Return the runs that a filter admits, the newest first."""
        return [await summarize(self.storage, run) for run in await self.storage.find_runs(wanted)]

    async def with_answers(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """Return runs with what is known of answers that nothing has taken yet: `answered` of those that wait."""
        found = []
        for run in runs:
            if run.status == WorkflowRunState.IDLE_WITH_PENDING_REQUESTS:
                given = {entry.request_id for entry in await self.storage.read_inbox(run.run_id)}
                answered = tuple(name for name in run.requests if name in given)
                run = msgspec.structs.replace(run, answered=answered)
            found.append(run)
        return found

    async def show_run(self, reference: str) -> RunDetails:
        """Return a run, looked at closely.

        What a damaged head would tell is left out; its entry among the latest says what is wrong.

        Raises:
            ServiceError: The reference means none, or several.
        """
        return await show_run(self.storage, await self.find_run(reference))

    async def show_checkpoint(self, reference: str) -> CheckpointDetails:
        """Return a checkpoint, looked at closely.

        Raises:
            ServiceError: The reference means none, or several.
            CorruptCheckpointError: It is damaged; the message names the nearest intact one before
                it.
        """
        return await show_checkpoint(self.storage, await self._checkpoint(reference))

    async def log(
        self, reference: str, *, limit: int | None = None, with_forks: bool = True
    ) -> Log:
        """Return the history of a run on all branches, and of what was forked from it.

        Args:
            reference: The run.
            limit: At most so many checkpoints, the newest.
            with_forks: Whether forks are looked for.

        Returns:
            The history; a damaged checkpoint is an entry with the status "DAMAGED" that says what
            is wrong with it.

        Raises:
            ServiceError: The reference means none, or several; or the limit is negative.
        """
        return await read_log(self.storage, await self.find_run(reference), limit, with_forks)

    async def diff(self, before: str, after: str) -> CheckpointDiff:
        """Return what differs between two checkpoints of any runs.

        Args:
            before: The one checkpoint.
            after: The other.

        Raises:
            ServiceError: A reference means none, or several.
            CorruptCheckpointError: One of them is damaged.
        """
        loaded = [await self._load(reference) for reference in (before, after)]
        return await asyncio.to_thread(loaded[0].diff, loaded[1])

    async def list_questions(
        self, reference: str | None = None, *, workflow_id: str | None = None
    ) -> list[Question]:
        """Return the questions that wait for an answer, oldest first: all, or those of a run or workflow.

        Questions that have been answered are left out, also while no superstep has taken the answer
        yet.

        Args:
            reference: Only those of this run.
            workflow_id: Only those of this workflow's runs.

        Raises:
            ServiceError: The reference means none, or several.
            CorruptCheckpointError: The head of that run is damaged.
        """
        run = None if reference is None else await self.find_run(reference)
        return await list_questions(self.storage, run, workflow_id)

    async def picture(self, reference: str) -> Picture:
        """Return the graph with what a checkpoint says of it: who ran, who failed, who asks, what waits where.

        Raises:
            ServiceError: The reference means none, or several; or the checkpoint holds no
                structure, since it was saved by hand.
            CorruptCheckpointError: It is damaged.
        """
        return await draw(self.storage, await self._checkpoint(reference))

    async def follow(
        self, reference: str, *, every: float = LOOK_EVERY_SECONDS
    ) -> AsyncIterator[LogEntry]:
        """Yield the head of a run, then each checkpoint that becomes part of its lineage, until the run has ended.

        The run may be driven by any process. After a restore it goes on with the new branch. It
        ends after the head of a run that is done, failed, cancelled or only waits for answers. A
        failure or a cancellation after the last checkpoint has none of its own: the head is yielded
        once more, with that status.

        Args:
            reference: The run.
            every: Seconds between two looks at it.

        Raises:
            ServiceError: The reference means none, or several; or the run was deleted meanwhile.
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
            raise CheckpointNotFoundError(f"checkpoint {identifier!r} was removed meanwhile")
        return loaded

    # --------------------------------------------------------------------------------------- acting

    async def answer(self, reference: str, value: Any) -> Question:
        """Answer a question in plain JSON, durably; whoever resumes the run goes on with it.

        Args:
            reference: The question.
            value: The answer, as `json.loads` would return it.

        Returns:
            The question.

        Raises:
            ServiceError: The reference means none, or several.
            RequestError: The answer cannot be taken; nothing was changed.
        """
        return await actions.answer(self.storage, reference, value)

    async def why_not(self, request_id: str, reference: str | None = None) -> RequestError | None:
        """Return why a question waits for no answer: it was answered, taken back, ...; None if nobody knows it.

        Args:
            request_id: The question, in full.
            reference: The run that asked, if that is known; else the newest runs are looked
                through.

        Raises:
            ServiceError: The reference means none, or several.
        """
        run = None if reference is None else await self.find_run(reference)
        return await actions.why_not(self.storage, request_id, run)

    async def restore(self, reference: str) -> RunSummary:
        """Make a checkpoint its run's head again, on a new branch; nothing runs before somebody resumes it.

        Returns:
            The run afterwards, with the status that the checkpoint gives it.

        Raises:
            ServiceError: The reference means none, or several, or a checkpoint that belongs to no
                run.
            CorruptCheckpointError: The checkpoint is damaged; nothing was changed.
            RunBusyError: Somebody advances the run.
        """
        run = await actions.restore(self.storage, await self._checkpoint(reference))
        return await summarize(self.storage, run)

    async def cancel(self, reference: str) -> RunSummary:
        """End a run; one that is done stays done.

        Returns:
            The run afterwards.

        Raises:
            ServiceError: The reference means none, or several.
            RunBusyError: Somebody advances it.
        """
        run = await self.find_run(reference)
        await answers.cancel_run(self.storage, run.run_id)
        return await summarize(self.storage, await self.storage.get_run(run.run_id) or run)

    async def prune(
        self, reference: str | None, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[Pruned]:
        """Remove the checkpoints that a policy lets go, of one run or of all.

        Args:
            reference: The run; None for all.
            policy: What to keep.
            dry_run: Remove nothing, just say what would go.

        Returns:
            What went from each run, also where nothing did.

        Raises:
            ServiceError: The reference means none, or several.
        """
        run = None if reference is None else await self.find_run(reference)
        return await actions.prune(self.storage, run, policy, dry_run)

    async def verify(self, reference: str | None = None) -> list[Damage]:
        """Read everything, of one run or of all, and return what is damaged.

        Raises:
            ServiceError: The reference means none, or several.
        """
        if reference is None:
            return await self.storage.verify()
        try:
            run_id = (await self.find_run(reference)).run_id
        except UNREADABLE:  # its very record is damaged, which is what is to be found out
            run_id = reference
        return await self.storage.verify(run_id)

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of the whole store, as it is at one moment, and return its size in bytes.

        Args:
            target: A file for a database, a folder for files.

        Raises:
            ServiceError: This kind of store cannot be backed up.
            StorageError: It cannot be written there.
        """
        if not has_backup(self.storage):
            raise ServiceError(
                f"{name_of(self.storage)} cannot be backed up as a "
                "whole: use its own means, or export its runs one by one"
            )
        return await self.storage.backup(target)

    async def export(self, reference: str, path: str | os.PathLike[str]) -> int:
        """Write a run to a file that `import_run` takes, in any store; return how many checkpoints it holds.

        Raises:
            ServiceError: The reference means none, or several.
            CorruptCheckpointError: Something of the run is damaged.
            StorageError: The file cannot be written, or the run changes too fast to be read.
        """
        return await transfer.export_run(
            self.storage, (await self.find_run(reference)).run_id, path
        )

    async def import_run(
        self, path: str | os.PathLike[str], *, run_id: str | None = None
    ) -> RunSummary:
        """Bring a run from a file into the store.

        Args:
            path: What `export` wrote.
            run_id: Its id here; the one it had when None.

        Raises:
            RunExistsError: The store holds a run with this id.
            CorruptCheckpointError: The file is damaged or is no exported run; nothing was written.
            StorageError: The file cannot be read, or the storage failed.
        """
        return await summarize(
            self.storage, await transfer.import_run(self.storage, path, run_id=run_id)
        )
