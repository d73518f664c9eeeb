"""`Vault`: encryption of checkpoints and commits, and its cache."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from supersteps._process_fork import forkable_lock
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.encryption import records
from supersteps.encryption.decryptor import PartDecryptor
from supersteps.encryption.encryptor import Head, PartEncryptor
from supersteps.encryption.envelope import EnvelopeError
from supersteps.encryption.keys import LETTERS, Keyring
from supersteps.encryption.records import family_of
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.records import RunRecord

T = TypeVar("T")

_BUDGET = 64 << 20
"""Approximate size of the cache over all runs, in bytes."""

_LARGE_BYTES = 1 << 18
"""Larger content is processed on another thread than the event loop's."""


def weight_of(parts: Mapping[PartKey, Part]) -> int:
    """Return the approximate size of parts, without lists that are not read yet."""
    return sum(len(part) for part in parts.values() if isinstance(part, bytes))


async def work(size: int, do: Callable[[], T]) -> T:
    """Call a function, on another thread if the size is large."""
    return await asyncio.to_thread(do) if size >= _LARGE_BYTES else do()


class Vault:
    """Encrypts and decrypts checkpoints.

    Args:
        keyring: The keys.
        strict: Whether records in clear are refused.
    """

    def __init__(self, keyring: Keyring, strict: bool) -> None:
        self.keyring = keyring
        self.strict = strict
        self._lock = forkable_lock()
        self._heads: OrderedDict[str, tuple[Head, int]] = OrderedDict()
        self._kept = 0

    # -------------------------------------------------------------------------------------- opening

    def refusal(self, header: CheckpointHeader, problem: str | Exception) -> CorruptCheckpointError:
        """Return the error for a checkpoint that cannot be trusted."""
        whose = f" of run {header.run_id!r}" if header.run_id else ""
        advice = records.what_to_do(problem if isinstance(problem, Exception) else EnvelopeError())
        return CorruptCheckpointError(
            f"checkpoint {header.checkpoint_id!r}{whose} cannot be trusted: {problem}. {advice}"
        )

    def decrypt_header(self, header: CheckpointHeader) -> CheckpointHeader:
        """Return a header in clear.

        Raises:
            CorruptCheckpointError: It has been altered, or, in strict mode, was never encrypted.
            DecryptionError: The key is missing or wrong.
        """
        if not self.strict and records.is_plain(header):
            return header
        try:
            return records.decrypt_header(self.keyring, header)[0]
        except EnvelopeError as problem:
            raise self.refusal(header, problem) from problem

    def decrypt(self, record: CheckpointRecord) -> tuple[CheckpointRecord, Head | None]:
        """Return a checkpoint in clear, and the state for the next commit (None if in clear).

        Raises:
            CorruptCheckpointError: It has been altered, or, in strict mode, was never encrypted.
            DecryptionError: A key is missing or wrong.
        """
        encrypted = record.header
        if not self.strict and records.is_plain(encrypted):
            return record, None
        try:
            header, facts = records.decrypt_header(self.keyring, encrypted)
            keys = self.keyring.keys_of(family_of(encrypted), facts.names)
            decryptor = PartDecryptor(
                self.keyring, keys, record.parts, lambda problem: self.refusal(encrypted, problem)
            )
            parts = decryptor.decrypt(int(facts.sum, 16))
        except EnvelopeError as problem:
            raise self.refusal(encrypted, problem) from problem
        decryptor.head.checkpoint_id = encrypted.checkpoint_id
        return CheckpointRecord(header, parts), decryptor.head

    # -------------------------------------------------------------------------------------- sealing

    def encrypt_commit(
        self, commit: Commit, head: Head, old_value: Callable[[PartKey], bytes]
    ) -> Commit:
        """Return an encrypted commit; `head` becomes the state after it."""
        header = commit.header
        changes = self._encryptor(head, header).encrypt(commit.changes, old_value)
        tags = commit.tags if header.parent_id is None else None
        head.checkpoint_id, head.commit_id = header.checkpoint_id, commit.commit_id
        encrypted = records.encrypt_header(self.keyring, header, head.keys.key_id, head.total, tags)
        facts = records.encrypt_commit_facts(self.keyring, commit)
        return replace(commit, header=encrypted, changes=changes, **facts)

    def encrypt_record(self, record: CheckpointRecord) -> CheckpointRecord:
        """Return an encrypted checkpoint, for `save_checkpoint`."""
        header = record.header
        head = self.new_head(header)
        parts: dict[PartKey, Part] = {}
        self._encryptor(head, header).encrypt(Changes.between({}, record.parts), _no_value).apply(
            parts
        )
        return CheckpointRecord(
            records.encrypt_header(self.keyring, header, head.keys.key_id, head.total, None), parts
        )

    def new_head(self, header: CheckpointHeader) -> Head:
        """Return the state before the first commit of a run."""
        return Head(self.keyring.keys_of(family_of(header)))

    def _encryptor(self, head: Head, header: CheckpointHeader) -> PartEncryptor:
        writer = self.keyring.keys_of(family_of(header))
        return PartEncryptor(head, writer, LETTERS[self.keyring.algorithm], header.sequence)

    # ---------------------------------------------------------------------------------- cache

    def take(self, commit: Commit) -> Head | None:
        """Remove and return the cached state of a commit's parent.

        A failed commit leaves it invalid; it is then read again.
        """
        with self._lock:
            head, weight = self._heads.pop(commit.header.run_id, (None, 0))
            self._kept -= weight
        header = commit.header
        if head is None or head.checkpoint_id != header.parent_id:
            return None
        return head if head.keys.family == family_of(header) else None

    def keep(self, run_id: str, head: Head) -> None:
        """Cache the head of a run."""
        weight = head.bytes_kept
        with self._lock:
            self._kept += weight - self._heads.pop(run_id, (None, 0))[1]
            self._heads[run_id] = (head, weight)
            while self._kept > _BUDGET and self._heads:
                self._kept -= self._heads.popitem(last=False)[1][1]

    def forget(self, run_id: str) -> None:
        """Remove the head of a run from the cache."""
        with self._lock:
            self._kept -= self._heads.pop(run_id, (None, 0))[1]

    def check(self, run: RunRecord) -> None:
        """Remove the head of a run from the cache if another commit wrote its current head."""
        with self._lock:
            head = self._heads.get(run.run_id, (None, 0))[0]
        if head is not None and head.commit_id != run.commit_id:
            self.forget(run.run_id)


def _no_value(key: PartKey) -> bytes:
    raise AssertionError(f"the value of {key!r} is needed, but there is none")
