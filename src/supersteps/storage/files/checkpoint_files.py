"""Checkpoints as files: `<checkpoint_id>.json`, verified when read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from supersteps.checkpoint.record import CheckpointHeader, CheckpointRecord
from supersteps.errors import CheckpointError, CorruptCheckpointError, StorageError
from supersteps.ids import checkpoint_id, file_stem, split_checkpoint_id
from supersteps.storage import _files
from supersteps.storage.files.document import decode_checkpoint, decode_header, encode_checkpoint

_DRAFT = ".json.tmp"
_BEGINNING = 200
"""The first bytes of a file, which contain whether it was saved directly."""


class CheckpointFiles:
    """Reads and writes checkpoint files, without checking whether they were committed.

    Args:
        folder: Their folder, which need not exist for reading.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, wanted: str) -> Path:
        """Return the path of a checkpoint's file, which is always in the folder."""
        return self._folder / f"{file_stem(wanted)}.json"

    def paths(self) -> Iterator[Path]:
        """Yield files with names of checkpoints; names of drafts start with a dot."""
        for name in self._names():
            if name.endswith(".json") and not name.startswith("."):
                yield self._folder / name

    def drafts(self) -> Iterator[tuple[str, Path]]:
        """Yield unfinished files, with the stem of their final name."""
        for name in self._names():
            if name.startswith(".") and name.endswith(_DRAFT):
                yield name[1 : -len(_DRAFT)], self._folder / name

    def _names(self) -> list[str]:
        try:
            with _files.explained("list", self._folder):
                return sorted(os.listdir(self._folder))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise

    def numbered(self, run_id: str, newest: int | None) -> dict[int, Path]:
        """Return the existing files of a run's checkpoints, by number, in order.

        Args:
            run_id: The run.
            newest: The highest number to return; None for all that can be recognised by their
                names.
        """
        there = {path.name for path in self.paths()}
        place = split_checkpoint_id(file_stem(checkpoint_id(run_id, newest or 0)))
        if place is not None:
            prefix = f"{place[0]}-"
            own = [name.removesuffix(".json") for name in there if name.startswith(prefix)]
            places = [split_checkpoint_id(name) for name in own]
            numbers: Iterable[int] = sorted(
                number for name, number in filter(None, places) if name == place[0]
            )
        else:  # a long name that ends in a hash does not contain its number
            numbers = range((newest or 0) + 1)
        found = {number: self.path(checkpoint_id(run_id, number)) for number in numbers}
        return {
            number: path
            for number, path in found.items()
            if path.name in there and (newest is None or number <= newest)
        }

    def read(self, wanted: str) -> tuple[CheckpointRecord, bool] | None:
        """Return a checkpoint and whether it was saved directly, None if there is no such file.

        Raises:
            CorruptCheckpointError: It is damaged, or is not the one that its name says.
            CheckpointVersionError: A newer version of the library wrote it.
        """
        return self.read_file(self.path(wanted))

    def read_file(self, path: Path) -> tuple[CheckpointRecord, bool] | None:
        """Return the content of a checkpoint's file; see `read`."""
        data = _files.read(path)
        if data is None:
            return None
        record, frame = decode_checkpoint(data, path)
        self._check_name(record.header, path)
        return record, frame.standalone

    def read_header(self, path: Path) -> tuple[CheckpointHeader, bool] | None:
        """Return a checkpoint's header and whether it was saved directly, None if there is no file.

        Raises:
            CorruptCheckpointError: It is damaged, or is not the one that its name says.
            CheckpointVersionError: A newer version of the library wrote it.
        """
        data = _files.read(path)
        if data is None:
            return None
        header, frame = decode_header(data, path)
        self._check_name(header, path)
        return header, frame.standalone

    def is_standalone(self, path: Path) -> bool:
        """Return whether a file says, unverified, that it was saved directly."""
        return b'"standalone": true' in (_files.read(path, _BEGINNING) or b"")

    def read_headers(
        self, run_id: str, newest: int | None, incarnation: str | None
    ) -> tuple[list[CheckpointHeader], list[str]]:
        """Return the headers of a run's intact checkpoints, and the problems of the others.

        Args:
            run_id: The run.
            newest: The highest number to return; None for all that can be recognised by name.
            incarnation: The incarnation of the run; None for all runs of this id.
        """
        headers: list[CheckpointHeader] = []
        problems: list[str] = []
        for path in self.numbered(run_id, newest).values():
            try:
                found = self.read_header(path)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if found is None or found[1] or incarnation not in (None, found[0].incarnation):
                continue
            headers.append(found[0])
        return headers, problems

    def write(self, record: CheckpointRecord, *, standalone: bool) -> None:
        """Write a checkpoint durably.

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
                f"{path} contains checkpoint {header.checkpoint_id!r}, whose file is {right}: it "
                "was copied or renamed. Rename it back, or move it out of this folder."
            )
