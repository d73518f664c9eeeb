"""Headers, runs' records, journals and inboxes, sealed and opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from supersteps.checkpoint.record import CheckpointHeader, Commit
from supersteps.encryption.envelope import PlaintextError, SealError, is_sealed, parse, seal, unseal
from supersteps.encryption.keys import Keyring, frame
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.storage.records import InboxEntry, RunRecord

HEADER = "$sealed"
RUN = "$run"
"""Where envelopes stand in the metadata of a header; the second only in a run's first one, which its record copies."""


class Facts(msgspec.Struct, frozen=True):
    """What a header hides.

    Attributes:
        names: Id of the key that the names of the parts are hidden by, and their sum is made with.
        sum: The sum over all parts, in hex.
        metadata: The user's remarks.
    """

    names: str
    sum: str
    metadata: dict[str, Any]


class _Remarks(msgspec.Struct, frozen=True):
    metadata: dict[str, Any]
    tags: tuple[str, ...]


class _Call(msgspec.Struct, frozen=True, array_like=True):
    """A record of the journal: which of those that were appended together, and itself."""

    batch: bytes
    number: int
    record: bytes


def family_of_run(run_id: str, incarnation: str) -> str:
    """Return whose keys a run's records are sealed with: no two runs of one id have the same."""
    return f"{run_id}\0{incarnation}" if incarnation else run_id


def family_of(header: CheckpointHeader) -> str:
    """Return whose keys a checkpoint is sealed with: its run's, or its own when it has none."""
    if not header.run_id:
        return f"\0{header.checkpoint_id}"
    return family_of_run(header.run_id, header.incarnation)


def _header_place(header: CheckpointHeader) -> bytes:
    """Return what binds the envelope of a header to its clear facts.

    Those are all but the parent, which pruning changes, and the incarnation, which is in the key.
    """
    facts = [
        f"{getattr(header, name)}"
        for name in header.__struct_fields__
        if name not in ("parent_id", "metadata", "incarnation")
    ]
    return frame("header", *facts)


def _run_place(run_id: str, workflow_id: str) -> bytes:
    return frame("run", run_id, workflow_id)


def _text(envelope: bytes) -> str:
    return envelope[1:-1].decode("ascii")


def _json(text: Any) -> bytes:
    return b'"%b"' % text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""


# ------------------------------------------------------------------------------------------ headers


def seal_header(
    keyring: Keyring, header: CheckpointHeader, names: str, total: int, tags: Sequence[str] | None
) -> CheckpointHeader:
    """Return a header whose metadata is sealed and that vouches for its own facts and for its parts.

    Args:
        keyring: The keys.
        header: The header.
        names: Id of the key that hides names.
        total: The sum over all parts.
        tags: The user's labels, in the first header of a run.
    """
    family = family_of(header)
    facts = msgspec.json.encode(Facts(names, f"{total:x}", header.metadata))
    metadata = {HEADER: _text(seal(keyring, family, facts, _header_place(header), header.sequence))}
    if tags is not None:
        remarks = msgspec.json.encode(_Remarks(header.metadata, tuple(tags)))
        metadata[RUN] = _text(
            seal(keyring, family, remarks, _run_place(header.run_id, header.workflow_id))
        )
    return replace(header, metadata=metadata)


def is_plain(header: CheckpointHeader) -> bool:
    """Return whether a header was never sealed."""
    return not is_sealed(_json(header.metadata.get(HEADER)))


def open_header(keyring: Keyring, header: CheckpointHeader) -> tuple[CheckpointHeader, Facts]:
    """Return a header with the user's metadata, and what else it hides.

    Raises:
        SealError: It has been altered.
        PlaintextError: It was never sealed.
        DecryptionError: The key is missing, or another one.
    """
    try:
        envelope = parse(_json(header.metadata.get(HEADER)))
        plain = unseal(keyring, family_of(header), envelope, _header_place(header))
    except SealError as error:
        raise type(error)(f"its header {error}") from None
    try:
        facts = msgspec.json.decode(plain, type=Facts)
        int(facts.sum, 16)
    except ValueError:
        raise SealError("its header does not hold what belongs there") from None
    return replace(header, metadata=facts.metadata), facts


# --------------------------------------------------------------------------------------------- runs


def seal_commit_facts(keyring: Keyring, commit: Commit) -> dict[str, Any]:
    """Return the fields of a commit beside header and parts that are sealed."""
    run_id, family = commit.header.run_id, family_of(commit.header)
    fields: dict[str, Any] = {"tags": tuple(keyring.tag(tag) for tag in commit.tags)}
    if commit.fingerprint:
        place = frame("fingerprint", run_id)
        fields["fingerprint"] = _seal_text(keyring, family, place, commit.fingerprint)
    return fields


def seal_error(keyring: Keyring, run_id: str, incarnation: str, error: str) -> str:
    """Return the text of a run's last failure sealed."""
    family = family_of_run(run_id, incarnation)
    return _seal_text(keyring, family, frame("error", run_id), error)


def _seal_text(keyring: Keyring, family: str, place: bytes, text: str) -> str:
    return _text(seal(keyring, family, text.encode("utf-8", "surrogatepass"), place))


def open_run(keyring: Keyring, run: RunRecord, strict: bool) -> RunRecord:
    """Return a run's record in clear.

    Raises:
        CorruptCheckpointError: Something of it has been altered, or, if `strict`, was never sealed.
        DecryptionError: A key is missing, or another one.
    """
    place = split_checkpoint_id(run.head)  # one of another run would be authentic, too
    if place is None or place[0] != run.run_id:
        raise CorruptCheckpointError(
            f"the record of run {run.run_id!r} cannot be trusted: its head {run.head!r} is no "
            f"checkpoint of this run. {what_to_do(SealError())}"
        )
    try:
        metadata, tags = run.metadata, run.tags
        if strict or RUN in metadata or HEADER in metadata:
            envelope = parse(_json(metadata.get(RUN)))
            family = family_of_run(run.run_id, run.incarnation)
            plain = unseal(keyring, family, envelope, _run_place(run.run_id, run.workflow_id))
            remarks = msgspec.json.decode(plain, type=_Remarks)
            metadata, tags = remarks.metadata, remarks.tags
        error = run.error and _open_text(keyring, run, "error", run.error, strict)
        fingerprint = run.fingerprint and _open_text(
            keyring, run, "fingerprint", run.fingerprint, strict
        )
    except (SealError, msgspec.DecodeError) as problem:
        raise CorruptCheckpointError(
            f"the record of run {run.run_id!r} cannot be trusted: its metadata, error or "
            f"fingerprint {problem}. {what_to_do(problem)}"
        ) from problem
    return replace(run, metadata=metadata, tags=tags, error=error, fingerprint=fingerprint)


def without_secrets(run: RunRecord) -> RunRecord:
    """Return what is in clear of a run's record that cannot be opened."""
    return replace(run, metadata={}, tags=(), error=run.error and "(sealed)", fingerprint="")


def _open_text(keyring: Keyring, run: RunRecord, what: str, text: str, strict: bool) -> str:
    data = _json(text)
    if not strict and not is_sealed(data):
        return text
    family = family_of_run(run.run_id, run.incarnation)
    plain = unseal(keyring, family, parse(data), frame(what, run.run_id))
    return plain.decode("utf-8", "surrogatepass")


def what_to_do(problem: Exception) -> str:
    """Return the advice that goes with a refusal."""
    if isinstance(problem, PlaintextError):
        return (
            "A strict EncryptedStorage takes nothing that it did not seal. If this store was "
            "written without encryption, open it with strict=False once and copy its runs "
            "(export_run, import_run)."
        )
    return "Find out who wrote to the store; go on from an intact checkpoint or restore a backup."


# -------------------------------------------------------------------------------- journal and inbox


def seal_journal(
    keyring: Keyring, run_id: str, incarnation: str, head: str, records: Sequence[bytes]
) -> list[bytes]:
    """Return records of finished calls sealed."""
    batch = os.urandom(9)
    family = family_of_run(run_id, incarnation)
    place = frame("journal", run_id, head)
    calls = (
        msgspec.msgpack.encode(_Call(batch, number, record))
        for number, record in enumerate(records)
    )
    return [seal(keyring, family, call, place, number) for number, call in enumerate(calls)]


def open_journal(
    keyring: Keyring,
    run_id: str,
    incarnation: str,
    head: str,
    records: Sequence[bytes],
    strict: bool,
) -> list[bytes]:
    """Return records of finished calls in clear.

    Those appended together have to be in order and without holes; the last of them may be missing,
    as after a crash.

    Raises:
        CorruptCheckpointError: One of them has been altered or moved, or, if `strict`, was never
            sealed.
        DecryptionError: A key is missing, or another one.
    """
    opened: list[bytes] = []
    following: dict[bytes, int] = {}
    family = family_of_run(run_id, incarnation)
    for place, data in enumerate(records):
        try:
            if not strict and not is_sealed(data):
                opened.append(data)
                continue
            call = msgspec.msgpack.decode(
                unseal(keyring, family, parse(data), frame("journal", run_id, head)), type=_Call
            )
            if following.setdefault(call.batch, 0) != call.number:
                raise SealError("is out of order, or those before it were taken away")
            following[call.batch] += 1
        except (SealError, msgspec.DecodeError) as problem:
            raise CorruptCheckpointError(
                f"record {place} of the journal of run {run_id!r} after checkpoint {head!r} "
                f"{problem}. Nothing of it was taken; restoring {head!r} drops the journal, and "
                f"its calls run again. {what_to_do(problem)}"
            ) from problem
        opened.append(call.record)
    return opened


def seal_answer(
    keyring: Keyring, run_id: str, incarnation: str, request_id: str, value: bytes
) -> bytes:
    """Return an answer sealed."""
    family = family_of_run(run_id, incarnation)
    return seal(keyring, family, value, frame("inbox", run_id, request_id))


def open_answer(
    keyring: Keyring, run_id: str, incarnation: str, entry: InboxEntry, strict: bool
) -> InboxEntry:
    """Return an entry of the inbox in clear.

    Raises:
        CorruptCheckpointError: It has been altered or moved, or, if `strict`, was never sealed.
        DecryptionError: The key is missing, or another one.
    """
    if not strict and not is_sealed(entry.value):
        return entry
    try:
        family = family_of_run(run_id, incarnation)
        value = unseal(
            keyring, family, parse(entry.value), frame("inbox", run_id, entry.request_id)
        )
    except SealError as problem:
        raise CorruptCheckpointError(
            f"answer {entry.number} in the inbox of run {run_id!r}, to request "
            f"{entry.request_id!r}, {problem}. It was not taken; restoring the head drops it, "
            f"and the request waits again. {what_to_do(problem)}"
        ) from problem
    return replace(entry, value=value)
