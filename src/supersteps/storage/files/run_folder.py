"""The folder of a run in the JSON storage: record, journal, inbox, lock.

    run.json        the run's record; its rename is the commit point of everything
    journal.jsonl   finished calls: a line that names the head they follow, then a line per batch
    inbox.jsonl     accepted answers: a line with their number, then a line for each
    lock            held during every operation that writes
    .deleted        the record of a run whose deletion was interrupted

All methods block; those that write are called with the lock held.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import asdict, replace

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import FORMAT_VERSION
from supersteps.errors import CorruptCheckpointError
from supersteps.storage import _files, rules
from supersteps.storage.files.document import (
    check_json,
    checked_fields,
    checked_line,
    checksummed_document,
    checksummed_line,
    decode,
)
from supersteps.storage.files.locks import ProcessLock
from supersteps.storage.records import InboxEntry, RunRecord

_RUN = "supersteps.run"


class RunState(msgspec.Struct, frozen=True):
    """Content of run.json.

    Attributes:
        run: The record.
        journals: Number of journals that were voided other than by a commit; a journal names the
            number at which it was started.
        queue: The run's place in the queue, None where a person drives it.
    """

    run: RunRecord
    journals: int = 0
    queue: QueueEntry | None = None


class _JournalHead(msgspec.Struct, frozen=True):
    """The first line of a journal: the checkpoint it follows, and its number."""

    head: str
    journals: int
    format: str = "supersteps.journal"
    version: str = FORMAT_VERSION


class _InboxHead(msgspec.Struct, frozen=True):
    """The first line of an inbox."""

    entries: int
    format: str = "supersteps.inbox"
    version: str = FORMAT_VERSION


class _InboxLine(msgspec.Struct, frozen=True):
    """An `InboxEntry` with its value as readable JSON."""

    number: int
    request_id: str
    received_at: str
    value: msgspec.Raw


class RunFolder:
    """Reads and writes the files of one run.

    Its caches (the record, the head's parts, the journal's end) are valid as long as run.json has
    the bytes that this object last read or wrote, because every change of a run by any process
    changes them. Only the journal may have grown in the meantime.

    Attributes:
        path: The folder.
        lock: Must be held while writing.
        record_path: Its run.json.
        deleted_path: The record of a run whose deletion was interrupted.
        parts: The head's parts, if this object wrote or read them, otherwise None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = ProcessLock(path / "lock")
        self.parts: dict[PartKey, Part] | None = None
        self.record_path = path / "run.json"
        self._journal_path = path / "journal.jsonl"
        self._inbox_path = path / "inbox.jsonl"
        self.deleted_path = path / ".deleted"
        self._seen: bytes | None = None
        self._state: RunState | None = None
        self._journal_end: int | None = None

    @property
    def kept_paths(self) -> tuple[Path, ...]:
        """The files of the run, without its checkpoints."""
        return self.record_path, self._journal_path, self._inbox_path

    # ----------------------------------------------------------------------------------- the record

    def exists(self) -> bool:
        """Return whether the run exists, possibly damaged."""
        return _files.exists(self.record_path)

    def peek(self) -> RunRecord | None:
        """Return the run's record without the lock, None if there is no such run.

        Raises:
            CorruptCheckpointError: run.json is damaged.
        """
        state = self.peek_state()
        return None if state is None else state.run

    def peek_state(self) -> RunState | None:
        """Return what run.json holds, without the lock; None when there is no such run.

        Raises:
            CorruptCheckpointError: run.json is damaged.
        """
        data = _files.read(self.record_path)
        return None if data is None else self._decode(data)

    def load(self) -> RunState | None:
        """Return the present content of run.json, and clear caches that do not match it."""
        data = _files.read(self.record_path)
        if data != self._seen or data is None:
            self.forget()
            self._state = None if data is None else self._decode(data)
            self._seen = data
        return self._state

    def store(self, state: RunState) -> None:
        """Replace run.json; its rename commits everything that was written before."""
        document = checksummed_document(
            [
                ("format", msgspec.json.encode(_RUN)),
                ("version", msgspec.json.encode(FORMAT_VERSION)),
                ("journals", msgspec.json.encode(state.journals)),
                *(() if state.queue is None else [("queue", msgspec.json.encode(state.queue))]),
                *((name, msgspec.json.encode(value)) for name, value in asdict(state.run).items()),
            ]
        )
        _files.write_durably(self.record_path, document)
        self._seen = document
        self._state = state

    def commit(self, state: RunState, parts: dict[PartKey, Part]) -> None:
        """Store a record with a new head."""
        self.forget()
        self.store(state)
        self._journal_end = 0
        self.parts = (
            parts if state.run.lease else None
        )  # a run without a lease may not be resumed for a long time

    def void_journal(self, state: RunState) -> None:
        """Store a record that voids the journal's present content."""
        self._journal_end = None
        self.store(replace(state, journals=state.journals + 1))

    def forget(self) -> None:
        """Clear the caches of the head."""
        self.parts = None
        self._journal_end = None
        self._seen = None

    def remove(self) -> None:
        """Mark the run as deleted, and its checkpoints, which are deleted before `clear`."""
        self.forget()
        _files.rename_durably(self.record_path, self.deleted_path)

    def removed(self) -> RunRecord | None:
        """Return the record of a run whose deletion was interrupted.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        data = _files.read(self.deleted_path)
        return None if data is None else self._decode(data).run

    def clear(self) -> None:
        """Delete the files of a deleted run, so that a new run with its id does not use them.

        The lock remains, with its folder: a process that waits for it must not find a different
        file.
        """
        _files.remove_durably(self._journal_path, self._inbox_path, self.deleted_path)

    def tidy(self, state: RunState) -> None:
        """Delete leftovers of interrupted writes, and a journal and inbox without valid entries."""
        for path in (self.record_path, self._inbox_path):
            _files.remove_durably(_files.draft_of(path))
        if self._scan_journal(_files.read(self._journal_path) or b"", state)[1] == 0:
            _files.remove_durably(self._journal_path)
        if not self.unread(state.run):
            _files.remove_durably(self._inbox_path)

    def _decode(self, data: bytes) -> RunState:
        body = checked_fields(data, _RUN, self.record_path)
        frame = decode(body, _Beside, self.record_path)
        return RunState(decode(body, RunRecord, self.record_path), frame.journals, frame.queue)

    # ---------------------------------------------------------------------------------- the journal

    def append_journal(self, state: RunState, records: Sequence[bytes]) -> None:
        """Append a batch of records that follow the head durably."""
        for record in records:
            check_json(record, f"a journal record of run {state.run.run_id!r}")
        # An append does not change run.json: another object with the same epoch may have written in
        # the meantime.
        if self._journal_end is None or self._journal_end != self._journal_size():
            data = _files.read(self._journal_path) or b""
            self._journal_end = self._scan_journal(data, state)[1]
        batch = checksummed_line(b"[" + b",".join(records) + b"]")
        if self._journal_end == 0:
            batch = (
                checksummed_line(msgspec.json.encode(_JournalHead(state.run.head, state.journals)))
                + batch
            )
        end, self._journal_end = self._journal_end, None  # unknown if the write fails
        _files.append_durably(self._journal_path, batch, at=end)
        self._journal_end = end + len(batch)

    def _journal_size(self) -> int:
        with _files.explained("read", self._journal_path), suppress(FileNotFoundError):
            return self._journal_path.stat().st_size
        return 0

    def read_journal(self, head: str, incarnation: str | None = None) -> list[bytes]:
        """Return the records that follow `head`, if that is the run's head, without the lock.

        Raises:
            CorruptCheckpointError: A batch is damaged that was durable, because an intact one
                follows it.
        """
        data = _files.read(self.record_path)
        state = None if data is None else self._decode(data)
        if state is None or state.run.head != head:
            return []
        if incarnation not in (None, state.run.incarnation):
            return []
        return self._scan_journal(_files.read(self._journal_path) or b"", state)[0]

    def is_journalled(self, state: RunState) -> bool:
        """Return whether there are records that follow the head, perhaps damaged ones."""
        try:
            return bool(self._scan_journal(_files.read(self._journal_path) or b"", state)[0])
        except CorruptCheckpointError:
            return True

    def _scan_journal(self, data: bytes, state: RunState) -> tuple[list[bytes], int]:
        """Return the records that follow the head, and the end of the valid part of the file."""
        first, *lines = data.split(b"\n")[:-1] or [
            b""
        ]  # the rest after the last line break is incomplete
        entry = checked_line(first)
        if entry is None or decode(entry, _JournalHead, self._journal_path) != _JournalHead(
            state.run.head, state.journals
        ):
            return [], 0  # it follows another head, or its first write was interrupted
        records: list[bytes] = []
        end = len(first) + 1
        for number, line in enumerate(lines, 1):
            batch = checked_line(line)
            if batch is None:
                if any(checked_line(later) is not None for later in lines[number:]):
                    raise CorruptCheckpointError(
                        f"{self._journal_path} is damaged in line {number + 1}, which was once "
                        "intact. Restore it from a backup, or delete it: the calls that it "
                        "records will then run again when the run is resumed."
                    )
                break  # interrupted by a crash: it was not reported as saved
            records += map(bytes, decode(batch, list[msgspec.Raw], self._journal_path))
            end += len(line) + 1
        return records, end

    # ------------------------------------------------------------------------------------ the inbox

    def write_inbox(self, entries: Sequence[InboxEntry]) -> None:
        """Replace the inbox as a whole and durably."""
        for entry in entries:
            check_json(entry.value, f"the answer to request {entry.request_id!r}")
        lines = [msgspec.json.encode(_InboxHead(len(entries)))]
        for entry in entries:
            line = _InboxLine(
                entry.number, entry.request_id, entry.received_at, msgspec.Raw(entry.value)
            )
            lines.append(msgspec.json.encode(line))
        _files.write_durably(self._inbox_path, b"".join(map(checksummed_line, lines)))

    def read_inbox(self) -> list[InboxEntry]:
        """Return all entries of the inbox, including consumed ones, without the lock.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        data = _files.read(self._inbox_path)
        if data is None:
            return []
        entries = [checked_line(line) for line in data.split(b"\n")[:-1]]
        intact = [entry for entry in entries if entry is not None]
        if not intact or len(intact) < len(entries) or not data.endswith(b"\n"):
            raise self._inbox_error()
        head, *rest = intact
        if decode(head, _InboxHead, self._inbox_path).entries != len(rest):
            raise self._inbox_error()
        lines = [decode(entry, _InboxLine, self._inbox_path) for entry in rest]
        return [
            InboxEntry(line.number, line.request_id, bytes(line.value), line.received_at)
            for line in lines
        ]

    def unread(self, run: RunRecord) -> list[InboxEntry]:
        """Return the unconsumed answers."""
        return rules.unread_entries(run, self.read_inbox())

    def _inbox_error(self) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{self._inbox_path} is damaged: accepted answers are lost. Restore it from a backup, "
            "or delete it and answer the requests again."
        )


class _Beside(msgspec.Struct, frozen=True):
    """What stands in run.json beside the record."""

    journals: int = 0
    queue: QueueEntry | None = None
