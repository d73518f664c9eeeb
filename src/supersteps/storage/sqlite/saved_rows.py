"""Checkpoints that were saved by hand in their table, each as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

import msgspec

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CorruptCheckpointError
from supersteps.storage._statements import load_statements
from supersteps.storage.delta.entries import Entry, decode_entries, encode_entries
from supersteps.storage.delta.rows import is_intact

SQL = load_statements("supersteps.storage.sqlite", "saved.sql")


class SavedRow(NamedTuple):
    """A checkpoint that was saved by hand, as stored."""

    saved: int
    checkpoint_id: str
    header: bytes
    entries: bytes
    checksum: int


def insert_saved(db: sqlite3.Connection, header: CheckpointHeader) -> int:
    """Store a checkpoint that was saved by hand, without its entries; return its key."""
    data = msgspec.json.encode(header)
    key = db.execute(SQL["insert"], (header.checkpoint_id, data, b"", 0)).lastrowid
    assert key is not None
    return key


def fill_saved(
    db: sqlite3.Connection, key: int, header: CheckpointHeader, entries: dict[PartKey, Entry]
) -> None:
    """Store the entries of a checkpoint that was saved by hand."""
    data = encode_entries(entries)
    db.execute(SQL["update"], (data, crc32(data, crc32(msgspec.json.encode(header))), key))


def has_namesakes(db: sqlite3.Connection, run_id: str) -> bool:
    """Return whether any has an id like those that a run gives."""
    return bool(
        db.execute(SQL["has_namesakes"], (f"{run_id}-", f"{run_id}-:")).fetchone()[0]
    )  # ":" follows "9"


def outdate_run(db: sqlite3.Connection, run_id: str) -> None:
    """Have those who remember a run look again: one of its ids was taken."""
    db.execute(SQL["outdate_run"], (run_id,))


def find_saved(db: sqlite3.Connection, wanted: str) -> SavedRow | None:
    """Return a checkpoint that was saved by hand, unchecked, None when there is none with this id."""
    row = db.execute(SQL["read"], (wanted,)).fetchone()
    return None if row is None else SavedRow(*row)


def list_saved(db: sqlite3.Connection) -> Iterator[SavedRow]:
    """Give all checkpoints that were saved by hand, unchecked."""
    return map(SavedRow._make, db.execute(SQL["list"]))


def open_saved(row: SavedRow) -> tuple[CheckpointHeader, dict[PartKey, Entry]]:
    """Return header and entries of a checkpoint that was saved by hand.

    Raises:
        CorruptCheckpointError: It is damaged.
    """
    if is_intact(row.checksum, lambda: crc32(row.entries, crc32(row.header))):
        try:
            header = msgspec.json.decode(row.header, type=CheckpointHeader)
            if header.checkpoint_id == row.checkpoint_id:
                return header, decode_entries(row.entries).puts
        except msgspec.MsgspecError:
            pass
    raise CorruptCheckpointError(
        f"checkpoint {row.checkpoint_id!r} is damaged: its row {row.saved} in table `saved` has been altered"
    )
