"""`Tables`: the reads and writes of a database that the rules need.

Each SQL storage has its own statements for them. The rules decide; an implementation does only what
a method says, in the transaction for which it was created, without further checks. Runs, lists and
the owners of values are numbers that the database has assigned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from supersteps.checkpoint.chunks import Tree
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage.delta.entries import Entry
from supersteps.storage.delta.rows import Row, RunKey, StoredRun
from supersteps.storage.delta.saved import SavedRow
from supersteps.storage.listings import RunFilter
from supersteps.storage.records import InboxEntry, RunRecord


class Tables(Protocol):
    """The rows, values and lists of checkpoints, unchecked."""

    def row(self, run: int, sequence: int) -> Row | None:
        """Return a checkpoint of a run, None if there is none with this number."""
        ...

    def chunk(self, hash: bytes) -> bytes | None:
        """Return a piece of a value, None if there is none with this hash."""
        ...

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        """Return the list that a list continues, if any, and after how many of its elements.

        None if there is no list with this key.
        """
        ...

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        """Yield a list's own elements from one position to another: position, data, checksum."""
        ...


class StoredTables(Tables, Protocol):
    """All tables, for reading."""

    def of_owner(self, owner: int) -> Self:
        """Return the same tables for values of one owner, if each owner has its own chunks."""
        ...

    def fetch_values(self, entries: Iterable[Entry], *, leaves: bool = True) -> None:
        """Fetch values that are about to be read, where reading in pieces takes long.

        Args:
            entries: The values.
            leaves: Whether their content is wanted, and not only what it consists of.
        """
        ...

    def find_run(self, run_id: str) -> StoredRun | None:
        """Return a run, None if there is none with this id.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        ...

    def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for a request."""
        ...

    def find_runs(
        self, wanted: RunFilter, last: RunRecord | None
    ) -> tuple[list[RunRecord], list[str]]:
        """Return the newest runs that a filter admits, and what is wrong with others.

        Args:
            wanted: The filter.
            last: The run `wanted.before`.
        """
        ...

    def run_problems(self, run_id: str) -> list[str]:
        """Return the problems of a run's rows, journal, inbox and indexes."""
        ...

    def read_journal(self, run: StoredRun) -> list[bytes]:
        """Return the records of finished calls that follow a run's head, in order.

        Raises:
            CorruptCheckpointError: One has been altered, or one before others is gone.
        """
        ...

    def read_inbox(self, key: int) -> list[InboxEntry]:
        """Return what is in a run's inbox, in order.

        Raises:
            CorruptCheckpointError: An entry has been altered.
        """
        ...

    def run_key(self, run_id: str) -> RunKey | None:
        """Return the common columns of a run's checkpoints, None if there is no such run."""
        ...

    def run_keys(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> Sequence[RunKey]:
        """Return all runs, or those of a workflow, or the one with this id."""
        ...

    def rows(self, run: int) -> Iterable[Row]:
        """Yield the checkpoints of a run, unchecked, in the order of their commits."""
        ...

    def rows_before(self, run: int, sequence: int) -> Iterable[tuple[Any, ...]]:
        """Yield a checkpoint of a run and those before it, unchecked, the newest first."""
        ...

    def rows_of_renamed(self, workflow_id: str) -> Iterable[tuple[RunKey, Row]]:
        """Yield the checkpoints of a workflow in runs that started under another name."""
        ...

    def lost_runs(self) -> Iterable[tuple[int, int]]:
        """Yield the keys of missing runs, each with the number of its checkpoints."""
        ...

    def find_saved(self, wanted: str) -> SavedRow | None:
        """Return a directly saved checkpoint, unchecked, None if there is none with this id."""
        ...

    def saved(self) -> Iterable[SavedRow]:
        """Yield all directly saved checkpoints, unchecked."""
        ...

    def problems(self) -> Iterable[str]:
        """Yield the problems of the database itself, as far as it reports them."""
        ...


class WritableTables(StoredTables, Protocol):
    """All tables, for changes in a transaction."""

    def now(self) -> float:
        """Return the present Unix time, for leases."""
        ...

    def is_at_revision(self, run: StoredRun) -> bool:
        """Return whether a run is unchanged since it was read, and locked by this transaction."""
        ...

    def insert_run(self, record: RunRecord) -> StoredRun:
        """Store a new run."""
        ...

    def update_run(self, old: StoredRun, record: RunRecord) -> StoredRun | None:
        """Store a changed run.

        Returns:
            None, without changes, if it was changed after it was read.
        """
        ...

    def delete_run(self, run: StoredRun) -> None:
        """Delete a run, its journal and its inbox, but not its checkpoints."""
        ...

    def outdate_run(self, run_id: str) -> None:
        """Make all caches of a run outdated."""
        ...

    def insert_checkpoint(
        self, run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, data: bytes
    ) -> None:
        """Store a checkpoint of a run."""
        ...

    def rewrite_checkpoint(
        self, run: RunKey, row: Row, parent: int | None, entries: dict[PartKey, Entry] | None
    ) -> None:
        """Set a checkpoint's parent, and make it complete if its entries are given."""
        ...

    def delete_checkpoints(self, rows: Collection[Row]) -> None:
        """Delete checkpoints of a run, but not what they refer to."""
        ...

    def insert_saved(self, header: CheckpointHeader) -> int:
        """Store a directly saved checkpoint, without its entries; return its key."""
        ...

    def fill_saved(self, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]) -> None:
        """Store the entries of a directly saved checkpoint."""
        ...

    def delete_saved(self, key: int) -> None:
        """Delete a directly saved checkpoint, but not what it refers to."""
        ...

    def has_namesakes(self, run_id: str) -> bool:
        """Return whether a directly saved checkpoint has an id like those of the run."""
        ...

    def store_value(self, owner: int, tree: Tree) -> None:
        """Store the chunks of a value that are not stored yet."""
        ...

    def release_chunks(self, owner: int, hashes: Collection[bytes]) -> None:
        """Delete chunks that an owner no longer needs, unless another one does."""
        ...

    def insert_list(self, owner: int, base: int | None, base_length: int) -> int:
        """Create a list and return its key, which is higher than all earlier ones."""
        ...

    def has_item(self, key: int, position: int) -> bool:
        """Return whether a list has an element at a position."""
        ...

    def insert_items(self, key: int, rows: Sequence[tuple[int, bytes, int]]) -> None:
        """Store elements of a list: position, data, checksum."""
        ...

    def cut_lists(self, owner: int, lengths: Mapping[int, int]) -> None:
        """Cut the lists of an owner to these lengths, and delete the others."""
        ...

    def newest_answer(self, run: StoredRun) -> int:
        """Return the number of a run's newest answer, 0 if there is none or no question waits."""
        ...

    def add_to_inbox(self, key: int, entries: Sequence[InboxEntry]) -> None:
        """Add entries to a run's inbox."""
        ...

    def clear_inbox(self, key: int, last: int) -> None:
        """Delete the entries of a run's inbox up to number `last`."""
        ...

    def is_journalled(self, run: StoredRun) -> bool:
        """Return whether there are records of finished calls that follow a run's head."""
        ...

    def append_journal(self, run: StoredRun, records: Sequence[bytes]) -> None:
        """Add records of finished calls that follow a run's head."""
        ...

    def clear_journal(self, key: int) -> None:
        """Delete a run's records of finished calls."""
        ...
