"""Rows of directly saved checkpoints, each stored as a whole."""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import msgspec

from supersteps.checkpoint.parts import PartKey
from supersteps.checkpoint.record import CheckpointHeader
from supersteps.errors import CorruptCheckpointError
from supersteps.storage.delta.entries import Entry, decode_entries, encode_entries
from supersteps.storage.delta.rows import is_intact


class SavedRow(NamedTuple):
    """A directly saved checkpoint, as stored."""

    saved: int
    checkpoint_id: str
    header: bytes
    entries: bytes
    checksum: int


def pack_saved(header: CheckpointHeader, entries: dict[PartKey, Entry]) -> tuple[bytes, int]:
    """Return the encoded entries of a checkpoint's row, and its checksum."""
    data = encode_entries(entries)
    return data, crc32(data, crc32(msgspec.json.encode(header)))


def namesakes(run_id: str) -> tuple[str, str]:
    """Return the bounds of the ids that a run gives to its checkpoints, in the order of bytes."""
    return f"{run_id}-", f"{run_id}-:"  # ":" follows "9"


def open_saved(row: SavedRow) -> tuple[CheckpointHeader, dict[PartKey, Entry]]:
    """Return header and entries of a directly saved checkpoint.

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
        f"checkpoint {row.checkpoint_id!r} is damaged: its row {row.saved} in table `saved` has "
        "been altered"
    )
