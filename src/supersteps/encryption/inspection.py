"""Verification of encrypted runs, and the keys they need."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

from supersteps.checkpoint.parts import ListPart
from supersteps.checkpoint.record import CheckpointRecord
from supersteps.encryption.envelope import is_encrypted, parse
from supersteps.encryption.keys import Keyring
from supersteps.encryption.records import HEADER, decrypt_header
from supersteps.errors import CheckpointError, CorruptCheckpointError, CorruptCheckpointWarning
from supersteps.storage import rules
from supersteps.storage.pages import all_runs
from supersteps.storage.ports import DurableStorage, ManagedStorage
from supersteps.storage.records import Damage, RunRecord


async def verify(outer: DurableStorage, inner: ManagedStorage, run_id: str | None) -> list[Damage]:
    """Return what is damaged or cannot be decrypted, of one run or of all.

    Args:
        outer: The encrypting storage.
        inner: The storage of the encrypted records.
        run_id: The run; all if None.
    """
    found = await inner.verify(run_id)
    known = {damage.checkpoint_id for damage in found}
    bad: list[tuple[str, CheckpointError]] = []
    for identifier in await _checkpoint_ids(inner, run_id):
        if identifier in known:
            continue
        try:
            record = await outer.load_record(identifier)
            for part in record.parts.values() if record is not None else ():
                if isinstance(part, ListPart):
                    list(part)
        except CheckpointError as error:
            bad.append((identifier, error))
    spoilt = known | {identifier for identifier, _ in bad}
    for identifier, problem in bad:
        found.append(await _damage(inner, identifier, problem, spoilt))
    one = None if run_id is None else await inner.get_run(run_id)
    runs = [run async for run in all_runs(inner)] if run_id is None else [one] if one else []
    for run in runs:
        found += [damage async for damage in _damages_of(outer, run)]
    return found


async def _checkpoint_ids(inner: ManagedStorage, run_id: str | None) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorruptCheckpointWarning)  # those are reported already
        return await inner.list_checkpoint_ids(run_id=run_id)


async def _damage(
    inner: ManagedStorage, identifier: str, error: CheckpointError, spoilt: Iterable[str | None]
) -> Damage:
    lineage = await inner.list_lineage(identifier, 10_000)
    run_id = lineage[-1].run_id if lineage else None
    intact = next(
        (info.checkpoint_id for info in lineage[::-1] if info.checkpoint_id not in spoilt), None
    )
    return Damage(f"checkpoint {identifier!r}", str(error), run_id, identifier, intact)


async def _damages_of(outer: DurableStorage, run: RunRecord) -> AsyncIterator[Damage]:
    readings: dict[str, Callable[[], Awaitable[object]]] = {
        "record": lambda: outer.get_run(run.run_id),
        "journal": lambda: outer.read_journal(run.run_id, run.head),
        "inbox": lambda: outer.read_inbox(run.run_id),
    }
    for what, read in readings.items():
        try:
            await read()
        except CheckpointError as error:
            yield Damage(f"{what} of run {run.run_id!r}", str(error), run.run_id)


# --------------------------------------------------------------------------------------------- keys


async def key_ids(inner: ManagedStorage, keyring: Keyring, run_id: str) -> list[str]:
    """Return the ids of the keys that a run's records need, sorted.

    Raises:
        RunNotFoundError: There is no such run.
        CorruptCheckpointError: Something of it cannot be read.
    """
    run = await inner.get_run(run_id)
    if run is None:
        raise rules.no_such_run(run_id)
    texts = [run.error or "", run.fingerprint, *(str(value) for value in run.metadata.values())]
    encrypted = [f'"{text}"'.encode() for text in texts]
    encrypted += await inner.read_journal(run_id, run.head)
    encrypted += [entry.value for entry in await inner.read_inbox(run_id)]
    needed = set(_keys_in(encrypted))
    for header in await inner.list_headers(run_id):
        record = await inner.load_record(header.checkpoint_id)
        if record is not None:
            needed.update(_keys_in(_envelopes_in(record)))
            if HEADER in record.header.metadata:
                needed.add(decrypt_header(keyring, record.header)[1].names)
    return sorted(needed)


def _envelopes_in(record: CheckpointRecord) -> Iterator[bytes]:
    for value in record.header.metadata.values():
        yield f'"{value}"'.encode()
    for part in record.parts.values():
        yield from part if isinstance(part, ListPart) else (part,)


def _keys_in(encrypted: Iterable[bytes]) -> Iterator[str]:
    for data in encrypted:
        if is_encrypted(data):
            try:
                yield parse(data).key_id
            except ValueError as error:
                raise CorruptCheckpointError(
                    f"a record {error}; verify() reports which one"
                ) from error
