"""`RunStore`: reads, commits and restores one run in a storage."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec

from supersteps._error_texts import message_of
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit, utc_now
from supersteps.checkpoint.sections.graph import GRAPH, encode_graph
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.define.graph import Graph
from supersteps.engine.hold import RunHold
from supersteps.engine.lineage import Lineage
from supersteps.errors import (
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointSaveError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
)
from supersteps.ids import checkpoint_id
from supersteps.storage.ports import DurableStorage, is_managed, name_of
from supersteps.storage.records import LEASE_SECONDS
from supersteps.storage.retention import RetentionPolicy
from supersteps.storage.rules import InboxEntry, RunRecord, replaced

TIDY_EVERY = 100
"""Commits between two applications of a retention policy.

To delete a handful of rows at once costs little more than to delete one.
"""


class Beginning(msgspec.Struct, frozen=True):
    """What only the first commit of a run says.

    Attributes:
        graph: The graph of its workflow.
        metadata: The user's metadata.
        tags: The user's labels.
        parent_run: The run that this one is forked from.
        parent_checkpoint: The checkpoint that it is forked from.
        queue: The run's place in the queue, if it is left to workers.
    """

    graph: Graph
    metadata: dict[str, Any]
    tags: Sequence[str] = ()
    parent_run: str | None = None
    parent_checkpoint: str | None = None
    queue: QueueEntry | None = None


class RunStore(RunHold):
    """Reads and writes one run for one handle.

    Attributes:
        workflow_id: What its checkpoints say of the workflow.
        lineage: The head and its ancestors, oldest first.
    """

    def __init__(
        self,
        storage: DurableStorage,
        run_id: str,
        workflow_id: str,
        retention: RetentionPolicy | None = None,
    ) -> None:
        super().__init__(storage, run_id)
        self.workflow_id = workflow_id
        self.lineage = Lineage(storage)
        self._retention = retention
        self._migrated: tuple[Changes, str] | None = None
        self._untidy = 0
        self._attempts = 0
        self._cut: tuple[Commit, bool] | None = None
        self._cut_info: CheckpointInfo | None = None

    def number_after(self, last: int) -> None:
        """Have the first commit of a new run take the number after `last`: others are taken."""
        self._sequence = last

    # -------------------------------------------------------------------------------------- reading

    async def load(self, header: CheckpointHeader, run: RunRecord) -> None:
        """Continue from a checkpoint; nothing is written until there is something to do.

        Args:
            header: The checkpoint's header.
            run: The run's record, read before.
        """
        self._cut = self._cut_info = None
        self.head = header
        await self.lineage.load(header)
        self._adopt(run)
        if run.lease is None or run.lease.owner != self._me:
            self._lease_until = 0.0  # else it was claimed for this handle
        self._newest_answer = None
        self._branch = run.branch if run.head == header.checkpoint_id else run.branch + 1

    def migrate(self, changes: Changes | None, fingerprint: str) -> None:
        """Have the next commit migrate the run.

        Args:
            changes: Its additional changes; None without a migration.
            fingerprint: Of the graph that becomes the run's.
        """
        self._migrated = None if changes is None else (changes, fingerprint)

    async def read(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a checkpoint of this run, None if the run has none with this id."""
        record = await self.storage.load_record(checkpoint_id)
        if record is None or record.header.run_id != self.run_id:
            return None
        return record if record.header.incarnation == self._incarnation else None

    def is_at(self, run: RunRecord) -> bool:
        """Return whether a run is at this handle's head."""
        return (
            run.head == self.base.checkpoint_id
            and run.commit_id == self._stored_commit
            and run.incarnation == self._incarnation
        )

    async def read_inbox(self) -> list[InboxEntry]:
        """Return accepted answers that wait to be consumed."""
        if not self.is_at_head:
            return []
        return await self.storage.read_inbox(self.run_id, incarnation=self._incarnation)

    async def read_journal(self) -> list[bytes]:
        """Return records of calls that finished after the head.

        If that fails, the run is released: no handler has run, so the run has not failed.
        """
        if not self.is_at_head:
            return []
        try:
            return await self.storage.read_journal(
                self.run_id, self.base.checkpoint_id, incarnation=self._incarnation
            )
        except Exception:
            await self.release()
            raise

    # -------------------------------------------------------------------------------------- writing

    def commit(
        self,
        changes: Changes,
        *,
        iteration: int,
        steps_since_input: int,
        max_iterations: int,
        status: str,
        more: bool,
        inbox_read: int = 0,
        beginning: Beginning | None = None,
    ) -> Coroutine[Any, Any, CheckpointInfo]:
        """Commit a checkpoint after the head; await it, then it is the head.

        Args:
            changes: What differs from the head.
            iteration: Supersteps done.
            steps_since_input: Supersteps since the last input from outside.
            max_iterations: The limit in force.
            status: A `WorkflowRunState` value.
            more: Whether the handle continues at once; if not, the lease is released.
            inbox_read: Number of the last inbox entry that is consumed.
            beginning: Further data of the run's first commit; None for later ones.

        Raises:
            CheckpointSaveError: The storage failed; the run stays at its head.
            RunFencedError: Another owner took over the run.
            RunExistsError: The first commit of a run whose id is taken.
            CheckpointEncodeError: Metadata or a tag is not Unicode text.
        """
        metadata, fingerprint = {} if self.head is None else self.head.metadata, None
        if beginning is not None:
            _check_text(beginning.metadata, beginning.tags)
            metadata, fingerprint = beginning.metadata, beginning.graph.fingerprint
            changes.puts[GRAPH] = encode_graph(beginning.graph.description)
            more = more and beginning.queue is None
        header = CheckpointHeader(
            checkpoint_id=checkpoint_id(self.run_id, self._sequence + 1),
            run_id=self.run_id,
            workflow_id=self.workflow_id,
            parent_id=None if self.head is None else self.head.checkpoint_id,
            sequence=self._sequence + 1,
            branch=self._branch,
            iteration_count=iteration,
            max_iterations=max_iterations,
            steps_since_input=steps_since_input,
            timestamp=self._timestamp(),
            status=status,
            metadata=metadata,
            incarnation=self._incarnation,
        )
        if self._migrated is not None:
            earlier, fingerprint = self._migrated
            changes = earlier.then(changes)
        self._attempts += 1
        commit = Commit(
            header=header,
            changes=changes,
            epoch=self._epoch or 1,
            inbox_read=inbox_read,
            lease_seconds=LEASE_SECONDS if more else None,
            owner=self._owner(),
            commit_id=f"{self.handle}-{self._attempts}",  # no other attempt of any handle has it
            fingerprint=fingerprint,
        )
        if beginning is not None:
            commit = msgspec.structs.replace(
                commit,
                tags=tuple(beginning.tags),
                queue=beginning.queue,
                parent_run=beginning.parent_run,
                parent_checkpoint=beginning.parent_checkpoint,
            )
        return self._save(commit, more)

    async def _save(self, commit: Commit, more: bool) -> CheckpointInfo:
        deadline = time.monotonic() + LEASE_SECONDS
        write = object()
        self._writes.add(write)
        try:
            self._newest_answer = await self.storage.commit(commit)
        except (RunFencedError, RunExistsError, RunNotFoundError):
            raise
        except Exception as error:  # whatever a storage raises, the save has failed
            what = f"superstep {commit.header.iteration_count}"
            raise self.save_error(what, error) from error
        except BaseException:  # such as the end of the event loop, or a KeyboardInterrupt
            self._cut = commit, more
            raise
        finally:
            self._end_write(write)
        return self._committed(commit, deadline if more else 0.0)

    def restart(self) -> None:
        """Be another handle, without the run and its commits: in a forked child."""
        super().restart()
        self._cut = self._cut_info = None

    @property
    def is_cut(self) -> bool:
        """Whether a commit was interrupted, so that its outcome is unknown."""
        return self._cut is not None or self._cut_info is not None

    async def settle(self) -> CheckpointInfo:
        """Find out the outcome of an interrupted commit, and repeat it if it was not made.

        A storage recognises a commit that it has made before.

        Raises:
            CheckpointSaveError: The storage failed; the run stays at its head.
            RunFencedError: Another owner took over the run.
        """
        if self._cut is not None:
            self._cut_info = await self._save(*self._cut)
        info, self._cut_info = self._cut_info, None
        assert info is not None
        return info

    async def release(self, *, status: str | None = None, error: str | None = None) -> None:
        """Release the run, if it is held, and store how the work ended."""
        if self._cut is not None:
            with suppress(
                Exception
            ):  # the next owner of the run meets the same error, and raises it
                self._cut_info = await self.settle()
        await super().release(status=status, error=error)

    def _committed(self, commit: Commit, lease_until: float) -> CheckpointInfo:
        header = commit.header
        self.head = header
        self._migrated = None
        self._cut = None
        self._epoch = commit.epoch
        self._sequence = header.sequence
        self._stored_head = header.checkpoint_id
        self._stored_commit = commit.commit_id
        self._is_cancelled = False
        self._last_timestamp = header.timestamp
        self._lease_until = lease_until
        info = CheckpointInfo(
            self.run_id, header.checkpoint_id, header.iteration_count, header.parent_id
        )
        self.lineage.append(info)
        self._untidy += 1
        return info

    @property
    def is_untidy(self) -> bool:
        """Whether there is a retention policy, and it is time again to apply it."""
        return self._retention is not None and self._untidy >= TIDY_EVERY

    async def tidy(self) -> None:
        """Apply the retention policy.

        Raises:
            StorageError: The storage could not; every checkpoint is still there.
        """
        if self._retention is None or not is_managed(self.storage):
            return
        self._untidy = 0
        if await self.storage.prune(self.run_id, self._retention):
            await self.lineage.load(self.base)

    def save_error(self, what: str, error: Exception) -> CheckpointSaveError:
        """Return the error of a save that failed."""
        head = self.head.checkpoint_id if self.head else None
        after = (
            f"its last good checkpoint is {head!r}; resume from it"
            if head
            else "nothing was saved; start it again"
        )
        why = message_of(error).rstrip(".") or type(error).__name__
        return CheckpointSaveError(
            f"run {self.run_id!r}: {what} could not be saved to {name_of(self.storage)}: "
            f"{why}. The run has "
            f"stopped; {after} once the cause is fixed."
        )

    def _timestamp(self) -> str:
        """Return the time, or a microsecond after the last timestamp if the clock went back."""
        now = utc_now()
        if now <= self._last_timestamp:
            now = (
                datetime.fromisoformat(self._last_timestamp) + timedelta(microseconds=1)
            ).isoformat(timespec="microseconds")
        return now

    async def accept(self, answers: Sequence[tuple[str, bytes]]) -> list[InboxEntry]:
        """Put answers into the inbox, all or none.

        Raises:
            RequestError: One of them cannot be taken; none was.
        """
        if self.is_at_head:
            with self._writing():
                return await self._put(answers)
        await self.own()  # an answer to an older checkpoint makes that the head: a new branch
        try:
            with self._writing():
                return await self._put(answers)
        finally:
            await self.release()

    async def _put(self, answers: Sequence[tuple[str, bytes]]) -> list[InboxEntry]:
        return await self.storage.add_answers(self.run_id, answers, incarnation=self._incarnation)

    async def discard_journal(self) -> None:
        """Drop the records of calls that finished after the head."""
        await self.storage.discard_journal(self.run_id, self._epoch, incarnation=self._incarnation)

    async def restore(self, target: str) -> CheckpointRecord:
        """Make a checkpoint of this run its head and return it.

        Raises:
            CheckpointNotFoundError: The run has no such checkpoint.
        """
        record = await self.read(target)
        if record is None:
            run = await self.look_up()
            if run is not None and run.incarnation != self._incarnation:
                raise replaced(self.run_id)
            raise CheckpointNotFoundError(
                f"run {self.run_id!r} has no checkpoint {target!r}; run.checkpoints lists those of "
                "its current lineage"
            )
        if self.is_cut:
            await self.settle()
        await self.own()
        with self._writing():
            run = await self.storage.move_head(
                self.run_id, self._epoch, target, incarnation=self._incarnation
            )
        self._settle(run)
        await self.release()  # until the next iteration
        await self.load(record.header, run)
        return record


def _check_text(metadata: dict[str, Any] | None, tags: Sequence[str]) -> None:
    """Refuse text that no file and no database can hold.

    The storage checks the rest of metadata.
    """
    try:
        msgspec.json.encode((metadata, tags))
    except UnicodeEncodeError as error:
        raise CheckpointEncodeError(
            f"metadata and tags are Unicode text, but {error.object!r:.200} among them holds half "
            "of a surrogate pair, perhaps from decoding bytes with errors='surrogateescape'. "
            "Decode them another way. Nothing was started."
        ) from error
    except Exception:
        return
