"""`PostgresStoredTables`: what the rules of `storage/delta` read of a Postgres database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, cast
from zlib import crc32

from msgspec.structs import replace

from supersteps.checkpoint.chunks import HASH_BYTES
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.delta.entries import Entry, Stored
from supersteps.storage.delta.rows import Row, RunKey, StoredRun, head_number, is_intact
from supersteps.storage.delta.runs import (
    NO_NAMES,
    UNREADABLE,
    check_run,
    checksum_of,
    conditions_of,
    damaged_row_of_run,
    damaged_run,
    run_of,
)
from supersteps.storage.delta.saved import SavedRow, namesakes
from supersteps.storage.listings import RunFilter
from supersteps.storage.postgres.connections import Cursor, Link, Values
from supersteps.storage.records import InboxEntry, RunRecord

_PAGE = 500
"""So many rows are fetched at once where a run may have very many."""

_CHAIN = 64
"""More rows than a checkpoint mostly builds on."""


class PostgresStoredTables:
    """Reads in one transaction; see `delta.tables.StoredTables`.

    What is read in pieces is fetched ahead: each question to the server takes a round trip.

    Args:
        link: The connection, in a transaction.
        sql: The statements.
        owner: Whose values are read.
    """

    def __init__(self, link: Link, sql: Mapping[str, str], owner: int = 0) -> None:
        self._link = link
        self._sql = sql
        self._owner = owner
        self._rows: dict[tuple[int, int], Row] = {}
        self._chunks: dict[bytes, bytes] = {}
        self._time: float | None = None

    def of_owner(self, owner: int) -> Self:
        if owner == self._owner:
            return self
        tables = type(self).__new__(type(self))
        tables.__dict__.update(self.__dict__, _owner=owner, _chunks={})
        return tables

    def _all(self, name: str, values: Values = None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._link.execute(self._sql[name], values).fetchall()
        return rows

    def _one(self, name: str, values: Values = None) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._link.execute(self._sql[name], values).fetchone()
        return row

    # ----------------------------------------------------------------------------------------- runs

    def find_run(self, run_id: str) -> StoredRun | None:
        rows = self._run_rows("r.run_id = %(run_id)s", {"run_id": run_id}).fetchall()
        return self._run(rows[0]) if rows else None

    def find_waiting_runs(self, request_id: str) -> list[RunRecord]:
        """Return the runs whose head waits for a request."""
        rows = self._run_rows(self._sql["waiting_for"], {"request_id": request_id})
        found = [self._run(row).record for row in rows]
        return [run for run in found if request_id in run.requests]

    def find_runs(
        self, wanted: RunFilter, last: RunRecord | None
    ) -> tuple[list[RunRecord], list[str]]:
        """Return the newest runs that a filter admits, and what is wrong with others.

        Each filter has an index that is in this order.

        Args:
            wanted: The filter.
            last: The run `wanted.before`.
        """
        order = "r" if wanted.tag is None else "t"
        place = None if last is None else (last.created_at, last.run_id)
        found: list[RunRecord] = []
        problems: list[str] = []
        while True:
            limit = min(wanted.limit - len(found), _PAGE)
            conditions, values = conditions_of(wanted, place, "%({})s")
            rows = self._run_rows(
                f"{conditions} "
                f"ORDER BY {order}.created_at DESC, {order}.run_id DESC LIMIT %(limit)s",
                values | {"limit": limit},
                "from_runs" if wanted.tag is None else "from_tags",
            ).fetchall()
            for row in rows:
                try:
                    run = self._run(row).record
                except CorruptCheckpointError as error:
                    problems.append(str(error))
                    continue
                if wanted.tag is None or wanted.tag in run.tags:
                    found.append(run)
            if len(rows) < limit or len(found) == wanted.limit:
                return found, problems
            place = rows[-1][4], rows[-1][1]

    def _run_rows(
        self, conditions: str, values: Mapping[str, Any], source: str = "from_runs"
    ) -> Cursor:
        statement = self._sql["find_runs"].format(source=self._sql[source], conditions=conditions)
        return self._link.execute(statement, values)

    def _run(self, row: tuple[Any, ...]) -> StoredRun:
        """Return a run by its row, with the questions that wait, their checksums and the time.

        Raises:
            CorruptCheckpointError: It is damaged.
        """
        *columns, checksum, names, checksums, self._time = row
        key, run_id, count = columns[0], columns[1], columns[20]
        requests = tuple(names or ())
        try:
            stored = run_of(tuple(columns), requests)
        except UNREADABLE as error:
            raise damaged_row_of_run(run_id, key) from error
        expected = [waiting_checksum(key, name) for name in requests]
        wanted = str(len(requests)) if requests else NO_NAMES
        if count != wanted or expected != (checksums or []):
            raise damaged_run(run_id, "one of its rows in table `waiting`")
        check_run(timeless(stored), checksum)
        return stored

    def run_problems(self, run_id: str) -> list[str]:
        try:
            stored = self.find_run(run_id)
            if stored is None:
                return [f"run {run_id!r} is damaged: its row in table `heads` is missing"]
            self.read_journal(stored)
            self.read_inbox(stored.key)
        except CorruptCheckpointError as error:
            return [str(error)]
        tags = {tag for (tag,) in self._all("indexed_tags", (stored.key,))}
        if tags == set(stored.record.tags):
            return []
        return [
            f"run {run_id!r} is listed under other tags than its own: table `run_tags` has been "
            "altered"
        ]

    # ---------------------------------------------------------------------------------- checkpoints

    def run_key(self, run_id: str) -> RunKey | None:
        found = self._run_keys("run_id = %(value)s", run_id)
        return found[0] if found else None

    def run_keys(
        self, workflow_id: str | None = None, run_id: str | None = None
    ) -> Sequence[RunKey]:
        if run_id is not None:
            return self._run_keys("run_id = %(value)s", run_id)
        if workflow_id is not None:
            return self._run_keys("workflow_id = %(value)s", workflow_id)
        return self._run_keys("TRUE", None)

    def _run_keys(self, conditions: str, value: str | None) -> list[RunKey]:
        statement = self._sql["run_keys"].format(conditions=conditions)
        return [RunKey(*row) for row in self._link.execute(statement, {"value": value})]

    def row(self, run: int, sequence: int) -> Row | None:
        if (run, sequence) not in self._rows:
            place = {"run": run, "sequence": sequence, "limit": _CHAIN}
            for columns in self._all("chain", place):
                row = Row._make(columns)
                self._rows[run, row.sequence] = row
        return self._rows.get((run, sequence))

    def rows(self, run: int) -> Iterator[Row]:
        last = -1
        while True:
            page = [Row._make(columns) for columns in self._all("rows", (run, last, _PAGE))]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].sequence

    def rows_before(self, run: int, sequence: int) -> Iterator[tuple[Any, ...]]:
        while True:
            page = self._all("rows_before", (run, sequence, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            sequence = page[-1][2] - 1

    def rows_of_renamed(self, workflow_id: str) -> Iterator[tuple[RunKey, Row]]:
        for row in self._all("rows_of_renamed", {"workflow_id": workflow_id}):
            yield RunKey(*row[:6]), Row._make(row[6:])

    def lost_runs(self) -> list[tuple[int, int]]:
        return cast("list[tuple[int, int]]", self._all("lost_runs"))

    # ---------------------------------------------------------------------------------------- saved

    def find_saved(self, wanted: str) -> SavedRow | None:
        row = self._one("find_saved", (wanted,))
        return None if row is None else SavedRow(*row)

    def saved(self) -> Iterator[SavedRow]:
        last = 0
        while True:
            page = [SavedRow._make(row) for row in self._all("saved", (last, _PAGE))]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].saved

    def has_namesakes(self, run_id: str) -> bool:
        """Return whether a checkpoint saved by hand has an id like those that a run gives."""
        row = self._one("has_namesakes", namesakes(run_id))
        return row is not None and bool(row[0])

    # ----------------------------------------------------------------------------- values and lists

    def fetch_values(self, entries: Iterable[Entry], *, leaves: bool = True) -> None:
        """Fetch the chunks of values, each level of their trees at once."""
        level = [(entry.hashes, entry.height) for entry in entries if isinstance(entry, Stored)]
        while level:
            wanted: dict[bytes, int] = {}
            for hashes, height in level:
                for place in range(0, len(hashes) if leaves or height else 0, HASH_BYTES):
                    wanted[hashes[place : place + HASH_BYTES]] = height
            self._fetch_chunks([hash for hash in wanted if hash not in self._chunks])
            level = [
                (self._chunks[hash], height - 1)
                for hash, height in wanted.items()
                if height and hash in self._chunks
            ]

    def _fetch_chunks(self, hashes: Collection[bytes]) -> None:
        if hashes:
            self._chunks.update(self._all("chunks", (self._owner, list(hashes))))

    def chunk(self, hash: bytes) -> bytes | None:
        if hash not in self._chunks:
            self._fetch_chunks([hash])
        return self._chunks.get(hash)

    def list_base(self, key: int) -> tuple[int | None, int] | None:
        return cast("tuple[int | None, int] | None", self._one("list", (key,)))

    def items(self, key: int, begin: int, end: int) -> Iterator[tuple[int, bytes, int]]:
        while True:
            page = self._all("items", (key, begin, end, _PAGE))
            yield from cast("list[tuple[int, bytes, int]]", page)
            if len(page) < _PAGE:
                return
            begin = page[-1][0] + 1

    # ---------------------------------------------------------------------------- journal and inbox

    def read_journal(self, run: StoredRun) -> list[bytes]:
        """Return the records of finished calls that follow a run's head, in order.

        Raises:
            CorruptCheckpointError: One has been altered, or one before others is gone.
        """
        head = head_number(run.record)
        records = []
        rows = self._all("journal", (run.key, head))
        for expected, (number, record, checksum) in enumerate(rows):
            what = f"entry {expected} after checkpoint {head} in table `journal`"
            if number != expected:
                raise damaged_run(run.record.run_id, f"{what}, which is gone,")
            if not is_intact(checksum, journal_checksum, run.key, head, record):
                raise damaged_run(run.record.run_id, what)
            records.append(record)
        return records

    def read_inbox(self, key: int) -> list[InboxEntry]:
        entries = []
        for number, request_id, value, received_at, checksum in self._all("inbox", (key,)):
            entry = InboxEntry(number, request_id, value, received_at)
            if not is_intact(checksum, inbox_checksum, key, entry):
                raise CorruptCheckpointError(
                    f"the answer to request {request_id!r} is damaged: entry {number} of run {key} "
                    "in table `inbox` has been altered. Restore the database from a backup."
                )
            entries.append(entry)
        return entries

    # --------------------------------------------------------------------------------------- damage

    def problems(self) -> Iterable[str]:
        """Return nothing: what looks for damage of a server's own is `pg_amcheck`."""
        return ()


def timeless(run: StoredRun) -> StoredRun:
    """Return a run without the end of its lease, which the server has computed."""
    lease = run.record.lease
    if lease is None:
        return run
    return run._replace(record=replace(run.record, lease=replace(lease, expires=0.0)))


def run_checksum(record: RunRecord) -> int:
    """Return the checksum of a run's row."""
    return checksum_of(timeless(StoredRun(0, 0, record)).record)


def waiting_checksum(key: int, request_id: str) -> int:
    """Return the checksum of a question that waits."""
    return crc32(f"{key} {request_id}".encode())


def journal_checksum(key: int, head: int, record: bytes) -> int:
    """Return the checksum of a record of a finished call; its number is the server's."""
    return crc32(record, crc32(f"{key} {head}".encode()))


def inbox_checksum(key: int, entry: InboxEntry) -> int:
    """Return the checksum of an answer."""
    text = f"{key} {entry.number} {entry.request_id} {entry.received_at}"
    return crc32(entry.value, crc32(text.encode()))
