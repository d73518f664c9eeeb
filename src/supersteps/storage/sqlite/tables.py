"""`SqliteTables`: a SQLite database for the rules of `storage/delta`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from supersteps.checkpoint.chunks import Tree
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.queue_entry import QueueEntry
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage._statements import load_statements
from supersteps.storage.claims import Candidate
from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.rows import Row, RunKey, StoredRun
from supersteps.storage.delta.saved import SavedRow
from supersteps.storage.listings import RunFilter
from supersteps.storage.records import InboxEntry, RunRecord
from supersteps.storage.sqlite import checkpoint_rows, parts, queue_rows, run_rows, saved_rows

_SQL = load_statements("supersteps.storage.sqlite", "parts.sql")


class SqliteTables:
    """Reads and writes in one transaction; see `delta.tables.WritableTables`.

    Args:
        db: The database, in a transaction.
        clock: Returns the present time; needed only to acquire or renew leases.

    Attributes:
        db: The database, for statements that only SQLite has.
    """

    __slots__ = ("db", "now")

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float] = float) -> None:
        self.db = db
        self.now = clock

    def of_owner(self, owner: int) -> Self:
        return self  # all owners share their chunks

    # ----------------------------------------------------------------------------------------- runs

    def find_run(self, run_id: str) -> StoredRun | None:
        return run_rows.find_run(self.db, run_id)

    def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        return run_rows.find_waiting_runs(self.db, request_id)

    def find_runs(
        self, wanted: RunFilter, last: RunRecord | None
    ) -> tuple[list[RunRecord], list[str]]:
        return run_rows.find_runs(self.db, wanted, last)

    def run_problems(self, run_id: str) -> list[str]:
        return run_rows.problems_of(self.db, run_id) or queue_rows.problems_of(self.db, run_id)

    def is_at_revision(self, run: StoredRun) -> bool:
        return run_rows.is_at_revision(self.db, run)

    def insert_run(self, record: RunRecord) -> StoredRun:
        return run_rows.insert_run(self.db, record)

    def update_run(self, old: StoredRun, record: RunRecord) -> StoredRun | None:
        return run_rows.update_run(self.db, old, record)

    def delete_run(self, run: StoredRun) -> None:
        queue_rows.delete_entry(self.db, run.key)
        run_rows.delete_run(self.db, run)

    def outdate_run(self, run_id: str) -> None:
        saved_rows.outdate_run(self.db, run_id)

    # ---------------------------------------------------------------------------------------- queue

    def find_entry(self, run: StoredRun) -> QueueEntry | None:
        return queue_rows.find_entry(self.db, run)

    def put_entry(self, run: StoredRun, entry: QueueEntry) -> None:
        queue_rows.put_entry(self.db, run, entry)

    def held(self) -> list[Candidate]:
        return queue_rows.held(self.db)

    def due(self, queue: str, workflow_id: str, now: float) -> Iterator[Candidate]:
        return queue_rows.due(self.db, queue, workflow_id, now)

    def claimed(self) -> list[tuple[str, str | None]]:
        return queue_rows.claimed(self.db)

    # ---------------------------------------------------------------------------------- checkpoints

    def run_key(self, run_id: str) -> RunKey | None:
        return checkpoint_rows.run_key(self.db, run_id)

    def run_keys(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> Sequence[RunKey]:
        return checkpoint_rows.run_keys(self.db, workflow_id, run_id)

    def row(self, run: int, sequence: int) -> Row | None:
        return checkpoint_rows.find_row(self.db, run, sequence)

    def rows(self, run: int) -> Iterator[Row]:
        return checkpoint_rows.read_rows(self.db, run)

    def rows_before(self, run: int, sequence: int) -> Iterator[tuple[Any, ...]]:
        return checkpoint_rows.rows_before(self.db, run, sequence)

    def rows_of_renamed(self, workflow_id: str) -> Iterator[tuple[RunKey, Row]]:
        return checkpoint_rows.rows_of_renamed(self.db, workflow_id)

    def lost_runs(self) -> list[tuple[int, int]]:
        return checkpoint_rows.of_no_run(self.db)

    def insert_checkpoint(
        self, run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, data: bytes
    ) -> None:
        checkpoint_rows.insert_checkpoint(self.db, run, header, parent, whole, data)

    def rewrite_checkpoint(
        self, run: RunKey, row: Row, parent: int | None, entries: dict[PartKey, Entry] | None
    ) -> None:
        checkpoint_rows.rewrite_checkpoint(self.db, run, row, parent, entries)

    def delete_checkpoints(self, rows: Collection[Row]) -> None:
        checkpoint_rows.delete_checkpoints(self.db, rows)

    # ---------------------------------------------------------------------------------------- saved

    def find_saved(self, wanted: str) -> SavedRow | None:
        return saved_rows.find_saved(self.db, wanted)

    def saved(self) -> Iterator[SavedRow]:
        return saved_rows.list_saved(self.db)

    def has_namesakes(self, run_id: str) -> bool:
        return saved_rows.has_namesakes(self.db, run_id)

    def insert_saved(self, header: CheckpointHeader) -> int:
        return saved_rows.insert_saved(self.db, header)

    def fill_saved(self, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]) -> None:
        saved_rows.fill_saved(self.db, key, header, entries)

    def delete_saved(self, key: int) -> None:
        saved_rows.delete_saved(self.db, key)

    # ----------------------------------------------------------------------------- values and lists

    def fetch_values(self, entries: Iterable[Entry], *, leaves: bool = True) -> None:
        """Do nothing: a database in this process is read chunk by chunk."""

    def chunk(self, hash: bytes) -> bytes | None:
        row = self.db.execute(_SQL["read_chunk"], (hash,)).fetchone()
        return None if row is None else row[0]

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        found: tuple[int | None, int] | None
        found = self.db.execute(_SQL["read_list"], (key,)).fetchone()
        return found

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        return self.db.execute(_SQL["read_items"], (key, begin, end))

    def store_value(self, owner: int, tree: Tree) -> None:
        parts.store_value(self.db, owner, tree)

    def release_chunks(self, owner: int, hashes: Collection[bytes]) -> None:
        for hash in hashes:
            parts.release_chunk(self.db, owner, hash)

    def insert_list(self, owner: int, base: int | None, base_length: int) -> int:
        return parts.insert_list(self.db, owner, base, base_length)

    def has_item(self, key: int, position: int) -> bool:
        return parts.has_item(self.db, key, position)

    def insert_items(self, key: int, rows: Sequence[tuple[int, bytes, int]]) -> None:
        parts.insert_items(self.db, key, rows)

    def cut_lists(self, owner: int, lengths: Mapping[int, int]) -> None:
        parts.cut_lists(self.db, owner, lengths)

    # ---------------------------------------------------------------------------- journal and inbox

    def read_journal(self, run: StoredRun) -> list[bytes]:
        return run_rows.read_journal(self.db, run)

    def read_inbox(self, key: int) -> list[InboxEntry]:
        return run_rows.read_inbox(self.db, key)

    def newest_answer(self, run: StoredRun) -> int:
        return run_rows.newest_answer(self.db, run)

    def add_to_inbox(self, key: int, entries: Sequence[InboxEntry]) -> None:
        run_rows.add_to_inbox(self.db, key, entries)

    def clear_inbox(self, key: int, last: int) -> None:
        run_rows.clear_inbox(self.db, key, last)

    def is_journalled(self, run: StoredRun) -> bool:
        return run_rows.is_journalled(self.db, run)

    def append_journal(self, run: StoredRun, records: Sequence[bytes]) -> None:
        run_rows.append_journal(self.db, run, records)

    def clear_journal(self, key: int) -> None:
        run_rows.clear_journal(self.db, key)

    # --------------------------------------------------------------------------------------- damage

    def problems(self) -> Iterator[str]:
        for (problem,) in self.db.execute("PRAGMA integrity_check"):
            if problem != "ok":
                yield problem
