"""`export_run` and `import_run`: one run as a file, for any storage.

Use them to move a run to another machine or another kind of storage.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from secrets import randbits
from typing import BinaryIO

from msgspec.structs import replace

from supersteps.checkpoint.changes import Changes
from supersteps.checkpoint.owner import mark_advancing, this_process
from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord, Commit
from supersteps.errors import (
    CorruptCheckpointError,
    RunExistsError,
    RunFencedError,
    RunNotFoundError,
    StorageError,
)
from supersteps.ids import check_id, checkpoint_id, checkpoint_number, new_id
from supersteps.storage import _files
from supersteps.storage._run_file import (
    FORMAT,
    End,
    Head,
    RunFile,
    Tail,
    encode_line,
    new_digest,
    read_run_file,
    step_between,
)
from supersteps.storage.ports import ManagedStorage, name_of
from supersteps.storage.queue import has_queue
from supersteps.storage.records import RunRecord

_ATTEMPTS = 10
"""How often a running run is read again until it does not change in between."""


async def export_run(storage: ManagedStorage, run_id: str, path: str | os.PathLike[str]) -> int:
    """Write a run to a file, which `import_run` can read on any machine.

    The run may advance meanwhile: the file has its state at one moment.

    Args:
        storage: The storage of the run.
        run_id: The run.
        path: The file; an existing one is replaced once the new one is complete.

    Returns:
        The number of checkpoints in the file.

    Raises:
        RunNotFoundError: There is no such run.
        CorruptCheckpointError: A part of it is damaged.
        StorageError: The file cannot be written, or the run advances too fast to be read.
    """
    run, tail = await _read_at_rest(storage, run_id)
    await _refuse_damaged(storage, run_id)
    target = Path(path)
    draft = target.with_name(f".{target.name}.{new_id()[:8]}.tmp")
    try:
        with _files.explained("write", target):
            entry = await storage.queue_entry(run_id) if has_queue(storage) else None
            count = await _write_lines(draft, _lines(storage, run, entry, tail))
            os.replace(draft, target)
            await asyncio.to_thread(_files.sync_folder, target.parent)
    finally:
        with contextlib.suppress(OSError):  # report the failure that led here, not this one
            draft.unlink()
    return count - 2  # without the first and the last line


async def _read_at_rest(storage: ManagedStorage, run_id: str) -> tuple[RunRecord, Tail]:
    """Return a run's record with its journal and its inbox."""
    for _ in range(_ATTEMPTS):
        run = await storage.get_run(run_id)
        if run is None:
            raise RunNotFoundError(
                f"there is no run {run_id!r} in {name_of(storage)}; nothing was exported"
            )
        tail = Tail(await storage.read_journal(run_id, run.head), await storage.read_inbox(run_id))
        again = await storage.get_run(run_id)
        if again is not None and replace(again, lease=None) == replace(run, lease=None):
            return replace(run, lease=None), tail
    raise StorageError(
        f"run {run_id!r} is advancing too fast to be exported; export it when it waits or has "
        "completed"
    )


async def _refuse_damaged(storage: ManagedStorage, run_id: str) -> None:
    damages = await storage.verify(run_id)
    if damages:
        more = f" (and {len(damages) - 1} more)" if len(damages) > 1 else ""
        raise CorruptCheckpointError(
            f"run {run_id!r} was not exported, because it is damaged: {damages[0].problem}{more} "
            "Delete the damaged checkpoints (delete_checkpoint) to export the rest."
        )


async def _write_lines(draft: Path, lines: AsyncIterator[bytes]) -> int:
    count = 0
    digest = new_digest()
    with _create(draft) as file:
        async for line in lines:
            count += 1
            digest.update(line)
            await asyncio.to_thread(file.write, line)
        file.write(encode_line(End(digest.hexdigest())))
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    return count


def _create(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _files.FILE_MODE), "wb")


async def _lines(
    storage: ManagedStorage, run: RunRecord, entry: QueueEntry | None, tail: Tail
) -> AsyncIterator[bytes]:
    yield encode_line(Head(FORMAT, run, entry))
    last: CheckpointRecord | None = None
    headers = [
        header
        for header in await storage.list_headers(run.run_id)
        if header.sequence <= run.sequence
    ]
    if run.head not in {header.checkpoint_id for header in headers}:
        raise _changed(run.head)
    for header in headers:  # later ones were committed after the record was read
        record = await _load(storage, header.checkpoint_id)
        if record.header.parent_id != header.parent_id:  # its parent was deleted in the meantime
            raise _changed(header.parent_id or header.checkpoint_id)
        if record.header.parent_id is None:
            parent: Mapping[PartKey, Part] = {}
        elif last is not None and record.header.parent_id == last.header.checkpoint_id:
            parent = last.parts
        else:
            parent = (await _load(storage, record.header.parent_id)).parts
        yield encode_line(step_between(parent, record))
        last = record
    yield encode_line(tail)


async def _load(storage: ManagedStorage, identifier: str) -> CheckpointRecord:
    record = await storage.load_record(identifier)
    if record is None:
        raise _changed(identifier)
    return record


def _changed(deleted: str) -> StorageError:
    return StorageError(
        f"checkpoint {deleted!r} was deleted while its run was being exported; export it again"
    )


# ---------------------------------------------------------------------------------------- importing


async def import_run(
    storage: ManagedStorage, path: str | os.PathLike[str], *, run_id: str | None = None
) -> RunRecord:
    """Read a run from a file into a storage: all checkpoints, the journal and the inbox.

    The whole file is checked before anything is written. If the import fails halfway, what was
    written is deleted. Only if the process is killed halfway, a part of the run remains; delete it
    with `delete_run`.

    Args:
        storage: The storage to write to.
        path: A file that `export_run` wrote.
        run_id: Its new id; by default, its old one.

    Returns:
        The run's record.

    Raises:
        RunExistsError: The storage has a run with this id.
        CorruptCheckpointError: The file is damaged or is not an exported run; nothing was written.
        CheckpointVersionError: A newer library wrote the file; nothing was written.
        StorageError: The file cannot be read, or the storage failed.
    """
    content = await asyncio.to_thread(read_run_file, Path(path))
    new_name = content.run.run_id if run_id is None else check_id(run_id, "run_id")
    if await storage.get_run(new_name) is not None:
        raise RunExistsError(
            f"{name_of(storage)} has a run {new_name!r} already; import it under another "
            "run_id=, or, if it remained from an interrupted import, call delete_run() first"
        )
    await _Import(storage, content, new_name).run()
    imported = await storage.get_run(new_name)
    if imported is None:
        raise RunNotFoundError(
            f"run {new_name!r} was imported, and then deleted by another process"
        )
    return imported


class _Import:
    """Commits the checkpoints of an exported run again, in their order.

    Up to two checkpoints that are not in the file stand in for deleted ones until the end: one
    before all others, as a parent of several if the first was deleted; and one after all others, so
    that no number is used twice.
    """

    def __init__(self, storage: ManagedStorage, content: RunFile, run_id: str) -> None:
        self._storage = storage
        self._content = content
        self._run_id = run_id
        self._owner = this_process(f"import {new_id()}")
        # Under its old id, the run has its old identity, so encrypted values can be decrypted. An
        # earlier owner is fenced all the same: the epochs continue from an unused number.
        is_same = run_id == content.run.run_id
        self._incarnation = content.run.incarnation if is_same else new_id()
        self._epoch = content.run.epoch + 1 + randbits(32)
        self._head: str | None = None
        self._branch = 0
        self._is_created = False

    async def run(self) -> None:
        mark_advancing(
            self._owner.handle, True
        )  # no other handle in this process may take the incomplete run for an idle one
        try:
            await self._write()
        except RunFencedError:
            raise  # another owner has it now
        except BaseException:
            if self._is_created:
                await self._storage.delete_run(self._run_id)
            raise
        finally:
            mark_advancing(self._owner.handle, False)

    async def _write(self) -> None:
        run, steps = self._content.run, self._content.steps
        first = steps[0].header
        standing_in = []
        if first.sequence > 0:
            earliest = replace(
                first, sequence=first.sequence - 1, timestamp=run.created_at, metadata=run.metadata
            )
            standing_in.append(
                await self._commit(earliest, Changes(), self._renamed(first.sequence - 1))
            )
        for step in steps:
            await self._follow(step.header.parent_id, standing_in)
            await self._commit(step.header, step.changes(), self._renamed(step.header.sequence))
        newest = steps[-1].header
        if newest.sequence < run.sequence:
            branch = max(self._branch, run.branch - 1)
            latest = replace(newest, sequence=run.sequence, branch=branch, timestamp=run.updated_at)
            standing_in.append(await self._commit(latest, Changes(), self._renamed(run.sequence)))
        await self._settle(
            [*standing_in, *(self._here(step.header.checkpoint_id) for step in steps)]
        )
        for stand_in in standing_in:
            await self._storage.delete_checkpoint(stand_in)
        await self._finish()

    async def _follow(self, parent: str | None, standing_in: list[str]) -> None:
        """Move the head to the parent of the next checkpoint."""
        if parent is not None:
            await self._move(self._here(parent))
        elif standing_in:
            await self._move(standing_in[0])

    async def _commit(self, header: CheckpointHeader, changes: Changes, identifier: str) -> str:
        run = self._content.run
        await self._storage.commit(
            Commit(
                header=replace(
                    header,
                    run_id=self._run_id,
                    checkpoint_id=identifier,
                    parent_id=self._head,
                    incarnation=self._incarnation,
                ),
                changes=changes,
                epoch=self._epoch,
                inbox_read=0 if self._head is None else run.inbox_read,
                lease_seconds=60.0,
                owner=self._owner,
                fingerprint=run.fingerprint,
                tags=run.tags,
                parent_run=run.parent_run,
                parent_checkpoint=run.parent_checkpoint,
            )
        )
        self._is_created = True
        self._head = identifier
        self._branch = max(self._branch, header.branch)
        return identifier

    async def _move(self, target: str) -> None:
        if target != self._head:
            self._branch = (await self._storage.move_head(self._run_id, self._epoch, target)).branch
            self._head = target

    async def _settle(self, places: list[str]) -> None:
        """Restore the head and its branch number, from which keys of calls are derived."""
        wanted = self._here(self._content.run.head)
        elsewhere = next((place for place in places if place != wanted), None)
        # Restores without a superstep after them have used up numbers. One number too many does no
        # harm, one too few would.
        while elsewhere is not None and self._branch < self._content.run.branch - (
            self._head != wanted
        ):
            await self._move(elsewhere if self._head == wanted else wanted)
        await self._move(wanted)

    async def _finish(self) -> None:
        run, tail = self._content.run, self._content.tail
        head = self._here(run.head)
        if tail.journal:
            await self._storage.append_journal(self._run_id, self._epoch, head, tail.journal)
        if tail.inbox:
            await self._storage.add_answers(
                self._run_id, [(entry.request_id, entry.value) for entry in tail.inbox]
            )
        await self._storage.release(self._run_id, self._epoch, status=run.status, error=run.error)
        await self._enqueue()

    async def _enqueue(self) -> None:
        """Give the run its place in the queue, where it had one and there is a queue here.

        One that a worker had is ready here at once: no worker here has it.
        """
        entry = self._content.queue
        if entry is None or not has_queue(self._storage):
            return
        if entry.is_claimed:
            entry = replace(entry, is_claimed=False, ready_at=time.time())
        await self._storage.enqueue(self._run_id, entry)

    def _renamed(self, sequence: int) -> str:
        return checkpoint_id(self._run_id, sequence)

    def _here(self, identifier: str) -> str:
        """Return the new id of a checkpoint of the file."""
        return self._renamed(checkpoint_number(identifier, self._content.run.run_id))
