"""Encryption of headers, run records, journals and inboxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from supersteps.checkpoint.record import CheckpointHeader, Commit
from supersteps.encryption.envelope import (
    EnvelopeError,
    PlaintextError,
    decrypt,
    encrypt,
    is_encrypted,
    parse,
)
from supersteps.encryption.keys import Keyring, frame
from supersteps.errors import CorruptCheckpointError
from supersteps.ids import split_checkpoint_id
from supersteps.storage.records import InboxEntry, RunRecord

HEADER = "$sealed"
RUN = "$run"
"""Keys of envelopes in a header's metadata; the second only in a run's first header."""


class Facts(msgspec.Struct, frozen=True):
    """The encrypted facts of a header.

    Attributes:
        names: Id of the key that hashes the names of the parts and computes their sum.
        sum: The sum over all parts, in hex.
        metadata: The user's metadata.
    """

    names: str
    sum: str
    metadata: dict[str, Any]


class _Remarks(msgspec.Struct, frozen=True):
    metadata: dict[str, Any]
    tags: tuple[str, ...]


class _Call(msgspec.Struct, frozen=True, array_like=True):
    """A journal record with its place in the batch it was appended with."""

    batch: bytes
    number: int
    record: bytes


def family_of_run(run_id: str, incarnation: str) -> str:
    """Return the key family of a run's records; runs with the same id have different ones."""
    return f"{run_id}\0{incarnation}" if incarnation else run_id


def family_of(header: CheckpointHeader) -> str:
    """Return the key family of a checkpoint: its run's, or its own if it has no run."""
    if not header.run_id:
        return f"\0{header.checkpoint_id}"
    return family_of_run(header.run_id, header.incarnation)


def _header_place(header: CheckpointHeader) -> bytes:
    """Return what binds the envelope of a header to its facts in clear.

    These are all except the parent, which pruning changes, and the incarnation, which is in the
    key.
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


def encrypt_header(
    keyring: Keyring, header: CheckpointHeader, names: str, total: int, tags: Sequence[str] | None
) -> CheckpointHeader:
    """Return a header with encrypted metadata that authenticates its facts and its parts.

    Args:
        keyring: The keys.
        header: The header.
        names: Id of the key that hashes names.
        total: The sum over all parts.
        tags: The user's tags, in the first header of a run.
    """
    family = family_of(header)
    facts = msgspec.json.encode(Facts(names, f"{total:x}", header.metadata))
    metadata = {
        HEADER: _text(encrypt(keyring, family, facts, _header_place(header), header.sequence))
    }
    if tags is not None:
        remarks = msgspec.json.encode(_Remarks(header.metadata, tuple(tags)))
        metadata[RUN] = _text(
            encrypt(keyring, family, remarks, _run_place(header.run_id, header.workflow_id))
        )
    return replace(header, metadata=metadata)


def is_plain(header: CheckpointHeader) -> bool:
    """Return whether a header was never encrypted."""
    return not is_encrypted(_json(header.metadata.get(HEADER)))


def decrypt_header(keyring: Keyring, header: CheckpointHeader) -> tuple[CheckpointHeader, Facts]:
    """Return a header in clear, and its encrypted facts.

    Raises:
        EnvelopeError: It has been altered.
        PlaintextError: It was never encrypted.
        DecryptionError: The key is missing or wrong.
    """
    try:
        envelope = parse(_json(header.metadata.get(HEADER)))
        plain = decrypt(keyring, family_of(header), envelope, _header_place(header))
    except EnvelopeError as error:
        raise type(error)(f"its header {error}") from None
    try:
        facts = msgspec.json.decode(plain, type=Facts)
        int(facts.sum, 16)
    except ValueError:
        raise EnvelopeError("its header has unexpected content") from None
    return replace(header, metadata=facts.metadata), facts


# --------------------------------------------------------------------------------------------- runs


def encrypt_commit_facts(keyring: Keyring, commit: Commit) -> dict[str, Any]:
    """Return the encrypted fields of a commit, other than header and parts."""
    run_id, family = commit.header.run_id, family_of(commit.header)
    fields: dict[str, Any] = {"tags": tuple(keyring.tag(tag) for tag in commit.tags)}
    if commit.fingerprint:
        place = frame("fingerprint", run_id)
        fields["fingerprint"] = _encrypt_text(keyring, family, place, commit.fingerprint)
    return fields


def encrypt_error(keyring: Keyring, run_id: str, incarnation: str, error: str) -> str:
    """Return the text of a run's last failure, encrypted."""
    family = family_of_run(run_id, incarnation)
    return _encrypt_text(keyring, family, frame("error", run_id), error)


def _encrypt_text(keyring: Keyring, family: str, place: bytes, text: str) -> str:
    return _text(encrypt(keyring, family, text.encode("utf-8", "surrogatepass"), place))


def decrypt_run(keyring: Keyring, run: RunRecord, strict: bool) -> RunRecord:
    """Return a run's record in clear.

    Raises:
        CorruptCheckpointError: It has been altered, or, if `strict`, was never encrypted.
        DecryptionError: A key is missing or wrong.
    """
    place = split_checkpoint_id(run.head)  # the record of another run would be authentic, too
    if place is None or place[0] != run.run_id:
        raise CorruptCheckpointError(
            f"the record of run {run.run_id!r} cannot be trusted: its head {run.head!r} is not a "
            f"checkpoint of this run. {what_to_do(EnvelopeError())}"
        )
    try:
        metadata, tags = run.metadata, run.tags
        if strict or RUN in metadata or HEADER in metadata:
            envelope = parse(_json(metadata.get(RUN)))
            family = family_of_run(run.run_id, run.incarnation)
            plain = decrypt(keyring, family, envelope, _run_place(run.run_id, run.workflow_id))
            remarks = msgspec.json.decode(plain, type=_Remarks)
            metadata, tags = remarks.metadata, remarks.tags
        error = run.error and _decrypt_text(keyring, run, "error", run.error, strict)
        fingerprint = run.fingerprint and _decrypt_text(
            keyring, run, "fingerprint", run.fingerprint, strict
        )
    except (EnvelopeError, msgspec.DecodeError) as problem:
        raise CorruptCheckpointError(
            f"the record of run {run.run_id!r} cannot be trusted: its metadata, error or "
            f"fingerprint {problem}. {what_to_do(problem)}"
        ) from problem
    return replace(run, metadata=metadata, tags=tags, error=error, fingerprint=fingerprint)


def without_secrets(run: RunRecord) -> RunRecord:
    """Return the facts in clear of a run's record that cannot be decrypted."""
    return replace(run, metadata={}, tags=(), error=run.error and "(encrypted)", fingerprint="")


def _decrypt_text(keyring: Keyring, run: RunRecord, what: str, text: str, strict: bool) -> str:
    data = _json(text)
    if not strict and not is_encrypted(data):
        return text
    family = family_of_run(run.run_id, run.incarnation)
    plain = decrypt(keyring, family, parse(data), frame(what, run.run_id))
    return plain.decode("utf-8", "surrogatepass")


def what_to_do(problem: Exception) -> str:
    """Return what to do about a refused record."""
    if isinstance(problem, PlaintextError):
        return (
            "A strict EncryptedStorage accepts only encrypted records. If this store was written "
            "without encryption, open it with strict=False once and copy its runs (export_run, "
            "import_run)."
        )
    return (
        "Find out who wrote to the store; continue from an intact checkpoint or restore a backup."
    )


# -------------------------------------------------------------------------------- journal and inbox


def encrypt_journal(
    keyring: Keyring, run_id: str, incarnation: str, head: str, records: Sequence[bytes]
) -> list[bytes]:
    """Encrypt records of finished calls."""
    batch = os.urandom(9)
    family = family_of_run(run_id, incarnation)
    place = frame("journal", run_id, head)
    calls = (
        msgspec.msgpack.encode(_Call(batch, number, record))
        for number, record in enumerate(records)
    )
    return [encrypt(keyring, family, call, place, number) for number, call in enumerate(calls)]


def decrypt_journal(
    keyring: Keyring,
    run_id: str,
    incarnation: str,
    head: str,
    records: Sequence[bytes],
    strict: bool,
) -> list[bytes]:
    """Decrypt records of finished calls.

    Records that were appended together must be in order and without gaps; the last ones may be
    missing, as after a crash.

    Raises:
        CorruptCheckpointError: One of them has been altered or moved, or, if `strict`, was never
            encrypted.
        DecryptionError: A key is missing or wrong.
    """
    decrypted: list[bytes] = []
    following: dict[bytes, int] = {}
    family = family_of_run(run_id, incarnation)
    for place, data in enumerate(records):
        try:
            if not strict and not is_encrypted(data):
                decrypted.append(data)
                continue
            call = msgspec.msgpack.decode(
                decrypt(keyring, family, parse(data), frame("journal", run_id, head)), type=_Call
            )
            if following.setdefault(call.batch, 0) != call.number:
                raise EnvelopeError("is out of order, or the records before it were removed")
            following[call.batch] += 1
        except (EnvelopeError, msgspec.DecodeError) as problem:
            raise CorruptCheckpointError(
                f"record {place} of the journal of run {run_id!r} after checkpoint {head!r} "
                f"{problem}. Nothing of the journal was used; restoring {head!r} discards it, "
                f"and its calls run again. {what_to_do(problem)}"
            ) from problem
        decrypted.append(call.record)
    return decrypted


def encrypt_answer(
    keyring: Keyring, run_id: str, incarnation: str, request_id: str, value: bytes
) -> bytes:
    """Encrypt an answer."""
    family = family_of_run(run_id, incarnation)
    return encrypt(keyring, family, value, frame("inbox", run_id, request_id))


def decrypt_answer(
    keyring: Keyring, run_id: str, incarnation: str, entry: InboxEntry, strict: bool
) -> InboxEntry:
    """Decrypt an entry of the inbox.

    Raises:
        CorruptCheckpointError: It has been altered or moved, or, if `strict`, was never encrypted.
        DecryptionError: The key is missing or wrong.
    """
    if not strict and not is_encrypted(entry.value):
        return entry
    try:
        family = family_of_run(run_id, incarnation)
        value = decrypt(
            keyring, family, parse(entry.value), frame("inbox", run_id, entry.request_id)
        )
    except EnvelopeError as problem:
        raise CorruptCheckpointError(
            f"answer {entry.number} in the inbox of run {run_id!r}, to request "
            f"{entry.request_id!r}, {problem}. It was not used; restoring the head discards it, "
            f"and the request waits again. {what_to_do(problem)}"
        ) from problem
    return replace(entry, value=value)
