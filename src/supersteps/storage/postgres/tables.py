"""`PostgresTables`: what the rules of `storage/delta` write to a Postgres database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from supersteps.checkpoint.chunks import Tree
from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.storage.delta.entries import Entry, encode_entries
from supersteps.storage.delta.rows import (
    Row,
    RunKey,
    StoredRun,
    head_number,
    header_of,
    key_checksum,
    pack_row,
)
from supersteps.storage.delta.runs import change_of_questions, changing_columns, fixed_columns
from supersteps.storage.delta.saved import pack_saved
from supersteps.storage.postgres.connections import Link, Values, bigints
from supersteps.storage.postgres.stored_tables import (
    PostgresStoredTables,
    inbox_checksum,
    journal_checksum,
    run_checksum,
    waiting_checksum,
)
from supersteps.storage.records import InboxEntry, RunRecord

_BATCH = 1000
"""So many rows are deleted by one statement."""


class PostgresTables(PostgresStoredTables):
    """Reads and writes in one transaction; see `delta.tables.WritableTables`.

    Statements that return nothing are only sent, and their errors come with whatever is read next,
    or with the COMMIT: the connection is in pipeline mode.

    Args:
        link: The connection, in a transaction.
        sql: The statements.
        clock: The time by which leases expire, None for the server's.
    """

    def __init__(
        self, link: Link, sql: Mapping[str, str], clock: Callable[[], float] | None
    ) -> None:
        super().__init__(link, sql)
        self._clock = clock

    def _send(self, name: str, values: Values) -> None:
        self._link.execute(self._sql[name], values)

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        if self._time is None:
            self._time = float(self._value("now"))
        return self._time

    def _value(self, name: str, values: Values = None) -> Any:
        row = self._one(name, values)
        assert row is not None
        return row[0]

    # ----------------------------------------------------------------------------------------- runs

    def find_run(self, run_id: str) -> StoredRun | None:
        """Return a run, which nobody else changes before this transaction ends."""
        self._send("lock", {"run_id": run_id})
        return super().find_run(run_id)

    def run_key(self, run_id: str) -> RunKey | None:
        """Return the common columns of a run's checkpoints, which nobody else changes either."""
        self._send("lock", {"run_id": run_id})
        return super().run_key(run_id)

    def is_at_revision(self, run: StoredRun) -> bool:
        stored = self.find_run(run.record.run_id)
        return stored is not None and stored[:2] == run[:2]

    def insert_run(self, record: RunRecord) -> StoredRun:
        key = int(self._value("next_run"))
        columns = fixed_columns(record)
        checksum = key_checksum(
            key, record.run_id, record.workflow_id, columns[4], record.incarnation
        )
        self._send("insert_run", (key, *columns, checksum))
        self._send("insert_head", (*_changing(record), key, 1))
        if record.tags:
            self._send(
                "insert_tags",
                {
                    "created_at": record.created_at,
                    "run_id": record.run_id,
                    "run": key,
                    "tags": list(record.tags),
                },
            )
        self._note_waiting(key, (), record.requests)
        return StoredRun(key, 1, record)

    def update_run(self, old: StoredRun, record: RunRecord) -> StoredRun | None:
        if self._one("update_head", (*_changing(record), old.key, old.revision)) is None:
            return None
        if record.status != old.record.status:
            self._send("update_status", (record.status, old.key))
        if record.requests is not old.record.requests:
            self._note_waiting(old.key, old.record.requests, record.requests)
        return StoredRun(old.key, old.revision + 1, record)

    def _note_waiting(self, key: int, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        ended, asked = change_of_questions(before, now)
        if ended:
            self._send("delete_waiting", (ended, key))
        if asked:
            checksums = [waiting_checksum(key, request_id) for request_id in asked]
            self._send(
                "insert_waiting", {"run": key, "asked": asked, "checksums": bigints(checksums)}
            )

    def delete_run(self, run: StoredRun) -> None:
        self._send("delete_run", {"run": run.key})

    def outdate_run(self, run_id: str) -> None:
        self._send("outdate_run", (run_id,))

    # ---------------------------------------------------------------------------------- checkpoints

    def insert_checkpoint(
        self, run: RunKey, header: CheckpointHeader, parent: int | None, whole: bool, data: bytes
    ) -> None:
        self._send("insert_checkpoint", pack_row(run, header, parent, whole, data))

    def rewrite_checkpoint(
        self, run: RunKey, row: Row, parent: int | None, entries: dict[PartKey, Entry] | None
    ) -> None:
        whole = True if entries is not None else bool(row.whole)
        data = row.entries if entries is None else encode_entries(entries)
        new = pack_row(run, header_of(row, run), parent, whole, data)
        self._send("update_checkpoint", (*new[2:], row.run, row.sequence))
        self._rows.pop((row.run, row.sequence), None)

    def delete_checkpoints(self, rows: Collection[Row]) -> None:
        of_runs: dict[int, list[int]] = {}
        for row in rows:
            of_runs.setdefault(row.run, []).append(row.sequence)
            self._rows.pop((row.run, row.sequence), None)
        for run, sequences in of_runs.items():
            for batch in _batches(sequences):
                self._send("delete_checkpoints", (run, bigints(batch)))

    # ---------------------------------------------------------------------------------------- saved

    def insert_saved(self, header: CheckpointHeader) -> int:
        data = msgspec.json.encode(header)
        return int(self._value("insert_saved", (header.checkpoint_id, data)))

    def fill_saved(self, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]) -> None:
        self._send("fill_saved", (*pack_saved(header, entries), key))

    def delete_saved(self, key: int) -> None:
        self._send("delete_saved", (key,))

    # ----------------------------------------------------------------------------- values and lists

    def store_value(self, owner: int, tree: Tree) -> None:
        for batch in _batches(list(tree.new_chunks())):
            hashes, pieces = zip(*dict(batch).items(), strict=True)
            self._send("insert_chunks", (owner, list(hashes), list(pieces)))

    def release_chunks(self, owner: int, hashes: Collection[bytes]) -> None:
        for batch in _batches(list(hashes)):
            self._send("delete_chunks", (owner, batch))

    def insert_list(self, owner: int, base: int | None, base_length: int) -> int:
        return int(self._value("insert_list", (owner, base, base_length)))

    def has_item(self, key: int, position: int) -> bool:
        return self._one("has_item", (key, position)) is not None

    def insert_items(self, key: int, rows: Sequence[tuple[int, bytes, int]]) -> None:
        for batch in _batches(list(rows)):
            positions, items, checksums = map(list, zip(*batch, strict=True))
            self._send("insert_items", (key, bigints(positions), items, bigints(checksums)))

    def cut_lists(self, owner: int, lengths: Mapping[int, int]) -> None:
        keys = [key for (key,) in self._all("lists_of_owner", (owner,))]
        for key in keys:
            self._send("delete_items", (key, lengths.get(key, 0)))
        unneeded = [key for key in keys if key not in lengths]
        if unneeded:
            self._send("delete_lists", (bigints(unneeded),))

    # ---------------------------------------------------------------------------- journal and inbox

    def newest_answer(self, run: StoredRun) -> int:
        if not run.record.requests:
            return 0
        return int(self._value("newest_answer", (run.key,)))

    def add_to_inbox(self, key: int, entries: Sequence[InboxEntry]) -> None:
        for e in entries:
            row = (key, e.number, e.request_id, e.value, e.received_at, inbox_checksum(key, e))
            self._send("insert_inbox", row)

    def clear_inbox(self, key: int, last: int) -> None:
        self._send("delete_inbox", (key, last))

    def is_journalled(self, run: StoredRun) -> bool:
        return bool(self._value("is_journalled", (run.key, head_number(run.record))))

    def append_journal(self, run: StoredRun, records: Sequence[bytes]) -> None:
        head = head_number(run.record)
        checksums = [journal_checksum(run.key, head, record) for record in records]
        self._send(
            "insert_journal",
            {
                "run": run.key,
                "head": head,
                "records": list(records),
                "checksums": bigints(checksums),
            },
        )

    def clear_journal(self, key: int) -> None:
        self._send("delete_journal", (key,))

    # -------------------------------------------------------------------------- what runs have left

    def removed_runs(self) -> list[int]:
        """Return the keys of deleted runs whose checkpoints are not yet deleted."""
        return [run for (run,) in self._all("removed")]

    def delete_some(self, run: int) -> bool:
        """Delete some of the remains of a deleted run; return whether there may be more."""
        place = {"run": run, "limit": _BATCH}
        for name in ("delete_some_checkpoints", "delete_some_chunks", "delete_some_items"):
            if self._value(name, place):
                return True
        self._send("delete_lists_of_owner", (run,))
        self._send("forget_removed", (run,))
        return False


def _changing(record: RunRecord) -> tuple[Any, ...]:
    return (*changing_columns(record)[:-1], run_checksum(record))


def _batches(things: list[Any]) -> list[list[Any]]:
    return [things[place : place + _BATCH] for place in range(0, len(things), _BATCH)]
