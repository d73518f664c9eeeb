"""`Vault`: whole checkpoints and commits, sealed and opened, and what is remembered between the commits of a run."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from supersteps._process_fork import forkable_lock
from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.parts import ListPart, Part, PartKey
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.encryption import records
from supersteps.encryption.envelope import SealError
from supersteps.encryption.keys import LETTERS, Keyring
from supersteps.encryption.records import family_of
from supersteps.encryption.seal import Head, Sealing
from supersteps.encryption.unseal import Opening
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.records import RunRecord

T = TypeVar("T")

_BUDGET = 64 << 20
"""About how many bytes are remembered, over all runs."""

_LARGE_BYTES = 1 << 18
"""Sealing or opening so much takes its time: not on an event loop's thread."""


def weight_of(parts: Mapping[PartKey, Part]) -> int:
    """Return about how many bytes parts hold, lists that are not read yet left out."""
    return sum(len(part) for part in parts.values() if isinstance(part, bytes))


async def work(size: int, do: Callable[[], T]) -> T:
    """Do what takes a while for a large size on another thread."""
    return await asyncio.to_thread(do) if size >= _LARGE_BYTES else do()


class Vault:
    """Seals and opens checkpoints.

    Args:
        keyring: The keys.
        strict: Whether what was never sealed is refused.
    """

    def __init__(self, keyring: Keyring, strict: bool) -> None:
        self.keyring = keyring
        self.strict = strict
        self._lock = forkable_lock()
        self._heads: OrderedDict[str, tuple[Head, int]] = OrderedDict()
        self._kept = 0

    # -------------------------------------------------------------------------------------- opening

    def refusal(self, header: CheckpointHeader, problem: str | Exception) -> CorruptCheckpointError:
        """Return the error of a checkpoint that cannot be trusted."""
        whose = f" of run {header.run_id!r}" if header.run_id else ""
        advice = records.what_to_do(problem if isinstance(problem, Exception) else SealError())
        return CorruptCheckpointError(
            f"checkpoint {header.checkpoint_id!r}{whose} cannot be trusted: {problem}. {advice}"
        )

    def open_header(self, header: CheckpointHeader) -> CheckpointHeader:
        """Return a header in clear.

        Raises:
            CorruptCheckpointError: It has been altered, or, in strict mode, was never sealed.
            DecryptionError: The key is missing, or another one.
        """
        if not self.strict and records.is_plain(header):
            return header
        try:
            return records.open_header(self.keyring, header)[0]
        except SealError as problem:
            raise self.refusal(header, problem) from problem

    def open(self, record: CheckpointRecord) -> tuple[CheckpointRecord, Head | None]:
        """Return a checkpoint in clear, and what the next commit has to know; None for one that was never sealed.

        Raises:
            CorruptCheckpointError: Something of it has been altered, or, in strict mode, was never
                sealed.
            DecryptionError: A key is missing, or another one.
        """
        sealed = record.header
        if not self.strict and records.is_plain(sealed):
            return record, None
        try:
            header, facts = records.open_header(self.keyring, sealed)
            keys = self.keyring.keys_of(family_of(sealed), facts.names)
            opening = Opening(
                self.keyring, keys, record.parts, lambda problem: self.refusal(sealed, problem)
            )
            parts = opening.open(int(facts.sum, 16))
        except SealError as problem:
            raise self.refusal(sealed, problem) from problem
        opening.head.checkpoint_id = sealed.checkpoint_id
        return CheckpointRecord(header, parts), opening.head

    # -------------------------------------------------------------------------------------- sealing

    def seal_commit(
        self, commit: Commit, head: Head, old_value: Callable[[PartKey], bytes]
    ) -> Commit:
        """Return a commit sealed; `head` becomes the state after it."""
        header = commit.header
        changes = self._sealing(head, header).seal(commit.changes, old_value)
        tags = commit.tags if header.parent_id is None else None
        head.checkpoint_id, head.commit_id = header.checkpoint_id, commit.commit_id
        sealed = records.seal_header(self.keyring, header, head.keys.key_id, head.total, tags)
        facts = records.seal_commit_facts(self.keyring, commit)
        return replace(commit, header=sealed, changes=changes, **facts)

    def seal_record(self, record: CheckpointRecord) -> CheckpointRecord:
        """Return a checkpoint that is saved by hand sealed."""
        header = record.header
        head = self.new_head(header)
        parts: dict[PartKey, Part] = {}
        self._sealing(head, header).seal(all_of(record.parts), _no_value).apply(parts)
        return CheckpointRecord(
            records.seal_header(self.keyring, header, head.keys.key_id, head.total, None), parts
        )

    def new_head(self, header: CheckpointHeader) -> Head:
        """Return what is known before the first commit of a run."""
        return Head(self.keyring.keys_of(family_of(header)))

    def _sealing(self, head: Head, header: CheckpointHeader) -> Sealing:
        writer = self.keyring.keys_of(family_of(header))
        return Sealing(head, writer, LETTERS[self.keyring.algorithm], header.sequence)

    # ---------------------------------------------------------------------------------- remembering

    def take(self, commit: Commit) -> Head | None:
        """Return what is remembered of the checkpoint that a commit follows; it is forgotten here meanwhile.

        A commit that fails has spoilt it; then it is read anew.
        """
        with self._lock:
            head, weight = self._heads.pop(commit.header.run_id, (None, 0))
            self._kept -= weight
        header = commit.header
        if head is None or head.checkpoint_id != header.parent_id:
            return None
        return head if head.keys.family == family_of(header) else None

    def keep(self, run_id: str, head: Head) -> None:
        """Remember the head of a run."""
        weight = head.bytes_kept
        with self._lock:
            self._kept += weight - self._heads.pop(run_id, (None, 0))[1]
            self._heads[run_id] = (head, weight)
            while self._kept > _BUDGET and self._heads:
                self._kept -= self._heads.popitem(last=False)[1][1]

    def forget(self, run_id: str) -> None:
        """Forget the head of a run."""
        with self._lock:
            self._kept -= self._heads.pop(run_id, (None, 0))[1]

    def check(self, run: RunRecord) -> None:
        """Forget the head of a run if another commit has made what is its head now."""
        with self._lock:
            head = self._heads.get(run.run_id, (None, 0))[0]
        if head is not None and head.commit_id != run.commit_id:
            self.forget(run.run_id)


def all_of(parts: Mapping[PartKey, Part]) -> Changes:
    """Return the changes that make these parts from nothing."""
    return Changes(
        puts={key: part for key, part in parts.items() if not isinstance(part, ListPart)},
        appends={key: list(part) for key, part in parts.items() if isinstance(part, ListPart)},
    )


def _no_value(key: PartKey) -> bytes:
    raise AssertionError(f"nothing was there, and yet the value of {key!r} is asked for")
