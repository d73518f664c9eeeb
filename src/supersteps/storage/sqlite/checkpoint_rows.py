"""Rows of runs' checkpoints, each as the difference from its parent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import Entry, encode_entries
from supersteps.storage.delta.rows import Row, RunKey, header_of, pack_row

SQL = load_statements("supersteps.storage.sqlite", "checkpoints.sql")

_INSERT = SQL["insert"]


class CheckpointRows:
    """Reads and writes the rows of runs' checkpoints."""

    __slots__ = ()

    db: sqlite3.Connection

    def insert_checkpoint(
        self,
        run: RunKey,
        header: CheckpointHeader,
        parent: int | None,
        whole: bool,
        entries: bytes,
    ) -> None:
        """Store a checkpoint of a run."""
        key, sequence, parent, iteration, is_whole, workflow_id, facts, _, checksum = pack_row(
            run, header, parent, whole, entries
        )
        # sqlite3 accepts numbers, texts and bytearrays directly. For other types it first searches
        # an adapter, which takes about as long as the insertion.
        self.db.execute(
            _INSERT,
            (
                key,
                sequence,
                parent,
                iteration,
                is_whole,
                bytearray(facts),
                bytearray(entries),
                checksum,
            ),
        )
        if workflow_id is not None:
            self.db.execute(SQL["rename"], (workflow_id, key, sequence))

    def rewrite_checkpoint(
        self,
        run: RunKey,
        row: Row,
        parent: int | None,
        entries: dict[PartKey, Entry] | None,
    ) -> None:
        """Set a checkpoint's parent, and make it complete if its entries are given."""
        header = header_of(row, run)
        whole = True if entries is not None else bool(row.whole)
        data = row.entries if entries is None else encode_entries(entries)
        new = pack_row(run, header, parent, whole, data)
        self.db.execute(SQL["update"], (*new[2:], row.checkpoint))

    def run_key(self, run_id: str) -> RunKey | None:
        """Return the common columns of a run's checkpoints, None if there is no such run."""
        row = self.db.execute(SQL["run_key"], (run_id,)).fetchone()
        return None if row is None else RunKey(*row)

    def run_keys(self, workflow_id: str | None = None, run_id: str | None = None) -> list[RunKey]:
        """Return runs with checkpoints that may match; check those of renamed runs one by one."""
        if run_id is not None:
            run = self.run_key(run_id)
            return [run] if run else []
        if workflow_id is None:
            return [RunKey(*row) for row in self.db.execute(SQL["run_keys"])]
        return [
            RunKey(*row) for row in self.db.execute(SQL["run_keys_of_workflow"], (workflow_id,))
        ]

    def rows_of_renamed(self, workflow_id: str) -> Iterator[tuple[RunKey, Row]]:
        """Yield the checkpoints of a workflow in runs that started under another name."""
        for columns in self.db.execute(SQL["read_of_other_workflow"], (workflow_id,)).fetchall():
            row = Row(*columns)
            run = RunKey(*self.db.execute(SQL["run_by_key"], (row.run,)).fetchone())
            if run.workflow_id != workflow_id:
                yield run, row

    def lost_runs(self) -> list[tuple[int, int]]:
        """Return the keys of missing runs that have checkpoints, and the numbers of those."""
        return self.db.execute(SQL["of_no_run"]).fetchall()

    def row(self, run: int, sequence: int) -> Row | None:
        """Return a checkpoint of a run, unchecked, None if there is none with this number."""
        row = self.db.execute(SQL["read"], (run, sequence)).fetchone()
        return None if row is None else Row(*row)

    def rows(self, key: int) -> Iterator[Row]:
        """Yield the checkpoints of a run, unchecked, in the order of their commits."""
        return map(Row._make, self.db.execute(SQL["read_run"], (key,)))

    def rows_before(self, key: int, sequence: int) -> Iterator[tuple[Any, ...]]:
        """Yield a checkpoint of a run and those before it, unchecked, the newest first."""
        return self.db.execute(SQL["lineage"], (key, sequence))

    def delete_checkpoints(self, rows: Iterable[Row]) -> None:
        """Delete checkpoints."""
        self.db.executemany(SQL["delete"], [(row.checkpoint,) for row in rows])
