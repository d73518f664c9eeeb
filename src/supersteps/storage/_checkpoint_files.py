"""Checkpoints as files of one folder: `<checkpoint_id>.json`, each complete and verified whenever it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from supersteps._ids import checkpoint_id, file_stem
from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.errors import CorruptCheckpointError, StorageError
from supersteps.storage import _files
from supersteps.storage._document import decode_checkpoint, decode_header, encode_checkpoint
from supersteps.storage.runs import RunRecord


class CheckpointFiles:
    """Reads and writes checkpoint files; whether one counts is for others to say.

    Args:
        folder: Where they are; it need not be there for reading.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, wanted: str) -> Path:
        """Return the file of a checkpoint; no id leads out of the folder."""
        return self._folder / f"{file_stem(wanted)}.json"

    def paths(self) -> Iterator[Path]:
        """Yield the files that claim to be checkpoints; drafts begin with a dot."""
        try:
            with _files.explained("list", self._folder):
                names = os.listdir(self._folder)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        for name in sorted(names):
            if name.endswith(".json") and not name.startswith("."):
                yield self._folder / name

    def paths_of(self, run: RunRecord) -> list[Path]:
        """Return where a run's checkpoints are or were, in order; the last is the next one, never committed."""
        return [self.path(checkpoint_id(run.run_id, number)) for number in range(run.sequence + 2)]

    def read(self, wanted: str) -> tuple[CheckpointRecord, bool] | None:
        """Return a checkpoint and whether it was saved by hand, None when there is no such file.

        Raises:
            CorruptCheckpointError: It is damaged, or not what its name says.
            CheckpointVersionError: A newer library wrote it.
        """
        path = self.path(wanted)
        data = _files.read(path)
        if data is None:
            return None
        record, frame = decode_checkpoint(data, path)
        self._check_name(record.header, path)
        return record, frame.standalone

    def read_header(self, path: Path) -> tuple[CheckpointHeader, bool] | None:
        """Return a checkpoint's header and whether it was saved by hand, None when there is no such file.

        Raises:
            CorruptCheckpointError: It is damaged, or not what its name says.
            CheckpointVersionError: A newer library wrote it.
        """
        data = _files.read(path)
        if data is None:
            return None
        header, frame = decode_header(data, path)
        self._check_name(header, path)
        return header, frame.standalone

    def write(self, record: CheckpointRecord, *, standalone: bool) -> None:
        """Write a checkpoint, durably.

        Raises:
            CheckpointEncodeError: An id or a key is not valid Unicode.
            StorageError: The file cannot be written.
        """
        document = encode_checkpoint(record, standalone)
        _files.write_durably(self.path(record.header.checkpoint_id), document)

    def _check_name(self, header: CheckpointHeader, path: Path) -> None:
        right = self.path(header.checkpoint_id).name
        if right != path.name:
            raise CorruptCheckpointError(
                f"{path} holds checkpoint {header.checkpoint_id!r}, whose file is {right}: it was copied or renamed. "
                "Give it its name back, or move it out of this folder."
            )
