"""Storages that are broken on purpose, each in one way: the contract has to notice, and says
where.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.storage.memory import InMemoryCheckpointStorage
from supersteps.storage.records import InboxEntry, RunRecord
from supersteps.storage.retention import RetentionPolicy
from supersteps.testing import Clock, StorageContract, Verdict, judge


class LostUpdate(InMemoryCheckpointStorage):
    """Does not compare the head: the last commit wins."""

    async def commit(self, commit: Commit) -> None:
        run = self._runs.get(commit.header.run_id)
        if (
            run is not None
            and commit.header.parent_id is not None
            and run.record.epoch == commit.epoch
        ):
            self._checkpoints.pop(commit.header.checkpoint_id, None)
            run.record = replace(
                run.record, head=commit.header.parent_id, sequence=commit.header.sequence - 1
            )
        await super().commit(commit)


class Unfenced(InMemoryCheckpointStorage):
    """Does not compare the epoch: a writer that lost the run continues."""

    async def commit(self, commit: Commit) -> None:
        run = self._runs.get(commit.header.run_id)
        await super().commit(commit if run is None else replace(commit, epoch=run.record.epoch))


class ClockOrdered(InMemoryCheckpointStorage):
    """Takes for the newest checkpoint the one with the latest timestamp."""

    async def acquire(
        self, run_id: str, owner: Owner, lease_seconds: float, **which: Any
    ) -> RunRecord:
        run = await super().acquire(run_id, owner, lease_seconds, **which)
        newest = max(await self.list_checkpoints(run_id=run_id), key=lambda c: c.timestamp)
        return await self.move_head(run_id, run.epoch, newest.checkpoint_id)

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        return sorted(await super().list_headers(run_id), key=lambda header: header.timestamp)


class Aliasing(InMemoryCheckpointStorage):
    """Keeps, and hands out, the very objects."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._alive: dict[str, WorkflowCheckpoint] = {}

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        self._alive[checkpoint.checkpoint_id] = checkpoint
        return await super().save_checkpoint(checkpoint)

    commit = InMemoryCheckpointStorage.commit  # or it would be driven through the adapter

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        return self._alive.get(checkpoint_id) or await super().load_checkpoint(checkpoint_id)


class SharedMetadata(InMemoryCheckpointStorage):
    """Hands out the header that it keeps."""

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        kept = self._checkpoints.get(checkpoint_id)
        return None if kept is None else CheckpointRecord(kept.header, kept.parts.to_dict())


class Unsynced(InMemoryCheckpointStorage):
    """Promises to be durable, but is empty when it is opened again."""


class KeptJournal(InMemoryCheckpointStorage):
    """Gives the records of an older head for those of the new one."""

    async def commit(self, commit: Commit) -> None:
        run = self._runs.get(commit.header.run_id)
        kept = list(run.journal) if run is not None else []
        await super().commit(commit)
        self._runs[commit.header.run_id].journal[:0] = kept


class KeptInbox(InMemoryCheckpointStorage):
    """Gives an answer again that a superstep has consumed."""

    async def read_inbox(self, run_id: str, **which: Any) -> list[InboxEntry]:
        entries = await super().read_inbox(run_id, **which)
        known = self.__dict__.setdefault("_given", {}).setdefault(run_id, {})
        known.update({entry.number: entry for entry in entries})
        return [*known.values()]


class AnsweredTwice(InMemoryCheckpointStorage):
    """Takes any answer to any question."""

    async def add_answers(
        self, run_id: str, answers: Sequence[tuple[str, bytes]], **which: Any
    ) -> list[InboxEntry]:
        run = self._runs.get(run_id)
        if run is not None:
            names = dict.fromkeys((*run.record.requests, *(name for name, _ in answers)))
            run.record = replace(run.record, requests=tuple(names))
        entries: list[InboxEntry] = []
        for answer in answers:
            entries += await super().add_answers(run_id, [answer], **which)
        return entries


class Dangling(InMemoryCheckpointStorage):
    """Forgets to give children of what goes a new parent."""

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        run = next(
            (run for run in self._runs.values() if checkpoint_id in run.checkpoint_ids), None
        )
        if run is None or run.record.head == checkpoint_id:
            return await super().delete_checkpoint(checkpoint_id)
        del self._checkpoints[checkpoint_id], run.checkpoint_ids[checkpoint_id]
        return True


class Overpruning(InMemoryCheckpointStorage):
    """Prunes checkpoints at which a question waits."""

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        waiting_too = RetentionPolicy(
            policy.keep_last, policy.keep_steps, policy.keep_for, waiting_too=True
        )
        return await super().prune(run_id, waiting_too, dry_run=dry_run)


class LeaseBlind(InMemoryCheckpointStorage):
    """Lets anybody take a run at any time."""

    async def acquire(
        self, run_id: str, owner: Owner, lease_seconds: float, **which: Any
    ) -> RunRecord:
        run = self._runs.get(run_id)
        if run is not None:
            run.record = replace(run.record, lease=None)
        return await super().acquire(run_id, owner, lease_seconds, **which)


class SeenBlind(InMemoryCheckpointStorage):
    """Lets anybody take a run, also one that has moved on since it was seen."""

    async def acquire(
        self, run_id: str, owner: Owner, lease_seconds: float, **which: Any
    ) -> RunRecord:
        return await super().acquire(run_id, owner, lease_seconds, **{**which, "seen": None})


def verdict_on(
    storage: Callable[..., InMemoryCheckpointStorage], lacks: tuple[str, ...]
) -> Verdict:
    class Case(StorageContract):
        def open_storage(self, folder: Path, clock: Clock) -> InMemoryCheckpointStorage:
            return storage(clock=clock)

    Case.lacks = lacks
    return judge(Case)


MEMORY = ("durability",)


def test_a_sound_one_passes() -> None:
    verdict = verdict_on(InMemoryCheckpointStorage, MEMORY)

    assert verdict.failures == {}
    topics = verdict.topics()
    assert set(topics.values()) == {"full", "partial", "missing"}
    assert (topics["Journal"], topics["Corruption"], topics["Ownership"]) == (
        "full",
        "missing",
        "partial",
    )
    assert "InMemoryCheckpointStorage lacks 'durability'" in str(verdict)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("storage", "caught_by"),
    [
        (LostUpdate, {"test_a_commit_must_follow_the_head", "test_one_of_many_commits_wins"}),
        (
            Unfenced,
            {
                "test_whoever_was_fenced_changes_nothing",
                "test_a_clock_that_leaps_ahead_lets_two_try_and_one_succeed",
            },
        ),
        (
            ClockOrdered,
            {
                "test_timestamps_that_go_back_reorder_nothing",
                "test_headers_come_in_the_order_of_commits",
            },
        ),
        (Aliasing, {"test_nothing_outside_can_change_what_is_saved"}),
        (SharedMetadata, {"test_nothing_outside_can_change_what_is_saved"}),
        (
            KeptJournal,
            {"test_a_commit_voids_the_records"},
        ),
        (
            KeptInbox,
            {"test_a_commit_consumes_what_it_has_read"},
        ),
        (
            AnsweredTwice,
            {"test_answers_are_taken_all_or_none", "test_a_commit_consumes_what_it_has_read"},
        ),
        (Dangling, {"test_what_followed_a_deleted_checkpoint_follows_its_parent"}),
        (Overpruning, {"test_pruning_keeps_the_head_branch_points_and_waiting_checkpoints"}),
        (
            LeaseBlind,
            {
                "test_a_lease_keeps_others_off_until_it_expires",
                "test_a_live_process_of_this_machine_keeps_its_run_and_a_dead_one_does_not",
                "test_a_clock_that_goes_back_takes_no_run_away",
            },
        ),
        (SeenBlind, {"test_a_run_that_has_moved_on_since_it_was_seen_is_not_taken"}),
    ],
)
def test_a_broken_one_is_caught(
    storage: type[InMemoryCheckpointStorage], caught_by: set[str]
) -> None:
    verdict = verdict_on(storage, MEMORY)

    assert caught_by <= set(verdict.failures), str(verdict)
    assert "failed" in verdict.topics().values()


def test_one_that_forgets_is_caught() -> None:
    failures = set(verdict_on(Unsynced, ()).failures)

    assert {
        "test_what_was_saved_is_there_when_it_is_opened_again",
        "test_what_a_method_has_returned_for_is_there_without_closing",
        "test_another_process_reads_the_records_and_adds_its_own",
        "test_answers_are_durable",
        "test_a_moved_head_is_durable",
    } <= failures
