"""The folder of one run in the JSON storage: its record, its journal, its inbox, its lock.

    run.json        the run's record; its rename is the commit point of everything journal.jsonl
    finished calls: a line that names the head they follow, then a line for each batch inbox.jsonl
    accepted answers: a line that says how many, then a line for each lock            held during
    every operation that writes .deleted        the record of a run whose deletion was interrupted

All methods block; those that write are called with the lock held.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import asdict, replace

from supersteps.checkpoint.parts import Part, PartKey
from supersteps.checkpoint.record import FORMAT_VERSION
from supersteps.errors import CorruptCheckpointError
from supersteps.storage import _files, rules
from supersteps.storage.files.document import (
    check_json,
    decode,
    seal,
    seal_line,
    unseal,
    unseal_line,
)
from supersteps.storage.files.locks import ProcessLock
from supersteps.storage.records import InboxEntry, RunRecord

_RUN = "supersteps.run"


class RunState(msgspec.Struct, frozen=True):
    """Content of run.json.

    Attributes:
        run: The record.
        journals: How many journals were voided other than by a commit; a journal names the number
            it was begun at.
    """

    run: RunRecord
    journals: int = 0


class _JournalHead(msgspec.Struct, frozen=True):
    """The first line of a journal: which checkpoint it follows, and which of its journals it is."""

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
    """Reads and writes what belongs to one run.

    What it remembers between calls (the record, the head's parts, the journal's end) is valid as
    long as run.json holds the very bytes that this object last read or wrote: every change of a run
    by any process changes them. Only the journal may have grown meanwhile.

    Attributes:
        path: The folder.
        lock: To be held while writing.
        record_path: Its run.json.
        deleted_path: The record of a run whose deletion was interrupted.
        parts: The head's parts, if this object wrote or read them, else None.
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
        """The files that belong to the run, beside its checkpoints."""
        return self.record_path, self._journal_path, self._inbox_path

    # ----------------------------------------------------------------------------------- the record

    def exists(self) -> bool:
        """Return whether there is such a run, possibly a damaged one."""
        return _files.exists(self.record_path)

    def peek(self) -> RunRecord | None:
        """Return the run's record without the lock, None when there is no such run.

        Raises:
            CorruptCheckpointError: run.json is damaged.
        """
        data = _files.read(self.record_path)
        return None if data is None else self._decode(data).run

    def load(self) -> RunState | None:
        """Return what run.json holds now, and forget what does not fit it."""
        data = _files.read(self.record_path)
        if data != self._seen or data is None:
            self.forget()
            self._state = None if data is None else self._decode(data)
            self._seen = data
        return self._state

    def store(self, state: RunState) -> None:
        """Replace run.json; the moment it is renamed, everything written before is committed."""
        document = seal(
            [
                ("format", msgspec.json.encode(_RUN)),
                ("version", msgspec.json.encode(FORMAT_VERSION)),
                ("journals", msgspec.json.encode(state.journals)),
                *((name, msgspec.json.encode(value)) for name, value in asdict(state.run).items()),
            ]
        )
        _files.write_durably(self.record_path, document)
        self._seen = document
        self._state = state

    def commit(self, state: RunState, parts: dict[PartKey, Part]) -> None:
        """Store a record whose head is new."""
        self.forget()
        self.store(state)
        self._journal_end = 0
        self.parts = (
            parts if state.run.lease else None
        )  # who gave the lease up may not come back for a long time

    def void_journal(self, state: RunState) -> None:
        """Store a record after which the journal's present content is void."""
        self._journal_end = None
        self.store(replace(state, journals=state.journals + 1))

    def forget(self) -> None:
        """Drop what is remembered of the head."""
        self.parts = None
        self._journal_end = None
        self._seen = None

    def remove(self) -> None:
        """Let the run be no more; its checkpoints, which do not count from then on, are deleted before `clear`."""
        self.forget()
        _files.rename_durably(self.record_path, self.deleted_path)

    def removed(self) -> RunRecord | None:
        """Return the record of a run whose removal was begun but not finished.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        data = _files.read(self.deleted_path)
        return None if data is None else self._decode(data).run

    def clear(self) -> None:
        """Delete what belonged to a run that is no more: a new one of the same name must not take it for its own.

        The lock stays, with its folder: whoever waits for it must not find another one in its
        place.
        """
        _files.remove_durably(self._journal_path, self._inbox_path, self.deleted_path)

    def tidy(self, state: RunState) -> None:
        """Delete what interrupted writes have left, and a journal and an inbox in which nothing counts any more."""
        for path in (self.record_path, self._inbox_path):
            _files.remove_durably(_files.draft_of(path))
        if self._scan_journal(_files.read(self._journal_path) or b"", state)[1] == 0:
            _files.remove_durably(self._journal_path)
        if not self.unread(state.run):
            _files.remove_durably(self._inbox_path)

    def _decode(self, data: bytes) -> RunState:
        body = unseal(data, _RUN, self.record_path)
        frame = decode(body, _Journals, self.record_path)
        return RunState(decode(body, RunRecord, self.record_path), frame.journals)

    # ---------------------------------------------------------------------------------- the journal

    def append_journal(self, state: RunState, records: Sequence[bytes]) -> None:
        """Add a batch of records that follow the head, durably."""
        for record in records:
            check_json(record, f"a journal record of run {state.run.run_id!r}")
        # An append changes no run.json: another object with the same epoch may have been here
        # since.
        if self._journal_end is None or self._journal_end != self._journal_size():
            data = _files.read(self._journal_path) or b""
            self._journal_end = self._scan_journal(data, state)[1]
        batch = seal_line(b"[" + b",".join(records) + b"]")
        if self._journal_end == 0:
            batch = (
                seal_line(msgspec.json.encode(_JournalHead(state.run.head, state.journals))) + batch
            )
        end, self._journal_end = self._journal_end, None  # unknown, should the write fail
        _files.append_durably(self._journal_path, batch, at=end)
        self._journal_end = end + len(batch)

    def _journal_size(self) -> int:
        with _files.explained("read", self._journal_path), suppress(FileNotFoundError):
            return self._journal_path.stat().st_size
        return 0

    def read_journal(self, head: str, incarnation: str | None = None) -> list[bytes]:
        """Return the records that follow `head`, if that is the run's head; needs no lock.

        Raises:
            CorruptCheckpointError: A batch is damaged that was durable once, as the intact one
                after it shows.
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
        """Return the records that follow the head, and where the valid part of the file ends."""
        first, *lines = data.split(b"\n")[:-1] or [b""]  # what follows the last line break is torn
        entry = unseal_line(first)
        if entry is None or decode(entry, _JournalHead, self._journal_path) != _JournalHead(
            state.run.head, state.journals
        ):
            return [], 0  # it follows another head, or its very first write was torn
        records: list[bytes] = []
        end = len(first) + 1
        for number, line in enumerate(lines, 1):
            batch = unseal_line(line)
            if batch is None:
                if any(unseal_line(later) is not None for later in lines[number:]):
                    raise CorruptCheckpointError(
                        f"{self._journal_path} is damaged in line {number + 1}, which was intact "
                        "once. Restore it from a backup, or delete it: the calls it records then "
                        "run again when the run is resumed."
                    )
                break  # torn by a crash: nobody was told that it is saved
            records += map(bytes, decode(batch, list[msgspec.Raw], self._journal_path))
            end += len(line) + 1
        return records, end

    # ------------------------------------------------------------------------------------ the inbox

    def write_inbox(self, entries: Sequence[InboxEntry]) -> None:
        """Replace the inbox as a whole, durably."""
        for entry in entries:
            check_json(entry.value, f"the answer to request {entry.request_id!r}")
        lines = [msgspec.json.encode(_InboxHead(len(entries)))]
        for entry in entries:
            line = _InboxLine(
                entry.number, entry.request_id, entry.received_at, msgspec.Raw(entry.value)
            )
            lines.append(msgspec.json.encode(line))
        _files.write_durably(self._inbox_path, b"".join(map(seal_line, lines)))

    def read_inbox(self) -> list[InboxEntry]:
        """Return all entries of the inbox, consumed ones included; needs no lock.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        data = _files.read(self._inbox_path)
        if data is None:
            return []
        entries = [unseal_line(line) for line in data.split(b"\n")[:-1]]
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
        """Return the answers that wait to be consumed."""
        return rules.unread_entries(run, self.read_inbox())

    def _inbox_error(self) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{self._inbox_path} is damaged: accepted answers are lost. Restore it from a backup, "
            "or delete it and answer the requests again."
        )


class _Journals(msgspec.Struct, frozen=True):
    journals: int = 0
