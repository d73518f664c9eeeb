"""What a storage must do, as a few dictionaries: written from the ports' documentation, not with
the library's rules.

Each operation returns what the storage must return, or raises `Refused` with the class of the
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from supersteps import (
    AlreadyAnsweredError,
    CheckpointNotFoundError,
    RetentionPolicy,
    RunBusyError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    UnknownRequestError,
)
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader, Commit
from supersteps.storage.records import Lease, RunRecord

Content = dict[PartKey, bytes | list[bytes]]
WAITING = ("IDLE_WITH_PENDING_REQUESTS", "IN_PROGRESS_PENDING_REQUESTS")


class Refused(Exception):
    """The storage must raise this error, and change nothing."""

    def __init__(self, kind: type[Exception]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


@dataclass
class Kept:
    """A checkpoint."""

    header: CheckpointHeader
    content: Content


@dataclass
class Run:
    """A run, its checkpoints by id in the order of commits, its journal and its inbox (number,
    request, value).
    """

    record: RunRecord
    kept: dict[str, Kept]
    journal: list[bytes] = field(default_factory=list)
    inbox: list[tuple[int, str, bytes]] = field(default_factory=list)

    @property
    def headers(self) -> list[CheckpointHeader]:
        return [kept.header for kept in self.kept.values()]

    def lineage(self, checkpoint_id: str) -> list[str]:
        """Return a checkpoint and its ancestors, oldest first."""
        found: list[str] = []
        place: str | None = checkpoint_id
        while place is not None:
            found.append(place)
            place = self.kept[place].header.parent_id
        return found[::-1]


class Model:
    """All runs.

    Attributes:
        runs: They, by id.
        now: The clock.
        alive: Which owners are known to live (True), known to be dead (False); time tells of the
            others.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.now = 1_000_000.0
        self.alive: dict[str, bool] = {}

    def run(self, run_id: str) -> Run:
        if run_id not in self.runs:
            raise Refused(RunNotFoundError)
        return self.runs[run_id]

    def fence(self, run_id: str, epoch: int, incarnation: str | None = None) -> Run:
        run = self.run(run_id)
        if incarnation not in (None, run.record.incarnation):
            raise Refused(RunFencedError)
        if run.record.epoch != epoch:
            raise Refused(RunFencedError)
        return run

    # ----------------------------------------------------------------------------------- the commit

    def commit(self, commit: Commit) -> None:
        header = commit.header
        run = self.runs.get(header.run_id)
        if run and (run.record.commit_id, run.record.head) == (
            commit.commit_id,
            header.checkpoint_id,
        ):
            return
        if header.parent_id is None:
            if run is not None:
                raise Refused(RunExistsError)
            self.runs[header.run_id] = Run(
                RunRecord(
                    run_id=header.run_id,
                    workflow_id=header.workflow_id,
                    status=header.status,
                    head=header.checkpoint_id,
                    sequence=header.sequence,
                    branch=header.branch,
                    epoch=commit.epoch,
                    lease=self.lease_of(commit),
                    created_at=header.timestamp,
                    updated_at=header.timestamp,
                    fingerprint=commit.fingerprint or "",
                    requests=tuple(key[1] for key in commit.changes.puts if key[0] == "requests"),
                    commit_id=commit.commit_id,
                    metadata=header.metadata,
                    tags=commit.tags,
                    parent_run=commit.parent_run,
                    parent_checkpoint=commit.parent_checkpoint,
                    incarnation=header.incarnation,
                ),
                {header.checkpoint_id: Kept(header, changed({}, commit.changes))},
            )
            return
        run = self.fence(header.run_id, commit.epoch, header.incarnation)
        record = run.record
        if header.parent_id != record.head or header.sequence <= record.sequence:
            raise Refused(RunFencedError)
        content = changed(run.kept[record.head].content, commit.changes)
        run.kept[header.checkpoint_id] = Kept(header, content)
        inbox_read = max(record.inbox_read, commit.inbox_read)
        run.record = replace(
            record,
            status=header.status,
            head=header.checkpoint_id,
            sequence=header.sequence,
            branch=max(record.branch, header.branch),
            lease=self.lease_of(commit),
            updated_at=header.timestamp,
            fingerprint=record.fingerprint if commit.fingerprint is None else commit.fingerprint,
            error=None,
            requests=tuple(key[1] for key in content if key[0] == "requests"),
            inbox_read=inbox_read,
            commit_id=commit.commit_id,
        )
        run.journal = []
        run.inbox = [entry for entry in run.inbox if entry[0] > inbox_read]

    def lease_of(self, commit: Commit) -> Lease | None:
        if commit.owner is None or commit.lease_seconds is None:
            return None
        return Lease(commit.owner, self.now + commit.lease_seconds, commit.lease_seconds)

    # ------------------------------------------------------------------------------------ ownership

    def acquire(self, run_id: str, owner: Owner, seconds: float) -> RunRecord:
        run = self.run(run_id)
        lease = run.record.lease
        if lease is not None and lease.expires > self.now + lease.seconds:
            lease = replace(
                lease, expires=self.now + lease.seconds
            )  # kept by whoever is refused, too
            run.record = replace(run.record, lease=lease)
        is_foreign = lease is not None and lease.owner != owner  # its own, from a cut-off attempt
        if (
            lease is not None
            and is_foreign
            and self.alive.get(lease.owner.handle, lease.expires > self.now)
        ):
            raise Refused(RunBusyError)
        run.record = replace(
            run.record, epoch=run.record.epoch + 1, lease=Lease(owner, self.now + seconds, seconds)
        )
        return run.record

    def renew(self, run_id: str, epoch: int, seconds: float) -> None:
        run = self.fence(run_id, epoch)
        if run.record.lease is not None:
            run.record = replace(
                run.record, lease=Lease(run.record.lease.owner, self.now + seconds, seconds)
            )

    def release(self, run_id: str, epoch: int, status: str | None, error: str | None) -> None:
        run = self.fence(run_id, epoch)
        record = run.record
        run.record = replace(
            record, lease=None, status=status or record.status, error=error or record.error
        )

    def move_head(self, run_id: str, epoch: int, target: str) -> RunRecord:
        run = self.fence(run_id, epoch)
        if target not in run.kept:
            raise Refused(CheckpointNotFoundError)
        self.set_head(run, target)
        return run.record

    def set_head(self, run: Run, target: str) -> None:
        kept, record = run.kept[target], run.record
        run.record = replace(
            record,
            head=target,
            status=kept.header.status,
            branch=record.branch + (target != record.head or bool(run.inbox or run.journal)),
            error=None,
            requests=tuple(key[1] for key in kept.content if key[0] == "requests"),
            inbox_read=run.inbox[-1][0] if run.inbox else record.inbox_read,
        )
        run.journal, run.inbox = [], []

    # ---------------------------------------------------------------------------- journal and inbox

    def append_journal(self, run_id: str, epoch: int, head: str, records: Sequence[bytes]) -> None:
        run = self.fence(run_id, epoch)
        if head != run.record.head:
            raise Refused(RunFencedError)
        run.journal += records

    def discard_journal(self, run_id: str, epoch: int) -> None:
        self.fence(run_id, epoch).journal = []

    def add_answers(
        self, run_id: str, answers: Sequence[tuple[str, bytes]]
    ) -> list[tuple[int, str, bytes]]:
        run = self.run(run_id)
        taken = {request_id for _, request_id, _ in run.inbox}
        last = max(run.record.inbox_read, run.inbox[-1][0] if run.inbox else 0)
        added: list[tuple[int, str, bytes]] = []
        for request_id, value in answers:
            if request_id in taken:
                raise Refused(AlreadyAnsweredError)
            if request_id not in run.record.requests:
                raise Refused(UnknownRequestError)
            taken.add(request_id)
            added.append((last + len(added) + 1, request_id, value))
        run.inbox += added
        return added

    # ------------------------------------------------------------------------------------- removing

    def delete_checkpoint(self, unwanted: str) -> bool:
        run = next((run for run in self.runs.values() if unwanted in run.kept), None)
        if run is None:
            return False
        if run.record.head == unwanted:
            head = nearest_left(run, unwanted)
            if head is None:
                del self.runs[run.record.run_id]
                return True
            self.set_head(run, head)
        remove(run, [unwanted])
        return True

    def delete_run(self, run_id: str) -> bool:
        return self.runs.pop(run_id, None) is not None

    def prune(self, run_id: str, policy: RetentionPolicy, dry_run: bool) -> list[str]:
        run = self.run(run_id)
        followers = [header.parent_id for header in run.headers]
        newest = list(run.kept)[-policy.keep_last :] if policy.keep_last else []
        gone = [
            checkpoint_id
            for checkpoint_id, kept in run.kept.items()
            if checkpoint_id != run.record.head
            and followers.count(checkpoint_id) < 2
            and checkpoint_id not in newest
            and not (policy.keep_steps and kept.header.iteration_count % policy.keep_steps == 0)
            and not (policy.keep_for is not None and kept.header.timestamp.startswith("2099"))
            and (policy.waiting_too or kept.header.status not in WAITING)
        ]
        if not dry_run:
            remove(run, gone)
        return gone

    # -------------------------------------------------------------------------------------- looking

    def list_runs(
        self,
        workflow_id: str | None,
        status: str | None,
        tag: str | None,
        limit: int,
        before: str | None,
    ) -> list[str]:
        last = None if before is None else self.run(before).record
        found = sorted(
            (r.record for r in self.runs.values()),
            key=lambda r: (r.created_at, r.run_id),
            reverse=True,
        )
        if last is not None:
            found = [r for r in found if (r.created_at, r.run_id) < (last.created_at, last.run_id)]
        if workflow_id is not None:
            found = [r for r in found if r.workflow_id == workflow_id]
        if status is not None:
            found = [r for r in found if r.status == status]
        return [r.run_id for r in found if tag is None or tag in r.tags][:limit]

    def checkpoint_ids(self, workflow_id: str | None, run_id: str | None) -> list[str]:
        headers = [header for run in self.runs.values() for header in run.headers]
        headers.sort(key=lambda h: (h.timestamp, h.sequence, h.checkpoint_id))
        return [
            h.checkpoint_id
            for h in headers
            if workflow_id in (None, h.workflow_id) and run_id in (None, h.run_id)
        ]


def changed(content: Content, changes: Changes) -> Content:
    """Return a content after a commit's changes: deletes, puts, appends."""
    after: dict[PartKey, Any] = {
        key: part for key, part in content.items() if key not in changes.deletes
    }
    after.update(changes.puts)
    for key, items in changes.appends.items():
        before = after.get(key, [])
        after[key] = [*(before if isinstance(before, list) else elements(before)), *items]
    return after


def elements(array: bytes) -> list[bytes]:
    """Return the elements of an array of numbers, the only ones that the machine puts and appends
    to.
    """
    return [item for item in array.strip(b"[]").split(b",") if item]


def nearest_left(run: Run, lost: str) -> str | None:
    header = run.kept[lost].header
    if header.parent_id is not None:
        return header.parent_id
    left = [other for other in run.headers if other.checkpoint_id != lost]
    older = [other for other in left if other.sequence < header.sequence] or left
    same = [other for other in older if other.branch == header.branch] or older
    return max(same, key=lambda other: other.sequence).checkpoint_id if same else None


def remove(run: Run, gone: Sequence[str]) -> None:
    for kept in run.kept.values():
        parent = kept.header.parent_id
        while parent is not None and parent in gone:
            parent = run.kept[parent].header.parent_id
        kept.header = replace(kept.header, parent_id=parent)
    for checkpoint_id in gone:
        del run.kept[checkpoint_id]
