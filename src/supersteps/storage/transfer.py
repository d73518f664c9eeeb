"""One run as one file: exported from any storage, imported into any other, on any machine.

The file is JSON lines: a head line with the run's record, one line for each checkpoint with what differs from its
parent, the journal and the inbox, and an end line with a checksum over all of it. An import reads the whole file
before it writes anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec.structs import replace

from supersteps._ids import check_id, checkpoint_id
from supersteps.checkpoint.owner import this_process
from supersteps.checkpoint.record import (
    Changes,
    CheckpointHeader,
    CheckpointRecord,
    Commit,
    ListPart,
    Part,
    PartKey,
)
from supersteps.errors import (
    CheckpointVersionError,
    CorruptCheckpointError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
)
from supersteps.storage.base import ManagedStorage
from supersteps.storage.runs import InboxEntry, RunRecord

FORMAT = "supersteps-run/1"


class _Head(msgspec.Struct):
    format: str
    run: RunRecord


class _Checkpoint(msgspec.Struct):
    header: CheckpointHeader
    puts: list[tuple[PartKey, msgspec.Raw]]
    appends: list[tuple[PartKey, list[msgspec.Raw]]]
    deletes: list[PartKey]


class _Tail(msgspec.Struct):
    journal: list[bytes]
    inbox: list[InboxEntry]


class _End(msgspec.Struct):
    checksum: str


async def export_run(storage: ManagedStorage, run_id: str, path: str | os.PathLike[str]) -> int:
    """Write a run to a file that `import_run` takes on any machine.

    Args:
        storage: Where the run is.
        run_id: The run.
        path: The file; replaced when it exists, once the new one is complete.

    Returns:
        How many checkpoints the file holds.

    Raises:
        RunNotFoundError: There is no such run.
        CorruptCheckpointError: One of its checkpoints is damaged.
        StorageError: The file cannot be written.
    """
    run = await storage.get_run(run_id)
    if run is None:
        raise RunNotFoundError(f"{type(storage).__name__} holds no run {run_id!r}; nothing was exported")
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with _create(unfinished) as file:
            digest = blake2b(digest_size=16)
            async for line in _lines(storage, run):
                count += 1
                digest.update(line)
                file.write(line)
            file.write(msgspec.json.encode(_End(digest.hexdigest())) + b"\n")
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        os.replace(unfinished, target)
    except OSError as error:
        raise StorageError(f"run {run_id!r} could not be exported to {str(target)!r}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return count - 2


def _create(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


async def _lines(storage: ManagedStorage, run: RunRecord) -> AsyncIterator[bytes]:
    yield msgspec.json.encode(_Head(FORMAT, replace(run, lease=None))) + b"\n"
    last: CheckpointRecord | None = None
    known: set[str] = set()
    for header in await storage.list_headers(run.run_id):
        record = await _load(storage, header.checkpoint_id)
        if header.parent_id not in known:
            record = replace(record, header=replace(header, parent_id=None))
            parent: Mapping[PartKey, Part] = {}
        elif last is not None and header.parent_id == last.header.checkpoint_id:
            parent = last.parts
        else:
            parent = (await _load(storage, str(header.parent_id))).parts
        yield msgspec.json.encode(_changed(record, parent)) + b"\n"
        known.add(header.checkpoint_id)
        last = record
    tail = _Tail(await storage.read_journal(run.run_id, run.head), await storage.read_inbox(run.run_id))
    yield msgspec.json.encode(tail) + b"\n"


async def _load(storage: ManagedStorage, identifier: str) -> CheckpointRecord:
    record = await storage.load_record(identifier)
    if record is None:
        raise CorruptCheckpointError(f"{type(storage).__name__} lists checkpoint {identifier!r} but does not hold it")
    return record


def _changed(record: CheckpointRecord, parent: Mapping[PartKey, Part]) -> _Checkpoint:
    """Return a checkpoint as what differs from its parent."""
    line = _Checkpoint(record.header, [], [], [key for key in parent if key not in record.parts])
    for key, part in record.parts.items():
        before = parent.get(key)
        if not isinstance(part, ListPart):
            if part != before:
                line.puts.append((key, msgspec.Raw(part)))
            continue
        start = len(before) if isinstance(before, ListPart) and list(part[: len(before)]) == list(before) else 0
        if key in parent and start == 0:
            line.deletes.append(key)
        if len(part) > start or key not in parent:
            line.appends.append((key, [msgspec.Raw(item) for item in part[start:]]))
    return line


async def import_run(storage: ManagedStorage, path: str | os.PathLike[str], *, run_id: str | None = None) -> RunRecord:
    """Bring a run from a file into a storage.

    Args:
        storage: Where it is to live.
        path: A file that `export_run` wrote.
        run_id: Its id here; the one it had when None.

    Returns:
        The run's record.

    Raises:
        RunExistsError: The storage holds a run with this id.
        CorruptCheckpointError: The file is damaged or is no exported run; nothing was written.
        CheckpointVersionError: A newer library wrote the file; nothing was written.
    """
    source = Path(path)
    head, checkpoints, tail = _read(source)
    run = head.run
    new_id = run.run_id if run_id is None else check_id(run_id, "run_id")
    if await storage.get_run(new_id) is not None:
        raise RunExistsError(
            f"{type(storage).__name__} holds a run {new_id!r} already; import it under another run_id="
        )
    try:
        await _write(storage, new_id, run, checkpoints, tail)
    except BaseException:
        await storage.delete_run(new_id)  # all or nothing
        raise
    imported = await storage.get_run(new_id)
    assert imported is not None
    return imported


async def _write(
    storage: ManagedStorage, run_id: str, run: RunRecord, checkpoints: list[_Checkpoint], tail: _Tail
) -> None:
    """Commit the checkpoints once more, in their order, moving the head where a branch begins."""
    owner = this_process("import")
    head: str | None = None
    for line in checkpoints:
        header = replace(
            line.header,
            run_id=run_id,
            checkpoint_id=checkpoint_id(run_id, line.header.sequence),
            parent_id=None if line.header.parent_id is None else _renamed(line.header.parent_id, run_id),
        )
        if head is not None and header.parent_id != head:
            await storage.move_head(run_id, 1, str(header.parent_id))
        await storage.commit(
            Commit(
                header=header,
                changes=Changes(
                    puts={key: bytes(raw) for key, raw in line.puts},
                    appends={key: [bytes(raw) for raw in items] for key, items in line.appends},
                    deletes=line.deletes,
                ),
                epoch=1,
                lease_seconds=60.0,
                owner=owner,
                fingerprint=run.fingerprint,
                tags=run.tags,
                parent_run=run.parent_run,
                parent_checkpoint=run.parent_checkpoint,
            )
        )
        head = header.checkpoint_id
    wanted = _renamed(run.head, run_id)
    if head != wanted:
        await storage.move_head(run_id, 1, wanted)
    if tail.journal:
        await storage.append_journal(run_id, 1, wanted, tail.journal)
    if tail.inbox:
        await storage.add_answers(run_id, [(entry.request_id, entry.value) for entry in tail.inbox])
    await storage.release(run_id, 1, status=run.status, error=run.error)


def _renamed(identifier: str, run_id: str) -> str:
    return checkpoint_id(run_id, int(identifier.rpartition("-")[2]))


def _read(source: Path) -> tuple[_Head, list[_Checkpoint], _Tail]:
    """Return the content of an exported file, all of it checked."""
    try:
        lines = source.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise StorageError(f"the export {str(source)!r} cannot be read: {error}") from error
    try:
        *body, last = lines
        digest = blake2b(b"".join(body), digest_size=16).hexdigest()
        head = msgspec.json.decode(body[0], type=_Head)
        if head.format != FORMAT:
            if head.format.startswith("supersteps-run/"):
                raise CheckpointVersionError(
                    f"{str(source)!r} was exported by a newer library ({head.format}; this one reads {FORMAT}): "
                    "upgrade supersteps, then import it again. Nothing was written."
                )
            raise ValueError(f"its format is {head.format!r}")
        if msgspec.json.decode(last, type=_End).checksum != digest:
            raise ValueError("its checksum does not match")
        checkpoints = [msgspec.json.decode(line, type=_Checkpoint) for line in body[1:-1]]
        tail = msgspec.json.decode(body[-1], type=_Tail)
    except (ValueError, IndexError) as error:
        if isinstance(error, CheckpointVersionError):
            raise
        raise CorruptCheckpointError(
            f"{str(source)!r} is no whole exported run: {error}. Export it again; nothing was written."
        ) from error
    return head, checkpoints, tail
