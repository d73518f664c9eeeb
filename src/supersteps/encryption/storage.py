"""`EncryptedStorage`: a wrapper that encrypts the records of any storage."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.checkpoint import WorkflowCheckpoint
from supersteps.checkpoint.owner import Owner
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.checkpoint_info import CheckpointInfo
from supersteps.encryption import records as encrypted_records
from supersteps.encryption.encryptor import Head
from supersteps.encryption.inspection import key_ids, verify
from supersteps.encryption.keys import Keyring
from supersteps.encryption.records import family_of
from supersteps.encryption.vault import Vault, weight_of, work
from supersteps.errors import (
    CheckpointVersionError,
    CorruptCheckpointError,
    CorruptCheckpointWarning,
    DecryptionError,
    StorageError,
)
from supersteps.storage import rules
from supersteps.storage.answers import Answering
from supersteps.storage.claims import Claim, Claimed
from supersteps.storage.listings import RunFilter
from supersteps.storage.ports import (
    AsyncClosing,
    Capabilities,
    DurableStorage,
    ManagedStorage,
    capabilities_of,
    has_backup,
    is_durable,
    is_managed,
    lineage_reader,
    name_of,
)
from supersteps.storage.queue import WorkQueue, queue_of
from supersteps.storage.records import Damage, InboxEntry, RunRecord, Seen
from supersteps.storage.retention import RetentionPolicy

__all__ = ["EncryptedStorage", "Keyring"]

_UNREADABLE = (CorruptCheckpointError, DecryptionError)


class EncryptedStorage(Answering, AsyncClosing, ManagedStorage, WorkQueue):
    """Encrypts every record that is written to a storage, and decrypts what is read.

    Use it when people with access to the database or disk must not read or change what runs store.
    Values, messages, questions, answers, outputs, error texts and metadata are encrypted and
    authenticated, bound to their run, commit and place; so are the user's names of state keys and
    scopes, and tags. In clear: ids (of runs, checkpoints, workflows, executors, requests), numbers,
    times, statuses, owners of leases. docs/SECURITY.md says what this protects against and what it
    does not.

    `export_run` through this storage writes a file *in clear*. For an encrypted file, export from
    the inner storage (`export_run(encrypted.storage, ...)`); it can be imported, under the same run
    id, into any storage that is wrapped with the same keys.

    For what each method does, see the ports: `ManagedStorage` and `BackupStorage`.

    Args:
        storage: The inner storage for encrypted records: memory, file, SQLite, or another
            `DurableStorage`.
        keyring: The keys.
        strict: Refuse records that were never encrypted. Keep it True; pass False only to read a
            store that was written without encryption: new records are then encrypted, but forged
            records in clear are not detected.

    Attributes:
        storage: The inner storage.
        keyring: The keys.
        strict: Whether records in clear are refused.
        codec: The codec of the inner storage.
    """

    def __init__(self, storage: DurableStorage, keyring: Keyring, *, strict: bool = True) -> None:
        if not is_durable(storage):
            raise TypeError(
                f"{type(storage).__name__} is not a DurableStorage; wrap as_durable(storage) "
                "instead"
            )
        self.storage = storage
        self.keyring = keyring
        self.strict = strict
        self.codec = storage.codec
        self._vault = Vault(keyring, strict)

    def __repr__(self) -> str:
        return f"EncryptedStorage({self.storage!r}, {self.keyring!r}, strict={self.strict})"

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the inner storage; opening its address also needs the keys."""
        return capabilities_of(self.storage)

    def __copy__(self) -> Self:
        return self  # a copy of an object that refers to a storage refers to the same storage

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "an EncryptedStorage holds keys and cannot be pickled; create one in each process"
        )

    async def aclose(self) -> None:
        """Close the inner storage; it may be used again afterwards."""
        await self.storage.aclose()
        self.note_closed()

    # ---------------------------------------------------------------------------- whole checkpoints

    async def save_checkpoint(self, checkpoint: WorkflowCheckpoint) -> str:
        record = checkpoint.to_record(self.codec)
        wanted = rules.check_saved(record.header)
        try:
            existing = await self.load_record(wanted)
        except (*_UNREADABLE, CheckpointVersionError):
            existing = None  # the inner storage decides whether it may be replaced
        if existing == record:
            return wanted
        encrypted = await work(weight_of(record.parts), lambda: self._vault.encrypt_record(record))
        inner = WorkflowCheckpoint.from_record(
            encrypted.header, lambda: encrypted.parts, self.storage.codec
        )
        return await self.storage.save_checkpoint(inner)

    async def load_checkpoint(self, checkpoint_id: str) -> WorkflowCheckpoint | None:
        record = await self.load_record(checkpoint_id)
        if record is None:
            return None
        return WorkflowCheckpoint.from_record(record.header, lambda: record.parts, self.codec)

    async def list_checkpoint_ids(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[str]:
        return await self.storage.list_checkpoint_ids(workflow_id, run_id)

    async def list_checkpoints(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> list[WorkflowCheckpoint]:
        found = []
        for inner in await self.storage.list_checkpoints(workflow_id, run_id):
            for header in self._decrypted([inner.to_header()]):
                found.append(
                    WorkflowCheckpoint.from_record(header, partial(self._parts, inner), self.codec)
                )
        return found

    def _parts(self, inner: WorkflowCheckpoint) -> Mapping[PartKey, Part]:
        return self._vault.decrypt(inner.to_record(self.storage.codec))[0].parts

    def _decrypted(self, headers: Iterable[CheckpointHeader]) -> list[CheckpointHeader]:
        decrypted = []
        for header in headers:
            try:
                decrypted.append(self._vault.decrypt_header(header))
            except _UNREADABLE as error:
                warnings.warn(str(error), CorruptCheckpointWarning, stacklevel=4)
        return decrypted

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        return await self.storage.delete_checkpoint(checkpoint_id)

    # ----------------------------------------------------------------------------- runs and commits

    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run's record, None if there is no such run.

        Raises:
            CorruptCheckpointError: It has been altered, or, in strict mode, was never encrypted.
            DecryptionError: A key is missing or wrong.
        """
        run = await self.storage.get_run(run_id)
        return None if run is None else self._decrypt_run(run, run_id)

    def _decrypt_run(self, run: RunRecord, wanted: str | None = None) -> RunRecord:
        if wanted is not None and run.run_id != wanted:  # authentic, but not the requested one
            raise CorruptCheckpointError(
                f"the record of run {wanted!r} cannot be trusted: it is that of {run.run_id!r}"
            )
        return encrypted_records.decrypt_run(self.keyring, run, self.strict)

    def _decrypt_runs(self, found: Iterable[RunRecord]) -> list[RunRecord]:
        """Decrypt records for a listing; one that fails is listed in part, with a warning."""
        decrypted = []
        for run in found:
            try:
                decrypted.append(self._decrypt_run(run))
            except _UNREADABLE as error:
                warnings.warn(str(error), CorruptCheckpointWarning, stacklevel=3)
                decrypted.append(encrypted_records.without_secrets(run))
        return decrypted

    async def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return self._decrypt_runs(await self.storage.find_waiting_runs(request_id))

    async def load_record(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a checkpoint in clear, None if there is none with this id.

        Raises:
            CorruptCheckpointError: It is damaged or altered, or, in strict mode, was never
                encrypted; the message names the nearest intact checkpoint before it.
            DecryptionError: A key is missing or wrong.
            CheckpointVersionError: A newer version of the library wrote it.
        """
        record = await self._fetch(checkpoint_id)
        if record is None:
            return None
        try:
            return (await work(weight_of(record.parts), lambda: self._vault.decrypt(record)))[0]
        except CorruptCheckpointError as error:
            raise rules.damaged(str(error), await self._intact_before(record.header)) from error

    async def _fetch(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return an encrypted checkpoint, after checking that it is the requested one."""
        record = await self.storage.load_record(checkpoint_id)
        if record is not None and record.header.checkpoint_id != checkpoint_id:
            raise CorruptCheckpointError(
                f"checkpoint {checkpoint_id!r} cannot be trusted: in its place is "
                f"{record.header.checkpoint_id!r}"
            )
        return record

    async def _intact_before(self, header: CheckpointHeader) -> str | None:
        lineage = (
            await self.storage.list_lineage(header.checkpoint_id, 100) if header.run_id else []
        )
        for info in lineage[-2::-1]:
            try:
                record = await self._fetch(info.checkpoint_id)
                if record is not None and self._vault.decrypt(record):
                    return info.checkpoint_id
            except (*_UNREADABLE, CheckpointVersionError):
                continue
        return None

    async def list_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        return await self.storage.list_lineage(checkpoint_id, limit)

    def read_lineage(self, checkpoint_id: str, limit: int) -> list[CheckpointInfo]:
        """Return a lineage on the calling thread, if the inner storage can do that."""
        reader = lineage_reader(self.storage)
        if reader is None:
            raise StorageError(f"{name_of(self.storage)} has no read_lineage: use list_lineage")
        return reader(checkpoint_id, limit)

    async def commit(self, commit: Commit) -> int | None:
        """Encrypt the changes of a commit and write it to the inner storage.

        Only changes are encrypted. The first commit to a run that another object has written reads
        and checks the checkpoint before it.

        Raises:
            CorruptCheckpointError: The checkpoint that it follows cannot be trusted; nothing was
                written.
            DecryptionError: A key is missing or wrong; nothing was written.
        """
        header = commit.header
        before: CheckpointRecord | None = None
        head = self._vault.take(commit)
        if header.parent_id is None:
            head = self._vault.new_head(header)
        elif head is None or not all(map(head.is_growing, commit.changes.appends)):
            found = await self._load_parent(commit)
            if found is None:
                return None
            before, head = found
        if head is None:  # its parent was never encrypted: now everything is
            assert before is not None
            commit, head = _encrypting_all(commit, before), self._vault.new_head(header)
        encrypted = await self._encrypt(commit, head, {} if before is None else before.parts)
        if encrypted.queue is not None:
            encrypted = replace(encrypted, queue=self._hidden(encrypted.queue))
        newest = await self.storage.commit(encrypted)
        self._vault.keep(header.run_id, head)
        return newest

    async def _encrypt(self, commit: Commit, head: Head, before: Mapping[PartKey, Part]) -> Commit:
        def old_value(key: PartKey) -> bytes:
            part = before[key]
            return part.to_json() if isinstance(part, ListPart) else part

        size = commit.changes.size
        clear = commit.changes.deletes if isinstance(commit, _EncryptingAll) else []
        encrypted = await work(size, lambda: self._vault.encrypt_commit(commit, head, old_value))
        if clear:
            encrypted = replace(
                encrypted,
                changes=replace(encrypted.changes, deletes=[*clear, *encrypted.changes.deletes]),
            )
        return encrypted

    async def _load_parent(self, commit: Commit) -> tuple[CheckpointRecord, Head | None] | None:
        """Return the parent of a commit; None if the commit was written and its reply was lost."""
        parent = commit.header.parent_id
        assert parent is not None
        record = await self._fetch(parent)
        if record is not None and family_of(record.header) == family_of(commit.header):
            return await work(weight_of(record.parts), lambda: self._vault.decrypt(record))
        run = await self.storage.get_run(commit.header.run_id)
        if run is not None and rules.is_same_commit(run, commit):
            return None
        header = commit.header
        run = rules.check_epoch(run, header.run_id, commit.epoch, header.incarnation)
        rules.advance_run(run, commit, 0.0)
        raise rules.no_such_checkpoint(parent, header.run_id)

    async def acquire(
        self,
        run_id: str,
        owner: Owner,
        lease_seconds: float,
        *,
        incarnation: str | None = None,
        seen: Seen | None = None,
    ) -> RunRecord:
        run = await self.storage.acquire(
            run_id, owner, lease_seconds, incarnation=incarnation, seen=seen
        )
        try:
            return self._seen(run, run_id)
        except _UNREADABLE:
            # The key is checked before the lease is taken.
            await self.storage.release(run_id, run.epoch, incarnation=run.incarnation)
            raise

    def _seen(self, run: RunRecord, wanted: str) -> RunRecord:
        self._vault.check(run)
        return self._decrypt_run(run, wanted)

    async def renew(
        self, run_id: str, epoch: int, lease_seconds: float, *, incarnation: str | None = None
    ) -> None:
        await self.storage.renew(run_id, epoch, lease_seconds, incarnation=incarnation)

    async def release(
        self,
        run_id: str,
        epoch: int,
        *,
        status: str | None = None,
        error: str | None = None,
        incarnation: str | None = None,
    ) -> None:
        if error:
            incarnation = await self._incarnation(run_id, incarnation)
            error = encrypted_records.encrypt_error(self.keyring, run_id, incarnation, error)
        await self.storage.release(
            run_id, epoch, status=status, error=error, incarnation=incarnation
        )

    async def _incarnation(self, run_id: str, incarnation: str | None) -> str:
        """Return the incarnation to use: the stored one if none is passed."""
        if incarnation is not None:
            return incarnation
        run = await self.storage.get_run(run_id)
        return "" if run is None else run.incarnation

    async def move_head(
        self, run_id: str, epoch: int, checkpoint_id: str, *, incarnation: str | None = None
    ) -> RunRecord:
        run = await self.storage.move_head(run_id, epoch, checkpoint_id, incarnation=incarnation)
        return self._seen(run, run_id)

    async def delete_run(self, run_id: str) -> bool:
        self._vault.forget(run_id)
        return await self.storage.delete_run(run_id)

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
        incarnation = await self._incarnation(run_id, incarnation)
        encrypted = encrypted_records.encrypt_journal(
            self.keyring, run_id, incarnation, head, records
        )
        await self.storage.append_journal(run_id, epoch, head, encrypted, incarnation=incarnation)

    async def read_journal(
        self, run_id: str, head: str, *, incarnation: str | None = None
    ) -> list[bytes]:
        incarnation = await self._incarnation(run_id, incarnation)
        encrypted = await self.storage.read_journal(run_id, head, incarnation=incarnation)
        return encrypted_records.decrypt_journal(
            self.keyring, run_id, incarnation, head, encrypted, self.strict
        )

    async def discard_journal(
        self, run_id: str, epoch: int, *, incarnation: str | None = None
    ) -> None:
        await self.storage.discard_journal(run_id, epoch, incarnation=incarnation)

    async def add_answers(
        self,
        run_id: str,
        answers: Sequence[tuple[str, bytes]],
        *,
        incarnation: str | None = None,
    ) -> list[InboxEntry]:
        which = await self._incarnation(run_id, incarnation)
        encrypt = encrypted_records.encrypt_answer
        encrypted = [
            (request_id, encrypt(self.keyring, run_id, which, request_id, value))
            for request_id, value in answers
        ]
        entries = await self.storage.add_answers(run_id, encrypted, incarnation=which)
        return [
            replace(entry, value=value) for entry, (_, value) in zip(entries, answers, strict=True)
        ]

    async def read_inbox(self, run_id: str, *, incarnation: str | None = None) -> list[InboxEntry]:
        which = await self._incarnation(run_id, incarnation)
        decrypted = encrypted_records.decrypt_answer
        return [
            decrypted(self.keyring, run_id, which, entry, self.strict)
            for entry in await self.storage.read_inbox(run_id, incarnation=which)
        ]

    # --------------------------------------------------------------------------------- for workers

    async def claim_runs(self, claim: Claim) -> Claimed:
        """Take runs for a worker, from the inner storage.

        A run whose record cannot be decrypted is given up at once, as by `acquire`.
        """
        inner = queue_of(self.storage)
        claimed = await inner.claim_runs(claim)
        runs = []
        problems = list(claimed.problems)
        for run in claimed.runs:
            try:
                runs.append(self._seen(run, run.run_id))
            except _UNREADABLE as error:
                problems.append(str(error))
                later = None if run.lease is None else run.lease.expires
                await inner.put_back(run.run_id, run.epoch, later, incarnation=run.incarnation)
        return Claimed(runs, [await self._parked(run) for run in claimed.poisoned], problems)

    async def _parked(self, run: RunRecord) -> RunRecord:
        """Encrypt why a run was parked, which the inner storage has noted in clear."""
        await self.release(run.run_id, run.epoch, error=run.error, incarnation=run.incarnation)
        return replace(self._decrypt_runs([replace(run, error=None)])[0], error=run.error)

    async def put_back(
        self,
        run_id: str,
        epoch: int,
        ready_at: float | None,
        *,
        incarnation: str | None = None,
    ) -> None:
        await queue_of(self.storage).put_back(run_id, epoch, ready_at, incarnation=incarnation)

    async def enqueue(
        self, run_id: str, entry: QueueEntry, *, incarnation: str | None = None
    ) -> None:
        inner = queue_of(self.storage)
        await inner.enqueue(run_id, self._hidden(entry), incarnation=incarnation)

    async def queue_entry(self, run_id: str) -> QueueEntry | None:
        """Return a run's place in the queue; its concurrency key is hidden, as tags are."""
        return await queue_of(self.storage).queue_entry(run_id)

    def _hidden(self, entry: QueueEntry) -> QueueEntry:
        key = entry.concurrency_key
        if key is None or (key.startswith("~") and len(key) == len(self.keyring.tag(""))):
            return entry  # an exported run brings one that is hidden already
        return replace(entry, concurrency_key=self.keyring.tag(key))

    async def next_ready_at(
        self, workflow_ids: Sequence[str], queues: Sequence[str]
    ) -> float | None:
        return await queue_of(self.storage).next_ready_at(workflow_ids, queues)

    async def queued_workflows(self, queues: Sequence[str]) -> list[str]:
        return await queue_of(self.storage).queued_workflows(queues)

    async def held_runs(self) -> list[RunRecord]:
        return self._decrypt_runs(await queue_of(self.storage).held_runs())

    async def wait_for_change(self, seen: object, seconds: float) -> object:
        return await queue_of(self.storage).wait_for_change(seen, seconds)

    # -------------------------------------------------------------------------------- management

    def _managed(self) -> ManagedStorage:
        if not is_managed(self.storage):
            raise StorageError(
                f"{name_of(self.storage)} cannot list or manage its runs: it is not a "
                "ManagedStorage"
            )
        return self.storage

    async def find_runs(self, wanted: RunFilter) -> list[RunRecord]:
        """See the port.

        A run whose record cannot be decrypted is listed with its facts in clear, and a
        `CorruptCheckpointWarning`.
        """
        inner = self._managed()
        if wanted.tag is None:
            return self._decrypt_runs(await inner.find_runs(wanted))
        labels = [self.keyring.tag(wanted.tag, key_id) for key_id in self.keyring.key_ids]
        if not self.strict:
            labels.append(wanted.tag)
        pages = [await inner.find_runs(replace(wanted, tag=label)) for label in labels]
        found = {run.run_id: run for page in pages for run in page}
        newest = rules.page_of_runs(found.values(), RunFilter(limit=wanted.limit))
        return self._decrypt_runs(newest)

    async def list_headers(self, run_id: str) -> list[CheckpointHeader]:
        """Return the headers of all checkpoints of a run in the order of their commits.

        A header that cannot be decrypted is skipped with a `CorruptCheckpointWarning`.
        """
        return self._decrypted(await self._managed().list_headers(run_id))

    async def prune(
        self, run_id: str, policy: RetentionPolicy, *, dry_run: bool = False
    ) -> list[str]:
        return await self._managed().prune(run_id, policy, dry_run=dry_run)

    async def verify(self, run_id: str | None = None) -> list[Damage]:
        """Verify the inner storage, then decrypt everything; return the damages."""
        return await verify(self, self._managed(), run_id)

    async def backup(self, target: str | os.PathLike[str]) -> int:
        """Write a copy of the inner storage, encrypted as it is.

        Raises:
            StorageError: It cannot be written, or the inner storage cannot be backed up.
        """
        if not has_backup(self.storage):
            raise StorageError(f"{name_of(self.storage)} cannot be backed up as a whole")
        return await self.storage.backup(target)

    async def vacuum(self) -> None:
        await self._managed().vacuum()

    async def key_ids(self, run_id: str) -> list[str]:
        """Return the ids of the keys that a run's records need.

        A key that no run needs can be removed from the keyring. Committed checkpoints do not
        change; to move a run to the primary key, copy it: `export_run` from here, `delete_run`,
        `import_run` into here.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await key_ids(self._managed(), self.keyring, run_id)


class _EncryptingAll(Commit, frozen=True, kw_only=True):
    """A commit to a run in clear: its deletes are the parts that encrypted ones replace."""


def _encrypting_all(commit: Commit, before: CheckpointRecord) -> Commit:
    parts = dict(before.parts)
    commit.changes.apply(parts)
    changes = Changes.between({}, parts)
    fields = {name: getattr(commit, name) for name in commit.__struct_fields__}
    return _EncryptingAll(
        **{**fields, "changes": Changes(changes.puts, changes.appends, list(before.parts))}
    )
