"""What the rules of this folder read and write of a database.

Each storage that uses SQL has its own statements for it. The rules decide; an implementation does
what one method says, in the transaction that it was made for, and checks nothing but what the
method says. Runs, lists and the owners of values are numbers that the database has given them.
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
from supersteps.storage.records import InboxEntry, RunRecord


class Tables(Protocol):
    """The rows, values and lists that checkpoints are made of. What it gives is not checked."""

    def row(self, run: int, sequence: int) -> Row | None:
        """Return a checkpoint of a run, None where there is none with this number."""
        ...

    def chunk(self, hash: bytes) -> bytes | None:
        """Return a piece of a value, None where there is none with this hash."""
        ...

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        """Return the list that one goes on from, if any, and after how many of its elements.

        None where there is no list with this key.
        """
        ...

    def items(self, key: int, begin: int, end: int) -> Iterable[tuple[int, bytes, int]]:
        """Give a list's own elements from one position to another: position, data, checksum."""
        ...


class StoredTables(Tables, Protocol):
    """All tables, to be read."""

    def of_owner(self, owner: int) -> Self:
        """Return the same tables for reading values of one owner, where each has its own chunks."""
        ...

    def find_run(self, run_id: str) -> StoredRun | None:
        """Return a run, None when there is none with this id.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        ...

    def run_problems(self, run_id: str) -> list[str]:
        """Return what is wrong with a run's own rows, its journal, its inbox and what finds it."""
        ...

    def run_key(self, run_id: str) -> RunKey | None:
        """Return what a run's checkpoints have in common, None when there is no such run."""
        ...

    def run_keys(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> Sequence[RunKey]:
        """Return all runs, or those of a workflow, or the one with this id."""
        ...

    def rows(self, run: int) -> Iterable[Row]:
        """Give the checkpoints of a run, unchecked, in the order of their commits."""
        ...

    def rows_before(self, run: int, sequence: int) -> Iterable[tuple[Any, ...]]:
        """Give a checkpoint of a run and those before it, unchecked, the newest first."""
        ...

    def rows_of_renamed(self, workflow_id: str) -> Iterable[tuple[RunKey, Row]]:
        """Give the checkpoints of a workflow in runs that began under another name."""
        ...

    def lost_runs(self) -> Iterable[tuple[int, int]]:
        """Give the keys of runs that are missing, each with the number of its checkpoints."""
        ...

    def find_saved(self, wanted: str) -> SavedRow | None:
        """Return a checkpoint saved by hand, unchecked, None when there is none with this id."""
        ...

    def saved(self) -> Iterable[SavedRow]:
        """Give all checkpoints that were saved by hand, unchecked."""
        ...

    def problems(self) -> Iterable[str]:
        """Give what is wrong with the database itself, as far as it can tell."""
        ...


class WritableTables(StoredTables, Protocol):
    """All tables, to be changed in a transaction."""

    def now(self) -> float:
        """Return the Unix time by which leases expire."""
        ...

    def is_at_revision(self, run: StoredRun) -> bool:
        """Return whether a run is as it was read, and can change only by this transaction."""
        ...

    def insert_run(self, record: RunRecord) -> StoredRun:
        """Store a new run."""
        ...

    def update_run(self, old: StoredRun, record: RunRecord) -> StoredRun | None:
        """Store a changed run.

        Returns:
            None, having done nothing, when somebody has changed it since it was read.
        """
        ...

    def delete_run(self, run: StoredRun) -> None:
        """Delete a run, its journal and its inbox, but not its checkpoints."""
        ...

    def outdate_run(self, run_id: str) -> None:
        """Have everybody who remembers a run read it again."""
        ...

    def insert_checkpoint(
        self, run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, data: bytes
    ) -> None:
        """Store a checkpoint of a run."""
        ...

    def rewrite_checkpoint(
        self, run: RunKey, row: Row, parent: int | None, entries: dict[PartKey, Entry] | None
    ) -> None:
        """Give a checkpoint another parent, and make it whole if its entries are given."""
        ...

    def delete_checkpoints(self, rows: Collection[Row]) -> None:
        """Delete checkpoints of a run, but not what they refer to."""
        ...

    def insert_saved(self, header: CheckpointHeader) -> int:
        """Store a checkpoint that was saved by hand, without its entries; return its key."""
        ...

    def fill_saved(self, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]) -> None:
        """Store the entries of a checkpoint that was saved by hand."""
        ...

    def delete_saved(self, key: int) -> None:
        """Delete a checkpoint that was saved by hand, but not what it refers to."""
        ...

    def has_namesakes(self, run_id: str) -> bool:
        """Return whether a checkpoint saved by hand has an id like those that a run gives."""
        ...

    def store_value(self, owner: int, tree: Tree) -> None:
        """Store the chunks of a value that are not stored yet."""
        ...

    def release_chunks(self, owner: int, hashes: Collection[bytes]) -> None:
        """Delete chunks that an owner does not need any longer, unless another one does."""
        ...

    def insert_list(self, owner: int, base: int | None, base_length: int) -> int:
        """Begin a list and return its key, which is higher than that of any before."""
        ...

    def has_item(self, key: int, position: int) -> bool:
        """Return whether a list has an element at a position."""
        ...

    def insert_items(self, key: int, rows: Sequence[tuple[int, bytes, int]]) -> None:
        """Store elements of a list: position, data, checksum."""
        ...

    def cut_lists(self, owner: int, lengths: Mapping[int, int]) -> None:
        """Cut the lists of an owner to these lengths, and delete those that have none."""
        ...

    def read_inbox(self, key: int) -> list[InboxEntry]:
        """Return what is in a run's inbox, in order.

        Raises:
            CorruptCheckpointError: An entry has been altered.
        """
        ...

    def newest_answer(self, run: StoredRun) -> int:
        """Return the number of a run's newest answer, 0 where none is or no question waits."""
        ...

    def add_to_inbox(self, key: int, entries: Sequence[InboxEntry]) -> None:
        """Put entries into a run's inbox."""
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
